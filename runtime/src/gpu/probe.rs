//! Whether a device computes what it should: a small network of known weights against the oracle's output.
//!
//! Drivers lie, and some compile wrongly. The reference was made by the f64 oracle; a test holds the file to it.

use hone_model::colour::{Matrix, Range};
use hone_model::{Arch, Colour, Weights, Yuv420, rng::Rng};

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

/// PSNR before rounding in dB, and the largest error in code values.
fn compare(rgba: &[u8]) -> (f64, f64) {
    let mut square = 0.0;
    let mut worst: f64 = 0.0;
    let colours = rgba.chunks_exact(4).flat_map(|pixel| &pixel[..3]);
    for (got, want) in colours.zip(REFERENCE.chunks_exact(2)) {
        let want = f64::from(u16::from_le_bytes([want[0], want[1]])) / 256.0;
        let error = (f64::from(*got) - want).abs();
        // A value at an end of the range is exact, and tells nothing of the error before it was clamped.
        let rounding = if want > 0.0 && want < 255.0 { ROUNDING } else { 0.0 };
        square += error * error - rounding;
        worst = worst.max(error);
    }
    let mse = (square / (REFERENCE.len() / 2) as f64).max(1e-9);
    (10.0 * (255.0 * 255.0 / mse).log10(), worst)
}

/// What is wrong with an output; nothing if all is well.
fn verdict(rgba: &[u8]) -> Option<String> {
    let (psnr_db, worst) = compare(rgba);
    (psnr_db < PSNR_MIN || worst > ERROR_MAX)
        .then(|| format!("{psnr_db:.1} dB against the reference, up to {worst:.1} code values off"))
}

/// Runs the known network. What is wrong with its output; nothing if all is well.
///
/// # Errors
/// As [`Network::with_kernel`] and [`Network::submit`].
pub(super) fn probe(gpu: &Gpu, kernel: Kernel) -> Result<Option<String>, Error> {
    Ok(verdict(&output(gpu, kernel)?))
}

fn output(gpu: &Gpu, kernel: Kernel) -> Result<Vec<u8>, Error> {
    let rng = &mut Rng::new(1);
    let arch = arch();
    let (planes, weights) = (planes(rng), weights(rng, arch));
    let mut network = Network::with_kernel(gpu.clone(), arch, kernel)?;
    network.set_weights(&weights)?;
    let mut rgba = Vec::new();
    network.submit(&picture(&planes), Mode::Network)?;
    network.read(&mut rgba)?;
    Ok(rgba)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{AdapterChoice, Precision};
    use hone_model::reference::{forward, input, yuv_rgb};

    fn reference() -> Vec<u8> {
        let rng = &mut Rng::new(1);
        let (planes, weights) = (planes(rng), weights(rng, arch()));
        let params: Vec<f64> = weights.params().iter().map(|&v| f64::from(v)).collect();
        let picture = picture(&planes);
        let out = forward(arch(), &params, &input(&yuv_rgb(&picture), &[picture.quantiser]));
        let area = out.h * out.w;
        (0..3 * area)
            .map(|i| out.data[i % 3 * area + i / 3].clamp(0.0, 1.0) * 255.0 * 256.0)
            .flat_map(|v| (v.round() as u16).to_le_bytes())
            .collect()
    }

    /// The bundled file is what the oracle says, to one step of its format.
    #[test]
    fn the_reference_is_the_oracles() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/gpu/probe.bin");
        let want = reference();
        if std::env::var_os("HONE_WRITE_PROBE").is_some() {
            std::fs::write(path, &want).unwrap();
        }
        let got = std::fs::read(path).unwrap();
        assert_eq!(got.len(), want.len(), "HONE_WRITE_PROBE=1 writes it anew");
        for (got, want) in got.chunks_exact(2).zip(want.chunks_exact(2)) {
            let [got, want] = [got, want].map(|v| i32::from(u16::from_le_bytes([v[0], v[1]])));
            assert!((got - want).abs() <= 1, "{got} is not {want}: HONE_WRITE_PROBE=1 writes it anew");
        }
    }

    fn exact() -> Vec<u8> {
        let code = |v: &[u8]| (f64::from(u16::from_le_bytes([v[0], v[1]])) / 256.0).round() as u8;
        let codes: Vec<u8> = REFERENCE.chunks_exact(2).map(code).collect();
        codes.chunks_exact(3).flat_map(|rgb| [rgb[0], rgb[1], rgb[2], 255]).collect()
    }

    #[test]
    fn a_right_output_passes_and_wrong_ones_do_not() {
        assert_eq!(verdict(&exact()), None);
        // One value off by much, all off by one, black, and the last rows lost.
        let mut one = exact();
        one[40] ^= 0x10;
        assert!(verdict(&one).is_some());
        let all: Vec<u8> = exact().iter().map(|v| v.saturating_add(1)).collect();
        assert!(verdict(&all).is_some());
        assert!(verdict(&vec![0; exact().len()]).is_some());
        let mut rows = exact();
        rows[4 * 68 * 30..].fill(128);
        assert!(verdict(&rows).is_some());
    }

    #[test]
    fn every_kernel_of_this_machine_passes() {
        let gpu = match Gpu::open(&AdapterChoice { allow_software: true, adapter: None }) {
            Ok(gpu) => gpu,
            Err(Error::NoAdapter { .. }) => return eprintln!("SKIPPED: no wgpu adapter"),
            Err(error) => panic!("{error}"),
        };
        for precision in Precision::ALL {
            let forms = if precision == Precision::Coop8 { &[false][..] } else { &[false, true] };
            for &tall in forms {
                let kernel = Kernel { precision, tall };
                if let Some(lacks) = gpu.lacks(precision) {
                    eprintln!("SKIPPED: {kernel:?}: {} has no {lacks}", gpu.name());
                    continue;
                }
                let (psnr_db, worst) = compare(&output(&gpu, kernel).unwrap());
                eprintln!("{kernel:?}: {psnr_db:.1} dB, at most {worst:.2} code values off");
                assert!(psnr_db >= PSNR_MIN && worst <= ERROR_MAX, "{kernel:?}: {psnr_db} dB, {worst}");
            }
        }
    }
}
