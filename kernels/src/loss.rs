//! The network's output from its tail and its base, and how far it is from the target: `cu/loss.cu`.

use cudarc::driver::PushKernelArg;
use hone_model::{Arch, Base};

use crate::adam::{SETTINGS_WORDS, STATE_WORDS};
use crate::device::{Error, Stream};
use crate::launch::{int, line};
use crate::memory::{Buffer, Shape, Tensor, View, padded};

/// Threads of a block, each with one pixel of the tail.
const BLOCK: u32 = 128;

/// What a network's output is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// The tail's three channels plus the mean.
    Mean,
    /// The tail's 3·s² channels, shuffled, plus the bicubic upscale of the input.
    Bicubic {
        /// 1 to 4.
        s: usize,
    },
}

impl Output {
    /// That of an architecture.
    pub fn of(arch: Arch) -> Self {
        match arch.base() {
            Base::Mean => Self::Mean,
            Base::Bicubic => Self::Bicubic { s: arch.scale() },
        }
    }

    /// How much larger than the tail the output is, on each side.
    pub fn s(self) -> usize {
        match self {
            Self::Mean => 1,
            Self::Bicubic { s } => s,
        }
    }

    fn name(self) -> String {
        match self {
            Self::Mean => "mean".into(),
            Self::Bicubic { s } => format!("bicubic_s{s}"),
        }
    }

    fn check(self, tail: Shape, lr: Option<&Buffer<f32>>) {
        assert!(
            (1..=4).contains(&self.s()) && tail.c == padded(3 * self.s() * self.s()),
            "channels of a tail"
        );
        let pixels = if self == Self::Mean { 0 } else { tail.pixels() };
        assert!(lr.map_or(0, Buffer::len) >= pixels * 3, "pixels for the base");
        int(tail.pixels() * self.s() * self.s());
    }
}

/// Sums that [`loss`] leaves for [`crate::adam::adam_begin`], for a tail of this shape.
pub fn parts(tail: Shape) -> usize {
    tail.pixels().div_ceil(BLOCK as usize)
}

/// What [`loss`] reads.
pub struct Target<'a> {
    /// Output of the last convolution, (N, H, W, C).
    pub tail: &'a Tensor,
    /// What the bicubic base is made of, (N, H, W, 3).
    pub lr: Option<&'a Buffer<f32>>,
    /// (N, s·H, s·W, 3).
    pub hr: &'a Buffer<u8>,
    /// Which loss: [`crate::adam::Settings`].
    pub settings: View<'a, u64>,
    /// The optimiser's, with the loss scale.
    pub state: &'a Buffer<u32>,
}

/// Queues the loss, as sums to be added up and divided by the number of values, and its gradient by the tail times the loss
/// scale.
///
/// # Errors
/// If the driver refuses.
///
/// # Panics
/// If shapes do not fit together.
pub fn loss(
    stream: &Stream,
    output: Output,
    target: &Target<'_>,
    grad: &mut Tensor,
    parts_to: &mut Buffer<f32>,
) -> Result<(), Error> {
    let (shape, s) = (target.tail.shape(), output.s());
    output.check(shape, target.lr);
    let values = shape.pixels() * s * s * 3;
    assert!(grad.shape() == shape && target.hr.len() >= values && parts_to.len() >= parts(shape), "a target");
    assert!(
        target.settings.len() == SETTINGS_WORDS && target.state.len() == STATE_WORDS,
        "settings and state"
    );
    let function = stream.device().function("loss", &format!("loss_{}", output.name()), 0)?;
    let (tail, lr, hr) = (target.tail.address(), target.lr.map_or(0, Buffer::address), target.hr.address());
    let (to, parts) = (grad.address(), parts_to.address());
    // `Settings` holds loss_eps as its sixth f32, `State` the loss scale as its first.
    let (eps, loss_scale) = (target.settings.address() + 20, target.state.address());
    let inverse_count = (1.0 / values as f64) as f32;
    let [n, h, w] = [shape.n, shape.h, shape.w].map(int);
    let mut launch = stream.cuda.launch_builder(&function);
    launch.arg(&tail).arg(&lr).arg(&hr).arg(&to).arg(&parts).arg(&eps).arg(&loss_scale);
    launch.arg(&inverse_count).arg(&n).arg(&h).arg(&w);
    // SAFETY: arguments as in the kernel: x, lr (null with the mean), hr, gx, parts, eps, loss_scale, inverse_count, n, h, w.
    // Sizes are checked above; what is written is borrowed mutably.
    unsafe { launch.launch(line(shape.pixels(), BLOCK)) }?;
    Ok(())
}

/// Queues the output itself: (N, s·H, s·W, 3) f32, not clamped.
///
/// # Errors
/// If the driver refuses.
///
/// # Panics
/// If shapes do not fit together.
pub fn image(
    stream: &Stream,
    output: Output,
    tail: &Tensor,
    lr: Option<&Buffer<f32>>,
    image: &mut Buffer<f32>,
) -> Result<(), Error> {
    let (shape, s) = (tail.shape(), output.s());
    output.check(shape, lr);
    assert!(image.len() >= shape.pixels() * s * s * 3, "room for the image");
    let function = stream.device().function("loss", &format!("loss_image_{}", output.name()), 0)?;
    let (tail, lr, to) = (tail.address(), lr.map_or(0, Buffer::address), image.address());
    let [n, h, w] = [shape.n, shape.h, shape.w].map(int);
    let mut launch = stream.cuda.launch_builder(&function);
    launch.arg(&tail).arg(&lr).arg(&to).arg(&n).arg(&h).arg(&w);
    // SAFETY: arguments as in the kernel: x, lr (null with the mean), image, n, h, w. Sizes are checked above; the image is
    // borrowed mutably.
    unsafe { launch.launch(line(shape.pixels(), BLOCK)) }?;
    Ok(())
}
