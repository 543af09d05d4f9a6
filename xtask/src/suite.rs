//! `cargo test --workspace`, counted.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::cargo;

/// How a test says that it cannot run here.
const SKIPPED: &str = "SKIPPED:";

/// Runs every test, shows the output as it comes, and sums it up.
///
/// # Errors
/// If a test fails or the tests cannot be built.
pub fn run() -> Result<()> {
    println!("== cargo test --workspace");
    let mut command = cargo();
    // Without --show-output the harness keeps what passing tests say, skips included.
    command.args(["test", "--workspace", "--no-fail-fast", "--", "--show-output"]);
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // Without one, Mesa complains on stderr for every device that a test opens.
        command.env("XDG_RUNTIME_DIR", std::env::temp_dir());
    }
    if std::io::stderr().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    if std::env::var_os("PYTHONPATH").is_none() {
        // Where it does not exist, python3 does not mind.
        command.env("PYTHONPATH", crate::tools::python_packages());
    }
    let interpreted = std::env::temp_dir().join(format!("hone-ptxsim-{}.jsonl", std::process::id()));
    command.env("PTXSIM_STATS", &interpreted);
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("cannot run cargo")?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let summary = Mutex::new(Summary::default());
    std::thread::scope(|scope| {
        let summary = &summary;
        // Tests write past the harness to stderr, where cargo's own messages go as well.
        scope.spawn(move || stderr.map(|pipe| relay(pipe, &mut std::io::stderr(), summary)));
        if let Some(pipe) = stdout {
            relay(pipe, &mut std::io::stdout(), summary);
        }
    });
    let status = child.wait()?;
    let summary = summary.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("{summary}");
    if let Ok(text) = std::fs::read_to_string(&interpreted) {
        println!("{}", Interpreted::sum(&text));
        // It is in the system's own folder for what may go.
        let _ = std::fs::remove_file(&interpreted);
    }
    if !status.success() {
        bail!("test");
    }
    Ok(())
}

/// Copies lines, less the repetition of what passed, and counts.
fn relay(from: impl Read, to: &mut impl Write, summary: &Mutex<Summary>) {
    let mut passed_output = false;
    for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        passed_output = match &*line {
            "successes:" => true,
            "failures:" => false,
            line if line.starts_with("test result:") => false,
            _ => passed_output,
        };
        summary.lock().unwrap_or_else(PoisonError::into_inner).count(&line);
        if !passed_output || line.contains(SKIPPED) {
            // Whoever closed our output still wants the verdict.
            let _ = writeln!(to, "{line}");
        }
    }
}

/// What the harnesses said.
#[derive(Debug, Default, PartialEq)]
struct Summary {
    passed: usize,
    failed: usize,
    ignored: usize,
    /// Lines for each reason.
    skipped: BTreeMap<String, usize>,
}

impl Summary {
    fn count(&mut self, line: &str) {
        if let Some(counts) = line.strip_prefix("test result:") {
            let words: Vec<&str> = counts.split_whitespace().collect();
            for pair in words.windows(2) {
                let Ok(number) = pair[0].parse::<usize>() else { continue };
                match pair[1] {
                    "passed;" => self.passed += number,
                    "failed;" => self.failed += number,
                    "ignored;" => self.ignored += number,
                    _ => {}
                }
            }
        } else if let Some((_, reason)) = line.split_once(SKIPPED) {
            *self.skipped.entry(reason.trim().to_owned()).or_default() += 1;
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let skipped: usize = self.skipped.values().sum();
        let Self { passed, failed, ignored, .. } = self;
        write!(f, "== {passed} passed, {failed} failed, {ignored} ignored, {skipped} lines of {SKIPPED}")?;
        for (reason, lines) in &self.skipped {
            write!(f, "\n   {lines} x {reason}")?;
        }
        Ok(())
    }
}

/// What ran on the CUDA interpreter, as its stand-in driver and the tests tell: an object a line, for each kernel of each
/// process, and for the cases that a process compared.
#[derive(Debug, Default, PartialEq)]
struct Interpreted {
    kernels: usize,
    cases: u64,
    launches: u64,
    instructions: u64,
}

impl Interpreted {
    fn sum(text: &str) -> Self {
        let (mut names, mut sum) = (BTreeSet::new(), Self::default());
        for line in text.lines() {
            let Ok(stats) = serde_json::from_str::<Value>(line) else { continue };
            let number = |name: &str| stats[name].as_u64().unwrap_or(0);
            names.extend(stats["kernel"].as_str().map(str::to_owned));
            sum.cases += number("cases");
            sum.launches += number("launches");
            sum.instructions += number("instructions");
        }
        Self { kernels: names.len(), ..sum }
    }
}

impl fmt::Display for Interpreted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kernels, cases, launches, instructions } = self;
        let millions = *instructions as f64 / 1e6;
        write!(
            f,
            "== {kernels} CUDA kernels ran on the interpreter: {cases} cases, {launches} launches, \
             {millions:.0} M instructions"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "running 2 tests
test a ... ok
test b ... ok

successes:

---- a stdout ----
chatter
SKIPPED: ffprobe is not installed

successes:
    a
    b

test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.10s
conv3x3: 12 comparisons; 5 SKIPPED: no wgpu adapter
failures:
    c
test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s
";

    #[test]
    fn interpreted_kernels_are_counted_over_processes() {
        let text = r#"{"kernel":"add","launches":2,"blocks":9,"instructions":100}
{"kernel":"adam","launches":1,"blocks":1,"instructions":7}
{"kernel":"add","launches":3,"blocks":9,"instructions":50}
{"cases":12}
cut off
"#;
        let sum = Interpreted::sum(text);
        assert_eq!(sum, Interpreted { kernels: 2, cases: 12, launches: 6, instructions: 157 });
    }

    #[test]
    fn passes_failures_and_skips_are_counted_and_shown() {
        let summary = Mutex::new(Summary::default());
        let mut shown = Vec::new();
        relay(OUTPUT.as_bytes(), &mut shown, &summary);
        let (summary, shown) = (summary.into_inner().unwrap(), String::from_utf8(shown).unwrap());
        assert_eq!((summary.passed, summary.failed, summary.ignored), (5, 1, 1));
        let skipped = [("ffprobe is not installed".to_owned(), 1), ("no wgpu adapter".to_owned(), 1)];
        assert_eq!(summary.skipped, BTreeMap::from(skipped));
        assert!(
            shown.contains("SKIPPED: ffprobe") && shown.contains("\n    c\n") && !shown.contains("chatter")
        );
        assert!(
            summary.to_string().contains("5 passed, 1 failed, 1 ignored, 2 lines of SKIPPED:"),
            "{summary}"
        );
    }
}
