//! What is timed.

use hone_model::rng::Rng;
use hone_model::{Arch, Origin, Published, Weights};

/// Networks of the step's table.
pub const NETS: [&str; 8] = [
    "live-4x16-x2",
    "live-8x32-x2",
    "live-16x64-x2",
    "live-4x16-x4",
    "live-8x32-x4",
    "live-16x64-x4",
    "edsr-16x64-x2",
    "edsr-16x64-x4",
];
/// Crops in a batch.
pub const BATCHES: [usize; 2] = [16, 64];
/// LR side of a crop.
pub const CROP: usize = 48;

pub fn arch(name: &str) -> Arch {
    name.parse().expect("an architecture")
}

/// Drawn weights, in which a tail that training starts at zero does something too.
pub fn weights(arch: Arch) -> Weights {
    let mut weights = Published::origin(arch, Origin::Seed(1)).weights();
    let mut rng = Rng::new(2);
    weights
        .params_mut()
        .iter_mut()
        .filter(|v| **v == 0.0)
        .for_each(|v| *v = 0.02 * (rng.unit() as f32 - 0.5));
    weights
}

/// A patch of `side` LR pixels, (LR, HR).
pub fn patch(rng: &mut Rng, side: usize, scale: usize) -> (Vec<f32>, Vec<u8>) {
    let lr = (0..side * side * 3).map(|_| rng.unit() as f32).collect();
    let hr = (0..side * side * 3 * scale * scale).map(|_| rng.below(256) as u8).collect();
    (lr, hr)
}
