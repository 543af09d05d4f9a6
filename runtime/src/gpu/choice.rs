//! Which variant computes: what was asked for, or the fastest of those that are right; remembered per adapter and driver.

use std::io::Read;
use std::path::Path;

use hone_model::colour::{Matrix, Range};
use hone_model::{Arch, Colour, Yuv420};
use hone_wgsl::SHADERS;
use tracing::{debug, info, warn};

use super::probe::probe;
use super::{Gpu, Kernel, Network, Precision};
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
        return match fault(gpu, kernel)? {
            None => Ok(kernel),
            Some(reason) => Err(Error::Variant { adapter: gpu.name().to_owned(), variant, reason }),
        };
    }
    let key = key(gpu, arch);
    let known = options.cache.as_deref().and_then(|path| recall(path, &key)).map(Precision::from);
    if let Some(precision) = known {
        let kernel = Kernel::of(gpu, precision);
        if is_right(gpu, kernel)? {
            return Ok(kernel);
        }
    }
    let mut right = Vec::new();
    for precision in Precision::ALL {
        let kernel = Kernel::of(gpu, precision);
        if is_right(gpu, kernel)? {
            right.push(kernel);
            if gpu.software() {
                // Nothing to choose by, and each variant takes long to compile.
                return Ok(kernel);
            }
        }
    }
    let Some(&first) = right.first() else {
        return Err(Error::Wrong { adapter: gpu.name().to_owned() });
    };
    let mut times = Vec::new();
    for &kernel in &right {
        // Without timestamps there is nothing to choose by.
        let Some(ms) = time(gpu, arch, kernel)? else { return Ok(first) };
        info!(adapter = gpu.name(), variant = %Variant::from(kernel.precision), ms, "measured");
        times.push((kernel, ms));
    }
    let fastest = fastest(&times);
    if let Some(path) = &options.cache
        && let Err(error) = remember(path, &key, fastest.precision.into())
    {
        warn!(%error, path = %path.display(), "the choice of variant is not kept");
    }
    Ok(fastest)
}

/// The first, unless another saves enough.
fn fastest(times: &[(Kernel, f64)]) -> Kernel {
    let (first, first_ms) = times[0];
    let limit = first_ms * (1.0 - SAVED);
    let faster = times[1..].iter().filter(|(_, ms)| *ms < limit);
    faster.min_by(|a, b| a.1.total_cmp(&b.1)).map_or(first, |&(kernel, _)| kernel)
}

/// Why a kernel cannot be used here; nothing if it can.
fn fault(gpu: &Gpu, kernel: Kernel) -> Result<Option<String>, Error> {
    match gpu.lacks(kernel.precision) {
        Some(what) => Ok(Some(format!("it has no {what}"))),
        None => probe(gpu, kernel),
    }
}

fn is_right(gpu: &Gpu, kernel: Kernel) -> Result<bool, Error> {
    if let Some(lacks) = gpu.lacks(kernel.precision) {
        debug!(adapter = gpu.name(), variant = %Variant::from(kernel.precision), lacks, "a variant is not there");
        return Ok(false);
    }
    let wrong = probe(gpu, kernel)?;
    if let Some(wrong) = &wrong {
        warn!(adapter = gpu.name(), variant = %Variant::from(kernel.precision), wrong, "a variant is not used");
    }
    Ok(wrong.is_none())
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
    let sources = SHADERS.iter().flat_map(|shader| shader.source.bytes());
    // FNV-1a
    let hash = sources.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
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
mod tests {
    use super::*;

    fn kernel(precision: Precision) -> Kernel {
        Kernel { precision, tall: false }
    }

    #[test]
    fn another_variant_must_save_enough() {
        let (wide, half) = (kernel(Precision::F32), kernel(Precision::F16Storage));
        assert_eq!(fastest(&[(wide, 10.0), (half, 9.5)]), wide);
        assert_eq!(fastest(&[(wide, 10.0), (half, 8.0)]), half);
        assert_eq!(fastest(&[(half, 10.0)]), half);
    }

    #[test]
    fn choices_are_kept_and_what_is_no_choice_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/choices");
        assert_eq!(recall(&path, "a"), None);
        remember(&path, "a", Variant::F16Storage).unwrap();
        remember(&path, "b", Variant::F32).unwrap();
        remember(&path, "a", Variant::F32).unwrap();
        assert_eq!(
            ["a", "b", "c"].map(|key| recall(&path, key)),
            [Some(Variant::F32), Some(Variant::F32), None]
        );
        std::fs::write(&path, "fastest\ta\nno line\nf16-storage\tb\n\t\t\n").unwrap();
        assert_eq!(["a", "b"].map(|key| recall(&path, key)), [None, Some(Variant::F16Storage)]);
        std::fs::write(&path, [0xff, 0xfe, 0x00]).unwrap();
        assert_eq!(recall(&path, "b"), None);
        for k in 0..2 * CHOICES_MAX {
            remember(&path, &format!("key {k}"), Variant::F32).unwrap();
        }
        assert_eq!(lines(&path).len(), CHOICES_MAX);
    }
}
