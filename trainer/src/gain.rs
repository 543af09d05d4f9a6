//! How much better than the base image, in dB.

use hone_model::backend::{BackendError, Images, TrainBackend};
use hone_model::{Published, Weights};

use crate::buffer::Pair;

/// Luma of BT.709: what PSNR-Y weighs.
const LUMA: [f64; 3] = [0.2126, 0.7152, 0.0722];

/// Squared luma error, pooled over patches, of some weights and of the base image beside it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Gain {
    /// Of the network's output.
    pub network: f64,
    /// Of the base image alone.
    pub base: f64,
}

impl Gain {
    /// PSNR of the network over PSNR of the base, dB.
    pub fn db(&self) -> f64 {
        // Below this an error is rounding: identical images gain nothing.
        const FLOOR: f64 = 1e-12;
        10.0 * ((self.base + FLOOR) / (self.network + FLOOR)).log10()
    }
}

impl std::ops::Add for Gain {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { network: self.network + other.network, base: self.base + other.base }
    }
}

/// Squared error of `weights` on one pair, on what a viewer would show: clamped to 0..=1.
pub fn error(backend: &mut dyn TrainBackend, weights: &Weights, pair: &Pair) -> Result<f64, BackendError> {
    let lr = Images { n: 1, h: pair.h, w: pair.w, rgb: pair.lr.clone() };
    let out = backend.forward(weights, &lr)?;
    let sum = out.rgb.chunks_exact(3).zip(pair.hr.chunks_exact(3)).map(|(y, hr)| {
        let d: f64 =
            (0..3).map(|c| LUMA[c] * (f64::from(y[c].clamp(0.0, 1.0)) - f64::from(hr[c]) / 255.0)).sum();
        d * d
    });
    Ok(sum.sum::<f64>() / (out.rgb.len() / 3) as f64)
}

/// The base image's own error: that of a network whose last layer is zero.
pub struct Base(Weights);

impl Base {
    pub fn new(published: &Published) -> Self {
        Self(Weights::zeros(published.arch()))
    }

    pub fn error(&self, backend: &mut dyn TrainBackend, pair: &Pair) -> Result<f64, BackendError> {
        error(backend, &self.0, pair)
    }
}
