//! Gradient of a 3x3 convolution by its weights: register tiles of 3 columns by some input channels by one vector.

use hone_model::Layer;
use pulp::{Arch, Simd, WithSimd};

use crate::map::{GROUP, Map};

/// Adds one image's gradient to `grad`: (Cout, Cin, 3, 3), then Cout biases.
pub fn conv3x3_grad_weights(x: &Map, grad_y: &Map, layer: &Layer, grad: &mut [f32]) {
    assert_eq!((x.c, grad_y.c, x.h, x.w), (layer.cin, layer.cout, grad_y.h, grad_y.w));
    let (grad_w, grad_b) = grad.split_at_mut(layer.weights());
    let arch = Arch::new();
    for group_out in 0..grad_y.groups() {
        for group_in in 0..x.groups() {
            for ky in 0..3 {
                let mut sums = [[[0.0; GROUP]; GROUP]; 3];
                arch.dispatch(Block { x, grad_y, group_in, group_out, ky, sums: &mut sums });
                for (kx, sums) in sums.iter().enumerate() {
                    for (ci, sums) in
                        sums.iter().enumerate().take(layer.cin - group_in * x.group).take(x.group)
                    {
                        for (co, sum) in sums.iter().enumerate().take(layer.cout - group_out * GROUP) {
                            let (co, ci) = (group_out * GROUP + co, group_in * x.group + ci);
                            grad_w[(co * layer.cin + ci) * 9 + ky * 3 + kx] += sum;
                        }
                    }
                }
            }
        }
    }
    for y in 0..grad_y.h {
        let row = grad_y.padded_row(y + 1);
        for (co, grad) in grad_b.iter_mut().enumerate() {
            *grad += (0..grad_y.w).map(|x| row[grad_y.at(co, x)]).sum::<f32>();
        }
    }
}

/// One row of the kernel between one group of input and one of output channels.
struct Block<'a> {
    x: &'a Map,
    grad_y: &'a Map,
    group_in: usize,
    group_out: usize,
    ky: usize,
    /// (column of the kernel, input channel, output channel).
    sums: &'a mut [[[f32; GROUP]; GROUP]; 3],
}

impl WithSimd for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        match (S::F32_LANES, self.x.group) {
            (16, 16) => self.tiles::<S, 16, 8>(simd),
            (_, 16) => self.tiles::<S, 16, 4>(simd),
            _ => self.tiles::<S, 4, 4>(simd),
        }
    }
}

impl Block<'_> {
    #[inline(always)]
    fn tiles<S: Simd, const G: usize, const C: usize>(&mut self, simd: S) {
        for ci in (0..G).step_by(C) {
            for co in (0..GROUP).step_by(S::F32_LANES) {
                self.tile::<S, G, C>(simd, ci, co);
            }
        }
    }

    /// C input channels from `ci`, one vector of output channels from `co`, all pixels.
    #[inline(always)]
    fn tile<S: Simd, const G: usize, const C: usize>(&mut self, simd: S, ci: usize, co: usize) {
        let w = self.x.w;
        let mut sums = [[simd.splat_f32s(0.0); C]; 3];
        for y in 0..self.x.h {
            let x_row = &self.x.padded_row(y + self.ky)[self.group_in * (w + 2) * G..][..(w + 2) * G];
            let grad_row =
                &self.grad_y.padded_row(y + 1)[(self.group_out * (w + 2) + 1) * GROUP..][..w * GROUP];
            for (window, grad) in x_row.windows(3 * G).step_by(G).zip(grad_row.chunks_exact(GROUP)) {
                let grad = S::as_simd_f32s(&grad[co..co + S::F32_LANES]).0[0];
                for (kx, sums) in sums.iter_mut().enumerate() {
                    let inputs = &window[kx * G + ci..kx * G + ci + C];
                    for (sum, input) in sums.iter_mut().zip(inputs) {
                        *sum = simd.mul_add_e_f32s(simd.splat_f32s(*input), grad, *sum);
                    }
                }
            }
        }
        for (kx, sums) in sums.iter().enumerate() {
            for (c, sum) in sums.iter().enumerate() {
                S::as_mut_simd_f32s(&mut self.sums[kx][ci + c][co..co + S::F32_LANES]).0[0] = *sum;
            }
        }
    }
}
