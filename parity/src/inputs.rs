//! Seeded inputs.

use hone_model::backend::Images;
use hone_model::reference::Tensor;
use hone_model::rng::Rng;
use hone_model::{Arch, Colour, Weights, Yuv420};

/// Values in -1..=1.
pub fn random(rng: &mut Rng, len: usize) -> Vec<f32> {
    (0..len).map(|_| (rng.unit() * 2.0 - 1.0) as f32).collect()
}

/// One image of values in -1..=1 that f32 holds exactly.
pub fn random_tensor(rng: &mut Rng, c: usize, h: usize, w: usize) -> Tensor {
    Tensor { n: 1, c, h, w, data: random(rng, c * h * w).into_iter().map(f64::from).collect() }
}

/// Images of values in 0..=1, each with a quantiser of its own.
pub fn images(rng: &mut Rng, n: usize, h: usize, w: usize) -> Images {
    let rgb = (0..n * h * w * 3).map(|_| rng.unit() as f32).collect();
    Images { n, h, w, rgb, quantisers: (0..n).map(|_| rng.below(52) as u8).collect() }
}

/// Weights under which activations neither grow nor fade: variance 1 / (9 Cin), and a tail that adds detail to the base.
pub fn weights(rng: &mut Rng, arch: Arch) -> Weights {
    let mut weights = Weights::zeros(arch);
    for layer in arch.layers() {
        let amplitude = (3.0 / (9 * layer.cin) as f64).sqrt() * if layer.zero_init { 0.3 } else { 1.0 };
        for v in &mut weights.params_mut()[layer.offset..layer.offset + layer.params()] {
            *v = ((rng.unit() * 2.0 - 1.0) * amplitude) as f32;
        }
    }
    weights
}

/// A decoded picture that owns its planes.
#[derive(Clone, Debug)]
pub struct Picture {
    h: usize,
    w: usize,
    planes: [Vec<u8>; 3],
    colour: Colour,
    quantiser: u8,
}

impl Picture {
    /// Noise over the whole range of codes, with a black and a white corner.
    pub fn new(rng: &mut Rng, h: usize, w: usize, colour: Colour) -> Self {
        let mut plane = |len: usize| -> Vec<u8> { (0..len).map(|_| rng.below(256) as u8).collect() };
        let mut planes = [plane(h * w), plane(h * w / 4), plane(h * w / 4)];
        planes[0][0] = 0;
        planes[0][h * w - 1] = 255;
        Self { h, w, planes, colour, quantiser: rng.below(52) as u8 }
    }

    /// The next one of a scene in which little moves: some pixels are off, by little or by more, and chroma in all of it.
    pub fn nearly(&self, rng: &mut Rng) -> Self {
        let mut next = self.clone();
        let area = self.h * self.w;
        for _ in 0..area.div_ceil(200) {
            let luma = &mut next.planes[0][rng.below(area)];
            *luma = luma.saturating_add(rng.below(12) as u8);
        }
        next.planes[1..].iter_mut().flatten().for_each(|v| *v = v.saturating_sub(3));
        next
    }

    /// As backends take it.
    pub fn yuv(&self) -> Yuv420<'_> {
        let [y, u, v] = &self.planes;
        Yuv420 { h: self.h, w: self.w, y, u, v, colour: self.colour, quantiser: self.quantiser }
    }
}
