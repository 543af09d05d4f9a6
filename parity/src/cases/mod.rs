//! The cases, one module for each operation under the oracle's stems.

pub mod bicubic;
pub mod conv3x3;
pub mod network;
pub mod pixel_shuffle;
pub mod reuse;
pub mod stillness;
pub mod swap;
pub mod training;
pub mod yuv_rgb;

use hone_model::reference::Tensor;
use hone_model::{Colour, colour};
use hone_runtime::gpu::{Gpu, Kernel, Precision};
use hone_runtime::{Options, Preference, Variant};

use crate::Report;

/// Rows and columns around the tiles of 8 and 16 pixels, square, tall and wide.
const SIZES: [(usize, usize); 6] = [(1, 1), (2, 2), (5, 17), (16, 16), (33, 15), (35, 67)];
/// The same for decoded pictures, which are even.
const EVEN_SIZES: [(usize, usize); 5] = [(2, 2), (4, 18), (16, 16), (34, 14), (18, 66)];

/// Each way to compute: as for GPUs and as for adapters in software, in each precision.
const KERNELS: [Kernel; 8] = [
    Kernel { precision: Precision::F32, tall: false },
    Kernel { precision: Precision::F32, tall: true },
    Kernel { precision: Precision::F16Storage, tall: false },
    Kernel { precision: Precision::F16Storage, tall: true },
    Kernel { precision: Precision::F16, tall: false },
    Kernel { precision: Precision::F16, tall: true },
    Kernel { precision: Precision::Coop8, tall: false },
    Kernel { precision: Precision::Coop16, tall: false },
];

/// Those of them that a device has, each on that device. Where it multiplies no tiles, they are emulated on another of the same
/// adapter; what it has not even so is counted as skipped.
fn kernels(gpu: &Gpu, report: &mut Report) -> Vec<(Gpu, Kernel)> {
    let emulating = gpu.emulating_tiles().expect("the device opens twice");
    let on = |kernel: Kernel| {
        let Some(what) = gpu.lacks(kernel.precision) else { return Some((gpu.clone(), kernel)) };
        if kernel.precision.tile_side().is_some() && emulating.lacks(kernel.precision).is_none() {
            return Some((emulating.clone(), kernel));
        }
        report.skip(&format!("{kernel:?}: {} has no {what}", gpu.name()));
        None
    };
    KERNELS.into_iter().filter_map(on).collect()
}

/// Every matrix in every range.
const COLOURS: [Colour; 6] = {
    use colour::{Matrix, Range};
    [
        Colour { matrix: Matrix::Bt601, range: Range::Limited },
        Colour { matrix: Matrix::Bt601, range: Range::Full },
        Colour { matrix: Matrix::Bt709, range: Range::Limited },
        Colour { matrix: Matrix::Bt709, range: Range::Full },
        Colour { matrix: Matrix::Bt2020, range: Range::Limited },
        Colour { matrix: Matrix::Bt2020, range: Range::Full },
    ]
};

const BT709: Colour = Colour { matrix: colour::Matrix::Bt709, range: colour::Range::Limited };

/// A device without the time that choosing a variant takes.
fn options(device: Preference) -> Options {
    Options { device, variant: Some(Variant::F32), ..Options::default() }
}

fn single(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&v| v as f32).collect()
}

/// The values of a poisoned output: NaN in each of `channels` rounded up to whole groups.
fn poison(channels: usize, h: usize, w: usize) -> Vec<f32> {
    vec![f32::NAN; channels.next_multiple_of(4) * h * w]
}

/// (1, 3, H, W) -> (H, W, 4) with the alpha of 1.
fn rgba(t: &Tensor) -> Vec<f64> {
    (0..t.h * t.w)
        .flat_map(|p| {
            let at = |c: usize| t.data[c * t.h * t.w + p];
            [at(0), at(1), at(2), 1.0]
        })
        .collect()
}
