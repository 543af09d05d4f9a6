//! Counts of what ran, for whoever wants to know: appended to a file, and on request.

use core::ffi::c_void;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;

use hone_ptxsim::Stats;

use crate::state::{State, state};

unsafe extern "C" {
    fn atexit(call: extern "C" fn()) -> core::ffi::c_int;
}

/// Has `call` called when the process ends. Of several, the last one comes first.
pub fn at_exit(call: extern "C" fn()) {
    // SAFETY: `atexit` of the C library with a function that stays loaded as long as this library, which nobody
    // unloads. If it has no room it says so, and the call is missed.
    let _ = unsafe { atexit(call) };
}

/// Has the counts written when the process ends.
pub(crate) fn write_at_exit() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| at_exit(ended));
}

extern "C" fn ended() {
    append(&mut state());
}

/// One line of JSON per kernel.
fn lines(stats: &BTreeMap<String, Stats>) -> String {
    let mut lines = String::new();
    for (name, stats) in stats {
        let _ = writeln!(
            lines,
            "{{\"kernel\":\"{name}\",\"launches\":{},\"blocks\":{},\"instructions\":{},\"mma\":{},\"macs\":{},\
             \"bank_cycles\":{},\"bank_cycles_ideal\":{}}}",
            stats.launches,
            stats.blocks,
            stats.instructions,
            stats.mma,
            stats.macs,
            stats.bank_cycles,
            stats.bank_cycles_ideal
        );
    }
    lines
}

/// Appends what ran since the last time, if a file is set.
pub(crate) fn append(state: &mut State) {
    let new = std::mem::take(&mut state.stats);
    if let Some(path) = &state.settings.stats
        && !new.is_empty()
    {
        // One write of all lines, so that processes that end at the same time do not mix theirs.
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        if let Err(error) = file.and_then(|mut file| file.write_all(lines(&new).as_bytes())) {
            eprintln!("ptxsim: {}: {error}", path.display());
        }
    }
    for (name, stats) in new {
        merge(&mut state.appended, &name, stats);
    }
}

/// Adds to a kernel's counts.
pub(crate) fn merge(all: &mut BTreeMap<String, Stats>, name: &str, stats: Stats) {
    let entry = all.entry(name.to_owned()).or_default();
    *entry = std::mem::take(entry).merged(stats);
}

/// Hands the counts of this process so far to `take`, as lines of JSON in UTF-8: `context`, their address, their length.
///
/// # Safety
/// `take` may be called with `context`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ptxsim_stats(
    take: unsafe extern "C" fn(*mut c_void, *const u8, usize),
    context: *mut c_void,
) {
    let text = {
        let state = state();
        let mut all = state.appended.clone();
        for (name, stats) in &state.stats {
            merge(&mut all, name, stats.clone());
        }
        lines(&all)
    };
    // SAFETY: the caller's promise; the text lives through the call.
    unsafe { take(context, text.as_ptr(), text.len()) };
}
