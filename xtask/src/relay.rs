//! An unmodified `moq-relay`: where it is, and the tests and figures that need it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::cargo;
use crate::wheels::target;

const VERSION: &str = "0.17.10";
/// The variable that names it to tests and benchmarks, and to us if it is elsewhere.
pub const VARIABLE: &str = "HONE_MOQ_RELAY";

/// The one that is there already, if it has the version that was tried.
pub fn found() -> Option<PathBuf> {
    let own = target().join("moq-relay/bin/moq-relay");
    let named = std::env::var_os(VARIABLE).map(PathBuf::from);
    named.into_iter().chain([own, PathBuf::from("moq-relay")]).find(|program| is_right(program))
}

fn is_right(program: &Path) -> bool {
    let asked = Command::new(program).arg("--version").stderr(Stdio::null()).output();
    asked.is_ok_and(|asked| String::from_utf8_lossy(&asked.stdout).contains(VERSION))
}

/// The same, built from crates.io if need be: with QUIC alone, some 15 minutes of one core.
fn provide() -> Result<PathBuf> {
    if let Some(program) = found() {
        return Ok(program);
    }
    println!("== cargo install moq-relay {VERSION}");
    let root = target().join("moq-relay");
    let mut install = cargo();
    install.args(["install", "moq-relay", "--version", VERSION, "--no-default-features"]);
    install.args(["--features", "noq", "--root"]).arg(&root).arg("--target-dir").arg(root.join("build"));
    ensure!(install.status()?.success(), "moq-relay cannot be built");
    found().context("what was built is no moq-relay of that version")
}

/// Runs the tests with two relays in a cluster, then what a viewer costs our server and the relay.
///
/// # Errors
/// If there is no relay, or a test fails.
pub fn test() -> Result<()> {
    let relay = std::path::absolute(provide()?)?;
    println!("== with {}", relay.display());
    let test = ["test", "-p", "hone-apps", "--test", "relay", "--", "--ignored", "--nocapture"];
    let bench = ["bench", "-q", "-p", "hone-apps", "--bench", "live", "--", "--viewers"];
    for step in [&test[..], &bench] {
        println!("== cargo {}", step.join(" "));
        if !cargo().args(step).env(VARIABLE, &relay).status()?.success() {
            bail!("relay-test");
        }
    }
    Ok(())
}
