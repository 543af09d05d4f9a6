//! How much better one is than another, in dB.

use hone_model::Weights;
use hone_model::backend::{BackendError, Images, TrainBackend};

use crate::buffer::Pair;

/// Luma of BT.709: what PSNR-Y weighs.
const LUMA: [f64; 3] = [0.2126, 0.7152, 0.0722];

/// Squared luma errors of two contenders on the same patches.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison(Vec<(f64, f64)>);

impl FromIterator<(f64, f64)> for Comparison {
    /// Of (new, old) for each patch.
    fn from_iter<I: IntoIterator<Item = (f64, f64)>>(errors: I) -> Self {
        Self(errors.into_iter().collect())
    }
}

impl Comparison {
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

/// Squared error of `weights` on one pair, on what a viewer would show: 8-bit code values.
pub fn error(backend: &mut dyn TrainBackend, weights: &Weights, pair: &Pair) -> Result<f64, BackendError> {
    let lr = Images { n: 1, h: pair.h, w: pair.w, rgb: pair.lr.clone(), quantisers: vec![pair.quantiser] };
    let out = backend.forward(weights, &lr)?;
    let sum = out.rgb.chunks_exact(3).zip(pair.hr.chunks_exact(3)).map(|(y, hr)| {
        // A float turns into the nearest code value, as on a screen: what is lost below it nobody sees.
        let code = |v: f32| f64::from((v * 255.0).clamp(0.0, 255.0).round());
        let d: f64 = (0..3).map(|c| LUMA[c] * (code(y[c]) - f64::from(hr[c])) / 255.0).sum();
        d * d
    });
    Ok(sum.sum::<f64>() / (out.rgb.len() / 3) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comparison(pairs: &[(f64, f64)]) -> Comparison {
        pairs.iter().copied().collect()
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
}
