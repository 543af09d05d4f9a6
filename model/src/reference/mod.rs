//! The oracle: plain f64 loops that every other implementation answers to.
//!
//! Written for reading, not for speed. It answers to finite differences itself (see the tests of each module).
//! Activations are (N, C, H, W).

mod adam;
mod bicubic;
mod conv3x3;
mod loss;
mod network;
mod pixel_shuffle;
mod reuse;
mod stillness;
mod yuv_rgb;

pub use adam::{AdamState, adam};
pub use bicubic::{bicubic, bicubic_taps};
pub use conv3x3::{conv3x3, conv3x3_grad_data, conv3x3_grad_weights};
pub use loss::loss;
pub use network::{Gradient, forward, gradient};
pub use pixel_shuffle::{pixel_shuffle, pixel_shuffle_grad};
pub use reuse::reuse;
pub use stillness::{STILL_CELL, STILL_CODES, stillness};
pub use yuv_rgb::yuv_rgb;

use crate::arch::quantiser_input;
use crate::backend::Images;

/// A block of f64 activations, (N, C, H, W) row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Number of images.
    pub n: usize,
    /// Channels of each.
    pub c: usize,
    /// Rows of each.
    pub h: usize,
    /// Columns of each.
    pub w: usize,
    /// `n * c * h * w` values.
    pub data: Vec<f64>,
}

impl Tensor {
    /// All zeros.
    pub fn zeros(n: usize, c: usize, h: usize, w: usize) -> Self {
        Self { n, c, h, w, data: vec![0.0; n * c * h * w] }
    }

    /// Index of one value.
    pub fn at(&self, n: usize, c: usize, y: usize, x: usize) -> usize {
        ((n * self.c + c) * self.h + y) * self.w + x
    }

    /// (N, H, W, 3) -> (N, 3, H, W).
    pub fn from_images(images: &Images) -> Self {
        let mut t = Self::zeros(images.n, 3, images.h, images.w);
        for (i, &v) in images.rgb.iter().enumerate() {
            let (pixel, c) = (i / 3, i % 3);
            let (n, p) = (pixel / (t.h * t.w), pixel % (t.h * t.w));
            t.data[(n * 3 + c) * t.h * t.w + p] = f64::from(v);
        }
        t
    }

    /// The first `c` channels: (N, C, H, W) -> (N, c, H, W).
    pub fn channels(&self, c: usize) -> Self {
        let size = self.h * self.w;
        let data =
            self.data.chunks_exact(self.c * size).flat_map(|image| &image[..c * size]).copied().collect();
        Self { c, data, ..*self }
    }

    /// (N, 3, H, W) -> (N, H, W, 3).
    ///
    /// # Panics
    /// If there are not three channels.
    pub fn to_images(&self) -> Images {
        assert_eq!(self.c, 3, "channels of an image");
        let mut images = Images::zeros(self.n, self.h, self.w);
        for n in 0..self.n {
            for p in 0..self.h * self.w {
                for c in 0..3 {
                    images.rgb[(n * self.h * self.w + p) * 3 + c] =
                        self.data[(n * 3 + c) * self.h * self.w + p] as f32;
                }
            }
        }
        images
    }
}

/// What networks read: RGB (N, 3, H, W) and a plane of [`quantiser_input`] for each image -> (N, 4, H, W).
pub fn input(rgb: &Tensor, quantisers: &[u8]) -> Tensor {
    assert_eq!((rgb.c, rgb.n), (3, quantisers.len()), "channels, images");
    let size = rgb.h * rgb.w;
    let mut input = Tensor { c: 4, data: Vec::with_capacity(rgb.n * 4 * size), ..*rgb };
    for (image, &quantiser) in rgb.data.chunks_exact(3 * size).zip(quantisers) {
        input.data.extend_from_slice(image);
        input.data.extend(std::iter::repeat_n(f64::from(quantiser_input(quantiser)), size));
    }
    input
}

#[cfg(test)]
pub(crate) mod testing {
    use super::Tensor;
    use crate::rng::Rng;

    /// Seeded values in -1..=1, never all zero.
    pub fn random(rng: &mut Rng, len: usize) -> Vec<f64> {
        (0..len).map(|_| rng.unit() * 2.0 - 1.0).collect()
    }

    pub fn random_tensor(rng: &mut Rng, n: usize, c: usize, h: usize, w: usize) -> Tensor {
        Tensor { n, c, h, w, data: random(rng, n * c * h * w) }
    }

    /// Fails unless `grad` agrees with central differences of `f` at `x`, at every index.
    pub fn check_gradient(x: &[f64], grad: &[f64], f: impl Fn(&[f64]) -> f64) {
        assert_eq!(x.len(), grad.len());
        const STEP: f64 = 1e-5;
        // Central differences of a piecewise smooth f: error O(STEP²) plus cancellation of about 1e-16 / STEP.
        const TOLERANCE: f64 = 1e-7;
        let mut x = x.to_vec();
        for i in 0..x.len() {
            let at = x[i];
            x[i] = at + STEP;
            let above = f(&x);
            x[i] = at - STEP;
            let below = f(&x);
            x[i] = at;
            let numeric = (above - below) / (2.0 * STEP);
            let error = (numeric - grad[i]).abs();
            assert!(error <= TOLERANCE * (1.0 + numeric.abs()), "index {i}: {numeric} against {}", grad[i]);
        }
    }
}
