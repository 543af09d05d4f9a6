//! How much better than the base image, in dB.

use std::collections::VecDeque;

use hone_model::backend::{BackendError, Images, TrainBackend};
use hone_model::{Published, Weights};

use crate::buffer::Pair;

/// Luma of BT.709: what PSNR-Y weighs.
const LUMA: [f64; 3] = [0.2126, 0.7152, 0.0722];

/// Squared luma errors of two contenders on the same patches.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison(VecDeque<(f64, f64)>);

impl Comparison {
    /// Adds one patch; of more than `keep` the oldest goes.
    pub fn push(&mut self, new: f64, old: f64, keep: usize) {
        self.0.push_back((new, old));
        while self.0.len() > keep {
            self.0.pop_front();
        }
    }

    /// Forgets all patches.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Patches compared.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// PSNR of the new over that of the old, errors pooled, dB.
    pub fn gain_db(&self) -> f64 {
        // 50 dB: nobody sees what differs below, so that a fade to black says nothing for or against.
        const FLOOR: f64 = 1e-5;
        let (new, old) =
            self.0.iter().fold((0.0, 0.0), |(a, b), (new, old)| (a + new + FLOOR, b + old + FLOOR));
        if self.0.is_empty() { 0.0 } else { 10.0 * f64::log10(old / new) }
    }

    /// How sure the sign of the gain is: the mean difference of the errors in units of its standard error.
    /// Zero for fewer than two patches, and where both are the same.
    pub fn certainty(&self) -> f64 {
        let n = self.0.len() as f64;
        let mean = self.0.iter().map(|(new, old)| old - new).sum::<f64>() / n;
        let square = self.0.iter().map(|(new, old)| (old - new - mean).powi(2)).sum::<f64>();
        let error = (square / (n * (n - 1.0)).max(1.0)).sqrt();
        if self.0.len() < 2 || mean == 0.0 { 0.0 } else { mean / error.max(f64::MIN_POSITIVE) }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn comparison(pairs: &[(f64, f64)]) -> Comparison {
        let mut comparison = Comparison::default();
        pairs.iter().for_each(|&(new, old)| comparison.push(new, old, 10));
        comparison
    }

    #[test]
    fn gain_is_pooled_and_certainty_needs_agreement() {
        let clear = comparison(&[(1.0, 2.0), (1.1, 2.2), (0.9, 1.8), (1.0, 2.0)]);
        assert!((clear.gain_db() - 10.0 * 2.0f64.log10()).abs() < 1e-4);
        assert!(clear.certainty() > 10.0);
        // One patch gains much, three lose: the pool gains, but that may well be chance.
        let luck = comparison(&[(1.0, 9.0), (2.0, 1.5), (2.0, 1.0), (2.0, 1.5)]);
        assert!(luck.gain_db() > 0.0 && luck.certainty() < 1.0, "{}", luck.certainty());
        assert_eq!(comparison(&[(1.0, 2.0)]).certainty(), 0.0);
        assert_eq!(comparison(&[(1.0, 1.0), (2.0, 2.0)]).certainty(), 0.0);
        assert!(comparison(&[(2.0, 1.0), (2.1, 1.0)]).certainty() < -1.0);
    }

    #[test]
    fn only_the_newest_are_kept() {
        let mut comparison = Comparison::default();
        (0..20).for_each(|i| comparison.push(if i < 15 { 9.0 } else { 1.0 }, 2.0, 5));
        assert_eq!(comparison.len(), 5);
        assert!((comparison.gain_db() - 10.0 * 2.0f64.log10()).abs() < 1e-4);
    }
}
