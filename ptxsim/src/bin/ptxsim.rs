//! The command line: runs a kernel of a PTX file, or lists what is in one.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand};
use hone_ptxsim::{Checks, Launch, LaunchError, Loaded, Memory, Module, Options, Schedule, Stats};

#[path = "ptxsim/argument.rs"]
mod argument;

use argument::Argument;

/// Lines of shared-memory accesses that the report names.
const LINES_SHOWN: usize = 8;

const EXAMPLES: &str = "\
Examples:
  ptxsim list conv.ptx
      the kernels of a file with their parameters

  ptxsim run saxpy.ptx --grid 4 --block 256 \\
      --arg f32=2.0 --arg f32:x.bin --arg f32:random:1000 --arg u32=1000 --out 2=y.bin
      a scalar, a buffer from a file, a buffer of random numbers, a count; the third argument's buffer is written out

  ptxsim run conv.ptx --kernel conv3x3_k16_n16 --grid 3,6,2 --block 128 --shared 6784 \\
      --arg f16:random:73728 --arg f16:random:2304 --arg f32:zeros:16 --arg null --arg null --arg f16:nan:73728 \\
      --arg i32=48 --arg i32=48 --arg i32=16 --arg i32=16 --arg f32=1 --arg i32=1 \\
      --schedule random:7 --turn 10 --bank-ratio-max 1.05
      warps in random order, ten instructions at a time; more than 5 % of bank conflicts is an error

Arguments, in the order of the parameters:
  TYPE=VALUE         a scalar: u8 i8 u16 i16 f16 u32 i32 f32 u64 i64 f64
  TYPE:zeros:N       a buffer of N elements; also ones, nan, poison (bytes 0xFF), iota, random (-1 to 1, or 0 to 9)
  TYPE:FILE          a buffer with the bytes of a file
  null               a null pointer

Exit status: 0 done, 1 the kernel did something wrong or a limit was passed, 2 it could not be run.";

#[derive(Parser)]
#[command(name = "ptxsim", about = "Runs CUDA kernels (PTX) on the CPU and reports what is wrong with them.", after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Lists the kernels of a file.
    List {
        /// PTX file.
        file: PathBuf,
    },
    /// Runs one kernel.
    #[command(after_help = EXAMPLES)]
    Run(Run),
}

#[derive(clap::Args)]
struct Run {
    /// PTX file.
    file: PathBuf,
    /// Name of the kernel; needed if there are several.
    #[arg(long)]
    kernel: Option<String>,
    /// Blocks: X or X,Y or X,Y,Z.
    #[arg(long, default_value = "1", value_parser = sizes)]
    grid: [u32; 3],
    /// Threads of a block: X or X,Y or X,Y,Z.
    #[arg(long, default_value = "32", value_parser = sizes)]
    block: [u32; 3],
    /// Dynamic shared memory in bytes.
    #[arg(long, default_value_t = 0)]
    shared: u32,
    /// An argument; see below.
    #[arg(long = "arg", value_name = "ARG")]
    args: Vec<String>,
    /// Writes the buffer of an argument, counted from 0, to a file after the run.
    #[arg(long, value_name = "N=FILE")]
    out: Vec<String>,
    /// Prints the first elements of each buffer after the run.
    #[arg(long, value_name = "N", default_value_t = 0)]
    show: usize,
    /// Order of warps: forward, reverse or random:SEED.
    #[arg(long, default_value = "forward", value_parser = schedule)]
    schedule: Schedule,
    /// Switches to the next warp after so many instructions, and not only at barriers.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    turn: Option<u32>,
    /// Most warp instructions of one block.
    #[arg(long, default_value_t = Options::default().instructions_max)]
    instructions_max: u64,
    /// Reads of shared memory that nothing wrote are no error.
    #[arg(long)]
    allow_uninitialised: bool,
    /// Races in shared memory are no error.
    #[arg(long)]
    allow_races: bool,
    /// Most bank cycles per cycle without conflicts.
    #[arg(long)]
    bank_ratio_max: Option<f64>,
    /// Seed of random buffers.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn sizes(text: &str) -> Result<[u32; 3]> {
    let mut sizes = [1; 3];
    ensure!(text.split(',').count() <= 3, "at most three sizes");
    for (size, text) in sizes.iter_mut().zip(text.split(',')) {
        *size = text.parse()?;
    }
    Ok(sizes)
}

