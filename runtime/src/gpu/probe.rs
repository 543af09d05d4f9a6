//! Whether a device computes what it should: a small network of known weights against the oracle's output, then the network
//! in use against the CPU's.
//!
//! Drivers lie, and some compile wrongly. The reference was made by the f64 oracle; a test holds the file to it. That network
//! is small, and what is lost in 16 bits adds up from block to block: a variant is right for an architecture or is not.

use hone_model::backend::Images;
use hone_model::colour::{Matrix, Range};
use hone_model::{Arch, BaseModel, Colour, Origin, Published, Weights, Yuv420, rng::Rng};

use super::{Gpu, Kernel, Network};
use crate::{Error, Mode};

const ARCH: &str = "live-1x16-x2";
/// Rows and columns of the picture: around the tiles of 8 and 16 pixels.
const SIZE: (usize, usize) = (18, 34);
/// R, G and B of the output, each `255 * clamp(v)` in steps of 1/256, little endian.
const REFERENCE: &[u8] = include_bytes!("probe.bin");

/// Least PSNR against the oracle, in dB, before the rounding to 8 bits.
const PSNR_MIN: f64 = 60.0;
/// No value may be further off than this, in code values: the half of rounding, and what 16 bits may add at one place.
const ERROR_MAX: f64 = 2.0;
/// What rounding to 8 bits alone adds to the mean square error: the variance of a uniform distribution.
const ROUNDING: f64 = 1.0 / 12.0;

fn arch() -> Arch {
    ARCH.parse().expect("an architecture of ours")
}

/// The picture's planes.
fn planes(rng: &mut Rng) -> [Vec<u8>; 3] {
    let (h, w) = SIZE;
    [h * w, h * w / 4, h * w / 4].map(|len| (0..len).map(|_| rng.below(256) as u8).collect())
}

fn picture(planes: &[Vec<u8>; 3]) -> Yuv420<'_> {
    let [y, u, v] = planes;
    let colour = Colour { matrix: Matrix::Bt709, range: Range::Limited };
    Yuv420 { h: SIZE.0, w: SIZE.1, y, u, v, colour, quantiser: 30 }
}

/// Variance 1 / (9 Cin), so that activations neither grow nor fade, and a tail that leaves most of the picture in range.
fn weights(rng: &mut Rng, arch: Arch) -> Weights {
    let mut weights = Weights::zeros(arch);
    for layer in arch.layers() {
        let amplitude = (3.0 / (9 * layer.cin) as f64).sqrt() * if layer.zero_init { 0.3 } else { 1.0 };
        for v in &mut weights.params_mut()[layer.offset..layer.offset + layer.params()] {
            *v = ((rng.unit() * 2.0 - 1.0) * amplitude) as f32;
        }
    }
    weights
}

/// What an architecture is tried with: its base model, or random weights whose blocks add less the more there are, as trained
/// ones do.
fn typical_weights(arch: Arch) -> Weights {
    // What a larger network adopted is not all that it computes.
    if let Some(base) = BaseModel::of(arch).filter(|base| base.arch() == arch) {
        return Published::origin(arch, Origin::Base(base)).weights();
    }
    let mut weights = weights(&mut Rng::new(2), arch);
    let layers = arch.layers();
    let body = &layers[1..=2 * usize::from(arch.blocks)];
    for last in body.iter().skip(1).step_by(2) {
        let params = &mut weights.params_mut()[last.offset..last.offset + last.params()];
        params.iter_mut().for_each(|v| *v /= f32::from(arch.blocks).sqrt());
    }
    weights
}

/// The oracle's output for the known network, in code values.
fn reference() -> Vec<f64> {
    let value = |v: &[u8]| f64::from(u16::from_le_bytes([v[0], v[1]])) / 256.0;
    REFERENCE.chunks_exact(2).map(value).collect()
}

/// The CPU's output, in code values.
fn on_cpu(weights: &Weights, picture: &Yuv420) -> Vec<f64> {
    let rgb = hone_cpu::yuv_rgb(picture);
    let lr = Images { n: 1, h: picture.h, w: picture.w, rgb, quantisers: vec![picture.quantiser] };
    let hr = hone_cpu::Network::new(weights).forward(&lr);
    hr.rgb.iter().map(|&v| 255.0 * f64::from(v).clamp(0.0, 1.0)).collect()
}

/// PSNR before rounding in dB, and the largest error in code values.
fn compare(rgba: &[u8], want: &[f64]) -> (f64, f64) {
    let mut square = 0.0;
    let mut worst: f64 = 0.0;
    let colours = rgba.chunks_exact(4).flat_map(|pixel| &pixel[..3]);
    for (got, &want) in colours.zip(want) {
        let error = (f64::from(*got) - want).abs();
        // A value at an end of the range is exact, and tells nothing of the error before it was clamped.
        let rounding = if want > 0.0 && want < 255.0 { ROUNDING } else { 0.0 };
        square += error * error - rounding;
        worst = worst.max(error);
    }
    let mse = (square / want.len() as f64).max(1e-9);
    (10.0 * (255.0 * 255.0 / mse).log10(), worst)
}

/// What is wrong with an output; nothing if all is well.
fn verdict(rgba: &[u8], want: &[f64]) -> Option<String> {
    let (psnr_db, worst) = compare(rgba, want);
    (psnr_db < PSNR_MIN || worst > ERROR_MAX)
        .then(|| format!("{psnr_db:.1} dB against the reference, up to {worst:.1} code values off"))
}

/// Runs the known network, then `in_use` with weights of ours. What is wrong with an output; nothing if all is well.
///
/// # Errors
/// As [`Network::with_kernel`] and [`Network::submit`].
pub(super) fn fault(gpu: &Gpu, kernel: Kernel, in_use: Arch) -> Result<Option<String>, Error> {
    let rng = &mut Rng::new(1);
    let planes = planes(rng);
    let picture = picture(&planes);
    let known = weights(rng, arch());
    if let Some(wrong) = verdict(&output(gpu, kernel, &known, &picture)?, &reference()) {
        return Ok(Some(wrong));
    }
    let typical = typical_weights(in_use);
    let wrong = verdict(&output(gpu, kernel, &typical, &picture)?, &on_cpu(&typical, &picture));
    Ok(wrong.map(|wrong| format!("{in_use}: {wrong}")))
}

fn output(gpu: &Gpu, kernel: Kernel, weights: &Weights, picture: &Yuv420) -> Result<Vec<u8>, Error> {
    let mut network = Network::with_kernel(gpu.clone(), weights.arch(), kernel)?;
    network.set_weights(weights)?;
    let mut rgba = Vec::new();
    network.submit(picture, Mode::Network)?;
    network.read(&mut rgba)?;
    Ok(rgba)
}

#[cfg(test)]
mod tests;
