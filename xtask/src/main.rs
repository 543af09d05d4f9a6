//! `cargo xtask`: the project's one check command.

use std::process::ExitCode;

use anyhow::{Result, bail};
use xtask::{arrows, cargo, gpu_bundle, live, ptx, relay, root, sass, suite, tools, unsafe_code};

const HELP: &str = "\
Checks the project.

Usage: cargo xtask <COMMAND>

Commands:
  ci      everything: format, clippy, arrows, ptx --check, sass, test
  test    installs what the tests need where it may (root with apt-get), else says what is missing;
          then `cargo test --workspace`, with a count of what passed and what was skipped
  kill-test [--runs N]
          kills each process of a running system at random moments, 100 times by default
  live-bench [--json]
          live video over thin, lossy and broken links, and what a viewer costs the server
  soak [--minutes N]
          an hour of a live stream in six minutes: memory and latency must not grow
  relay-test
          two unmodified moq-relays in a cluster, one of them killed now and then, and what a viewer costs
          them; builds moq-relay where there is none, a quarter of an hour. Not part of ci
  arrows  which room may use which crate, and where code must be safe
  ptx [--check | STEM...]
          compiles kernels/cu to ptx/, all of it or the named files; or compares with what is there.
          Fetches NVRTC from PyPI: needs python3 with pip, no CUDA
  gpu-bundle
          target/gpu-bundle: tests, benchmarks and a run.sh for a machine with a GPU and no Rust
  sass    assembles ptx/ for each card, with ptxas from PyPI: registers, shared memory, spills, tensor cores

Options:
  -h, --help  print this
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        ["ci"] => ci(),
        ["test"] => test(),
        ["arrows"] => check_arrows(),
        ["ptx", "--check"] => ptx::check(),
        ["ptx", ref stems @ ..] if !stems.iter().any(|stem| stem.starts_with('-')) => ptx::write(stems),
        ["sass"] => sass::check(),
        ["kill-test"] => live::kill_test("100"),
        ["kill-test", "--runs", runs] => live::kill_test(runs),
        ["soak"] => live::soak("60"),
        ["soak", "--minutes", minutes] => live::soak(minutes),
        ["live-bench"] => live::bench(false),
        ["live-bench", "--json"] => live::bench(true),
        ["relay-test"] => relay::test(),
        ["gpu-bundle"] => gpu_bundle::make(),
        ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            Ok(())
        }
        _ => {
            eprint!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("FAILED: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn ci() -> Result<()> {
    // First: whether nasm is there decides how openh264 is built, which clippy already does.
    tools::provide();
    step("fmt", &["fmt", "--all", "--check"])?;
    step("clippy", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    // All but the devices is tested in every build; this is the rest.
    let devices: Vec<&str> = [("sound", tools::alsa()), ("webcam", tools::libclang())]
        .into_iter()
        .filter_map(|(feature, can)| can.then_some(feature))
        .collect();
    if !devices.is_empty() {
        let features = devices.join(",");
        let clippy = ["clippy", "-p", "hone-apps", "--lib", "--bins", "--features", &features];
        step("clippy", &[&clippy[..], &["--", "-D", "warnings"]].concat())?;
    }
    check_arrows()?;
    println!("== ptx, sass");
    ptx::check()?;
    sass::check()?;
    suite::run()
}

fn test() -> Result<()> {
    tools::provide();
    suite::run()
}

fn step(name: &str, arguments: &[&str]) -> Result<()> {
    println!("== cargo {}", arguments.join(" "));
    if !cargo().args(arguments).status()?.success() {
        bail!("{name}");
    }
    Ok(())
}

fn check_arrows() -> Result<()> {
    println!("== arrows");
    let mut found = arrows::violations(&arrows::Graph::of_workspace()?);
    found.extend(unsafe_code::violations(&root())?);
    if !found.is_empty() {
        bail!("arrows\n  {}", found.join("\n  "));
    }
    println!("every arrow is allowed, unsafe code is where it may be");
    Ok(())
}
