//! Which variant computes: what was asked for, or the fastest of those that are right; remembered per adapter and driver.

use std::io::Read;
use std::path::Path;

use hone_model::colour::{Matrix, Range};
use hone_model::{Arch, Colour, Yuv420};
use hone_wgsl::SHADERS;
use tracing::{debug, info, warn};

use super::{Gpu, Kernel, Network, Precision, probe};
use crate::{Error, Mode, Options, Variant};

/// Rows and columns of the picture that variants are timed on: enough to fill a GPU.
const SIZE: (usize, usize) = (144, 256);
/// Frames of each variant, of which the fastest counts; the first compiles.
const FRAMES: usize = 4;
/// Share of the time that another variant must save before it is preferred to f32.
const SAVED: f64 = 0.1;

/// Most bytes of a file of choices that are read: far more than [`CHOICES_MAX`] lines.
const FILE_BYTES_MAX: u64 = 64 << 10;
/// Choices kept in a file; the oldest goes.
const CHOICES_MAX: usize = 64;

impl From<Precision> for Variant {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32,
            Precision::F16Storage => Self::F16Storage,
            Precision::F16 => Self::F16,
            Precision::Coop8 => Self::Coop8,
            Precision::Coop16 => Self::Coop16,
        }
    }
}

impl From<Variant> for Precision {
    fn from(variant: Variant) -> Self {
        match variant {
            Variant::F32 => Self::F32,
            Variant::F16Storage => Self::F16Storage,
            Variant::F16 => Self::F16,
            Variant::Coop8 => Self::Coop8,
            Variant::Coop16 => Self::Coop16,
        }
    }
}

/// How this device is to compute `arch`.
///
/// # Errors
/// [`Error::Variant`] for one that was asked for and is wrong, [`Error::Wrong`] if all are wrong; what the
/// device says.
pub(super) fn choose(gpu: &Gpu, arch: Arch, options: &Options) -> Result<Kernel, Error> {
    if let Some(variant) = options.variant {
        let kernel = Kernel::of(gpu, variant.into());
        return match attempt(gpu, arch, kernel)? {
            Attempt::Right(_) => Ok(kernel),
            Attempt::Lacks(what) => {
                let reason = format!("it has no {what}");
                Err(Error::Variant { adapter: gpu.name().to_owned(), variant, reason })
            }
            Attempt::Wrong(reason) => Err(Error::Variant { adapter: gpu.name().to_owned(), variant, reason }),
        };
    }
    let key = key(gpu, arch);
    let known = options.cache.as_deref().and_then(|path| recall(path, &key)).map(Precision::from);
    if let Some(precision) = known {
        let kernel = Kernel::of(gpu, precision);
        if time_if_right(gpu, arch, kernel)?.is_some() {
            return Ok(kernel);
        }
    }
    let mut times = Vec::new();
    for precision in Precision::ALL {
        let kernel = Kernel::of(gpu, precision);
        let Some(ms) = time_if_right(gpu, arch, kernel)? else { continue };
        times.push((kernel, ms));
        if gpu.software() {
            // Nothing to choose by, and each variant takes long to compile.
            break;
        }
    }
    let fastest = fastest(&times).ok_or_else(|| Error::Wrong { adapter: gpu.name().to_owned() })?;
    if let Some(path) = &options.cache
        && times.iter().all(|(_, ms)| ms.is_some())
        && let Err(error) = remember(path, &key, fastest.precision.into())
    {
        warn!(%error, path = %path.display(), "the choice of variant is not kept");
    }
    Ok(fastest)
}

/// The first, unless another saves enough; none where there is none.
fn fastest(times: &[(Kernel, Option<f64>)]) -> Option<Kernel> {
    let &(first, first_ms) = times.first()?;
    // Without timestamps there is nothing to choose by.
    let limit = first_ms.unwrap_or(0.0) * (1.0 - SAVED);
    let timed = times.iter().filter_map(|&(kernel, ms)| Some((kernel, ms?)));
    let faster = timed.filter(|(_, ms)| *ms < limit);
    faster.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(kernel, _)| kernel).or(Some(first))
}

