//! Decoded planes to RGB: every matrix and range.

use hone_model::arch::quantiser_input;
use hone_model::reference::yuv_rgb;
use hone_model::rng::Rng;
use hone_runtime::gpu::{Activation, Gpu, Pass, Planes, Precision, Size};

use super::{COLOURS, EVEN_SIZES, poison};
use crate::{NO_ADAPTER, Picture, ROUNDOFF, Report};

/// Sums of four products of magnitude 2.2 at most, interpolated and matrixed in about 12 rounded operations.
const TOLERANCE: f64 = 12.0 * 4.0 * 2.2 * ROUNDOFF;
/// What the GPU's RGB is lowered by, as a network's mean is.
const MEAN: [f32; 3] = [0.25, 0.5, 0.125];

/// Runs the table.
pub fn run(gpu: Option<&Gpu>, report: &mut Report) {
    for colour in COLOURS {
        for (h, w) in EVEN_SIZES {
            let case = format!("yuv_rgb {colour:?} {w}x{h}");
            let picture = Picture::new(&mut Rng::new((h * 101 + w) as u64), h, w, colour);
            let want = yuv_rgb(&picture.yuv());
            let quantiser = quantiser_input(picture.yuv().quantiser);
            let interleaved: Vec<f64> = (0..3 * h * w).map(|i| want.data[i % 3 * h * w + i / 3]).collect();
            let got = hone_cpu::yuv_rgb(&picture.yuv());
            report.check(&format!("cpu {case}"), &got, &interleaved, |_| TOLERANCE);

            let Some(gpu) = gpu else {
                report.skip(NO_ADAPTER);
                continue;
            };
            let size = Size { h, w };
            let planes = Planes::new(gpu, size).expect("a small picture");
            let output = Activation::new(gpu, Precision::F32, size, 4).expect("a small buffer");
            planes.upload(gpu, &picture.yuv(), MEAN).expect("the device works");
            output.write(gpu, &poison(4, h, w));
            let pass = Pass::yuv_rgb(gpu, &planes, &output);
            gpu.run(&[&pass]).expect("the device works");
            let (got, border) = output.read(gpu).expect("the device works");
            assert!(border, "{case}: wrote into the border");
            let (got, fill) = got.split_at(3 * h * w);
            assert!(fill.iter().all(|&v| v == quantiser), "{case}: the fourth channel");
            let want: Vec<f64> =
                (0..3 * h * w).map(|i| want.data[i] - f64::from(MEAN[i / (h * w)])).collect();
            report.check(&format!("wgpu {case}"), got, &want, |_| TOLERANCE);
        }
    }
}
