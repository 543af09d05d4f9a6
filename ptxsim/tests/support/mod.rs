//! A kernel around a few instructions: one warp, whose lanes each store what they computed.
#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses what it needs, and fails by panic")]

use std::sync::Arc;

use hone_ptxsim::{Arg, Launch, LaunchError, Memory, Module, Options, ParseError, Stats};

/// Registers and parameters that bodies may use; `%r0`, `%rd0` and `%p0` are what is stored.
pub fn kernel(body: &str) -> String {
    format!(
        ".version 8.0
.target sm_90a
.address_size 64
.extern .shared .align 128 .b8 dynamic[];
.visible .entry k(.param .u64 out, .param .u64 in)
{{
    .reg .pred %p<10>;
    .reg .b16 %h<10>;
    .reg .b32 %r<40>;
    .reg .f32 %f<40>;
    .reg .b64 %rd<40>;
    .reg .f64 %fd<10>;
    .reg .b32 %lane, %store;
    .reg .b64 %in, %out, %to;
    mov.u32 %lane, %tid.x;
    ld.param.u64 %in, [in];
    ld.param.u64 %out, [out];
    mov.u32 %r0, 0;
    mov.u64 %rd0, 0;
    {body}
    mul.wide.u32 %to, %lane, 8;
    add.s64 %to, %to, %out;
    st.global.u64 [%to], %rd0;
    st.global.u32 [%to], %r0;
    ret;
}}
"
    )
}

/// What a run gave.
pub struct Outcome {
    pub words: Vec<u32>,
    pub doubles: Vec<u64>,
    pub stats: Stats,
    /// The input buffer as it was left.
    pub input: Vec<u8>,
}

/// Runs a whole module's kernel `k` for `threads` threads on a buffer.
pub fn launch(
    text: &str,
    threads: u32,
    shared: u32,
    input: &[u8],
    options: &Options,
) -> Result<Outcome, LaunchError> {
    let module = Arc::new(Module::parse(text).unwrap_or_else(|error| panic!("{error}\n{text}")));
    let mut memory = Memory::default();
    let loaded = module.load(&mut memory).unwrap();
    let out = memory.allocate(u64::from(threads) * 8).unwrap();
    let from = memory.allocate(input.len().max(1) as u64).unwrap();
    memory.write(from, input).unwrap();
    let launch = Launch { grid: [1, 1, 1], block: [threads, 1, 1], dynamic_shared: shared };
    let stats = loaded.launch("k", &memory, &launch, &[Arg::from(out), Arg::from(from)], options)?;
    let bytes = memory.read_vec(out, u64::from(threads) * 8).unwrap();
    let doubles: Vec<u64> = bytes.chunks(8).map(|b| u64::from_le_bytes(b.try_into().unwrap())).collect();
    let words = doubles.iter().map(|double| *double as u32).collect();
    Ok(Outcome { words, doubles, stats, input: memory.read_vec(from, input.len() as u64).unwrap() })
}

/// One warp, no input: `%r0` of each lane.
pub fn words(body: &str) -> Vec<u32> {
    match launch(&kernel(body), 32, 1024, &[], &Options::default()) {
        Ok(outcome) => outcome.words,
        Err(error) => panic!("{error}\n{body}"),
    }
}

/// `%r0` of lane 0.
pub fn word(body: &str) -> u32 {
    words(body)[0]
}

/// `%rd0` of lane 0; its lower half is `%r0` unless that is set from it.
pub fn double(body: &str) -> u64 {
    let body = format!("{body}\ncvt.u32.u64 %r0, %rd0;");
    launch(&kernel(&body), 32, 1024, &[], &Options::default())
        .unwrap_or_else(|e| panic!("{e}\n{body}"))
        .doubles[0]
}

/// What the parser says of an instruction.
pub fn parse(body: &str) -> Result<(), ParseError> {
    Module::parse(&kernel(body)).map(|_| ())
}
