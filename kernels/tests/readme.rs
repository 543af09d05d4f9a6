//! The numbers in this folder's README are those of the plans.

use hone_kernels::plan::{Plan, weights_bytes};
use hone_model::Arch;

/// Multiprocessors of an H100 SXM: the parts of weight gradients depend on it.
const MULTIPROCESSORS: u32 = 132;

/// A line of the table: MiB for weights and optimiser, and for batches of 16 and 64 crops of 48x48.
fn line(name: &str) -> String {
    let arch: Arch = name.parse().expect("in range");
    let mib = |bytes: usize| format!("{:.1}", bytes as f64 / (1 << 20) as f64);
    let batch = |n| mib(Plan::training(arch, n, 48, MULTIPROCESSORS).bytes());
    // Held-out patches are judged one by one, with a copy of the weights that are judged.
    let judge = mib(Plan::forward(arch, 1, 96, 96).bytes() + weights_bytes(arch, false));
    format!("| {name} | {} | {} | {} | {judge} |", mib(weights_bytes(arch, true)), batch(16), batch(64))
}

#[test]
fn memory_of_a_stream_is_as_the_table_says() {
    let readme = include_str!("../README.md");
    for name in [
        "live-4x16-x2",
        "live-4x16-x4",
        "live-8x32-x2",
        "live-8x32-x4",
        "live-16x64-x2",
        "live-16x64-x4",
        "edsr-16x64-x2",
    ] {
        let line = line(name);
        assert!(readme.contains(&line), "the README should say\n{line}");
    }
}
