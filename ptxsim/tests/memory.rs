//! Loads, stores, atomics, asynchronous copies, and what is reported of them.
#![allow(clippy::unwrap_used, reason = "tests fail by panic")]

mod support;

use hone_ptxsim::{FaultKind, LaunchError, Options, Space};
use support::{Outcome, kernel, launch};

fn run(body: &str, threads: u32, input: &[u8]) -> Outcome {
    launch(&kernel(body), threads, 1024, input, &Options::default()).unwrap_or_else(|e| panic!("{e}\n{body}"))
}

#[track_caller]
fn fault(body: &str, threads: u32, input: &[u8]) -> hone_ptxsim::Fault {
    match launch(&kernel(body), threads, 1024, input, &Options::default()) {
        Err(LaunchError::Fault(fault)) => *fault,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("no fault: {body}"),
    }
}

fn input(n: u8) -> Vec<u8> {
    (0..n).collect()
}

#[test]
fn loads_extend_as_their_type_says() {
    let bytes = [0x80, 0xff, 0x34, 0x12, 0x78, 0x56, 0x34, 0x92, 1, 0, 0, 0, 2, 0, 0, 0];
    let word = |body: &str| run(body, 1, &bytes).words[0];
    for (body, wanted) in [
        ("ld.global.u8 %r0, [%in];", 0x80),
        ("ld.global.s8 %r0, [%in];", 0xffff_ff80),
        ("ld.global.nc.u16 %h1, [%in+2]; cvt.u32.u16 %r0, %h1;", 0x1234),
        ("ld.global.s16 %r0, [%in+6];", 0xffff_9234),
        ("ld.global.s8 %h1, [%in]; cvt.u32.u16 %r0, %h1;", 0xff80),
        ("ld.global.b32 %r0, [%in+4];", 0x9234_5678),
        ("ld.volatile.global.v2.u32 {%r1, %r0}, [%in+8];", 2),
        ("ld.global.L1::no_allocate.v4.u32 {%r1, _, %r2, %r0}, [%in];", 2),
        ("ld.global.u64 %rd1, [%in+8]; shr.u64 %rd1, %rd1, 32; cvt.u32.u64 %r0, %rd1;", 2),
        ("ld.global.s32 %rd1, [%in+4]; shr.u64 %rd1, %rd1, 32; cvt.u32.u64 %r0, %rd1;", 0xffff_ffff),
        ("ld.u32 %r0, [%in+8];", 1),
        ("cvta.to.global.u64 %rd1, %in; ld.global.u32 %r0, [%rd1+12];", 2),
    ] {
        assert_eq!(word(body), wanted, "{body}");
    }
}

#[test]
fn stores_write_their_width_and_no_more() {
    let left = |body: &str| {
        run(&format!("mov.u32 %r1, 0x11223344; mov.u64 %rd1, 0x1122334455667788; {body}"), 1, &[0; 16]).input
    };
    assert_eq!(left("st.global.u8 [%in+1], %r1;")[..4], [0, 0x44, 0, 0]);
    assert_eq!(left("st.global.u16 [%in+2], %r1;")[..4], [0, 0, 0x44, 0x33]);
    assert_eq!(left("st.global.u32 [%in], %rd1;")[..8], [0x88, 0x77, 0x66, 0x55, 0, 0, 0, 0]);
    assert_eq!(left("st.global.v4.u8 [%in+4], {%r1, 1, 2, 3};")[4..8], [0x44, 1, 2, 3]);
    assert_eq!(left("st.global.u64 [%in+8], %rd1;")[8..], [0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11]);
    assert_eq!(left("st.global.v2.f32 [%in], {0f3F800000, 0f40000000};")[..8], [0, 0, 128, 63, 0, 0, 0, 64]);
}

