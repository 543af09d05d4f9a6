//! Times whole frames: `cargo run -p hone-runtime --example upscale_time -- live-4x16-x2 480 270 20 [cpu|gpu [f32]]`.
//!
//! Opens any adapter, software ones too. Prints the time to compile, and over the frames after the first the median
//! and the best; on Linux also the work per second of CPU time, which says how good a software adapter is.

use std::time::Instant;

use hone_model::colour::{Matrix, Range};
use hone_model::{Arch, Colour, Weights, Yuv420, rng::Rng};
use hone_runtime::{Mode, Options, Preference, Upscaler};

/// CPU time of all threads of this process so far. Source: Linux, `Documentation/scheduler/sched-stats.rst`.
fn cpu_seconds() -> Option<f64> {
    let mut ns = 0.0;
    for task in std::fs::read_dir("/proc/self/task").ok()? {
        let stat = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        ns += stat.split_whitespace().next()?.parse::<f64>().ok()?;
    }
    Some(ns * 1e-9)
}

/// Median and smallest.
fn summary(mut samples: Vec<f64>) -> (f64, f64) {
    samples.sort_by(f64::total_cmp);
    (samples[samples.len() / 2], samples[0])
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let text = |i: usize, default: &str| args.get(i).cloned().unwrap_or_else(|| default.to_owned());
    let arch: Arch = text(0, "live-4x16-x2").parse()?;
    let (w, h): (usize, usize) = (text(1, "480").parse()?, text(2, "270").parse()?);
    let frames: usize = text(3, "20").parse()?;
    let preference = match text(4, "gpu").as_str() {
        "cpu" => Preference::Cpu,
        _ => Preference::Gpu { allow_software: true },
    };

    let start = Instant::now();
    let variant = args.get(5).map(|name| name.parse()).transpose()?;
    let mut upscaler = Upscaler::new(arch, &Options { device: preference, variant, ..Options::default() })?;
    let variant = upscaler.variant().map_or(String::new(), |variant| format!(", {variant}"));
    let ready_ms = start.elapsed().as_secs_f64() * 1e3;
    println!("{}{variant}: {arch}, ready after {ready_ms:.0} ms", upscaler.backend());
    let mut rng = Rng::new(1);
    let params = (0..arch.params()).map(|_| (rng.unit() * 0.2 - 0.1) as f32).collect();
    upscaler.set_weights(&Weights::from_params(arch, params))?;
    let mut plane = |len: usize| -> Vec<u8> { (0..len).map(|_| rng.below(256) as u8).collect() };
    let (y, u, v) = (plane(h * w), plane(h * w / 4), plane(h * w / 4));
    let colour = Colour { matrix: Matrix::Bt709, range: Range::Limited };
    let picture = Yuv420 { h, w, y: &y, u: &u, v: &v, colour, quantiser: 30 };

    let mut rgba = Vec::new();
    for mode in [Mode::Network, Mode::Bicubic, Mode::Reuse] {
        let (mut wall, mut cpu) = (Vec::new(), Vec::new());
        if mode == Mode::Reuse {
            upscaler.keep(true);
            upscaler.upscale(&picture, Mode::Network, &mut rgba)?;
        }
        upscaler.upscale(&picture, mode, &mut rgba)?;
        for _ in 0..frames.max(1) {
            let (start, cpu_start) = (Instant::now(), cpu_seconds());
            upscaler.upscale(&picture, mode, &mut rgba)?;
            wall.push(start.elapsed().as_secs_f64());
            cpu.extend(cpu_seconds().zip(cpu_start).map(|(end, start)| end - start));
        }
        if upscaler.time_passes(true)? {
            upscaler.upscale(&picture, mode, &mut rgba)?;
            let passes = upscaler.pass_times().iter().map(|pass| format!("{}: {:.2}", pass.name, pass.ms));
            println!("  passes, ms: {}", passes.collect::<Vec<_>>().join(", "));
            upscaler.time_passes(false)?;
        }
        let (median, best) = summary(wall);
        println!("{mode:?} {w}x{h}: median {:.2} ms, best {:.2} ms", median * 1e3, best * 1e3);
        let gflop = arch.flops(h, w) as f64 / 1e9;
        if mode == Mode::Network {
            println!("  {gflop:.2} GFLOP: {:.1} GFLOP/s", gflop / median);
            if !cpu.is_empty() {
                let (median, best) = summary(cpu);
                println!(
                    "  a CPU-second: median {:.1} GFLOP, best {:.1} GFLOP",
                    gflop / median,
                    gflop / best
                );
            }
        } else if !cpu.is_empty() {
            println!("  CPU time: best {:.2} ms", summary(cpu).1 * 1e3);
        }
    }
    Ok(())
}
