//! The live system on bad links and under `kill -9`.

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use crate::{cargo, relay};

/// Kills processes of a running system `runs` times.
///
/// # Errors
/// If one of the others does not recover, or anything is torn.
pub fn kill_test(runs: &str) -> Result<()> {
    let runs: u32 = runs.parse().with_context(|| format!("--runs {runs}: not a number"))?;
    let mut command = cargo();
    command.args(["test", "--release", "-p", "hone-apps", "--test", "kill", "--", "--nocapture"]);
    if !command.env("HONE_KILL_RUNS", runs.to_string()).status()?.success() {
        bail!("kill-test");
    }
    Ok(())
}

/// Runs the live system for so many minutes of media time, ten times as fast as life.
///
/// # Errors
/// If memory or latency grew.
pub fn soak(minutes: &str) -> Result<()> {
    let mut command = cargo();
    command.args(["bench", "-q", "-p", "hone-apps", "--bench", "soak", "--", "--minutes", minutes]);
    if !command.status()?.success() {
        bail!("soak");
    }
    Ok(())
}

/// The benchmarks, one after the other; as JSON, one object.
const BENCHES: [(&str, &str); 2] = [("hone-transport", "link"), ("hone-apps", "live")];

/// Runs them.
///
/// # Errors
/// If one fails.
pub fn bench(json: bool) -> Result<()> {
    let mut figures = Map::new();
    for (package, bench) in BENCHES {
        let mut command = cargo();
        command.args(["bench", "-q", "-p", package, "--bench", bench]);
        // Measured beside us where it is there.
        command.envs(relay::found().map(|program| (relay::VARIABLE, program)));
        if !json {
            if !command.status()?.success() {
                bail!("{bench}");
            }
            continue;
        }
        let output = command.args(["--", "--json"]).stderr(std::process::Stdio::inherit()).output()?;
        if !output.status.success() {
            bail!("{bench}");
        }
        let text = String::from_utf8(output.stdout)?;
        let line = text.lines().rfind(|line| line.starts_with('{')).context("no object came out")?;
        figures.extend(serde_json::from_str::<Map<String, Value>>(line)?);
    }
    if json {
        println!("{}", Value::Object(figures));
    }
    Ok(())
}
