//! Comparison and counting.

use std::collections::BTreeMap;
use std::fmt;

/// What was compared, and how close the closest call was.
#[derive(Debug, Default)]
pub struct Report {
    cases: usize,
    /// Cases that were left out, by reason.
    skipped: BTreeMap<String, usize>,
    /// Largest error over its tolerance: below 1 if all is well.
    worst: f64,
}

impl Report {
    /// Holds each value to its own tolerance.
    ///
    /// # Panics
    /// If a length or a value is off; a NaN is.
    #[allow(clippy::neg_cmp_op_on_partial_ord, reason = "a NaN must fail")]
    pub fn check(&mut self, case: &str, got: &[f32], want: &[f64], tolerance: impl Fn(usize) -> f64) {
        assert_eq!(got.len(), want.len(), "{case}: number of values");
        for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
            let (error, tolerance) = ((f64::from(got) - want).abs(), tolerance(i));
            assert!(tolerance > 0.0, "{case}: tolerance at {i}");
            if !(error <= tolerance) {
                panic!("{case}: at {i}: {got} against {want}: off by {error:e}, allowed {tolerance:e}");
            }
            self.worst = self.worst.max(error / tolerance);
        }
        self.cases += 1;
    }

    /// Holds 8-bit values to `255 * clamp(want)`: half a code value for rounding, and `tolerance` in units of 0..=1.
    ///
    /// # Panics
    /// If a length or a value is off.
    pub fn check_u8(&mut self, case: &str, got: &[u8], want: &[f64], tolerance: f64) {
        let got: Vec<f32> = got.iter().map(|&v| f32::from(v)).collect();
        let want: Vec<f64> = want.iter().map(|v| 255.0 * v.clamp(0.0, 1.0)).collect();
        self.check(case, &got, &want, |_| 0.5 + 255.0 * tolerance);
    }

    /// Counts a case that this machine cannot run, and why.
    pub fn skip(&mut self, why: &str) {
        *self.skipped.entry(why.to_owned()).or_default() += 1;
    }

    /// Comparisons made.
    pub fn cases(&self) -> usize {
        self.cases
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} comparisons, closest at {:.2} of its tolerance", self.cases, self.worst)?;
        self.skipped.iter().try_for_each(|(why, cases)| write!(f, "; {cases} SKIPPED: {why}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "off by NaN")]
    fn a_nan_fails() {
        Report::default().check("nan", &[f32::NAN], &[0.0], |_| 1.0);
    }

    #[test]
    #[should_panic(expected = "off by")]
    fn a_value_beyond_the_tolerance_fails() {
        Report::default().check("off", &[1.0, 1.2], &[1.0, 1.0], |_| 0.1);
    }

    #[test]
    #[should_panic(expected = "number of values")]
    fn a_missing_value_fails() {
        Report::default().check_u8("short", &[1], &[0.0, 0.0], 1.0);
    }

    #[test]
    fn what_is_skipped_is_counted_by_its_reason() {
        let mut report = Report::default();
        ["no adapter", "no f16", "no adapter"].into_iter().for_each(|why| report.skip(why));
        assert!(report.to_string().ends_with("; 2 SKIPPED: no adapter; 1 SKIPPED: no f16"), "{report}");
    }

    #[test]
    fn eight_bits_are_clamped_and_rounded() {
        let mut report = Report::default();
        report.check_u8("clamp", &[0, 255, 128], &[-3.0, 7.0, 0.5], 1e-9);
        assert_eq!(report.cases(), 1);
    }
}
