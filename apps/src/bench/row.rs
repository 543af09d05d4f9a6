//! One row of a benchmark: its frames, timed, and how it is shown.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::Result;
use hone_model::{Arch, Yuv420};
use serde::Serialize;

use super::device::Engine;

/// Most frames that are timed.
const FRAMES_MAX: usize = 1000;

/// Frames whose passes are timed one by one.
const PASS_FRAMES: usize = 3;

/// What the frames of one row took.
#[derive(Clone, Debug, Default)]
pub struct Times {
    /// Wall milliseconds: median, smallest.
    pub ms: (f64, f64),
    /// CPU seconds of this process: smallest.
    pub cpu_seconds: Option<f64>,
    /// Each pass, median milliseconds.
    pub passes: Vec<(String, f64)>,
}

/// Times frames, after one to warm up, for `seconds` or until `stop`; none if not one was timed.
pub fn time(
    engine: &mut Engine,
    (arch, picture): (Arch, &Yuv420),
    seconds: f64,
    stop: &AtomicBool,
    rgba: &mut Vec<u8>,
) -> Result<Option<Times>> {
    engine.frame(picture, arch, rgba)?;
    let (mut wall, mut cpu) = (vec![], vec![]);
    let start = Instant::now();
    while wall.len() < FRAMES_MAX
        && (wall.is_empty() || start.elapsed().as_secs_f64() < seconds)
        && !stop.load(Ordering::Relaxed)
    {
        let (begin, cpu_begin) = (Instant::now(), cpu_seconds());
        engine.frame(picture, arch, rgba)?;
        wall.push(begin.elapsed().as_secs_f64() * 1e3);
        cpu.extend(cpu_seconds().zip(cpu_begin).map(|(end, begin)| end - begin));
    }
    let Some(least) = wall.iter().copied().min_by(f64::total_cmp) else { return Ok(None) };
    // Apart from the frames above: where a device is asked for the times of its passes, it loses some.
    let mut frames = vec![];
    for _ in 0..wall.len().min(PASS_FRAMES) {
        frames.push(engine.passes(picture, rgba)?);
    }
    let passes = frames[0].iter().enumerate().map(|(i, (name, _))| {
        let each = frames.iter().filter_map(|frame| Some(frame.get(i)?.1)).collect();
        (name.clone(), median(each))
    });
    let cpu_seconds = cpu.into_iter().min_by(f64::total_cmp);
    Ok(Some(Times { passes: passes.collect(), ms: (median(wall), least), cpu_seconds }))
}

/// The middle one of at least one.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// CPU time of all threads of this process.
#[cfg(unix)]
fn cpu_seconds() -> Option<f64> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Some(time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9)
}

#[cfg(not(unix))]
fn cpu_seconds() -> Option<f64> {
    None
}

/// One measurement, as `--json` gives it.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Residual blocks x features of a network of the live family.
    pub net: String,
    /// Size of the input.
    pub lr: String,
    pub scale: usize,
    /// `cpu` or `wgpu`.
    pub backend: &'static str,
    pub variant: String,
    pub adapter: String,
    /// From planes to RGBA in main memory: median.
    pub ms: f64,
    /// The smallest.
    pub ms_min: f64,
    /// Of the convolutions, done directly, at the median.
    pub gflops: f64,
    /// Of what this device was measured to do at most.
    pub percent_of_peak: f64,
    /// Work over CPU time at its smallest: what to compare on a machine that has other work too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gflop_per_cpu_s: Option<f64>,
    /// Name and median milliseconds of each pass.
    pub passes: Vec<(String, f64)>,
}

/// Titles of [`Row`]'s columns.
pub const HEADER: &str =
    "net    scale  lr         variant            ms    least  GFLOP/s  % of peak  GFLOP/CPU s";

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { net, lr, scale, variant, ms, ms_min, gflops, percent_of_peak, .. } = self;
        let per_cpu_s = self.gflop_per_cpu_s.map_or_else(|| "-".to_owned(), |v| format!("{v:.1}"));
        write!(
            f,
            "{net:<6} x{scale:<5} {lr:<10} {variant:<11} {ms:>9.2} {ms_min:>8.2} {gflops:>8.1} \
             {percent_of_peak:>10.1} {per_cpu_s:>12}"
        )?;
        let mut groups: Vec<(&str, usize, f64)> = vec![];
        for (name, ms) in &self.passes {
            // `body.0.body.2` is one of the body, `7 conv3x3` a conv3x3.
            let group = name.split('.').next().unwrap_or(name);
            let group = group.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ');
            match groups.last_mut() {
                Some((last, count, sum)) if *last == group => (*count, *sum) = (*count + 1, *sum + ms),
                _ => groups.push((group, 1, *ms)),
            }
        }
        for (i, (group, count, sum)) in groups.iter().enumerate() {
            let times = if *count > 1 { format!("{count} x ") } else { String::new() };
            write!(f, "{}{times}{group} {sum:.2}", if i == 0 { "\n       ms: " } else { ", " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_of_one_part_are_shown_as_one() {
        let passes = [("yuv_rgb", 0.5), ("body.0.body.0", 1.0), ("body.0.body.2", 2.0), ("tail", 0.25)];
        let row = Row {
            net: "1x8".into(),
            lr: "16x8".into(),
            scale: 2,
            backend: "cpu",
            variant: "f32".into(),
            adapter: "none".into(),
            ms: 4.0,
            ms_min: 3.75,
            gflops: 2.0,
            percent_of_peak: 50.0,
            gflop_per_cpu_s: Some(1.0),
            passes: passes.map(|(name, ms)| (name.to_owned(), ms)).to_vec(),
        };
        let text = row.to_string();
        assert!(text.ends_with("ms: yuv_rgb 0.50, 2 x body 3.00, tail 0.25"), "{text}");
        assert_eq!(text.lines().next().unwrap().len(), HEADER.len(), "{text}");
    }
}
