//! `hone bench` and `hone model`: how fast networks run here, and the files that other engines need to run the same.

mod device;
pub mod export;
mod row;
pub mod viewer;

use hone_model::rng::Rng;
use hone_model::{Arch, Weights};

/// Weights for a benchmark: every layer uniform in ±1/sqrt(9·Cin), also the last one, whose training starts at zero.
/// The biases are a tenth of that, so that one that is left out shows.
pub fn drawn_weights(arch: Arch, seed: u64) -> Weights {
    let mut rng = Rng::new(seed);
    let mut params = Vec::with_capacity(arch.params());
    for layer in arch.layers() {
        let bound = 1.0 / ((9 * layer.cin) as f64).sqrt();
        let mut draw = |bound: f64| ((2.0 * rng.unit() - 1.0) * bound) as f32;
        params.extend((0..layer.weights()).map(|_| draw(bound)));
        params.extend((0..layer.cout).map(|_| draw(0.1 * bound)));
    }
    Weights::from_params(arch, params)
}

/// Parses WIDTHxHEIGHT.
fn size(text: &str) -> Option<(usize, usize)> {
    let (w, h) = text.split_once('x')?;
    Some((w.parse().ok()?, h.parse().ok()?))
}
