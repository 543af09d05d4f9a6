//! Comparison with the oracle; and counts of what was compared and what ran, told at the end.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::{Mutex, Once, PoisonError};

use hone_ptxsim::Stats;

/// Half the distance from 1 to the next f16: what rounding a result costs at most, relatively.
pub const F16_ROUNDING: f64 = 1.0 / 2048.0;
/// Half the smallest f16: what rounding costs at most where numbers are denormal.
pub const F16_SMALLEST: f64 = 1.0 / (1u64 << 25) as f64;
/// Half the distance from 1 to the next f32.
pub const F32_ROUNDING: f64 = f32::EPSILON as f64 / 2.0;
/// What adding one product in f32 costs at most, relative to the sum of the absolute products: a whole unit, since tensor
/// cores truncate.
pub const F32_TRUNCATION: f64 = 2.0 * F32_ROUNDING;

/// Demands that each value is as close to the oracle's as its bound says; the largest share of its bound that one took.
pub fn check(case: &str, have: &[f64], want: &[f64], bound: impl Fn(usize) -> f64) -> f64 {
    assert_eq!(have.len(), want.len(), "{case}");
    let mut worst: f64 = 0.0;
    for (i, (have, want)) in have.iter().zip(want).enumerate() {
        let (error, bound) = ((have - want).abs(), bound(i));
        // Written so that NaN fails.
        assert!(
            error <= bound,
            "{case}: value {i} is {have}, not {want}: off by {error:e}, allowed {bound:e}"
        );
        // A bound of zero was met.
        worst = worst.max(if bound > 0.0 { error / bound } else { 0.0 });
    }
    count(|counts| counts.cases += 1);
    worst
}

/// Counts a launch on the interpreter itself; those through its driver are counted there.
pub fn launched(kernel: &str, stats: &Stats) {
    count(|counts| {
        let (launches, instructions) = counts.kernels.entry(kernel.to_owned()).or_default();
        *launches += stats.launches;
        *instructions += stats.instructions;
    });
}

#[derive(Default)]
struct Counts {
    cases: usize,
    /// Launches and warp instructions.
    kernels: BTreeMap<String, (u64, u64)>,
}

static COUNTS: Mutex<Counts> = Mutex::new(Counts { cases: 0, kernels: BTreeMap::new() });

fn count(add: impl FnOnce(&mut Counts)) {
    static TELL: Once = Once::new();
    TELL.call_once(|| hone_ptxsim_libcuda::at_exit(tell));
    add(&mut COUNTS.lock().unwrap_or_else(PoisonError::into_inner));
}

/// Says what ran; and to whoever runs many test programs, in the file that the stand-in writes to as well.
extern "C" fn tell() {
    let mut counts = COUNTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(path) = std::env::var_os("PTXSIM_STATS") {
        let mut lines = format!("{{\"cases\":{}}}\n", counts.cases);
        for (kernel, (launches, instructions)) in &counts.kernels {
            let _ = writeln!(
                lines,
                "{{\"kernel\":\"{kernel}\",\"launches\":{launches},\"instructions\":{instructions}}}"
            );
        }
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        let _ = file.and_then(|mut file| file.write_all(lines.as_bytes()));
    }
    // A card does not count what it runs.
    for line in hone_ptxsim_libcuda::stats()
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
    {
        let number = |name: &str| line[name].as_u64().unwrap_or(0);
        let name = line["kernel"].as_str().unwrap_or_default().to_owned();
        let (launches, instructions) = counts.kernels.entry(name).or_default();
        *launches += number("launches");
        *instructions += number("instructions");
    }
    let (launches, instructions) = counts
        .kernels
        .values()
        .fold((0, 0), |(l, i), (launches, instructions)| (l + launches, i + instructions));
    // Past the capture of the test harness.
    let _ = writeln!(
        std::io::stderr(),
        "CUDA: {} cases; on the interpreter {} kernels, {launches} launches, {:.1} M instructions",
        counts.cases,
        counts.kernels.len(),
        instructions as f64 / 1e6
    );
}
