//! A residual block of 16 or 32 channels in one kernel, forward and backward: `cu/resblock.cu`.

use cudarc::driver::PushKernelArg;

use crate::conv3x3_grad_weights::Parts;
use crate::device::{Error, Stream};
use crate::launch::{grid, int};
use crate::memory::{Buffer, Shape, Tensor, View};

/// Dynamic shared memory for `c` channels, forward and backward, if the kernels are compiled for them.
fn shared_bytes(c: usize) -> Option<[u32; 2]> {
    match c {
        16 => Some([33_664, 54_400]),
        32 => Some([83_200, 86_784]),
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
    let tiles = shape.n * shape.h.div_ceil(16) * shape.w.div_ceil(16);
    // So many fit on a multiprocessor by registers; each goes on to further tiles.
    let resident = if shape.c == 16 { 3 } else { 2 };
    let blocks = tiles.min(resident * stream.device().multiprocessors() as usize);
    let [shared, _] = shared_bytes(shape.c).expect("channels are checked");
    let entry = format!("resblock_c{}", shape.c);
    let function = stream.device().function("resblock", &entry, shared)?;
    let config = grid(blocks, 1, 1, (256, 1), shared);
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

/// What a block's gradients are made of.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// Gradient by the block's output.
    pub gy: &'a Tensor,
    /// The block's input.
    pub x: &'a Tensor,
    /// What its first layer put out.
    pub hidden: &'a Tensor,
}

/// Queues all gradients of a block: `gx = gy + conv3x3(gh, first)`, `gh = scale · conv3x3(gy, second)`, zero where `hidden` is
/// not above zero; and parts of those by weights and biases, of the first layer (gh and x) and of the second (gy and hidden,
/// without `scale`).
///
/// # Errors
/// If the driver refuses.
///
/// # Panics
/// If shapes do not fit together, the parts not into `to`, or [`fits`] denies.
pub fn resblock_grad(
    stream: &Stream,
    inputs: Inputs<'_>,
    layers: Layers<'_>,
    gx: &mut Tensor,
    parts: [Parts; 2],
    to: &mut Buffer<f32>,
) -> Result<(), Error> {
    let Inputs { gy, x, hidden } = inputs;
    let shape = gy.shape();
    check(shape, layers, &[x.shape(), hidden.shape(), gx.shape()]);
    let [first, second] = parts;
    assert_eq!(first.count, second.count, "parts of both layers");
    for part in parts {
        assert!(
            part.biases_at - part.weights_at >= part.count * 9 * shape.c * shape.c,
            "room for the weights' parts"
        );
        assert!(part.end(shape.c) <= to.len(), "room for the parts");
    }
    assert!(
        first.end(shape.c) <= second.weights_at || second.end(shape.c) <= first.weights_at,
        "parts apart"
    );
    let [_, shared] = shared_bytes(shape.c).expect("channels are checked");
    let entry = format!("resblock_grad_c{}", shape.c);
    let function = stream.device().function("resblock", &entry, shared)?;
    let config = grid(first.count, 1, 1, (288, 1), shared);
    let ([gy, x, hidden], gx) = ([gy, x, hidden].map(Tensor::address), gx.address());
    let [wt1, wt2] = [layers.first, layers.second].map(|w| w.address());
    let [part1, part2] = parts.map(|part| to.address_at(part.weights_at));
    let [bias1, bias2] = parts.map(|part| to.address_at(part.biases_at));
    let [n, h, w] = [shape.n, shape.h, shape.w].map(int);
    let mut launch = stream.cuda.launch_builder(&function);
    launch.arg(&gy).arg(&x).arg(&hidden).arg(&wt1).arg(&wt2).arg(&gx);
    launch.arg(&part1).arg(&bias1).arg(&part2).arg(&bias2).arg(&n).arg(&h).arg(&w).arg(&layers.scale);
    // SAFETY: arguments as in the kernel: gy, x, hidden, wt1, wt2, gx, part1, part_bias1, part2, part_bias2, n, h, w_, scale. All
    // shapes are checked above, and that the `count` = gridDim.x parts of each layer lie inside `to` and apart; gx and `to` are
    // borrowed mutably, so that nothing that is read overlaps them.
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