/// What came of trying a kernel.
enum Attempt {
    /// It computes what it should, a frame in so many ms where the device tells.
    Right(Option<f64>),
    /// The device has not what it needs.
    Lacks(&'static str),
    /// It computes something else, or fails.
    Wrong(String),
}

/// Tries a kernel. Any but f32, without which a device is of no use, runs on a device of its own: one that does not
/// compile, or takes its device down, takes nothing else with it.
///
/// # Errors
/// What the device says of f32.
fn attempt(gpu: &Gpu, arch: Arch, kernel: Kernel) -> Result<Attempt, Error> {
    if let Some(what) = gpu.lacks(kernel.precision) {
        return Ok(Attempt::Lacks(what));
    }
    let run = |gpu: &Gpu| match probe::fault(gpu, kernel, arch)? {
        Some(wrong) => Ok(Attempt::Wrong(wrong)),
        None => time(gpu, arch, kernel).map(Attempt::Right),
    };
    if kernel.precision == Precision::F32 {
        return run(gpu);
    }
    let tried = gpu.another().and_then(|own| run(&own));
    Ok(tried.unwrap_or_else(|error| Attempt::Wrong(error.to_string())))
}

/// The time of a frame, if any is told, of a kernel that is right; none of another, and the log says why.
fn time_if_right(gpu: &Gpu, arch: Arch, kernel: Kernel) -> Result<Option<Option<f64>>, Error> {
    let (adapter, variant) = (gpu.name(), Variant::from(kernel.precision));
    Ok(match attempt(gpu, arch, kernel)? {
        Attempt::Right(ms) => {
            info!(adapter, %variant, ms, "a variant is right");
            Some(ms)
        }
        Attempt::Lacks(lacks) => {
            debug!(adapter, %variant, lacks, "a variant is not there");
            None
        }
        Attempt::Wrong(wrong) => {
            warn!(adapter, %variant, wrong, "a variant is not used");
            None
        }
    })
}

/// Best time of a frame in ms; none where the adapter has no timestamps.
fn time(gpu: &Gpu, arch: Arch, kernel: Kernel) -> Result<Option<f64>, Error> {
    let (h, w) = SIZE;
    let mut network = Network::with_kernel(gpu.clone(), arch, kernel)?;
    if !network.time_passes(true)? {
        return Ok(None);
    }
    let (luma, chroma) = (vec![128; h * w], vec![128; h * w / 4]);
    let colour = Colour { matrix: Matrix::Bt709, range: Range::Limited };
    let picture = Yuv420 { h, w, y: &luma, u: &chroma, v: &chroma, colour, quantiser: 26 };
    let mut best: Option<f64> = None;
    let mut rgba = Vec::new();
    for frame in 0..FRAMES {
        network.submit(&picture, Mode::Network)?;
        network.read(&mut rgba)?;
        let ms: f64 = network.pass_times()?.iter().map(|pass| pass.ms).sum();
        if frame > 0 {
            best = Some(best.map_or(ms, |best| best.min(ms)));
        }
    }
    Ok(best.filter(|ms| *ms > 0.0))
}

/// What a choice holds for: adapter, driver, network and shaders.
fn key(gpu: &Gpu, arch: Arch) -> String {
    let info = gpu.adapter().get_info();
    let sources = SHADERS.iter().flat_map(|shader| Precision::ALL.map(|precision| shader.of(precision)));
    // FNV-1a
    let hash = sources.fold(0xcbf2_9ce4_8422_2325_u64, |hash, source| {
        let step = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        source.bytes().fold(hash, step)
    });
    format!("{} | {} {} | {arch} | {hash:016x}", gpu.name(), info.driver, info.driver_info)
        .replace(['\n', '\t'], " ")
}

/// Lines of `variant TAB key`, the newest last; what is no such line is left out.
fn lines(path: &Path) -> Vec<(Variant, String)> {
    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text));
    if let Err(error) = read {
        debug!(%error, path = %path.display(), "no choices are known");
        return Vec::new();
    }
    let parse = |line: &str| {
        let (variant, key) = line.split_once('\t')?;
        Some((variant.parse().ok()?, key.to_owned()))
    };
    text.lines().filter_map(parse).collect()
}

fn recall(path: &Path, key: &str) -> Option<Variant> {
    lines(path).into_iter().rev().find(|(_, known)| known == key).map(|(variant, _)| variant)
}

fn remember(path: &Path, key: &str, variant: Variant) -> std::io::Result<()> {
    let mut lines = lines(path);
    lines.retain(|(_, known)| known != key);
    lines.push((variant, key.to_owned()));
    let kept = &lines[lines.len().saturating_sub(CHOICES_MAX)..];
    let text: String = kept.iter().map(|(variant, key)| format!("{variant}\t{key}\n")).collect();
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, text)
}

#[cfg(test)]
mod tests;
