//! Counts of what ran, appended to a file, for whoever runs many processes and wants to know.

use std::io::Write;

use crate::state::{State, state};

unsafe extern "C" {
    fn atexit(call: extern "C" fn()) -> core::ffi::c_int;
}

/// Has the counts written when the process ends.
pub(crate) fn at_exit() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        // SAFETY: `atexit` of the C library with a function that stays loaded as long as this library, which nobody
        // unloads. If it has no room it says so and the counts are written at other times only.
        let _ = unsafe { atexit(ended) };
    });
}

extern "C" fn ended() {
    append(&mut state());
}

/// Appends one line of JSON per kernel that ran since the last time, if a file is set.
pub(crate) fn append(state: &mut State) {
    let Some(path) = state.settings.stats.clone() else { return };
    let mut lines = String::new();
    for (name, stats) in std::mem::take(&mut state.stats) {
        lines.push_str(&format!(
            "{{\"kernel\":\"{name}\",\"launches\":{},\"blocks\":{},\"instructions\":{},\"mma\":{},\"macs\":{},\
             \"bank_cycles\":{},\"bank_cycles_ideal\":{}}}\n",
            stats.launches,
            stats.blocks,
            stats.instructions,
            stats.mma,
            stats.macs,
            stats.bank_cycles,
            stats.bank_cycles_ideal
        ));
    }
    if lines.is_empty() {
        return;
    }
    // One write of all lines, so that processes that end at the same time do not mix theirs.
    let file = std::fs::OpenOptions::new().create(true).append(true).open(&path);
    if let Err(error) = file.and_then(|mut file| file.write_all(lines.as_bytes())) {
        eprintln!("ptxsim: {}: {error}", path.display());
    }
}
