//! 3x3 convolution: directly, as register tiles of P pixels by up to 32 output channels, inputs broadcast; by
//! [`winograd`] where the input has whole groups of channels.

use std::ops::Range;

use hone_model::Layer;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::map::{GROUP, GROUP_RGB, Map, Values, zeros};
use crate::winograd::{self, Filters};

/// One layer's weights in the order in which the tiles read them:
/// (tile of `width` output channels, input group, row of the kernel, column x input channel, `width`).
#[derive(Clone, Debug)]
pub struct Packed {
    group_in: usize,
    groups_in: usize,
    groups_out: usize,
    width: usize,
    weights: Values,
    filters: Option<Filters>,
    bias: Vec<f32>,
}

impl Packed {
    /// From (Cout, Cin, 3, 3) weights and Cout biases.
    pub fn new(layer: &Layer, weight: &[f32], bias: &[f32]) -> Self {
        let group_in = if layer.cin <= GROUP_RGB { GROUP_RGB } else { GROUP };
        Self::pack((layer.cin, group_in), layer.cout, bias, |co, ci, tap| {
            weight[(co * layer.cin + ci) * 9 + tap]
        })
    }

    /// The weights with which a convolution of the output's gradient gives the input's: transposed and turned.
    pub fn transposed(layer: &Layer, weight: &[f32]) -> Self {
        Self::pack((layer.cout, GROUP), layer.cin, &[], |co, ci, tap| {
            weight[(ci * layer.cin + co) * 9 + 8 - tap]
        })
    }

    fn pack(
        (cin, group_in): (usize, usize),
        cout: usize,
        bias: &[f32],
        weight: impl Fn(usize, usize, usize) -> f32,
    ) -> Self {
        let (groups_in, groups_out) = (cin.div_ceil(group_in), cout.div_ceil(GROUP));
        let width = if lanes() == GROUP && groups_out.is_multiple_of(2) { 2 * GROUP } else { GROUP };
        let mut weights = zeros(groups_out * GROUP * groups_in * group_in * 9);
        for co in 0..cout {
            for ci in 0..cin {
                for tap in 0..9 {
                    let k = (ci / group_in * 3 + tap / 3) * 3 * group_in + tap % 3 * group_in + ci % group_in;
                    let at = (co / width * groups_in * 9 * group_in + k) * width + co % width;
                    weights[at] = weight(co, ci, tap);
                }
            }
        }
        let mut padded = bias.to_vec();
        padded.resize(groups_out * GROUP, 0.0);
        let filters = (group_in == GROUP).then(|| Filters::new(cin, cout, weight));
        Self { group_in, groups_in, groups_out, width, weights, filters, bias: padded }
    }
}

/// Lanes of the widest f32 vector here.
pub fn lanes() -> usize {
    struct Lanes;
    impl WithSimd for Lanes {
        type Output = usize;
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> usize {
            S::F32_LANES
        }
    }
    Arch::new().dispatch(Lanes)
}

/// What happens to a sum before it is stored: `gate(relu(sum + bias) · scale + add)`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    pub relu: bool,
    /// 1 if none.
    pub scale: Option<f32>,
    pub add: Option<&'a Map>,
    /// The output is zero where this map is not positive: the gradient of a ReLU whose output it is.
    pub gate: Option<&'a Map>,
}

impl<'a> Epilogue<'a> {
    /// For the rows from `y` on; `stride` values in each.
    pub fn stage(self, y: usize, stride: usize) -> Stage<'a> {
        let rows = |map: &'a Map| &map.data[(y + 1) * stride..];
        Stage {
            relu: self.relu,
            scale: self.scale.unwrap_or(1.0),
            add: self.add.map(rows),
            gate: self.gate.map(rows),
        }
    }
}

/// An [`Epilogue`] at the rows to which it is applied.
#[derive(Clone, Copy)]
pub struct Stage<'a> {
    relu: bool,
    scale: f32,
    add: Option<&'a [f32]>,
    gate: Option<&'a [f32]>,
}

impl Stage<'_> {
    /// One vector, which goes to `at`.
    #[inline(always)]
    pub fn apply<S: Simd>(&self, simd: S, sum: S::f32s, bias: S::f32s, at: Range<usize>) -> S::f32s {
        let (zero, scale) = (simd.splat_f32s(0.0), simd.splat_f32s(self.scale));
        let mut y = simd.add_f32s(sum, bias);
        if self.relu {
            y = simd.max_f32s(y, zero);
        }
        y = match self.add {
            Some(add) => simd.mul_add_e_f32s(y, scale, S::as_simd_f32s(&add[at.clone()]).0[0]),
            None => simd.mul_f32s(y, scale),
        };
        if let Some(gate) = self.gate {
            let open = simd.greater_than_f32s(S::as_simd_f32s(&gate[at]).0[0], zero);
            y = simd.select_f32s(open, y, zero);
        }
        y
    }
}

/// How the rows are shared out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Threads {
    /// All cores of the pool.
    All,
    /// The calling thread alone: batches are shared out by image instead.
    One,
}

