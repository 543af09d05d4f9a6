//! A residual block of 16 or 32 channels in one kernel, forward and by the data: `cu/resblock.cu`.

use cudarc::driver::{LaunchConfig, PushKernelArg};

use crate::device::{Error, Stream};
use crate::launch::{grid, int};
use crate::memory::{Shape, Tensor, View};

/// Dynamic shared memory for `c` channels, if the kernel is compiled for them.
fn shared_bytes(c: usize) -> Option<u32> {
    match c {
        16 => Some(33_664),
        32 => Some(83_200),
        _ => None,
    }
}

/// Whether there is a kernel for blocks of `c` channels, padded.
pub fn fits(c: usize) -> bool {
    shared_bytes(c).is_some()
}

/// The two layers of a block. Forward `w` of each and the biases, backward `wt` of each.
#[derive(Clone, Copy)]
pub struct Layers<'a> {
    /// (9, C, C) of the first.
    pub first: View<'a, u16>,
    /// (9, C, C) of the second.
    pub second: View<'a, u16>,
    /// Factor of the second's output.
    pub scale: f32,
}

/// Queues `y = x + scale · (conv3x3(hidden, second) + bias)`, `hidden = relu(conv3x3(x, first) + bias)`. Hidden is stored
/// only where there is a place for it.
///
/// # Errors
/// If the driver refuses.
///
/// # Panics
/// If shapes do not fit together or [`fits`] denies.
pub fn resblock(
    stream: &Stream,
    x: &Tensor,
    layers: Layers<'_>,
    biases: [View<'_, f32>; 2],
    hidden: Option<&mut Tensor>,
    y: &mut Tensor,
) -> Result<(), Error> {
    let shape = x.shape();
    check(shape, layers, &[hidden.as_ref().map_or(shape, |hidden| hidden.shape()), y.shape()]);
    assert!(biases.iter().all(|bias| bias.len() == shape.c), "biases of a block");
    let (entry, config) = config(stream, "resblock", shape);
    let function = stream.device().function("resblock", &entry, config.shared_mem_bytes)?;
    let (x, hidden, y) = (x.address(), hidden.map_or(0, |hidden| hidden.address()), y.address());
    let [first, second] = [layers.first, layers.second].map(|w| w.address());
    let [bias1, bias2] = biases.map(|bias| bias.address());
    let [n, h, w] = [shape.n, shape.h, shape.w].map(int);
    let mut launch = stream.cuda.launch_builder(&function);
    launch.arg(&x).arg(&first).arg(&second).arg(&bias1).arg(&bias2).arg(&hidden).arg(&y);
    launch.arg(&n).arg(&h).arg(&w).arg(&layers.scale);
    // SAFETY: arguments as in the kernel: x, w1, w2, bias1, bias2, hidden or null, y, n, h, w_, scale. All shapes are checked
    // above; hidden and y are borrowed mutably, so that nothing that is read overlaps them.
    unsafe { launch.launch(config) }?;
    Ok(())
}

/// Queues the data gradient: `gx = gy + conv3x3(gh, first)`, `gh = scale · conv3x3(gy, second)`, zero where `hidden` is not
/// above zero.
///
/// # Errors
/// If the driver refuses.
///
/// # Panics
/// If shapes do not fit together or [`fits`] denies.
pub fn resblock_grad(
    stream: &Stream,
    gy: &Tensor,
    layers: Layers<'_>,
    hidden: &Tensor,
    gh: &mut Tensor,
    gx: &mut Tensor,
) -> Result<(), Error> {
    let shape = gy.shape();
    check(shape, layers, &[hidden.shape(), gh.shape(), gx.shape()]);
    let (entry, config) = config(stream, "resblock_grad", shape);
    let function = stream.device().function("resblock", &entry, config.shared_mem_bytes)?;
    let [gy, hidden] = [gy, hidden].map(Tensor::address);
    let (gh, gx) = (gh.address(), gx.address());
    let [first, second] = [layers.first, layers.second].map(|w| w.address());
    let [n, h, w] = [shape.n, shape.h, shape.w].map(int);
    let mut launch = stream.cuda.launch_builder(&function);
    launch.arg(&gy).arg(&second).arg(&first).arg(&hidden).arg(&gh).arg(&gx);
    launch.arg(&n).arg(&h).arg(&w).arg(&layers.scale);
    // SAFETY: arguments as in the kernel: gy, wt2, wt1, hidden, gh, gx, n, h, w_, scale. All shapes are checked above; gh and
    // gx are borrowed mutably, so that nothing that is read overlaps them.
    unsafe { launch.launch(config) }?;
    Ok(())
}

fn check(shape: Shape, layers: Layers<'_>, others: &[Shape]) {
    assert!(fits(shape.c), "no kernel for blocks of {} channels", shape.c);
    assert!(others.iter().all(|other| *other == shape), "sizes of a block");
    assert!(
        [layers.first, layers.second].iter().all(|w| w.len() == 9 * shape.c * shape.c),
        "weights of a block"
    );
}

fn config(stream: &Stream, name: &str, shape: Shape) -> (String, LaunchConfig) {
    let tiles = shape.n * shape.h.div_ceil(16) * shape.w.div_ceil(16);
    // So many fit on a multiprocessor by registers; each goes on to further tiles.
    let resident = if shape.c == 16 { 3 } else { 2 };
    let blocks = tiles.min(resident * stream.device().multiprocessors() as usize);
    let shared = shared_bytes(shape.c).expect("channels are checked");
    (format!("{name}_c{}", shape.c), grid(blocks, 1, 1, (256, 1), shared))
}
