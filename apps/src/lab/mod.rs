//! `hone lab`: the real parts in simulated time, measured against what else the same bits could buy.

mod ffmpeg;
mod judge;
mod link;
mod matrix;
mod page;
mod report;
mod run;
mod settings;
mod stream;
mod table;
pub mod trace;
mod vmaf;
mod x264;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use clap::Args;

pub use self::ffmpeg::Ffmpeg;
pub use self::report::LabReport;
pub use self::run::{Outcome, run};
pub use self::settings::{Part, Settings};

/// What `--help` says below the options.
pub const HELP: &str = "\
Examples:
  hone lab
  hone lab --input clip.mp4 --total-kbps 300 --scale 2 --seconds 30 --json run.json --html run.html
  hone lab --input a.mp4 b.mp4 --hr-height 540 --total-kbps 400 --without x264,vmaf --json -
  hone lab --trace train.txt --ffmpeg /opt/ffmpeg/ffmpeg
  hone lab --matrix examples/lab.toml --results sweep.jsonl

The same command gives the same report, bit for bit, on machines with the same instruction set, whatever their speed:
time is simulated, and the trainer is as fast as --steps-per-second says. docs/lab.md explains the report.";

/// `hone lab`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// H.264 in MP4 files, a run each; the bundled clip if left out.
    #[arg(long, value_name = "FILE.mp4", num_args = 1..)]
    input: Vec<PathBuf>,
    #[command(flatten)]
    settings: Settings,
    /// For x264 and, if it has libvmaf, VMAF [default: what is on PATH, if anything].
    #[arg(long, value_name = "PATH")]
    ffmpeg: Option<PathBuf>,
    /// Write the report, a list of reports for several clips; - is standard output.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a page with curves, scenes and crops.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Leave out of the report what differs from run to run: times and threads.
    #[arg(long)]
    no_machine: bool,
    /// Run every cell of a sweep that is not done yet, then print its tables.
    #[arg(long, value_name = "FILE.toml", conflicts_with_all = ["input", "json", "html"])]
    matrix: Option<PathBuf>,
    /// Where the cells of a sweep are kept, a line each [default: the sweep's file with .jsonl].
    #[arg(long, value_name = "FILE.jsonl", requires = "matrix")]
    results: Option<PathBuf>,
    /// Cells count as done if they were run by a build of this name [default: the hash of this program].
    #[arg(long, value_name = "NAME", requires = "matrix")]
    build: Option<String>,
}

/// Runs the command line.
///
/// # Errors
/// One line that says what is wrong.
pub fn main(options: Options, stop: &AtomicBool) -> Result<()> {
    let ffmpeg = Ffmpeg::find(options.ffmpeg.as_deref())?;
    if ffmpeg.as_ref().is_none_or(|ffmpeg| !ffmpeg.x264) && options.settings.has(Part::X264) {
        eprintln!("x264 is left out: no ffmpeg with libx264 was found; --ffmpeg names one");
    }
    if let Some(path) = &options.matrix {
        let results = options.results.unwrap_or_else(|| path.with_extension("jsonl"));
        return matrix::run_all(path, &results, options.build, ffmpeg.as_ref(), stop);
    }
    let inputs: Vec<Option<&Path>> = match options.input.is_empty() {
        true => vec![None],
        false => options.input.iter().map(|path| Some(path.as_path())).collect(),
    };
    let mut outcomes = vec![];
    for input in &inputs {
        let mut outcome = run(*input, &options.settings, ffmpeg.as_ref(), stop)?;
        if options.no_machine {
            outcome.report.machine = None;
        }
        table::print(&outcome.report, &mut std::io::stderr())?;
        outcomes.push(outcome);
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    if let Some(path) = &options.json {
        let reports: Vec<&LabReport> = outcomes.iter().map(|outcome| &outcome.report).collect();
        let json = match reports[..] {
            [report] if inputs.len() == 1 => serde_json::to_string_pretty(report)?,
            _ => serde_json::to_string_pretty(&reports)?,
        } + "\n";
        write(path, json.as_bytes())?;
    }
    if let Some(path) = &options.html {
        write(path, page::render(&outcomes)?.as_bytes())?;
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let written = match path == Path::new("-") {
        true => std::io::stdout().write_all(bytes),
        false => std::fs::write(path, bytes),
    };
    written.with_context(|| format!("cannot write {}", path.display()))
}
