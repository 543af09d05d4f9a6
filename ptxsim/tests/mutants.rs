//! A correct tensor-core kernel, broken in one place after the other: each break must be seen.
#![allow(clippy::unwrap_used, reason = "tests fail by panic")]

mod support;

use hone_ptxsim::{Arg, Launch, LaunchError, Memory, Module, Options, Schedule};
use std::sync::Arc;

const KERNEL: &str = include_str!("data/matmul.ptx");

/// Columns of both operands: three slices, so that each buffer is used and one is used again.
const K: usize = 192;

/// Cycles per cycle without conflicts that the kernel may take.
const BANK_RATIO_MAX: f64 = 1.0;

#[derive(Debug)]
enum Seen {
    /// The numbers are right and the budget is kept: nothing was seen.
    Nothing,
    Fault(String),
    WrongNumbers,
    BankConflicts(f64),
    /// Not even taken: a mutant that shows nothing.
    Refused(#[expect(dead_code, reason = "for the report")] String),
}

/// Halves that are small integers, so that all sums are exact: a, then b.
fn operands() -> Vec<i32> {
    (0..2 * 64 * K as i32).map(|i| ((i * 7919) >> 3) % 9 - 4).collect()
}

fn run(text: &str, options: &Options) -> Seen {
    let module = match Module::parse(text) {
        Ok(module) => Arc::new(module),
        Err(error) => return Seen::Refused(error.to_string()),
    };
    let mut memory = Memory::default();
    let loaded = module.load(&mut memory).unwrap();
    let values = operands();
    let bytes: Vec<u8> =
        values.iter().flat_map(|value| half::f16::from_f32(*value as f32).to_bits().to_le_bytes()).collect();
    let from = memory.allocate(bytes.len() as u64).unwrap();
    memory.write(from, &bytes).unwrap();
    let out = memory.allocate(64 * 64 * 4).unwrap();
    let launch = Launch { grid: [1, 1, 1], block: [128, 1, 1], dynamic_shared: 32768 };
    let args = [Arg::from(out), Arg::from(from), Arg::from(K as i32)];
    let stats = match loaded.launch("k", &memory, &launch, &args, options) {
        Ok(stats) => stats,
        Err(LaunchError::Fault(fault)) => return Seen::Fault(fault.to_string()),
        Err(other) => return Seen::Refused(other.to_string()),
    };
    let (a, b) = values.split_at(64 * K);
    for row in 0..64 {
        for column in 0..64 {
            let wanted: i32 = (0..K).map(|k| a[row * K + k] * b[column * K + k]).sum();
            let bytes = memory.read_vec(out + (row * 64 + column) as u64 * 4, 4).unwrap();
            if f32::from_le_bytes(bytes.try_into().unwrap()) != wanted as f32 {
                return Seen::WrongNumbers;
            }
        }
    }
    if stats.bank_ratio() > BANK_RATIO_MAX {
        return Seen::BankConflicts(stats.bank_ratio());
    }
    Seen::Nothing
}

fn schedules() -> Vec<Options> {
    let mut all = Vec::new();
    for (schedule, turn) in [
        (Schedule::RoundRobin, None),
        (Schedule::Reverse, None),
        (Schedule::RoundRobin, Some(1)),
        (Schedule::Random(3), Some(11)),
    ] {
        all.push(Options { schedule, turn, instructions_max: 1_000_000, ..Options::default() });
    }
    all
}

/// The kernel with its `n`-th line that holds `what` changed by `change`.
fn mutant(what: &str, n: usize, change: impl Fn(&str) -> String) -> Option<String> {
    let mut found = 0;
    let mut changed = false;
    let lines = KERNEL.lines().map(|line| {
        found += usize::from(line.contains(what));
        if line.contains(what) && found == n + 1 && !changed {
            changed = true;
            change(line)
        } else {
            line.to_owned()
        }
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    changed.then_some(text)
}

/// Each line that holds `what`, changed alone: how many there are, and what was seen under each schedule.
#[track_caller]
fn each(what: &str, wanted: usize, change: impl Fn(&str) -> String, seen_as: impl Fn(&Seen) -> bool) {
    let mutants: Vec<String> = (0..).map_while(|n| mutant(what, n, &change)).collect();
    assert_eq!(mutants.len(), wanted, "lines with {what}");
    for (n, text) in mutants.iter().enumerate() {
        for options in schedules() {
            let seen = run(text, &options);
            assert!(seen_as(&seen), "{what}, number {n}, {:?}: {seen:?}", options.schedule);
        }
    }
}

#[test]
fn the_kernel_itself_is_right() {
    for options in schedules() {
        let seen = run(KERNEL, &options);
        assert!(matches!(seen, Seen::Nothing), "{seen:?}");
    }
}

#[test]
fn each_missing_barrier_is_a_fault() {
    each("bar.sync", 2, |_| String::new(), |seen| matches!(seen, Seen::Fault(_)));
}

#[test]
fn each_wrong_wait_is_a_fault() {
    let in_flight = |seen: &Seen| matches!(seen, Seen::Fault(text) if text.contains("not waited for"));
    each("cp.async.wait_group 0", 1, |line| line.replace('0', "1"), in_flight);
    each("cp.async.wait_group 1", 1, |line| line.replace('1', "2"), in_flight);
    each("cp.async.wait_group", 2, |_| String::new(), in_flight);
}

#[test]
fn a_lost_commit_is_a_fault() {
    each("cp.async.commit_group", 2, |_| String::new(), |seen| matches!(seen, Seen::Fault(_)));
}

#[test]
fn each_wrong_swizzle_is_seen() {
    // Every exclusive or of the kernel belongs to a swizzle; without it numbers or banks are wrong.
    let count = KERNEL.matches("xor.b32").count();
    assert!(count >= 4, "{count}");
    let drop = |line: &str| {
        let (head, operands) = line.split_once("xor.b32").unwrap();
        let (two, _) = operands.rsplit_once(',').unwrap();
        format!("{head}mov.b32 {two};")
    };
    each("xor.b32", count, drop, |seen| !matches!(seen, Seen::Nothing | Seen::Refused(_)));
}

#[test]
fn no_swizzle_at_all_is_right_and_slow() {
    // With the chunk in place of the exclusive or everywhere, writes and reads agree: only the banks tell.
    let text = KERNEL.lines().map(|line| {
        let Some((head, operands)) = line.split_once("xor.b32") else { return line.to_owned() };
        let names: Vec<&str> = operands.trim().trim_end_matches(';').split(", ").collect();
        // The row of a stands second, all other rows stand first.
        let chunk = if names[2] == "%r71" { names[1] } else { names[2] };
        format!("{head}mov.b32 {}, {chunk};", names[0])
    });
    let text = text.collect::<Vec<_>>().join("\n");
    let seen = run(&text, &Options::default());
    assert!(matches!(seen, Seen::BankConflicts(ratio) if ratio > 2.0), "{seen:?}");
}

#[test]
fn an_early_exit_of_one_warp_is_a_fault() {
    let text = KERNEL.replacen(
        "ld.param.u64",
        ".reg .pred %early; .reg .b32 %who; mov.u32 %who, %tid.x; setp.ge.u32 %early, %who, 96; @%early ret;\nld.param.u64",
        1,
    );
    for options in schedules() {
        let seen = run(&text, &options);
        assert!(matches!(&seen, Seen::Fault(text) if text.contains("have exited before")), "{seen:?}");
    }
}
