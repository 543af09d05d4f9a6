//! Whatever the text, reading it gives a module or an error, never a panic; and what is read runs or faults.
#![allow(clippy::unwrap_used, reason = "tests fail by panic")]

mod support;

use std::sync::Arc;

use hone_ptxsim::{Arg, Launch, Memory, Module, Options};
use proptest::prelude::*;

const KERNEL: &str = include_str!("data/matmul.ptx");

/// Reads a text and, if it is a module, runs its kernel for a little while.
fn survive(text: &str) {
    let Ok(module) = Module::parse(text) else { return };
    let mut memory = Memory::new(1 << 24);
    let Ok(loaded) = Arc::new(module).load(&mut memory) else { return };
    let buffer = memory.allocate(1 << 16).unwrap();
    let launch = Launch { grid: [1, 1, 1], block: [128, 1, 1], dynamic_shared: 32768 };
    let options = Options { instructions_max: 20_000, ..Options::default() };
    let args = [Arg::from(buffer), Arg::from(buffer), Arg::from(128i32)];
    // Whatever it says is fine.
    let _ = loaded.launch("k", &memory, &launch, &args, &options);
}

/// Pieces from which texts look like PTX.
const PIECES: &[&str] = &[
    ".reg",
    ".b32",
    ".u64",
    ".pred",
    "%r<5>",
    "%r1",
    "%rd1",
    "%p1",
    "{",
    "}",
    "[",
    "]",
    "(",
    ")",
    ";",
    ",",
    ":",
    "@",
    "!",
    "|",
    "+",
    "-",
    "<",
    ">",
    "=",
    "add.s32",
    "ld.global.v4.u32",
    "st.shared.u8",
    "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32",
    "bra",
    "$L1",
    "bar.sync",
    "0",
    "0xFFFFFFFFFFFFFFFF",
    "0f3F800000",
    "99999999999",
    "cvt.rn.f16.f32",
    "setp.lt.s32",
    ".entry",
    "k",
    ".param",
    ".shared",
    ".align",
    "8",
    ".version",
    "8.0",
    ".target",
    "sm_80",
    ".visible",
    ".local",
    "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16",
    "cp.async.wait_group",
    "brx.idx",
    ".branchtargets",
    "ret",
    "\"",
    "/*",
    "//",
    "\n",
    ".func",
    ".section",
    ".loc",
    ".extern",
    ".const",
    "ldmatrix.sync.aligned.m8n8.x4.shared.b16",
    "é",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        survive(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn any_pieces(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..80)) {
        survive(&pieces.join(" "));
        survive(&support::kernel(&pieces.join(" ")));
    }

    #[test]
    fn a_kernel_with_characters_changed(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut text = KERNEL.as_bytes().to_vec();
        for (at, byte) in edits {
            let at = at.index(text.len());
            text[at] = byte;
        }
        survive(&String::from_utf8_lossy(&text));
    }

    #[test]
    fn a_kernel_with_words_exchanged(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..6)) {
        let mut words: Vec<&str> = KERNEL.split(' ').collect();
        for (a, b) in edits {
            let (a, b) = (a.index(words.len()), b.index(words.len()));
            words.swap(a, b);
        }
        survive(&words.join(" "));
    }

    #[test]
    fn a_kernel_with_lines_dropped(keep in prop::collection::vec(prop::bool::weighted(0.98), 600)) {
        let lines: Vec<&str> = KERNEL.lines().zip(keep).filter(|(_, keep)| *keep).map(|(line, _)| line).collect();
        survive(&lines.join("\n"));
    }
}

#[test]
fn a_kernel_cut_anywhere() {
    for end in (0..KERNEL.len()).step_by(37) {
        survive(&KERNEL[..end]);
    }
}

#[test]
fn huge_claims_are_refused_before_they_cost_memory() {
    for body in
        [".reg .b32 %x<4000000000>;", ".local .b8 x[4000000000];", ".shared .b64 x[99999999999999999999];"]
    {
        assert!(support::parse(body).is_err(), "{body}");
    }
    let deep = "{".repeat(100_000);
    assert!(support::parse(&deep).is_err());
    assert!(Module::parse(".version 8.0 .target sm_80 .global .b64 x[18446744073709551615];").is_err());
}
