//! `hone bench viewer`: whole frames, from decoded planes to RGBA, on the CPU and on an adapter.

use std::fmt;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use hone_model::arch::quantiser_input;
use hone_model::colour::{Matrix, Range};
use hone_model::rng::Rng;
use hone_model::{Arch, Colour, Family, Yuv420};
use hone_runtime::{SIDE_MAX, Variant};

use super::device::{Device, Most};
use super::drawn_weights;
use super::row::{HEADER, Row, time};

/// Seed of the weights and of the picture.
const SEED: u64 = 1;
/// A row is skipped if one frame of it would take longer than so many times `--seconds`.
const PATIENCE: f64 = 4.0;
/// Size of the picture that tells how fast a network will be: small, so that the slowest device does it in seconds.
const PROBE: Lr = Lr { w: 64, h: 36 };

/// Where to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// The CPU path.
    Cpu,
    /// An adapter, software ones too.
    Wgpu,
    /// Both.
    All,
}

/// What to run.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Write all rows as an array of objects.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Networks of the live family: residual blocks x features.
    #[arg(long, value_delimiter = ',', default_value = "4x16,8x32,16x64")]
    pub nets: Vec<Net>,
    /// Sizes of the input: 270p, 360p, 540p, 1080p, or WIDTHxHEIGHT, both even.
    #[arg(long, value_delimiter = ',', default_value = "270p,360p,540p,1080p")]
    pub sizes: Vec<Lr>,
    /// Output size over input size.
    #[arg(long, value_delimiter = ',', default_value = "2,4", value_parser = clap::value_parser!(u8).range(1..=4))]
    pub scales: Vec<u8>,
    /// The adapter: its index, or a part of its name [default: the best].
    #[arg(long, value_name = "NAME")]
    pub adapter: Option<String>,
    /// Where to run.
    #[arg(long, default_value = "all")]
    pub backend: Backend,
    /// How the adapter computes: f32, f16-storage, f16, coop8 or coop16 [default: as a viewer would choose].
    #[arg(long, value_name = "VARIANT")]
    pub variant: Option<Variant>,
    /// Time for each row, after one frame to warm up; a row whose frame would take four times that is skipped.
    #[arg(long, default_value_t = 2.0, value_name = "N")]
    pub seconds: f64,
    /// Keep each row's input, as `hone model export` describes it, and its output: f32 and RGBA bytes, without headers.
    #[arg(long, value_name = "FOLDER")]
    pub keep: Option<PathBuf>,
}

/// Residual blocks x features.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Net(u16, u16);

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}x{}", self.0, self.1))
    }
}

impl FromStr for Net {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let arch: Arch = format!("live-{text}-x2").parse().map_err(|e| format!("{e}"))?;
        Ok(Self(arch.blocks, arch.features))
    }
}

/// Columns and rows of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lr {
    w: usize,
    h: usize,
}

impl fmt::Display for Lr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}x{}", self.w, self.h))
    }
}

impl FromStr for Lr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = match text {
            "270p" => Some((480, 270)),
            "360p" => Some((640, 360)),
            "540p" => Some((960, 540)),
            "1080p" => Some((1920, 1080)),
            _ => super::size(text),
        };
        let side = |n: usize| (2..=SIDE_MAX).contains(&n) && n.is_multiple_of(2);
        match named {
            Some((w, h)) if side(w) && side(h) => Ok(Self { w, h }),
            _ => Err(format!("expected 270p, 540p or such as 480x270, both even, 2 to {SIDE_MAX}")),
        }
    }
}

/// What `--help` says below the options.
pub const HELP: &str = "\
A frame goes from decoded planes to RGBA in main memory. GFLOP are those of the convolutions,
done directly: an algorithm that needs fewer products can pass 100 % of the peak, which is what
multiply-adds in registers reach here. Software adapters and the CPU share their cores with all
that runs: GFLOP/CPU s is work over CPU time at its best.

Examples:
  hone bench viewer
  hone bench viewer --backend wgpu --nets 8x32 --sizes 540p --scales 2 --json rows.json";

/// A picture of slow gradients and some noise, as video is: (luma, Cb, Cr).
struct Picture {
    lr: Lr,
    planes: [Vec<u8>; 3],
}

