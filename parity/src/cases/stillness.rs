//! Where a picture stands still, against the one before.

use hone_model::reference::stillness;
use hone_model::rng::Rng;
use hone_runtime::gpu::{Gpu, Kept, Pass, Planes, Size};

use super::{BT709, EVEN_SIZES, SIZES};
use crate::{NO_ADAPTER, Picture, ROUNDOFF, Report};

/// The texture unit's division by 255 of two samples, their difference, two products with 255 / 4: 6 operations on values
/// up to 64.
const TOLERANCE: f64 = 6.0 * 64.0 * ROUNDOFF;

/// Runs the table.
pub fn run(gpu: Option<&Gpu>, report: &mut Report) {
    for (k, (h, w)) in SIZES.into_iter().chain(EVEN_SIZES).enumerate() {
        let case = format!("stillness {w}x{h}");
        let rng = &mut Rng::new(500 + k as u64);
        // Odd sizes are no pictures, but luma all the same.
        let last = Picture::new(rng, h.next_multiple_of(2), w.next_multiple_of(2), BT709);
        let now = last.nearly(rng);
        let cut = |picture: &Picture| picture.yuv().y[..h * w].to_vec();
        let (before, after) = (cut(&last), cut(&now));
        let want = stillness(&after, &before, h, w);
        report
            .check(&format!("cpu {case}"), &hone_cpu::stillness(&after, &before, h, w), &want, |_| TOLERANCE);
        if h % 2 + w % 2 > 0 {
            continue;
        }
        let Some(gpu) = gpu else {
            report.skip(NO_ADAPTER);
            continue;
        };
        let size = Size { h, w };
        let planes = Planes::new(gpu, size).expect("a small picture");
        let kept = Kept::new(gpu, 1, size).expect("a small picture");
        planes.upload(gpu, &last.yuv(), [0.0; 3]).expect("the device works");
        kept.keep_luma(gpu, &planes).expect("the device works");
        planes.upload(gpu, &now.yuv(), [0.0; 3]).expect("the device works");
        gpu.run(&[&Pass::stillness(gpu, &planes, &kept)]).expect("the device works");
        let got = kept.weights(gpu).expect("the device works");
        report.check(&format!("wgpu {case}"), &got, &want, |_| TOLERANCE);
    }
}
