//! Batches from patches in device memory, and images, as the network reads them: `cu/gather.cu`.

use cudarc::driver::PushKernelArg;

use crate::device::{Error, Stream};
use crate::launch::{int, line};
use crate::memory::{Buffer, Tensor, View};

/// One of a step's crops as the kernel reads it: `Draw` in `cu/gather.cu`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crop {
    /// Address of the patch's LR, (h, w, 3) f32.
    pub lr: u64,
    /// Address of its HR, (s·h, s·w, 3) u8.
    pub hr: u64,
    /// Columns of the patch, LR.
    pub w: usize,
    /// First row of the crop.
    pub y: usize,
    /// First column.
    pub x: usize,
    /// As in [`hone_model::gather::Turn`].
    pub turn: u8,
    /// The input's fourth channel.
    pub quantiser: f32,
}

/// 64-bit words of a [`Crop`] in memory.
pub(crate) const CROP_WORDS: usize = 5;

impl Crop {
    pub(crate) fn words(&self) -> [u64; CROP_WORDS] {
        let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        let [w, y, x] = [self.w, self.y, self.x].map(|size| int(size) as u32);
        [self.lr, self.hr, pair(w, y), pair(x, self.turn.into()), self.quantiser.to_bits().into()]
    }
}

/// Queues the LR side of a batch: the network's input, and where the base needs them the crops themselves, (N, H, W, 3).
///
/// # Safety
/// `draws` hold a [`Crop`] for each image, whose addresses are of patches that the crops do not reach beyond; if they come to
/// hold others before the work is done, these must be so too.
///
/// # Errors
/// If the driver refuses.
///
/// # Panics
/// If shapes do not fit together.
pub(crate) unsafe fn gather_lr(
    stream: &Stream,
    draws: View<'_, u64>,
    input: &mut Tensor,
    lr: Option<&mut Buffer<f32>>,
) -> Result<(), Error> {
    let shape = input.shape();
    assert!(draws.len() >= shape.n * CROP_WORDS && shape.c == 16 && shape.h == shape.w, "a batch of crops");
    assert!(lr.as_ref().is_none_or(|lr| lr.len() >= shape.pixels() * 3), "room for the crops");
    let function = stream.device().function("gather", "gather_lr", 0)?;
    let (draws, to, lr) = (draws.address(), input.address(), lr.map_or(0, |lr| lr.address()));
    let [n, crop] = [shape.n, shape.h].map(int);
    let mut launch = stream.cuda.launch_builder(&function);
    launch.arg(&draws).arg(&to).arg(&lr).arg(&n).arg(&crop);
    // SAFETY: arguments as in the kernel: draws, input, lr or null, n, crop. Sizes are checked above; the caller answers for
    // what the draws point to.
    unsafe { launch.launch(line(shape.pixels(), 256)) }?;
    Ok(())
}

/// Queues the HR side of a batch of `n` crops of `crop` LR pixels: (N, s·H, s·W, 3) u8.
///
/// # Safety
/// As [`gather_lr`].
///
/// # Errors
/// If the driver refuses.
///
/// # Panics
/// If shapes do not fit together.
pub(crate) unsafe fn gather_hr(
    stream: &Stream,
    draws: View<'_, u64>,
    [n, crop, s]: [usize; 3],
    hr: &mut Buffer<u8>,
) -> Result<(), Error> {
    let pixels = n * crop * s * crop * s;
    assert!(draws.len() >= n * CROP_WORDS && hr.len() >= pixels * 3, "a batch of crops");
    let function = stream.device().function("gather", "gather_hr", 0)?;
    let (draws, to) = (draws.address(), hr.address());
    let [n, crop, s] = [n, crop, s].map(int);
    let mut launch = stream.cuda.launch_builder(&function);
    launch.arg(&draws).arg(&to).arg(&n).arg(&crop).arg(&s);
    // SAFETY: arguments as in the kernel: draws, hr, n, crop, s. Sizes are checked above; the caller answers for what the
    // draws point to.
    unsafe { launch.launch(line(pixels, 256)) }?;
    Ok(())
}

/// Queues whole images, (N, H, W, 3) f32, and a fourth channel for each, (N) f32, to the network's input.
///
/// # Errors
/// If the driver refuses.
///
/// # Panics
/// If shapes do not fit together.
pub fn gather_images(
    stream: &Stream,
    images: &Buffer<f32>,
    quantisers: &Buffer<f32>,
    input: &mut Tensor,
) -> Result<(), Error> {
    let shape = input.shape();
    assert!(images.len() >= shape.pixels() * 3 && quantisers.len() >= shape.n && shape.c == 16, "images");
    let function = stream.device().function("gather", "gather_images", 0)?;
    let (images, quantisers, to) = (images.address(), quantisers.address(), input.address());
    let [n, h, w] = [shape.n, shape.h, shape.w].map(int);
    let mut launch = stream.cuda.launch_builder(&function);
    launch.arg(&images).arg(&quantisers).arg(&to).arg(&n).arg(&h).arg(&w);
    // SAFETY: arguments as in the kernel: images, quantisers, input, n, h, w. Sizes are checked above, input is borrowed
    // mutably.
    unsafe { launch.launch(line(shape.pixels(), 256)) }?;
    Ok(())
}
