//! Training on CUDA as a server's operator sees it: chosen, refused, fallen back from, and the same as on the CPU.
//!
//! The driver is the stand-in of `ptxsim/libcuda`, which runs the compiled kernels on the CPU.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod common;

use std::path::{Path, PathBuf};
use std::time::Duration;

use common::Process;
use hone_cpu::CpuTrainer;
use hone_kernels::{CudaTrainer, Device, Options};
use hone_model::backend::{Adam, Loss, TrainBackend};
use hone_model::gather::{Draw, Patch, Turn};
use hone_model::rng::Rng;
use hone_model::{Arch, Origin, Published};
use serde_json::Value;

const HONE: &str = env!("CARGO_BIN_EXE_hone");
const SERVER: &str = env!("CARGO_BIN_EXE_hone-server");

/// The demo's stream lasts two seconds, and each step on the stand-in about as long.
const LIMIT: Duration = Duration::from_secs(120);

/// A folder in which the loader finds the stand-in by the name of the driver's library.
fn driver(folder: &Path) -> PathBuf {
    let beside = std::env::current_exe().unwrap();
    let built = beside.with_file_name("libhone_ptxsim_libcuda.so");
    let driver = folder.join("driver");
    std::fs::create_dir_all(&driver).unwrap();
    std::fs::copy(&built, driver.join("libcuda.so.1")).unwrap_or_else(|e| panic!("{}: {e}", built.display()));
    driver
}

fn start(folder: &Path, binary: &str, arguments: &[&str], settings: &[(&str, &str)]) -> Process {
    let driver = driver(folder);
    let environment = [&[("LD_LIBRARY_PATH", driver.to_str().unwrap())], settings].concat();
    Process::start_with(folder, "process", binary, arguments, &environment)
}

const SMALL: &str =
    "[endpoint]\nbind = \"127.0.0.1:0\"\ncertificate = \"dev\"\n[trainer]\nblocks = 1\nfeatures = 8\n";

#[test]
fn the_demo_trains_on_cuda() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    common::clip(&folder.join("tiny.mp4"), (128, 96), 50, 25.0);
    let arguments = [
        "demo",
        "--input",
        "tiny.mp4",
        "--scale",
        "2",
        "--seconds",
        "5",
        "--slowdown",
        "2",
        "--net",
        "1x8",
        "--trainer",
        "cuda",
        "--device",
        "cpu",
        "--out",
        "out",
    ];
    let mut process = start(folder, HONE, &arguments, &[]);
    assert_eq!(process.end(LIMIT), 0, "{}", process.stderr());
    assert!(!process.stderr().contains("WARN"), "{}", process.stderr());
    let report = std::fs::read_to_string(folder.join("out/report.json")).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["backends"]["trainer"], "cuda");
    assert!(report["training_steps"].as_u64().unwrap() > 0, "{report:#}");
}

#[test]
fn cuda_by_name_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let refused = |binary: &str, arguments: &[&str], settings: &[(&str, &str)], words: &[&str]| {
        let mut process = start(folder, binary, arguments, settings);
        assert_eq!(process.end(LIMIT), 1, "{}", process.stderr());
        let text = process.stderr();
        let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("error: ")).collect();
        let [error] = errors[..] else { panic!("not one line of error:\n{text}") };
        assert!(words.iter().all(|word| error.contains(word)), "{words:?} in\n{error}");
    };
    let lacks: [(&str, &str, &[&str]); 3] = [
        ("PTXSIM_DEVICES", "0", &["no device 0"]),
        ("PTXSIM_DRIVER_VERSION", "11080", &["11.8", "12.0"]),
        ("PTXSIM_DEVICE_SM", "7.5", &["7.5", "8.0"]),
    ];
    common::clip(&folder.join("tiny.mp4"), (64, 48), 4, 25.0);
    std::fs::write(folder.join("cuda.toml"), format!("{SMALL}backend = \"cuda\"\n")).unwrap();
    for (name, value, words) in lacks {
        let words = [&["trainer.backend = \"cuda\""], words].concat();
        refused(SERVER, &["--config", "cuda.toml"], &[(name, value)], &words);
        let demo = ["demo", "--input", "tiny.mp4", "--scale", "2", "--trainer", "cuda"];
        refused(HONE, &demo, &[(name, value)], &words);
    }
    std::fs::write(folder.join("second.toml"), format!("{SMALL}backend = \"cuda\"\ndevice = 1\n")).unwrap();
    refused(SERVER, &["--config", "second.toml"], &[], &["no device 1"]);
}