fn schedule(text: &str) -> Result<Schedule> {
    match text.split_once(':') {
        None if text == "forward" => Ok(Schedule::RoundRobin),
        None if text == "reverse" => Ok(Schedule::Reverse),
        Some(("random", seed)) => Ok(Schedule::Random(seed.parse()?)),
        _ => bail!("forward, reverse or random:SEED"),
    }
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::List { file } => list(&file).map(|()| true),
        Command::Run(run) => execute(&run),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("ptxsim: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn read(file: &PathBuf) -> Result<Module> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    Module::parse(&text).with_context(|| file.display().to_string())
}

fn list(file: &PathBuf) -> Result<()> {
    let module = read(file)?;
    println!("PTX {}.{}, {}", module.version.0, module.version.1, module.target);
    for kernel in module.kernels() {
        let params: Vec<String> = kernel.params.iter().map(|p| format!("{}:{}", p.ty, p.bytes)).collect();
        let threads =
            kernel.threads_max.map_or(String::new(), |threads| format!(", at most {threads} threads"));
        println!(
            "{}({}): {} instructions, {} B static shared{threads}",
            kernel.name,
            params.join(", "),
            kernel.instructions(),
            kernel.shared_bytes
        );
    }
    Ok(())
}

/// Runs; whether all was right.
fn execute(run: &Run) -> Result<bool> {
    let module = Arc::new(read(&run.file)?);
    let names: Vec<&str> = module.kernels().map(|kernel| kernel.name.as_str()).collect();
    let name = match (&run.kernel, names.as_slice()) {
        (Some(name), _) => name.clone(),
        (None, [only]) => (*only).to_owned(),
        (None, several) => bail!("--kernel is one of {}", several.join(", ")),
    };
    let mut memory = Memory::default();
    let loaded: Loaded = module.load(&mut memory)?;
    let mut args = Vec::new();
    for (index, text) in run.args.iter().enumerate() {
        let seed = run.seed.wrapping_add(index as u64);
        args.push(Argument::read(text, &mut memory, seed).with_context(|| format!("--arg {text}"))?);
    }
    let mut outputs = Vec::new();
    for text in &run.out {
        let (index, file) = text.split_once('=').with_context(|| format!("--out {text}: N=FILE"))?;
        let index: usize = index.parse().with_context(|| format!("--out {text}"))?;
        let buffer = args.get(index).and_then(Argument::buffer);
        outputs.push((buffer.with_context(|| format!("--out {text}: no buffer"))?, file));
    }
    let launch = Launch { grid: run.grid, block: run.block, dynamic_shared: run.shared };
    let options = Options {
        schedule: run.schedule,
        turn: run.turn,
        checks: Checks { races: !run.allow_races, uninitialised: !run.allow_uninitialised },
        instructions_max: run.instructions_max,
        ..Options::default()
    };
    let values: Vec<_> = args.iter().map(Argument::value).collect();
    let start = Instant::now();
    let stats = match loaded.launch(&name, &memory, &launch, &values, &options) {
        Ok(stats) => stats,
        Err(LaunchError::Fault(fault)) => {
            println!("{fault}");
            return Ok(false);
        }
        Err(refused) => bail!(refused),
    };
    report(&name, &stats, start.elapsed().as_secs_f64());
    for (index, argument) in args.iter().enumerate() {
        if run.show > 0 && argument.buffer().is_some() {
            println!("argument {index}: {}", argument.show(&memory, run.show)?);
        }
    }
    for ((address, bytes), file) in outputs {
        std::fs::write(file, memory.read_vec(address, bytes)?)
            .with_context(|| format!("cannot write {file}"))?;
    }
    if let Some(limit) = run.bank_ratio_max.filter(|limit| stats.bank_ratio() > *limit) {
        println!("bank conflicts: {:.3} cycles per cycle, allowed are {limit}", stats.bank_ratio());
        return Ok(false);
    }
    Ok(true)
}

fn report(name: &str, stats: &Stats, seconds: f64) {
    println!(
        "{name}: {} blocks, {} warp instructions in {:.1} ms, {} mma ({:.1} MMAC)",
        stats.blocks,
        stats.instructions,
        seconds * 1e3,
        stats.mma,
        stats.macs as f64 / 1e6
    );
    println!(
        "shared memory: {} bank cycles, {} without conflicts, ratio {:.3}",
        stats.bank_cycles,
        stats.bank_cycles_ideal,
        stats.bank_ratio()
    );
    let mut lines: Vec<_> = stats.banks.iter().filter(|(_, (_, ideal, cycles))| cycles > ideal).collect();
    lines.sort_by_key(|(_, (_, ideal, cycles))| std::cmp::Reverse(cycles - ideal));
    for (line, (text, ideal, cycles)) in lines.iter().take(LINES_SHOWN) {
        println!(
            "  line {line}: {:.2} cycles per cycle, {} lost: {text}",
            *cycles as f64 / *ideal as f64,
            cycles - ideal
        );
    }
}