#[test]
fn local_shared_and_generic_addresses() {
    // Each lane's local memory is its own; generic addresses lead to local, shared and global memory.
    let body = "
        .local .align 8 .b8 depot[16];
        .shared .align 4 .b8 fixed[128];
        mov.u64 %rd1, depot;
        cvta.local.u64 %rd2, %rd1;
        st.u32 [%rd2+4], %lane;
        ld.local.u32 %r1, [%rd1+4];
        shl.b32 %r2, %lane, 2;
        mov.u32 %r3, fixed;
        add.s32 %r3, %r3, %r2;
        st.shared.u32 [%r3], %r1;
        cvt.u64.u32 %rd3, %r3;
        cvta.shared.u64 %rd4, %rd3;
        ld.u32 %r4, [%rd4];
        cvta.to.shared.u64 %rd5, %rd4;
        ld.shared.u32 %r5, [%rd5];
        add.s32 %r0, %r4, %r5;";
    assert_eq!(run(body, 32, &[]).words, (0..32).map(|lane| lane * 2).collect::<Vec<u32>>());
    // Dynamic shared memory lies behind the static part.
    let body =
        ".shared .align 4 .b8 fixed[12]; mov.u32 %r1, fixed; mov.u32 %r2, dynamic; sub.s32 %r0, %r2, %r1;";
    assert_eq!(run(body, 1, &[]).words, [128]);
}

#[test]
fn module_variables_are_initialised() {
    let text = kernel("ld.const.u32 %r0, [table+4]; ld.global.u32 %r1, [counter]; add.s32 %r0, %r0, %r1;")
        .replace(
            ".extern",
            ".const .align 4 .u32 table[3] = {10, 20, 30};\n.global .align 4 .u32 counter = -1;\n.extern",
        );
    assert_eq!(launch(&text, 1, 0, &[], &Options::default()).unwrap().words, [19]);
}

#[test]
fn atomics_return_what_was_there() {
    let old_sum = |body: &str, threads: u32, input: &[u8]| {
        let outcome = run(body, threads, input);
        (outcome.words, outcome.input)
    };
    let (old, left) = old_sum("atom.global.add.u32 %r0, [%in], 2;", 64, &[5, 0, 0, 0]);
    assert_eq!(left, 133u32.to_le_bytes());
    let mut sorted = old.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..64).map(|i| 5 + 2 * i).collect::<Vec<u32>>());
    let after = |body: &str, start: u32| {
        let left = old_sum(body, 1, &start.to_le_bytes()).1;
        u32::from_le_bytes(left[..4].try_into().unwrap())
    };
    for (body, start, wanted) in [
        ("red.global.add.f32 [%in], 0f3F800000;", 0x3f80_0000, 0x4000_0000),
        ("red.global.min.s32 [%in], -3;", 1, -3i32 as u32),
        ("red.global.min.u32 [%in], -3;", 1, 1),
        ("red.global.max.s32 [%in], -3;", 1, 1),
        ("red.global.or.b32 [%in], 6;", 1, 7),
        ("red.global.and.b32 [%in], 6;", 3, 2),
        ("red.global.xor.b32 [%in], 6;", 3, 5),
        ("atom.global.exch.b32 %r0, [%in], 9;", 3, 9),
        ("atom.global.cas.b32 %r0, [%in], 3, 9;", 3, 9),
        ("atom.global.cas.b32 %r0, [%in], 4, 9;", 3, 3),
        ("atom.global.inc.u32 %r0, [%in], 5;", 5, 0),
        ("atom.global.inc.u32 %r0, [%in], 5;", 4, 5),
        ("atom.global.dec.u32 %r0, [%in], 5;", 0, 5),
        ("atom.global.gpu.relaxed.add.noftz.f16x2 %r0, [%in], 0x3c003c00;", 0x4000_3c00, 0x4200_4000),
    ] {
        assert_eq!(after(body, start), wanted, "{body}");
    }
    // Two warps add to one shared word: atomics do not race.
    let body = "mov.u32 %r1, dynamic; setp.eq.u32 %p1, %lane, 0; @%p1 st.shared.u32 [%r1], 0; bar.sync 0;
        atom.shared.add.u32 %r2, [%r1], %lane; bar.sync 0; ld.shared.u32 %r0, [%r1];";
    assert_eq!(run(body, 64, &[]).words, vec![2016; 64]);
}

