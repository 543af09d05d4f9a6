//! The project's checks, as functions: `cargo xtask` runs them in order, plain `cargo test` runs [`arrows`] too.
#![forbid(unsafe_code)]

pub mod arrows;
pub mod suite;
pub mod tools;
pub mod unsafe_code;

use std::path::{Path, PathBuf};
use std::process::Command;

/// The root of the workspace.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The cargo that runs us, at the root.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}