/// (Cin, H, W) -> (Cout, H, W).
pub fn conv3x3(src: &Map, packed: &Packed, epilogue: Epilogue, dst: &mut Map, threads: Threads) {
    assert_eq!((src.group, src.groups()), (packed.group_in, packed.groups_in), "channels in");
    assert_eq!((dst.group, dst.groups()), (GROUP, packed.groups_out), "channels out");
    assert_eq!((src.h, src.w), (dst.h, dst.w), "size");
    for other in [epilogue.add, epilogue.gate].into_iter().flatten() {
        assert_eq!((other.h, other.stride()), (dst.h, dst.stride()), "added or gating map");
    }
    if let Some(filters) = packed.filters.as_ref().filter(|_| dst.w >= winograd::OUT) {
        return winograd::conv3x3(src, filters, &packed.bias, epilogue, dst, threads);
    }
    let (arch, stride) = (Arch::new(), dst.stride());
    let row = |(y, dst): (usize, &mut [f32])| {
        arch.dispatch(Row {
            src: [src.padded_row(y), src.padded_row(y + 1), src.padded_row(y + 2)],
            w: src.w,
            packed,
            stage: epilogue.stage(y, stride),
            dst,
        });
    };
    match threads {
        Threads::One => dst.rows_mut().enumerate().for_each(row),
        Threads::All => {
            let end = (dst.h + 1) * stride;
            dst.data[stride..end].par_chunks_exact_mut(stride).with_min_len(4).enumerate().for_each(row);
        }
    }
}

/// One output row.
struct Row<'a> {
    src: [&'a [f32]; 3],
    w: usize,
    packed: &'a Packed,
    stage: Stage<'a>,
    dst: &'a mut [f32],
}

impl WithSimd for Row<'_> {
    type Output = ();

    // P and the vectors of a tile fill the registers: 16 of AVX2, 32 of AVX-512 and NEON.
    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        match (S::F32_LANES, self.packed.width, self.packed.group_in) {
            (16, 32, 16) => self.tiles::<S, 16, 2, 12>(simd),
            (16, 32, _) => self.tiles::<S, 4, 2, 12>(simd),
            (16, _, 16) => self.tiles::<S, 16, 1, 16>(simd),
            (16, _, _) => self.tiles::<S, 4, 1, 16>(simd),
            (8, _, 16) => self.tiles::<S, 16, 2, 6>(simd),
            (8, _, _) => self.tiles::<S, 4, 2, 6>(simd),
            (4, _, 16) => self.tiles::<S, 16, 4, 6>(simd),
            (4, _, _) => self.tiles::<S, 4, 4, 6>(simd),
            (_, _, 16) => self.tiles::<S, 16, 16, 1>(simd),
            _ => self.tiles::<S, 4, 16, 1>(simd),
        }
    }
}

impl Row<'_> {
    #[inline(always)]
    fn tiles<S: Simd, const G: usize, const V: usize, const P: usize>(&mut self, simd: S) {
        for tile in 0..self.packed.groups_out * GROUP / self.packed.width {
            if self.w >= P {
                let mut x = 0;
                while x + P <= self.w {
                    self.tile::<S, G, V, P>(simd, tile, x);
                    x += P;
                }
                // The last tile overlaps the one before it rather than being narrower.
                if x < self.w {
                    self.tile::<S, G, V, P>(simd, tile, self.w - P);
                }
            } else {
                (0..self.w).for_each(|x| self.tile::<S, G, V, 1>(simd, tile, x));
            }
        }
    }

    /// The convolution alone, for P pixels from `x` and V vectors of output channels.
    ///
    /// Apart from [`Self::tile`], and with an array of its own, so that every index here is a constant once the
    /// loops over P and V are unrolled: only then does the compiler keep the sums in registers.
    #[inline(always)]
    #[expect(
        clippy::manual_memcpy,
        reason = "a slice of the sums would have an address, and so leave the registers"
    )]
    fn sums<S: Simd, const G: usize, const V: usize, const P: usize>(
        &self,
        simd: S,
        tile: usize,
        x: usize,
        out: &mut [[f32; 2 * GROUP]; P],
    ) {
        let mut sums = [[simd.splat_f32s(0.0); V]; P];
        let groups_in = self.packed.groups_in;
        let weights = &S::as_simd_f32s(&self.packed.weights).0[tile * groups_in * 9 * G * V..];
        for (i, weights) in weights.chunks_exact(3 * G * V).take(3 * groups_in).enumerate() {
            let window = &self.src[i % 3][(i / 3 * (self.w + 2) + x) * G..][..(P + 2) * G];
            for (k, weights) in weights.chunks_exact(V).enumerate() {
                for p in 0..P {
                    let input = simd.splat_f32s(window[p * G + k]);
                    for v in 0..V {
                        sums[p][v] = simd.mul_add_e_f32s(input, weights[v], sums[p][v]);
                    }
                }
            }
        }
        for p in 0..P {
            let out = S::as_mut_simd_f32s(&mut out[p]).0;
            for v in 0..V {
                out[v] = sums[p][v];
            }
        }
    }

    /// P pixels from `x`, V vectors of output channels.
    #[inline(always)]
    fn tile<S: Simd, const G: usize, const V: usize, const P: usize>(
        &mut self,
        simd: S,
        tile: usize,
        x: usize,
    ) {
        let mut sums = [[0.0; 2 * GROUP]; P];
        self.sums::<S, G, V, P>(simd, tile, x, &mut sums);
        for v in 0..V {
            let co = tile * self.packed.width + v * S::F32_LANES;
            let bias = S::as_simd_f32s(&self.packed.bias[co..co + S::F32_LANES]).0[0];
            for (p, sums) in sums.iter().enumerate() {
                let at = (co / GROUP * (self.w + 2) + x + p + 1) * GROUP + co % GROUP;
                let at = at..at + S::F32_LANES;
                let y = self.stage.apply(simd, S::as_simd_f32s(sums).0[v], bias, at.clone());
                S::as_mut_simd_f32s(&mut self.dst[at]).0[0] = y;
            }
        }
    }
}