#[test]
fn asynchronous_copies_land_at_their_wait() {
    let copy = "shl.b32 %r1, %lane, 4; mov.u32 %r2, dynamic; add.s32 %r2, %r2, %r1; cvt.u64.u32 %rd1, %r1; add.s64 %rd1, %rd1, %in;";
    let body = format!(
        "{copy} cp.async.cg.shared.global [%r2], [%rd1], 16; cp.async.commit_group;
         cp.async.wait_group 0; ld.shared.u32 %r0, [%r2+4];"
    );
    assert_eq!(run(&body, 2, &input(32)).words, [0x0706_0504, 0x1716_1514]);
    // A size below the width fills with zeros, and reads no source at all if it is zero.
    let body = format!(
        "{copy} mov.u32 %r5, 0; mov.u64 %rd2, 16; cp.async.cg.shared.global [%r2], [%rd2], 16, %r5;
         cp.async.wait_all; ld.shared.u32 %r0, [%r2];"
    );
    assert_eq!(run(&body, 2, &input(32)).words, [0, 0]);
    let body = format!(
        "{copy} mov.u32 %r5, 6; cp.async.ca.shared.global.L2::128B [%r2], [%rd1], 8, %r5;
         cp.async.wait_all; ld.shared.u32 %r0, [%r2+4];"
    );
    assert_eq!(run(&body, 1, &input(32)).words, [0x0000_0504]);
    // One of two groups is still under way.
    let body = |wait: u32| {
        format!(
            "{copy} cp.async.ca.shared.global [%r2], [%rd1], 4; cp.async.commit_group;
             cp.async.ca.shared.global [%r2+8], [%rd1+8], 4; cp.async.commit_group;
             cp.async.wait_group {wait}; ld.shared.u32 %r0, [%r2]; ld.shared.u32 %r3, [%r2+8]; add.s32 %r0, %r0, %r3;"
        )
    };
    assert_eq!(run(&body(0), 1, &input(32)).words, [0x0302_0100 + 0x0b0a_0908]);
    let fault = fault(&body(1), 1, &input(32));
    assert_eq!(fault.kind, FaultKind::InFlight { address: 8, access: "read", copy_line: fault.line - 1 });
}

#[test]
fn what_is_out_of_bounds_or_misaligned_is_reported_with_its_place() {
    let body = "mad.wide.u32 %rd1, %lane, 4, %in;\nld.global.u32 %r0, [%rd1];";
    let found = fault(body, 32, &[0; 64]);
    assert_eq!((found.kernel.as_str(), found.thread, found.block), ("k", [16, 0, 0], [0, 0, 0]));
    assert_eq!(found.text, "ld.global.u32 %r0, [%rd1]");
    let line = kernel(body).lines().position(|line| line.contains("ld.global.u32")).unwrap() + 1;
    assert_eq!(found.line as usize, line);
    let FaultKind::OutOfBounds { space: Space::Global, bytes: 4, nearest, .. } = &found.kind else {
        panic!("{found}")
    };
    assert!(nearest.starts_with("0 bytes past the end of the 64 bytes"), "{nearest}");

    let kind = |body: &str| fault(body, 1, &[0; 64]).kind;
    assert!(matches!(
        kind("st.global.u32 [%in+62], %r0;"),
        FaultKind::Misaligned { space: Space::Global, .. }
    ));
    assert!(matches!(
        kind("ld.global.v4.u32 {%r0, %r1, %r2, %r3}, [%in+8];"),
        FaultKind::Misaligned { bytes: 16, .. }
    ));
    assert!(matches!(kind("st.global.u32 [%in+-4], %r0;"), FaultKind::OutOfBounds { .. }));
    assert!(matches!(kind("mov.u64 %rd1, 0; ld.global.u32 %r0, [%rd1];"), FaultKind::OutOfBounds { .. }));
    assert!(matches!(
        kind("mov.u32 %r1, 1024; st.shared.u32 [%r1], %r0;"),
        FaultKind::OutOfBounds { space: Space::Shared, .. }
    ));
    assert!(matches!(
        kind("mov.u32 %r1, 2; st.shared.u32 [%r1], %r0;"),
        FaultKind::Misaligned { space: Space::Shared, .. }
    ));
    assert!(matches!(
        kind("mov.u32 %r1, 4; ld.shared.u32 %r0, [%r1];"),
        FaultKind::Uninitialised { address: 4 }
    ));
    let local = ".local .align 4 .b8 depot[8]; mov.u64 %rd1, depot; st.local.u32 [%rd1+8], %r0;";
    // Local memory is rounded up to 16 bytes.
    assert_eq!(run(local, 1, &[]).words, [0]);
    assert!(matches!(kind(&local.replace("+8", "+16")), FaultKind::OutOfBounds { space: Space::Local, .. }));
    assert_eq!(kind("trap;"), FaultKind::Trap);
}

