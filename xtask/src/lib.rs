//! The project's checks, as functions: `cargo xtask` runs them in order, plain `cargo test` runs [`arrows`] too.
#![forbid(unsafe_code)]

pub mod arrows;
pub mod gpu_bundle;
pub mod live;
pub mod ptx;
pub mod relay;
pub mod sass;
pub mod suite;
pub mod tools;
pub mod unsafe_code;
pub mod wheels;

use std::path::{Path, PathBuf};
use std::process::Command;

/// The root of the workspace.
pub fn root() -> PathBuf {
    // As cargo says now, not when this was compiled: two checkouts may share a target folder.
    let own = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&own).join("..")
}

/// The cargo that runs us, at the root.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}
