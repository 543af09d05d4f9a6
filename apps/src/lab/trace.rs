//! How much a link carries over time: a constant, or a file of seconds and kbit/s.

use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};

/// Lines of a trace: a day at ten a second.
const LINES_MAX: usize = 864_000;
/// Highest rate of a line, kbit/s: 10 Gbit/s.
const KBPS_MAX: f64 = 1e7;

/// A rate that changes at times; the last one stays.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// Since when, microseconds, rising from 0; and the rate from then on, kbit/s.
    steps: Vec<(i64, f64)>,
}

impl Trace {
    /// The same rate for ever, kbit/s.
    pub fn constant(kbps: f64) -> Self {
        Self { steps: vec![(0, kbps)] }
    }

    /// Reads lines of `seconds kbps`, times rising from 0; `#` begins a comment.
    ///
    /// # Errors
    /// One that names file and line.
    pub fn read(path: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read trace {}", path.display()))?;
        text.parse().with_context(|| format!("trace {}", path.display()))
    }

    /// The rate at a time, kbit/s, and until when it holds, if it ever changes.
    pub fn at(&self, at_us: i64) -> (f64, Option<i64>) {
        let next = self.steps.partition_point(|(since_us, _)| *since_us <= at_us);
        (self.steps[next.saturating_sub(1)].1, self.steps.get(next).map(|step| step.0))
    }

    /// Mean rate from 0 to a time, kbit/s.
    pub fn mean_kbps(&self, until_us: i64) -> f64 {
        let ends = self.steps.iter().skip(1).map(|step| step.0).chain([i64::MAX]);
        let part = |((since_us, kbps), end_us): (&(i64, f64), i64)| {
            kbps * (end_us.min(until_us) - since_us.min(&until_us)) as f64
        };
        self.steps.iter().zip(ends).map(part).sum::<f64>() / until_us.max(1) as f64
    }
}

impl FromStr for Trace {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut steps: Vec<(i64, f64)> = vec![];
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let values: Vec<Option<f64>> = line.split_whitespace().map(|v| v.parse().ok()).collect();
            let [Some(seconds), Some(kbps)] = values[..] else {
                bail!("line {number}: `{line}` is not `seconds kbps`");
            };
            ensure!(
                (0.0..=1e6).contains(&seconds) && (0.0..=KBPS_MAX).contains(&kbps),
                "line {number}: `{line}` is out of range"
            );
            let at_us = (seconds * 1e6).round() as i64;
            match steps.last() {
                None => ensure!(at_us == 0, "line {number}: the first line is for second 0"),
                Some(&(last_us, _)) => ensure!(at_us > last_us, "line {number}: times must rise"),
            }
            ensure!(steps.len() < LINES_MAX, "more than {LINES_MAX} lines");
            steps.push((at_us, kbps));
        }
        // Else what is under way at the end would never arrive.
        let last = steps.last().context("no line of `seconds kbps`")?;
        ensure!(last.1 > 0.0, "its last rate must be above 0");
        Ok(Self { steps })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_read_and_a_bad_one_is_refused() {
        let trace = Trace::from_str("# a phone in a lift\n0 600\n2.5 0 # nothing\n\n4 300\n").unwrap();
        assert_eq!(trace.at(0), (600.0, Some(2_500_000)));
        assert_eq!(trace.at(2_500_000), (0.0, Some(4_000_000)));
        assert_eq!(trace.at(9_000_000), (300.0, None));
        assert!((trace.mean_kbps(8_000_000) - (2.5 * 600.0 + 4.0 * 300.0) / 8.0).abs() < 1e-9);
        assert!((trace.mean_kbps(1_000_000) - 600.0).abs() < 1e-9);
        for (text, words) in [
            ("", "no line"),
            ("1 600", "line 1: the first line"),
            ("0 600\n0 300", "line 2: times must rise"),
            ("0 600\n1 0", "last rate"),
            ("0 fast", "line 1: `0 fast`"),
            ("0 600 7", "line 1"),
            ("0 NaN", "out of range"),
            ("0 -1", "out of range"),
        ] {
            let error = Trace::from_str(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text:?}: {error}");
        }
    }
}