#[test]
fn fresh_memory_is_poison() {
    // The output buffer was never written: its words are NaN.
    assert_eq!(run("ld.global.u32 %r0, [%out];", 1, &[]).words, [u32::MAX]);
    // As are registers.
    assert_eq!(run("mov.b32 %r0, %r30;", 1, &[]).words, [u32::MAX]);
}

#[test]
fn bank_conflicts_are_counted() {
    let banks = |stride: u32| {
        let body =
            format!("mul.lo.u32 %r1, %lane, {stride}; st.shared.u32 [%r1], %lane; ld.shared.u32 %r0, [%r1];");
        let stats = launch(&kernel(&body), 32, 4096, &[], &Options::default()).unwrap().stats;
        (stats.bank_cycles_ideal, stats.bank_cycles, stats.banks.len())
    };
    assert_eq!(banks(4), (2, 2, 1));
    assert_eq!(banks(8), (2, 4, 1));
    assert_eq!(banks(128), (2, 64, 1));
    assert_eq!(banks(12), (2, 2, 1));
}

#[test]
fn lanes_of_one_load_may_lie_in_two_allocations() {
    // Odd lanes read what they stored to the output, even lanes the input.
    let body = "
        mad.wide.u32 %rd2, %lane, 8, %out; add.u32 %r1, %lane, 500; st.global.u32 [%rd2], %r1;
        mad.wide.u32 %rd1, %lane, 4, %in;
        and.b32 %r2, %lane, 1; setp.eq.u32 %p1, %r2, 1;
        selp.b64 %rd3, %rd2, %rd1, %p1;
        ld.global.u32 %r0, [%rd3];";
    let bytes: Vec<u8> = (0..32u32).flat_map(|i| (1000 + i).to_le_bytes()).collect();
    let wanted: Vec<u32> = (0..32).map(|lane| if lane % 2 == 1 { 500 + lane } else { 1000 + lane }).collect();
    assert_eq!(run(body, 32, &bytes).words, wanted);
    // One lane of many is wrong: it alone is named.
    for (shift, first) in [("mov.u32 %r3, 2;", 7), ("mov.u32 %r3, 4096;", 7)] {
        let body = format!(
            "{shift} setp.eq.u32 %p1, %lane, 7; selp.b32 %r3, %r3, 0, %p1; mad.lo.u32 %r3, %lane, 4, %r3;
             cvt.u64.u32 %rd1, %r3; add.s64 %rd1, %rd1, %in; ld.global.u32 %r0, [%rd1];"
        );
        assert_eq!(fault(&body, 32, &bytes).thread, [first, 0, 0], "{shift}");
    }
    // Lanes that a predicate holds back may have any address.
    let body = "setp.lt.u32 %p1, %lane, 4; mov.u64 %rd1, 3; selp.b64 %rd1, %in, %rd1, %p1; @%p1 ld.global.u32 %r0, [%rd1];";
    assert_eq!(run(body, 32, &bytes).words[3..5], [1000, 0]);
}