impl Picture {
    fn new(lr: Lr) -> Self {
        let mut rng = Rng::new(SEED);
        let mut plane = |w: usize, h: usize, low: f64, high: f64| {
            let mut values = Vec::with_capacity(w * h);
            for y in 0..h {
                for x in 0..w {
                    let ramp = 0.5 * (x as f64 / w as f64 + y as f64 / h as f64);
                    values.push((low + (high - low) * (0.9 * ramp + 0.1 * rng.unit())) as u8);
                }
            }
            values
        };
        let Lr { w, h } = lr;
        let planes =
            [plane(w, h, 40.0, 210.0), plane(w / 2, h / 2, 100.0, 150.0), plane(w / 2, h / 2, 150.0, 110.0)];
        Self { lr, planes }
    }

    fn yuv(&self) -> Yuv420<'_> {
        let [y, u, v] = &self.planes;
        let colour = Colour { matrix: Matrix::Bt709, range: Range::Limited };
        Yuv420 { h: self.lr.h, w: self.lr.w, y, u, v, colour, quantiser: 30 }
    }

    /// What the network reads: (4, H, W) f32, little endian.
    fn input(&self) -> Vec<u8> {
        let yuv = self.yuv();
        let rgb = hone_cpu::yuv_rgb(&yuv);
        let plane = |c: usize| rgb.iter().copied().skip(c).step_by(3);
        let quantiser = std::iter::repeat_n(quantiser_input(yuv.quantiser), yuv.h * yuv.w);
        plane(0).chain(plane(1)).chain(plane(2)).chain(quantiser).flat_map(f32::to_le_bytes).collect()
    }
}

