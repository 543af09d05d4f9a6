//! What computes the frames: the CPU path or an adapter, and what that does at most.

use std::time::Instant;

use anyhow::{Result, ensure};
use hone_cpu::peak;
use hone_model::{Arch, Weights, Yuv420};
use hone_runtime::gpu::{AdapterChoice, Gpu, Peak};
use hone_runtime::{Error, Mode, Options, Preference, Upscaler, Variant};

/// Where frames are computed.
pub enum Device {
    Cpu,
    Wgpu(Gpu),
}

/// Most that a device does, measured.
#[derive(Clone, Copy, Debug)]
pub struct Most {
    /// Multiply-adds in registers, f32, each two operations.
    pub gflops: f64,
    /// Read and written by a copy of 64 MiB.
    pub gb_s: f64,
}

impl Device {
    /// The best adapter, or the one that is named; none if there is none at all.
    pub fn adapter(named: Option<String>) -> Result<Option<Self>> {
        match Gpu::open(&AdapterChoice { allow_software: true, adapter: named }) {
            Ok(gpu) => Ok(Some(Self::Wgpu(gpu))),
            Err(Error::NoAdapter { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub fn backend(&self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Wgpu(_) => "wgpu",
        }
    }

    /// API and adapter, or processor and threads.
    pub fn name(&self) -> String {
        match self {
            Self::Cpu => format!("{}, {} threads", processor(), rayon::current_num_threads()),
            Self::Wgpu(gpu) => gpu.name().to_owned(),
        }
    }

    pub fn most(&self) -> Result<Most> {
        let (operations, bytes) = match self {
            Self::Cpu => {
                // Rounds of the multiply-adds are a few nanoseconds, copies some ten milliseconds.
                let (from, mut to) = (vec![1.0; 1 << 24], vec![0.0; 1 << 24]);
                let operations = rate(|times| Ok(peak::multiply_add(10_000 * times as usize)))?;
                let bytes = rate(|times| Ok((0..times).map(|_| peak::copy(&from, &mut to)).sum()))?;
                (operations, bytes)
            }
            Self::Wgpu(gpu) => {
                let peak = Peak::new(gpu)?;
                let operations = rate(|times| Ok(peak.multiply_add(times)?))?;
                (operations, rate(|times| Ok(peak.copy(times)?))?)
            }
        };
        Ok(Most { gflops: operations / 1e9, gb_s: bytes / 1e9 })
    }

    pub fn engine(&self, weights: &Weights, variant: Option<Variant>) -> Result<Engine> {
        Ok(match self {
            Self::Cpu => Engine::Cpu(Box::new(hone_cpu::Network::new(weights))),
            Self::Wgpu(gpu) => {
                // This one and no other, in software as it may be: what falls back to the CPU is not measured as a GPU.
                let device = Preference::Gpu { allow_software: true };
                let options = Options { variant, ..device.into() };
                let mut upscaler = Upscaler::on(gpu.clone(), weights.arch(), &options)?;
                ensure!(upscaler.gpu().is_some(), "the CPU would be measured, not the adapter");
                upscaler.set_weights(weights)?;
                Engine::Wgpu(Box::new(upscaler))
            }
        })
    }
}

/// What a second brings at best: `work(times)` says what it did. The first calls find out how often makes a tenth of a
/// second, and warm up.
fn rate(mut work: impl FnMut(u32) -> Result<u64>) -> Result<f64> {
    let mut timed = |times| -> Result<(f64, f64)> {
        let start = Instant::now();
        let done = work(times)?;
        Ok((done as f64, start.elapsed().as_secs_f64()))
    };
    let mut times = 1;
    while times < 1 << 20 && timed(times)?.1 < 0.1 {
        times *= 2;
    }
    let mut best = 0.0f64;
    for _ in 0..5 {
        let (done, seconds) = timed(times)?;
        best = best.max(done / seconds);
    }
    Ok(best)
}

/// The processor's name where the system tells it.
fn processor() -> String {
    // Linux, proc(5).
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map_or("CPU", |(_, name)| name).to_owned()
}

/// Frames after which the times of a frame's passes have come, if they come at all.
const FRAMES_TO_TIMES: usize = 4;

/// One network on one device.
pub enum Engine {
    Cpu(Box<hone_cpu::Network>),
    Wgpu(Box<Upscaler>),
}

impl Engine {
    pub fn variant(&self) -> String {
        match self {
            Self::Cpu(_) => "f32".to_owned(),
            Self::Wgpu(upscaler) => upscaler.variant().map_or_else(|| "f32".to_owned(), |v| v.to_string()),
        }
    }

    /// One frame from planes to RGBA in main memory.
    pub fn frame(&mut self, picture: &Yuv420, arch: Arch, rgba: &mut Vec<u8>) -> Result<()> {
        match self {
            Self::Cpu(network) => {
                rgba.resize(4 * picture.h * picture.w * arch.scale() * arch.scale(), 0);
                network.upscale(picture, rgba);
            }
            Self::Wgpu(upscaler) => upscaler.upscale(picture, Mode::Network, rgba)?,
        }
        Ok(())
    }

    /// The passes of one frame, in milliseconds; none where the adapter cannot tell.
    pub fn passes(&mut self, picture: &Yuv420, rgba: &mut Vec<u8>) -> Result<Vec<(String, f64)>> {
        match self {
            Self::Cpu(network) => {
                let (mut passes, mut start) = (vec![], Instant::now());
                network.upscale_watched(picture, rgba, |name| {
                    let now = Instant::now();
                    passes.push((name.to_owned(), (now - start).as_secs_f64() * 1e3));
                    start = now;
                });
                Ok(passes)
            }
            Self::Wgpu(upscaler) => {
                let able = upscaler.time_passes(true)?;
                let mut passes = vec![];
                // Nothing waits for the times of a frame: they are there some frames later.
                for _ in 0..if able { FRAMES_TO_TIMES } else { 0 } {
                    upscaler.upscale(picture, Mode::Network, rgba)?;
                    passes = upscaler.pass_times().iter().map(|pass| (pass.name.clone(), pass.ms)).collect();
                    if !passes.is_empty() {
                        break;
                    }
                }
                upscaler.time_passes(false)?;
                Ok(passes)
            }
        }
    }
}
