//! 3x3 convolution by minimal filtering, F(4x4, 3x3): 36 products where the direct way takes 144.
//!
//! A tile of 4x4 outputs is a polynomial product, evaluated at six points (S. Winograd, Arithmetic Complexity of
//! Computations, 1980; A. Lavin, S. Gray, arXiv:1509.09308). Twelve tiles go through the three steps together, so that
//! what lies between the steps stays in the first two caches.

#![expect(clippy::needless_range_loop, reason = "rows and columns of a tile, counted alike")]

use std::cell::RefCell;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::conv3x3::{Epilogue, Stage, Threads, lanes};
use crate::map::{GROUP, Map, Values, zeros};

/// Outputs of a tile, each way.
pub const OUT: usize = 4;
/// Inputs of a tile, each way.
const IN: usize = OUT + 2;
const POINTS: usize = IN * IN;
/// The points are 0, ±A, ±B and infinity. Usual are 1 and 2; these, with A · B = 1, round less.
const A: f64 = 2.0 / 3.0;
const B: f64 = 1.5;
/// Tiles that are worked on together.
const TILES: usize = 12;

/// One layer's filters at the points: (point, tile of `width` output channels, input group, input channel, `width`).
#[derive(Clone, Debug)]
pub struct Filters {
    groups_in: usize,
    groups_out: usize,
    width: usize,
    weights: Values,
}

impl Filters {
    /// From `weight(co, ci, tap)`; channels that fill a group up are zero.
    pub fn new(cin: usize, cout: usize, weight: impl Fn(usize, usize, usize) -> f32) -> Self {
        let (groups_in, groups_out) = (cin.div_ceil(GROUP), cout.div_ceil(GROUP));
        let width = if lanes() == GROUP && groups_out.is_multiple_of(2) { 2 * GROUP } else { GROUP };
        let plane = groups_out * groups_in * GROUP * GROUP;
        let mut weights = zeros(POINTS * plane);
        for co in 0..cout {
            for ci in 0..cin {
                let at = (co / width * groups_in * GROUP + ci) * width + co % width;
                let tap = |i| f64::from(weight(co, ci, i));
                let columns = [0, 1, 2].map(|x| filter_1d([tap(x), tap(3 + x), tap(6 + x)]));
                for y in 0..IN {
                    let row = filter_1d([columns[0][y], columns[1][y], columns[2][y]]);
                    for (x, value) in row.into_iter().enumerate() {
                        weights[(y * IN + x) * plane + at] = value as f32;
                    }
                }
            }
        }
        Self { groups_in, groups_out, width, weights }
    }
}

/// A filter of three taps at the points.
fn filter_1d(g: [f64; 3]) -> [f64; IN] {
    let at = |x: f64| g[0] + x * (g[1] + x * g[2]);
    // Divided by the distances to the other points.
    let near = 2.0 * A * A * (A * A - B * B);
    let far = 2.0 * B * B * (B * B - A * A);
    [at(0.0), at(A) / near, at(-A) / near, at(B) / far, at(-B) / far, g[2]]
}

/// The vectors at 0, `step`, 2 · `step` and so on.
#[inline(always)]
fn vectors<S: Simd>(from: &[f32], step: usize) -> [S::f32s; IN] {
    let from = &from[..(IN - 1) * step + S::F32_LANES];
    [
        S::as_simd_f32s(&from[..S::F32_LANES]).0[0],
        S::as_simd_f32s(&from[step..step + S::F32_LANES]).0[0],
        S::as_simd_f32s(&from[2 * step..2 * step + S::F32_LANES]).0[0],
        S::as_simd_f32s(&from[3 * step..3 * step + S::F32_LANES]).0[0],
        S::as_simd_f32s(&from[4 * step..4 * step + S::F32_LANES]).0[0],
        S::as_simd_f32s(&from[5 * step..5 * step + S::F32_LANES]).0[0],
    ]
}

/// Six inputs at the points.
#[inline(always)]
fn input_1d<S: Simd>(simd: S, d: [S::f32s; IN]) -> [S::f32s; IN] {
    let times = |factor: f64, v| simd.mul_f32s(simd.splat_f32s(factor as f32), v);
    let plus = |to, factor: f64, v| simd.mul_add_e_f32s(simd.splat_f32s(factor as f32), v, to);
    let (near_even, near_odd) = (plus(d[4], -B * B, d[2]), plus(times(A, d[3]), -B, d[1]));
    let (far_even, far_odd) = (plus(d[4], -A * A, d[2]), plus(times(B, d[3]), -A, d[1]));
    [
        plus(simd.add_f32s(d[0], d[4]), -(A * A + B * B), d[2]),
        simd.add_f32s(near_even, near_odd),
        simd.sub_f32s(near_even, near_odd),
        simd.add_f32s(far_even, far_odd),
        simd.sub_f32s(far_even, far_odd),
        plus(simd.add_f32s(d[1], d[5]), -(A * A + B * B), d[3]),
    ]
}