/// Runs all rows, or those before `stop`, and prints them.
///
/// # Errors
/// If there is no adapter and nothing else was asked for, or a file cannot be written.
pub fn run(options: &Options, stop: &AtomicBool) -> Result<()> {
    anyhow::ensure!(
        (0.01..=3600.0).contains(&options.seconds),
        "--seconds {}: 0.01 to 3600",
        options.seconds
    );
    if let Some(folder) = &options.keep {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    // Opened before the work, so that a bad path does not cost it.
    let json = match &options.json {
        Some(path) => Some(File::create(path).with_context(|| format!("cannot write {}", path.display()))?),
        None => None,
    };
    let mut devices = vec![];
    if options.backend != Backend::Wgpu {
        devices.push(Device::Cpu);
    }
    if options.backend != Backend::Cpu {
        match Device::adapter(options.adapter.clone())? {
            Some(adapter) => devices.push(adapter),
            None if options.backend == Backend::All => println!("wgpu: skipped: there is no adapter"),
            None => anyhow::bail!("no adapter found: install the GPU's Vulkan driver"),
        }
    }
    let mut rows = vec![];
    for device in &devices {
        run_on(device, options, stop, &mut rows)?;
    }
    if let Some(mut file) = json {
        file.write_all((serde_json::to_string_pretty(&rows)? + "\n").as_bytes())
            .context("cannot write the rows")?;
    }
    if stop.load(Ordering::Relaxed) {
        println!("stopped: the rows after this one are missing");
    }
    Ok(())
}

fn run_on(device: &Device, options: &Options, stop: &AtomicBool, rows: &mut Vec<Row>) -> Result<()> {
    let name = device.name();
    eprintln!("{name}: measuring its peak");
    let most = device.most()?;
    println!("{name}: at most {:.1} GFLOP/s, {:.1} GB/s", most.gflops, most.gb_s);
    println!("{HEADER}");
    for &net in &options.nets {
        for &scale in &options.scales {
            if stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            let arch = Arch::new(Family::Live, net.0, net.1, scale)?;
            eprintln!("{arch}: preparing");
            if let Err(error) = network(device, most, arch, options, stop, rows) {
                println!("{net:<6} x{scale:<5} skipped: {error:#}");
            }
        }
    }
    Ok(())
}

/// All sizes of one network.
fn network(
    device: &Device,
    most: Most,
    arch: Arch,
    options: &Options,
    stop: &AtomicBool,
    rows: &mut Vec<Row>,
) -> Result<()> {
    let gflop = |lr: Lr| arch.flops(lr.h, lr.w) as f64 / 1e9;
    let mut engine = device.engine(&drawn_weights(arch, SEED), options.variant)?;
    let mut rgba = vec![];
    let probe = time(&mut engine, (arch, &Picture::new(PROBE).yuv()), 0.0, stop, &mut rgba)?;
    // What was done a second at one size is expected of the next.
    let mut gflops = probe.map_or(0.0, |times| gflop(PROBE) / times.ms.0 * 1e3);
    for &lr in &options.sizes {
        if stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        let net = Net(arch.blocks, arch.features);
        let skip = |why: String| println!("{net:<6} x{:<5} {lr:<10} skipped: {why}", arch.scale);
        let expected = gflop(lr) / gflops;
        if expected > PATIENCE * options.seconds {
            skip(format!("a frame would take about {expected:.0} s; see --seconds"));
            continue;
        }
        eprintln!("{arch} at {lr}");
        let picture = Picture::new(lr);
        let times = match time(&mut engine, (arch, &picture.yuv()), options.seconds, stop, &mut rgba) {
            Ok(Some(times)) => times,
            Ok(None) => return Ok(()),
            Err(error) => {
                skip(format!("{error:#}"));
                continue;
            }
        };
        if let Some(folder) = &options.keep {
            keep(folder, &format!("{arch}-{lr}.input"), &picture.input())?;
            keep(folder, &format!("{arch}-{lr}.{}.rgba", device.backend()), &rgba)?;
        }
        gflops = gflop(lr) / times.ms.0 * 1e3;
        let row = Row {
            net: net.to_string(),
            lr: lr.to_string(),
            scale: arch.scale(),
            backend: device.backend(),
            variant: engine.variant(),
            adapter: device.name(),
            ms: times.ms.0,
            ms_min: times.ms.1,
            gflops,
            percent_of_peak: 100.0 * gflops / most.gflops,
            gflop_per_cpu_s: times.cpu_seconds.map(|seconds| gflop(lr) / seconds),
            passes: times.passes,
        };
        println!("{row}");
        rows.push(row);
    }
    Ok(())
}

fn keep(folder: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = folder.join(name);
    std::fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nets_and_sizes_are_parsed_and_bounded() {
        assert_eq!("4x16".parse(), Ok(Net(4, 16)));
        assert_eq!("540p".parse(), Ok(Lr { w: 960, h: 540 }));
        assert_eq!("34x18".parse(), Ok(Lr { w: 34, h: 18 }));
        for text in ["", "4", "0x16", "4x12", "4x16-x2"] {
            assert!(text.parse::<Net>().is_err(), "{text}");
        }
        for text in ["", "271p", "3x4", "4x9000", "0x0", "4x-2"] {
            assert!(text.parse::<Lr>().is_err(), "{text}");
        }
    }

    fn options(folder: &Path) -> Options {
        Options {
            json: Some(folder.join("rows.json")),
            nets: vec![Net(1, 8)],
            sizes: vec![Lr { w: 34, h: 18 }],
            scales: vec![2, 3],
            adapter: None,
            backend: Backend::Cpu,
            variant: None,
            seconds: 0.05,
            keep: Some(folder.join("kept")),
        }
    }

    #[test]
    fn rows_have_what_is_promised_and_what_was_computed_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        run(&options(folder.path()), &AtomicBool::new(false)).unwrap();
        let text = std::fs::read_to_string(folder.path().join("rows.json")).unwrap();
        let rows: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        assert_eq!(rows.len(), 2);
        for (row, scale) in rows.iter().zip([2, 3]) {
            assert_eq!(
                (&row["net"], &row["lr"], &row["scale"]),
                (&"1x8".into(), &"34x18".into(), &scale.into())
            );
            assert_eq!((&row["backend"], &row["variant"]), (&"cpu".into(), &"f32".into()));
            for key in ["ms", "ms_min", "gflops", "percent_of_peak"] {
                assert!(row[key].as_f64().is_some_and(|v| v > 0.0), "{key} in {row}");
            }
            // Colour, head, block of two, end of the body, tail, output.
            assert_eq!(row["passes"].as_array().unwrap().len(), 7);
            assert!(!row["adapter"].as_str().unwrap().is_empty());
        }
        let kept = |name: &str| std::fs::read(folder.path().join("kept").join(name)).unwrap();
        let picture = Picture::new(Lr { w: 34, h: 18 });
        let arch: Arch = "live-1x8-x2".parse().unwrap();
        let mut rgba = vec![0; 34 * 18 * 16];
        hone_cpu::Network::new(&drawn_weights(arch, SEED)).upscale(&picture.yuv(), &mut rgba);
        assert!(kept("live-1x8-x2-34x18.cpu.rgba") == rgba);
        assert_eq!(kept("live-1x8-x2-34x18.input").len(), 4 * 4 * 34 * 18);
    }

    #[test]
    fn a_stop_leaves_a_whole_file() {
        let folder = tempfile::tempdir().unwrap();
        run(&options(folder.path()), &AtomicBool::new(true)).unwrap();
        assert_eq!(std::fs::read_to_string(folder.path().join("rows.json")).unwrap(), "[]\n");
    }
}