#[test]
fn auto_takes_cuda_and_falls_back_with_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("auto.toml"), SMALL).unwrap();
    let log = |settings: &[(&str, &str)]| {
        let mut server = start(folder, SERVER, &["--config", "auto.toml"], settings);
        server.line("listening on ");
        server.logged("backend=", LIMIT);
        server.interrupt();
        assert_eq!(server.end(LIMIT), 0, "{}", server.stderr());
        server.stderr()
    };
    let text = log(&[]);
    assert!(text.contains("backend=\"cuda\"") && !text.contains("WARN"), "{text}");
    let text = log(&[("PTXSIM_DEVICES", "0")]);
    let warnings: Vec<&str> = text.lines().filter(|line| line.contains("WARN")).collect();
    let [warning] = warnings[..] else { panic!("not one warning:\n{text}") };
    assert!(warning.contains("backend=\"cpu\"") && warning.contains("no device 0"), "{warning}");
}

/// Distance of the weights after ten steps on CUDA and on the CPU, over the way that they went. The gradients are off by up to
/// 0.03 of a layer's length (`parity/tests/cuda/network.rs`); where one is smaller than its error, a step of Adam goes anywhere.
const APART: f64 = 0.15;

#[test]
fn ten_steps_end_where_the_cpus_end() {
    hone_ptxsim_libcuda::preload().unwrap();
    let arch: Arch = "live-4x16-x2".parse().unwrap();
    // What a stream starts from: the base model, if there is one.
    let start = Published::origin(arch, Origin::best(arch, 1)).weights();
    let cuda = CudaTrainer::new(&Device::open(0).unwrap(), &start, Options::default()).unwrap();
    let mut trainers: [Box<dyn TrainBackend>; 2] = [Box::new(cuda), Box::new(CpuTrainer::new(start.clone()))];
    let mut rng = Rng::new(5);
    for slot in 0..6 {
        let picture = common::picture(96, 64, slot, 1);
        let value = |x: usize, y: usize| picture.y()[y * 96 + x];
        let hr: Vec<u8> = (0..32 * 32).flat_map(|i| [value(i % 32 + 8 * slot as usize, i / 32); 3]).collect();
        let mean = |x: usize, y: usize| {
            let sum: u32 = [0, 1, 32, 33].iter().map(|o| u32::from(hr[((2 * y) * 32 + 2 * x + o) * 3])).sum();
            sum as f32 / 4.0 / 255.0
        };
        let lr: Vec<f32> = (0..16 * 16).flat_map(|i| [mean(i % 16, i / 16); 3]).collect();
        for trainer in &mut trainers {
            trainer.keep(slot as usize, Patch { h: 16, w: 16, lr: &lr, hr: &hr, quantiser: 30 }).unwrap();
        }
    }
    for _ in 0..10 {
        let mut draw = || {
            let turn = Turn(rng.below(8) as u8);
            Draw { slot: rng.below(6), y: rng.below(5), x: rng.below(5), turn }
        };
        let draws: Vec<Draw> = (0..4).map(|_| draw()).collect();
        for trainer in &mut trainers {
            trainer.step(12, &draws, Loss::Charbonnier { eps: 0.01 }, Adam::default()).unwrap();
        }
    }
    let [cuda, cpu] = trainers.each_mut().map(|trainer| trainer.weights().unwrap());
    let length =
        |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt();
    let apart = length(cuda.params(), cpu.params()) / length(cpu.params(), start.params());
    println!("{apart:.4} of the way apart, allowed {APART}");
    assert!(apart <= APART, "{apart}");
}