/// Four outputs from the products at the points.
#[inline(always)]
fn output_1d<S: Simd>(simd: S, m: [S::f32s; IN]) -> [S::f32s; OUT] {
    let times = |factor: f64, v| simd.mul_f32s(simd.splat_f32s(factor as f32), v);
    let plus = |to, factor: f64, v| simd.mul_add_e_f32s(simd.splat_f32s(factor as f32), v, to);
    let (near_even, near_odd) = (simd.add_f32s(m[1], m[2]), simd.sub_f32s(m[1], m[2]));
    let (far_even, far_odd) = (simd.add_f32s(m[3], m[4]), simd.sub_f32s(m[3], m[4]));
    [
        simd.add_f32s(m[0], simd.add_f32s(near_even, far_even)),
        plus(times(A, near_odd), B, far_odd),
        plus(times(A * A, near_even), B * B, far_even),
        plus(plus(m[5], A * A * A, near_odd), B * B * B, far_odd),
    ]
}

/// (Cin, H, W) -> (Cout, H, W), W at least [`OUT`].
pub fn conv3x3(
    src: &Map,
    filters: &Filters,
    bias: &[f32],
    epilogue: Epilogue,
    dst: &mut Map,
    threads: Threads,
) {
    let arch = Arch::new();
    let stride = dst.stride();
    let (h, w, end) = (dst.h, dst.w, (dst.h + 1) * stride);
    // Below the padding is more of it: the row above the map will do.
    let row = |y: usize| src.padded_row(if y < h + 2 { y } else { 0 });
    let band = |(i, dst): (usize, &mut [f32])| {
        let y = i * OUT;
        SCRATCH.with_borrow_mut(|scratch| {
            let (inputs, products) =
                (POINTS * filters.groups_in * TILES * GROUP, POINTS * TILES * filters.width);
            scratch.resize(scratch.len().max(inputs + products), 0.0);
            let (inputs, products) = scratch.split_at_mut(inputs);
            arch.dispatch(Band {
                src: std::array::from_fn(|r| row(y + r)),
                w,
                filters,
                bias,
                stage: epilogue.stage(y, stride),
                stride,
                dst,
                inputs,
                products,
            });
        });
    };
    let rows = &mut dst.data[stride..end];
    match threads {
        Threads::One => rows.chunks_mut(OUT * stride).enumerate().for_each(band),
        Threads::All => rows.par_chunks_mut(OUT * stride).enumerate().for_each(band),
    }
}

/// From the start of a cache line on.
#[repr(align(64))]
struct Line<T>(T);

thread_local! {
    /// What lies between the steps.
    static SCRATCH: RefCell<Values> = RefCell::new(zeros(0));
}

/// [`OUT`] output rows, or as many as are left.
struct Band<'a> {
    src: [&'a [f32]; IN],
    w: usize,
    filters: &'a Filters,
    bias: &'a [f32],
    stage: Stage<'a>,
    stride: usize,
    dst: &'a mut [f32],
    /// (point, input group, tile, [`GROUP`])
    inputs: &'a mut [f32],
    /// (point, tile, width)
    products: &'a mut [f32],
}

impl WithSimd for Band<'_> {
    type Output = ();

    // P tiles and the vectors of a filter tile fill the registers.
    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        match (S::F32_LANES, self.filters.width) {
            (16, 32) => self.tiles::<S, 2, 12>(simd),
            (16, _) => self.tiles::<S, 1, 12>(simd),
            (8, _) => self.tiles::<S, 2, 6>(simd),
            (4, _) => self.tiles::<S, 4, 6>(simd),
            _ => self.tiles::<S, 16, 1>(simd),
        }
    }
}

