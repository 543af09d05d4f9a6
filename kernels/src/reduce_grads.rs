//! Sums the parts of weight gradients, several layers at once: `cu/reduce_grads.cu`.

use cudarc::driver::PushKernelArg;

use crate::adam::Optimiser;
use crate::conv3x3_grad_weights::Parts;
use crate::device::{Error, Stream};
use crate::launch::{grid, int};
use crate::memory::Buffer;
use crate::weights::Place;

/// One layer's sum: `Layer` in `cu/reduce_grads.cu`.
#[derive(Clone, Debug)]
pub struct Sum {
    /// Which layer.
    pub place: Place,
    /// Its parts.
    pub parts: Parts,
    /// Factor of the sum.
    pub factor: f32,
}

/// 32-bit words of a [`Sum`] in memory.
const SUM_WORDS: usize = 12;

/// Sums that are made together, in memory.
pub struct Sums {
    table: Buffer<u32>,
    layers: usize,
    /// Most entries, padded, of one layer.
    entries: usize,
    /// Where the parts end.
    parts_end: usize,
    params_end: usize,
}

impl Sums {
    /// A copy of `sums`.
    ///
    /// # Errors
    /// If the memory is full.
    ///
    /// # Panics
    /// If there is none.
    pub fn new(stream: &Stream, sums: &[Sum]) -> Result<Self, Error> {
        assert!(!sums.is_empty(), "a sum");
        let words = |sum: &Sum| -> [u32; SUM_WORDS] {
            let Place { layer, cx, cy, .. } = &sum.place;
            let [low, high] = [|at: usize| at as u32, |at: usize| (at as u64 >> 32) as u32];
            let (weights, biases) = (sum.parts.weights_at, sum.parts.biases_at);
            let sizes = [layer.offset, layer.cin, layer.cout, *cx, *cy, sum.parts.count];
            let [param, cin, cout, cx, cy, count] = sizes.map(|size| int(size) as u32);
            let factor = sum.factor.to_bits();
            [
                low(weights),
                high(weights),
                low(biases),
                high(biases),
                param,
                cin,
                cout,
                cx,
                cy,
                count,
                factor,
                0,
            ]
        };
        let most = |of: &dyn Fn(&Sum) -> usize| sums.iter().map(of).max().unwrap_or(0);
        Ok(Self {
            table: Buffer::from(stream, &sums.iter().flat_map(words).collect::<Vec<_>>())?,
            layers: sums.len(),
            entries: most(&|sum| (9 * sum.place.cx + 1) * sum.place.cy),
            parts_end: most(&|sum| sum.parts.end(sum.place.cy)),
            params_end: most(&|sum| sum.place.layer.offset + sum.place.layer.params()),
        })
    }
}

/// Queues the sums, into the gradient of `optimiser`, which also learns if one is not finite.
///
/// # Errors
/// If the driver refuses.
///
/// # Panics
/// If parts or parameters lie beyond their buffers.
pub fn reduce_grads(
    stream: &Stream,
    sums: &Sums,
    parts: &Buffer<f32>,
    optimiser: &mut Optimiser,
) -> Result<(), Error> {
    assert!(sums.parts_end <= parts.len() && sums.params_end <= optimiser.grads.len(), "sums of these parts");
    let function = stream.device().function("reduce_grads", "reduce_grads", 0)?;
    let (table, parts, grads) = (sums.table.address(), parts.address(), optimiser.grads.address());
    let overflow = optimiser.state.address_at(1);
    let mut launch = stream.cuda.launch_builder(&function);
    launch.arg(&table).arg(&parts).arg(&grads).arg(&overflow);
    // SAFETY: arguments as in the kernel: layers, parts, grads, overflow. What the table names lies inside the buffers, as
    // checked above; the optimiser is borrowed mutably.
    unsafe { launch.launch(grid(sums.entries.div_ceil(32), sums.layers, 1, (32, 8), 0)) }?;
    Ok(())
}
