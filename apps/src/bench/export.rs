//! `hone model export`: a network as an ONNX file.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use hone_model::onnx::{self, Part};
use hone_model::{Arch, Origin, Published, Weights, file};

use super::drawn_weights;

/// Largest side of a fixed input: that of an 8K picture.
const SIDE_MAX: usize = 8192;

/// What to export.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The file to write.
    #[arg(long, value_name = "OUT.onnx")]
    pub onnx: PathBuf,
    /// Weights in a safetensors file that names its architecture.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["arch", "seed"], required_unless_present = "arch")]
    pub weights: Option<PathBuf>,
    /// The network without a file: its bundled base model, or what training would start from.
    #[arg(long, value_name = "ARCH")]
    pub arch: Option<Arch>,
    /// Draw all weights of --arch at random instead, as `hone bench viewer` does with seed 1.
    #[arg(long, value_name = "N", requires = "arch")]
    pub seed: Option<u64>,
    /// Size of the input, or `dynamic` for any size.
    #[arg(long, value_name = "WxH", default_value = "dynamic", value_parser = lr)]
    pub lr: Lr,
    /// Leave out the bicubic base: the output is what the network adds to it.
    #[arg(long)]
    pub residual: bool,
}

/// Columns and rows of the input; none if they are left free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lr(Option<(usize, usize)>);

fn lr(text: &str) -> Result<Lr, String> {
    if text == "dynamic" {
        return Ok(Lr(None));
    }
    match super::size(text) {
        Some((w, h)) if (1..=SIDE_MAX).contains(&w) && (1..=SIDE_MAX).contains(&h) => Ok(Lr(Some((w, h)))),
        _ => Err(format!("expected `dynamic` or a size such as 480x270, sides up to {SIDE_MAX}")),
    }
}

/// What `--help` says below the options.
pub const HELP: &str = "\
The file holds the network and the bicubic base, in operators of opset 17. Engines must be given:
  input   f32 (1, 4, H, W): R, G, B in 0..=1, then a plane of (quantiser - 26) / 52,
          where H.264's quantiser is 0 to 51; networks of the edsr family: R, G, B alone
and give:
  output  f32 (1, 3, s*H, s*W): RGB, not clamped
Conversion from YUV, and to 8 bits, are not in the file.

Examples:
  hone model export --onnx net.onnx --arch live-4x16-x2
  hone model export --onnx net.onnx --weights edsr.safetensors --lr 480x270";

/// Writes the file and says what it is.
///
/// # Errors
/// If the weights cannot be read or the file cannot be written.
pub fn run(options: &Options) -> Result<()> {
    let weights = match (&options.weights, options.arch) {
        (Some(path), _) => read(path)?,
        (None, Some(arch)) => match options.seed {
            Some(seed) => drawn_weights(arch, seed),
            None => Published::origin(arch, Origin::best(arch, 0)).weights(),
        },
        (None, None) => anyhow::bail!("--weights or --arch is needed"),
    };
    let part = if options.residual { Part::Residual } else { Part::Whole };
    let bytes = onnx::export(&weights, part, options.lr.0.map(|(w, h)| (h, w)));
    std::fs::write(&options.onnx, &bytes)
        .with_context(|| format!("cannot write {}", options.onnx.display()))?;
    println!("{}: {}, {} bytes", options.onnx.display(), weights.arch(), bytes.len());
    Ok(())
}

fn read(path: &Path) -> Result<Weights> {
    let about = || format!("cannot read {}", path.display());
    let bytes = std::fs::metadata(path).with_context(about)?.len();
    ensure!(bytes <= file::FILE_BYTES_MAX as u64, "{}: larger than any weights file", path.display());
    file::load(&std::fs::read(path).with_context(about)?).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_parsed_and_bounded() {
        assert_eq!(lr("dynamic"), Ok(Lr(None)));
        assert_eq!(lr("480x270"), Ok(Lr(Some((480, 270)))));
        for text in ["", "480", "480x", "0x4", "4x9000", "-1x4", "4x4x4"] {
            assert!(lr(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_file_is_written_from_weights_or_refused_in_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let (weights, onnx) = (folder.path().join("w.safetensors"), folder.path().join("net.onnx"));
        let options = |weights: &Path| Options {
            onnx: onnx.clone(),
            weights: Some(weights.to_owned()),
            arch: None,
            seed: None,
            lr: Lr(None),
            residual: false,
        };
        std::fs::write(&weights, file::save(&drawn_weights("live-1x8-x2".parse().unwrap(), 3)).unwrap())
            .unwrap();
        run(&options(&weights)).unwrap();
        assert!(std::fs::read(&onnx).unwrap().windows(11).any(|w| w == b"live-1x8-x2"));
        std::fs::write(&weights, b"not weights").unwrap();
        for path in [&*weights, &folder.path().join("none")] {
            let error = format!("{:#}", run(&options(path)).unwrap_err());
            assert!(error.contains(path.to_str().unwrap()) && !error.contains('\n'), "{error}");
        }
    }
}
