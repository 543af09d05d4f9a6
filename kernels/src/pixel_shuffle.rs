//! Moves channels into space and back: `cu/pixel_shuffle.cu`.

use cudarc::driver::PushKernelArg;

use crate::device::{Error, Stream};
use crate::launch::{int, line};
use crate::memory::{Shape, Tensor};

/// Queues (N, H, W, C·s²) -> (N, s·H, s·W, C).
///
/// # Errors
/// If the driver refuses.
///
/// # Panics
/// If shapes do not fit together.
pub fn pixel_shuffle(stream: &Stream, x: &Tensor, c: usize, s: usize, y: &mut Tensor) -> Result<(), Error> {
    check(x.shape(), y.shape(), c, s);
    launch(stream, "pixel_shuffle", [x.address(), y.address()], [x.shape(), y.shape()], c, s, y.shape())
}

/// Queues the gradient by the input: (N, s·H, s·W, C) -> (N, H, W, C·s²).
///
/// # Errors
/// If the driver refuses.
///
/// # Panics
/// If shapes do not fit together.
pub fn pixel_shuffle_grad(
    stream: &Stream,
    gy: &Tensor,
    c: usize,
    s: usize,
    gx: &mut Tensor,
) -> Result<(), Error> {
    check(gx.shape(), gy.shape(), c, s);
    let shapes = [gx.shape(), gy.shape()];
    launch(stream, "pixel_shuffle_grad", [gy.address(), gx.address()], shapes, c, s, gx.shape())
}

fn check(small: Shape, big: Shape, c: usize, s: usize) {
    assert_eq!((small.n, small.h * s, small.w * s), (big.n, big.h, big.w), "sizes of a pixel shuffle");
    assert!(c * s * s <= small.c && c <= big.c, "channels of a pixel shuffle");
}

fn launch(
    stream: &Stream,
    entry: &str,
    [from, to]: [u64; 2],
    [small, big]: [Shape; 2],
    c: usize,
    s: usize,
    result: Shape,
) -> Result<(), Error> {
    let function = stream.device().function("pixel_shuffle", entry, 0)?;
    let [n, h, w, c, cx, cy, s] = [small.n, small.h, small.w, c, small.c, big.c, s].map(int);
    let mut launch = stream.cuda.launch_builder(&function);
    launch.arg(&from).arg(&to).arg(&n).arg(&h).arg(&w).arg(&c).arg(&cx).arg(&cy).arg(&s);
    // SAFETY: arguments as in both kernels: what is read, what is written, n, h, w, c, cx, cy, s, with n, h, w and cx of the
    // smaller picture and cy of the larger. Shapes are checked by the callers, who borrow the result mutably.
    unsafe { launch.launch(line(result.len() / 8, 256)) }?;
    Ok(())
}
