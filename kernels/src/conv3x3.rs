//! 3x3 convolution, forward and by the data: `cu/conv3x3.cu`, and `cu/conv3x3_wgmma.cu` where a card has what it takes.

use cudarc::driver::PushKernelArg;

use crate::device::{Device, Error, Stream};
use crate::launch::{chunk, grid, int};
use crate::memory::{Tensor, View};

/// What goes into `y = scale · relu?(conv3x3(x, w) + bias)`, zero where `mask` is not above zero, plus `add`.
pub struct Conv3x3<'a> {
    /// (N, H, W, Cx).
    pub x: &'a Tensor,
    /// (9, Cy, Cx).
    pub w: View<'a, u16>,
    /// (Cy).
    pub bias: Option<View<'a, f32>>,
    /// (N, H, W, Cy).
    pub add: Option<&'a Tensor>,
    /// (N, H, W, Cy).
    pub mask: Option<&'a Tensor>,
    /// Factor before `add`.
    pub scale: f32,
    /// Whether what is negative becomes zero.
    pub relu: bool,
}

/// Which of the two kernels, and how it is launched.
struct Variant {
    stem: &'static str,
    entry: String,
    shared_bytes: u32,
}

/// Of `cu/conv3x3_wgmma.cu`.
const WGMMA_SHARED_BYTES: u32 = 216_960;

fn variant(device: &Device, cx: usize, cy: usize) -> Variant {
    // Its instructions are Hopper's alone: PTX for compute_90a loads on no other card.
    if device.capability() == (9, 0) && cx == 64 && cy.is_multiple_of(64) {
        let entry = "conv3x3_wgmma_k64_n64".into();
        return Variant { stem: "conv3x3_wgmma", entry, shared_bytes: WGMMA_SHARED_BYTES };
    }
    let entry = format!("conv3x3_k{}_n{}", chunk(cx), chunk(cy));
    Variant { stem: "conv3x3", entry, shared_bytes: 0 }
}

/// Queues it.
///
/// # Errors
/// If the driver refuses.
///
/// # Panics
/// If shapes do not fit together.
pub fn conv3x3(stream: &Stream, args: &Conv3x3<'_>, y: &mut Tensor) -> Result<(), Error> {
    let (x, to) = (args.x.shape(), y.shape());
    assert_eq!((x.n, x.h, x.w), (to.n, to.h, to.w), "sizes of a convolution");
    assert_eq!(args.w.len(), 9 * x.c * to.c, "weights of a convolution");
    assert!(args.bias.is_none_or(|bias| bias.len() == to.c), "biases of a convolution");
    assert!(
        [args.add, args.mask].iter().flatten().all(|t| t.shape() == to),
        "sizes of what is added or masks"
    );
    let Variant { stem, entry, shared_bytes } = variant(stream.device(), x.c, to.c);
    let function = stream.device().function(stem, &entry, shared_bytes)?;
    let config = if shared_bytes > 0 {
        let z = to.n * to.c / 64;
        let tiles = to.w.div_ceil(8) * to.h.div_ceil(16);
        let resident = (stream.device().multiprocessors() as usize / z).max(1);
        grid(tiles.div_ceil(3).min(resident), 1, z, (384, 1), shared_bytes)
    } else {
        grid(to.w.div_ceil(16), to.h.div_ceil(8), to.n * to.c / chunk(to.c), (128, 1), 0)
    };
    let (from, w, result) = (args.x.address(), args.w.address(), y.address());
    let bias = args.bias.map_or(0, |bias| bias.address());
    let [add, mask] = [args.add, args.mask].map(|t| t.map_or(0, Tensor::address));
    let [h, wide, cx, cy, relu] = [to.h, to.w, x.c, to.c, usize::from(args.relu)].map(int);
    let mut launch = stream.cuda.launch_builder(&function);
    launch.arg(&from).arg(&w).arg(&bias).arg(&add).arg(&mask).arg(&result);
    launch.arg(&h).arg(&wide).arg(&cx).arg(&cy).arg(&args.scale).arg(&relu);
    // SAFETY: arguments as in the kernel: x, w, bias, add, mask, y, h, w_, cx, cy, scale, relu. All shapes are checked above,
    // bias, add and mask may be null, y is borrowed mutably and so none of the others; the kernel guards ragged edges.
    unsafe { launch.launch(config) }?;
    Ok(())
}
