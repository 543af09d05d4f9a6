//! Gradients of a convolution by its weights and biases, as sums of one block each: `cu/conv3x3_grad_weights.cu`, and
//! `cu/conv3x3_grad_weights_wgmma.cu` where a card has what it takes.

use cudarc::driver::PushKernelArg;

use crate::device::{Device, Error, Stream};
use crate::launch::{chunk, grid, int};
use crate::memory::{Buffer, Shape, Tensor};

/// Where the parts of one layer are in a buffer of f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    /// (count, 9, Cy, Cx) from here on.
    pub weights_at: usize,
    /// (count, Cy) from here on.
    pub biases_at: usize,
    /// How many.
    pub count: usize,
}

impl Parts {
    /// Parts from `at` on, enough to keep `multiprocessors` busy: a block, and so a part, fills one.
    pub fn new(at: usize, x: Shape, cy: usize, multiprocessors: usize) -> Self {
        // Tiles are 4 or 8 rows of 16 pixels; with 8 rows there is a part for each at most.
        let tiles = x.n * x.h.div_ceil(8) * x.w.div_ceil(16);
        let count = (multiprocessors / (x.c / chunk(x.c) * (cy / chunk(cy)))).clamp(1, tiles);
        Self { weights_at: at, biases_at: at + count * 9 * cy * x.c, count }
    }

    /// Where they end.
    pub fn end(&self, cy: usize) -> usize {
        self.biases_at + self.count * cy
    }
}

/// Queues it: parts of the gradient of `gy · conv3x3(x)`.
///
/// # Errors
/// If the driver refuses.
///
/// # Panics
/// If shapes do not fit together, or the parts not into `to`.
pub fn conv3x3_grad_weights(
    stream: &Stream,
    x: &Tensor,
    gy: &Tensor,
    parts: Parts,
    to: &mut Buffer<f32>,
) -> Result<(), Error> {
    let (from, grad) = (x.shape(), gy.shape());
    assert_eq!((from.n, from.h, from.w), (grad.n, grad.h, grad.w), "sizes of a convolution");
    assert!(
        parts.biases_at - parts.weights_at >= parts.count * 9 * from.c * grad.c,
        "room for the weights' parts"
    );
    assert!(parts.end(grad.c) <= to.len(), "room for the parts");
    let Variant { stem, entry, block, shared_bytes } = variant(stream.device(), from.c, grad.c);
    let function = stream.device().function(stem, &entry, shared_bytes)?;
    let (y, z) = (from.c / chunk(from.c), grad.c / chunk(grad.c));
    let config = grid(parts.count, y, z, (block, 1), shared_bytes);
    let (x, gy) = (x.address(), gy.address());
    let (part, part_bias) = (to.address_at(parts.weights_at), to.address_at(parts.biases_at));
    let [n, h, w, cx, cy] = [from.n, from.h, from.w, from.c, grad.c].map(int);
    let mut launch = stream.cuda.launch_builder(&function);
    launch.arg(&x).arg(&gy).arg(&part).arg(&part_bias).arg(&n).arg(&h).arg(&w).arg(&cx).arg(&cy);
    // SAFETY: arguments as in the kernel: x, gy, part, part_bias, n, h, w_, cx, cy. Shapes are checked above, and that all
    // `count` = gridDim.x parts lie inside `to`, which is borrowed mutably.
    unsafe { launch.launch(config) }?;
    Ok(())
}

/// Which of the two kernels, and how it is launched. Both take the same arguments and grid.
struct Variant {
    stem: &'static str,
    entry: String,
    block: u32,
    shared_bytes: u32,
}

/// Of `cu/conv3x3_grad_weights_wgmma.cu`.
const WGMMA_SHARED_BYTES: u32 = 120_576;

fn variant(device: &Device, cx: usize, cy: usize) -> Variant {
    // Its instructions are Hopper's alone: PTX for compute_90a loads on no other card.
    if device.capability() == (9, 0) && cx.is_multiple_of(64) && cy.is_multiple_of(64) {
        let (stem, entry) = ("conv3x3_grad_weights_wgmma", "conv3x3_grad_weights_wgmma_k64_n64".into());
        return Variant { stem, entry, block: 384, shared_bytes: WGMMA_SHARED_BYTES };
    }
    let entry = format!("conv3x3_grad_weights_k{}_n{}", chunk(cx), chunk(cy));
    Variant { stem: "conv3x3_grad_weights", entry, block: 288, shared_bytes: 0 }
}
