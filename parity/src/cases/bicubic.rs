//! Bicubic upscaling, to f32 on the CPU and to 8 bits on the GPU.

use hone_model::reference::{Tensor, bicubic};
use hone_model::rng::Rng;
use hone_runtime::gpu::{Activation, Gpu, Pass, Precision, Rgba, Size};

use super::{SIZES, rgba, single};
use crate::{NO_ADAPTER, ROUNDOFF, Report, random_tensor};

/// Two sums of four taps whose magnitudes add up to 1.25 each (at most, over all phases), taps rounded too:
/// 12 operations on values of magnitude 1.6.
const TOLERANCE: f64 = 12.0 * 1.6 * 1.25 * 1.25 * ROUNDOFF;
/// What the GPU adds, as a network's mean is.
const MEAN: [f32; 3] = [0.5, 0.375, 0.625];

/// Runs the table.
pub fn run(gpu: Option<&Gpu>, report: &mut Report) {
    for s in 1..=4 {
        for (h, w) in SIZES {
            let case = format!("bicubic x{s} {w}x{h}");
            let rng = &mut Rng::new((s * 1_009 + h * 101 + w) as u64);
            let x = random_tensor(rng, 3, h, w);
            let mut want = bicubic(&x, s);
            let rgb: Vec<f32> = (0..3 * h * w).map(|i| x.data[i % 3 * h * w + i / 3] as f32).collect();
            let area = want.h * want.w;
            let interleaved: Vec<f64> = (0..3 * area).map(|i| want.data[i % 3 * area + i / 3]).collect();
            report.check(&format!("cpu {case}"), &hone_cpu::bicubic(&rgb, h, w, s), &interleaved, |_| {
                TOLERANCE
            });

            let Some(gpu) = gpu else {
                report.skip(NO_ADAPTER);
                continue;
            };
            for (i, v) in want.data.iter_mut().enumerate() {
                *v += f64::from(MEAN[i / area]);
            }
            report.check_u8(&format!("wgpu {case}"), &on_gpu(gpu, &x, s), &rgba(&want), TOLERANCE);
        }
    }
}

fn on_gpu(gpu: &Gpu, x: &Tensor, s: usize) -> Vec<u8> {
    let size = Size { h: x.h, w: x.w };
    let input = Activation::new(gpu, Precision::F32, size, 4).expect("a small buffer");
    input.write(gpu, &single(&x.data));
    let output = Rgba::new(gpu, size.times(s)).expect("a small picture");
    let pass = Pass::bicubic(gpu, s, MEAN, &input, &output);
    gpu.run(&[&pass]).expect("the device works");
    output.read(gpu).expect("the device works")
}
