//! Every kernel and the whole step: `cargo bench -p hone-kernels`, also one self-contained binary.

mod nets;
mod time;
mod trace;

use std::path::PathBuf;
use std::process::ExitCode;

const HELP: &str = "\
Times the CUDA kernels, or says what they must cost where there is no device.

Usage: kernels [--device N] [--json FILE]
       kernels --trace FILE [--device N]
       kernels --compare FILE FILE

  --device N      which device [default: 0]
  --json FILE     writes the times, for peers/step.py --ours
  --trace FILE    trains small networks for a few steps and writes every loss and weight
  --compare A B   says how far two traces are apart: of a card and of the interpreter
";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (mut device, mut json, mut traced, mut compared) = (0, None, None, None);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match &*argument {
            // What cargo bench passes on.
            "--bench" => {}
            "--device" => device = value()?.parse()?,
            "--json" => json = Some(PathBuf::from(value()?)),
            "--trace" => traced = Some(PathBuf::from(value()?)),
            "--compare" => compared = Some([PathBuf::from(value()?), PathBuf::from(value()?)]),
            "--help" | "-h" => {
                print!("{HELP}");
                return Ok(());
            }
            other => return Err(format!("unknown argument {other}; see --help").into()),
        }
    }
    match (compared, traced) {
        (Some([a, b]), _) => trace::compare(&a, &b),
        (None, Some(path)) => trace::write(device, &path),
        (None, None) => time::run(device, json.as_deref()),
    }
}