impl Band<'_> {
    #[inline(always)]
    fn tiles<S: Simd, const V: usize, const P: usize>(&mut self, simd: S) {
        let tiles = self.w.div_ceil(OUT);
        for first in (0..tiles).step_by(TILES) {
            // The last tile overlaps the one before it. Tiles beyond it are computed from what is left in the
            // scratch, and dropped.
            let count = TILES.min(tiles - first);
            let column = |tile: usize, w: usize| ((first + tile) * OUT).min(w - OUT);
            for tile in 0..count {
                let x = column(tile, self.w);
                for group in 0..self.filters.groups_in {
                    for lane in (0..GROUP).step_by(S::F32_LANES) {
                        self.load::<S>(simd, tile, x, group, lane);
                    }
                }
            }
            for tile_out in 0..self.filters.groups_out * GROUP / self.filters.width {
                for point in 0..POINTS {
                    for tile in (0..TILES).step_by(P) {
                        self.multiply::<S, V, P>(simd, point, tile_out, tile);
                    }
                }
                for tile in 0..count {
                    let x = column(tile, self.w);
                    for lane in (0..self.filters.width).step_by(S::F32_LANES) {
                        self.store::<S>(simd, tile, x, tile_out, lane);
                    }
                }
            }
        }
    }

    /// One vector of channels of one tile to the points.
    #[inline(always)]
    fn load<S: Simd>(&mut self, simd: S, tile: usize, x: usize, group: usize, lane: usize) {
        let from = (group * (self.w + 2) + x) * GROUP + lane;
        let row = |r: usize| &self.src[r][from..];
        let d = Line([
            input_1d(simd, vectors::<S>(row(0), GROUP)),
            input_1d(simd, vectors::<S>(row(1), GROUP)),
            input_1d(simd, vectors::<S>(row(2), GROUP)),
            input_1d(simd, vectors::<S>(row(3), GROUP)),
            input_1d(simd, vectors::<S>(row(4), GROUP)),
            input_1d(simd, vectors::<S>(row(5), GROUP)),
        ])
        .0;
        let step = self.filters.groups_in * TILES * GROUP;
        let to = &mut self.inputs[(group * TILES + tile) * GROUP + lane..];
        let to = &mut to[..(POINTS - 1) * step + S::F32_LANES];
        for c in 0..IN {
            let column = input_1d(simd, [d[0][c], d[1][c], d[2][c], d[3][c], d[4][c], d[5][c]]);
            for r in 0..IN {
                let at = (r * IN + c) * step;
                S::as_mut_simd_f32s(&mut to[at..at + S::F32_LANES]).0[0] = column[r];
            }
        }
    }

    /// All input channels of P tiles times the filters, at one point.
    #[inline(always)]
    fn multiply<S: Simd, const V: usize, const P: usize>(
        &mut self,
        simd: S,
        point: usize,
        tile_out: usize,
        tile: usize,
    ) {
        let Filters { groups_in, groups_out, width, .. } = *self.filters;
        let from = (point * groups_out * GROUP / width + tile_out) * groups_in * GROUP * width;
        let weights = S::as_simd_f32s(&self.filters.weights[from..from + groups_in * GROUP * width]).0;
        let mut sums = [[simd.splat_f32s(0.0); V]; P];
        for (group, weights) in weights.chunks_exact(GROUP * V).enumerate() {
            let at = ((point * groups_in + group) * TILES + tile) * GROUP;
            let inputs = &self.inputs[at..at + P * GROUP];
            for (k, weights) in weights.chunks_exact(V).take(GROUP).enumerate() {
                for p in 0..P {
                    let input = simd.splat_f32s(inputs[p * GROUP + k]);
                    for v in 0..V {
                        sums[p][v] = simd.mul_add_e_f32s(input, weights[v], sums[p][v]);
                    }
                }
            }
        }
        let at = (point * TILES + tile) * width;
        let to = S::as_mut_simd_f32s(&mut self.products[at..at + P * width]).0;
        for p in 0..P {
            for v in 0..V {
                to[p * V + v] = sums[p][v];
            }
        }
    }

    /// One vector of channels of one tile from the points to the output.
    #[inline(always)]
    fn store<S: Simd>(&mut self, simd: S, tile: usize, x: usize, tile_out: usize, lane: usize) {
        let width = self.filters.width;
        let step = TILES * width;
        let row = |r: usize| &self.products[r * IN * step + tile * width + lane..];
        let m = Line([
            output_1d(simd, vectors::<S>(row(0), step)),
            output_1d(simd, vectors::<S>(row(1), step)),
            output_1d(simd, vectors::<S>(row(2), step)),
            output_1d(simd, vectors::<S>(row(3), step)),
            output_1d(simd, vectors::<S>(row(4), step)),
            output_1d(simd, vectors::<S>(row(5), step)),
        ])
        .0;
        let channel = tile_out * width + lane;
        let bias = S::as_simd_f32s(&self.bias[channel..channel + S::F32_LANES]).0[0];
        let rows = self.dst.len() / self.stride;
        for c in 0..OUT {
            let column = output_1d(simd, [m[0][c], m[1][c], m[2][c], m[3][c], m[4][c], m[5][c]]);
            let at = (channel / GROUP * (self.w + 2) + x + c + 1) * GROUP + channel % GROUP;
            for r in 0..OUT.min(rows) {
                let at = r * self.stride + at..r * self.stride + at + S::F32_LANES;
                let value = self.stage.apply(simd, column[r], bias, at.clone());
                S::as_mut_simd_f32s(&mut self.dst[at]).0[0] = value;
            }
        }
    }
}
