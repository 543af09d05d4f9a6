//! Races, barriers and hangs in small kernels; each is found whatever order the warps run in.
#![allow(clippy::unwrap_used, reason = "tests fail by panic")]

mod support;

use hone_ptxsim::{Fault, FaultKind, LaunchError, Options, Schedule};
use support::{kernel, launch};

fn schedules() -> Vec<Options> {
    let mut all = Vec::new();
    for schedule in [Schedule::RoundRobin, Schedule::Reverse, Schedule::Random(1), Schedule::Random(2)] {
        for turn in [None, Some(1), Some(7)] {
            all.push(Options { schedule, turn, instructions_max: 100_000, ..Options::default() });
        }
    }
    all
}

/// Runs two warps under every schedule; all must fail, and `check` says how.
#[track_caller]
fn each(body: &str, check: impl Fn(&Fault)) {
    for options in schedules() {
        match launch(&kernel(body), 64, 1024, &[], &options) {
            Err(LaunchError::Fault(fault)) => check(&fault),
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("not found by {:?}: {body}", options.schedule),
        }
    }
}

#[track_caller]
fn passes(body: &str, wanted: &[u32]) {
    for options in schedules() {
        match launch(&kernel(body), 64, 1024, &[], &options) {
            Ok(outcome) => assert_eq!(outcome.words, wanted, "{:?}", options.schedule),
            Err(error) => panic!("{:?}: {error}", options.schedule),
        }
    }
}

/// Each lane writes its word and reads that of lane `63 - lane`.
const EXCHANGE: &str = "
    shl.b32 %r1, %lane, 2;
    mov.u32 %r2, dynamic;
    add.s32 %r3, %r2, %r1;
    st.shared.u32 [%r3], %lane;
    bar.sync 0;
    sub.s32 %r4, 252, %r1;
    add.s32 %r4, %r4, %r2;
    ld.shared.u32 %r0, [%r4];
    bar.sync 0;
    st.shared.u32 [%r3], 7;";

#[test]
fn a_missing_barrier_is_a_race() {
    passes(EXCHANGE, &(0..64).rev().collect::<Vec<u32>>());
    let (first, second) =
        (EXCHANGE.replacen("bar.sync 0;", "", 1), EXCHANGE.replace("    bar.sync 0;\n    st", "st"));
    assert!(first != EXCHANGE && second != EXCHANGE);
    // Without the first, a read before or after the write; without the second, a write among the reads.
    each(&first, |fault| {
        assert!(matches!(fault.kind, FaultKind::Race { .. } | FaultKind::Uninitialised { .. }), "{fault}");
    });
    each(&second, |fault| assert!(matches!(fault.kind, FaultKind::Race { .. }), "{fault}"));
}

#[test]
fn bytes_beside_each_other_do_not_race() {
    // Two warps write the two halves of each word.
    let body = "
        and.b32 %r1, %lane, 31; shl.b32 %r1, %r1, 2; shr.u32 %r2, %lane, 5; shl.b32 %r2, %r2, 1;
        add.s32 %r3, %r1, %r2;
        mov.u16 %h1, 3;
        st.shared.u16 [%r3], %h1;
        bar.sync 0;
        ld.shared.u32 %r0, [%r1];";
    passes(body, &[0x0003_0003; 64]);
    // The same half.
    each(&body.replace("add.s32 %r3, %r1, %r2", "mov.u32 %r3, %r1"), |fault| {
        assert!(
            matches!(fault.kind, FaultKind::Race { access: "write", other_access: "write", .. }),
            "{fault}"
        );
    });
}

#[test]
fn a_copy_must_be_waited_for_before_the_barrier() {
    let body = "
        setp.ge.u32 %p1, %lane, 32;
        and.b32 %r1, %lane, 31; shl.b32 %r1, %r1, 2; cvt.u64.u32 %rd1, %r1; add.s64 %rd1, %rd1, %out;
        @!%p1 st.global.u32 [%rd1], %lane;
        @%p1 bra READ;
        cp.async.ca.shared.global [%r1], [%rd1], 4;
        cp.async.wait_all;
    READ:
        bar.sync 0;
        ld.shared.u32 %r0, [%r1];
        bar.sync 0;";
    passes(body, &(0..64).map(|lane| lane % 32).collect::<Vec<u32>>());
    let late = body.replace("cp.async.wait_all;", "").replace("ld.shared", "cp.async.wait_all; ld.shared");
    each(&late, |fault| {
        assert!(matches!(fault.kind, FaultKind::InFlight { .. } | FaultKind::Race { .. }), "{fault}");
    });
}

#[test]
fn barriers_that_not_all_reach() {
    // Part of a warp.
    each("setp.lt.u32 %p1, %lane, 10; @%p1 bar.sync 0;", |fault| {
        assert_eq!(fault.kind, FaultKind::Divergent { mask: 0x3ff, needed: u32::MAX });
    });
    // One warp of two leaves early, or a part of one.
    for first in [32, 50] {
        each(&format!("setp.ge.u32 %p1, %lane, {first}; @%p1 ret; bar.sync 0;"), |fault| {
            assert!(matches!(fault.kind, FaultKind::EarlyExit { exited: 1..=32 }), "{fault}");
        });
    }
    // One warp at each of two barriers; at two places of one barrier.
    let at = |a: &str, b: &str| format!("setp.ge.u32 %p1, %lane, 32; @%p1 bra B;\n{a} bra E;\nB:\n{b}\nE:");
    each(&at("bar.sync 1;", "bar.sync 2;"), |fault| {
        assert!(matches!(fault.kind, FaultKind::Deadlock { waiting: 2 }), "{fault}");
    });
    each(&at("bar.sync 1;", "bar.sync 1;"), |fault| {
        assert!(matches!(fault.kind, FaultKind::MixedBarrier { barrier: 1, .. }), "{fault}");
    });
    // One that nobody else comes to, a number and a count that do not exist.
    each(&at("bar.sync 1, 64;", ""), |fault| {
        assert!(matches!(fault.kind, FaultKind::Deadlock { .. }), "{fault}")
    });
    each("bar.sync 16;", |fault| {
        assert!(matches!(fault.kind, FaultKind::BadBarrier { barrier: 16, .. }), "{fault}")
    });
    each("bar.sync 1, 33;", |fault| {
        assert!(matches!(fault.kind, FaultKind::BadBarrier { count: 33, .. }), "{fault}")
    });
}

#[test]
fn what_a_whole_warp_must_do_needs_the_whole_warp() {
    for body in [
        "@%p1 shfl.sync.idx.b32 %r0, %lane, 0, 31, -1;",
        "@%p1 ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r0}, [%r1];",
        "@%p1 vote.sync.ballot.b32 %r0, %p1, -1;",
        "@%p1 bar.warp.sync -1;",
    ] {
        let body = format!("and.b32 %r2, %lane, 31; setp.ne.u32 %p1, %r2, 3; {body}");
        each(&body, |fault| assert!(matches!(fault.kind, FaultKind::Divergent { .. }), "{fault}"));
    }
}

#[test]
fn a_kernel_that_never_ends_is_an_error() {
    each("HERE: bra HERE;", |fault| {
        assert_eq!(fault.kind, FaultKind::InstructionLimit { limit: 100_000 });
    });
}
