//! The whole network, forward and backward.

use super::{
    Tensor, bicubic, conv3x3, conv3x3_grad_data, conv3x3_grad_weights, loss, pixel_shuffle,
    pixel_shuffle_grad,
};
use crate::arch::{Arch, Base, Op, RGB_MEAN};
use crate::backend::Loss;

/// Loss and gradient of one batch.
#[derive(Clone, Debug)]
pub struct Gradient {
    /// Mean over all output values.
    pub loss: f64,
    /// By each parameter, in the layout of [`Weights`](crate::Weights).
    pub params: Vec<f64>,
}

fn split<'a>(params: &'a [f64], layer: &crate::Layer) -> (&'a [f64], &'a [f64]) {
    params[layer.offset..layer.offset + layer.params()].split_at(layer.weights())
}

/// All values of [`Arch::ops`], value 0 first.
fn values(arch: Arch, params: &[f64], input: &Tensor) -> Vec<Tensor> {
    let layers = arch.layers();
    let mut value = input.channels(layers[0].cin);
    for (i, v) in value.data.iter_mut().enumerate() {
        *v -= RGB_MEAN.get(i / (value.h * value.w) % value.c).map_or(0.0, |mean| f64::from(*mean));
    }
    let mut values = vec![value];
    for op in arch.ops() {
        let y = match op {
            Op::Conv3x3 { layer, src, relu, add, scale } => {
                let (weight, bias) = split(params, &layers[layer]);
                let mut y = conv3x3(&values[src], weight, bias);
                for (i, v) in y.data.iter_mut().enumerate() {
                    *v = if relu { v.max(0.0) } else { *v } * f64::from(scale);
                    *v += add.map_or(0.0, |add| values[add].data[i]);
                }
                y
            }
            Op::PixelShuffle { src, s } => pixel_shuffle(&values[src], s),
        };
        values.push(y);
    }
    values
}

fn add_base(arch: Arch, input: &Tensor, y: &mut Tensor) {
    match arch.base() {
        Base::Mean => {
            for (i, v) in y.data.iter_mut().enumerate() {
                *v += f64::from(RGB_MEAN[i / (y.h * y.w) % 3]);
            }
        }
        Base::Bicubic => {
            for (v, b) in y.data.iter_mut().zip(bicubic(&input.channels(3), arch.scale()).data) {
                *v += b;
            }
        }
    }
}

/// [`input`](super::input) (N, 4, H, W) -> (N, 3, s·H, s·W), not clamped. `params` are
/// [`Weights::params`](crate::Weights::params) in f64.
pub fn forward(arch: Arch, params: &[f64], input: &Tensor) -> Tensor {
    let mut y = values(arch, params, input).pop().unwrap_or_else(|| input.clone());
    add_base(arch, input, &mut y);
    y
}

/// Loss of [`forward`] against `target`, and its gradient by every parameter.
pub fn gradient(arch: Arch, params: &[f64], input: &Tensor, target: &Tensor, kind: Loss) -> Gradient {
    let layers = arch.layers();
    let ops = arch.ops();
    let values = values(arch, params, input);
    let mut y = values[ops.len()].clone();
    add_base(arch, input, &mut y);
    let (loss, grad_y) = loss(kind, &y, target);

    let mut grads: Vec<Tensor> =
        values.iter().map(|v| Tensor { data: vec![0.0; v.data.len()], ..v.clone() }).collect();
    grads[ops.len()] = grad_y;
    let mut grad_params = vec![0.0; params.len()];
    for (i, op) in ops.iter().enumerate().rev() {
        let mut grad = grads[i + 1].clone();
        match *op {
            Op::Conv3x3 { layer, src, relu, add, scale } => {
                if let Some(add) = add {
                    accumulate(&mut grads[add], &grad);
                }
                for (g, v) in grad.data.iter_mut().zip(&values[i + 1].data) {
                    *g *= if relu && *v <= 0.0 { 0.0 } else { f64::from(scale) };
                }
                let layer = &layers[layer];
                let (grad_w, grad_b) = conv3x3_grad_weights(&values[src], &grad);
                let (to_w, to_b) =
                    grad_params[layer.offset..layer.offset + layer.params()].split_at_mut(layer.weights());
                to_w.copy_from_slice(&grad_w);
                to_b.copy_from_slice(&grad_b);
                let (weight, _) = split(params, layer);
                accumulate(&mut grads[src], &conv3x3_grad_data(&grad, weight, layer.cin));
            }
            Op::PixelShuffle { src, s } => accumulate(&mut grads[src], &pixel_shuffle_grad(&grad, s)),
        }
    }
    Gradient { loss, params: grad_params }
}

fn accumulate(sum: &mut Tensor, grad: &Tensor) {
    for (s, g) in sum.data.iter_mut().zip(&grad.data) {
        *s += g;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::testing::{check_gradient, random, random_tensor};
    use crate::rng::Rng;

    #[test]
    fn whole_network_gradient_matches_finite_differences() {
        let mut rng = Rng::new(5);
        for arch in ["live-1x8-x1", "live-1x8-x2", "live-1x8-x3", "edsr-1x8-x1", "edsr-1x8-x2"] {
            let arch: Arch = arch.parse().unwrap();
            let params: Vec<f64> = random(&mut rng, arch.params()).iter().map(|v| v * 0.2).collect();
            let input = random_tensor(&mut rng, 2, 4, 2, 3);
            let s = arch.scale();
            let target = random_tensor(&mut rng, 2, 3, 2 * s, 3 * s);
            let kind = Loss::Charbonnier { eps: 0.1 };
            let gradient = gradient(arch, &params, &input, &target, kind);
            check_gradient(&params, &gradient.params, |params| {
                loss(kind, &forward(arch, params, &input), &target).0
            });
        }
    }

    #[test]
    fn live_network_with_a_zero_tail_is_bicubic() {
        let arch: Arch = "live-1x8-x2".parse().unwrap();
        let mut rng = Rng::new(6);
        let mut params = random(&mut rng, arch.params());
        let tail = arch.layers().pop().unwrap();
        assert!(tail.zero_init);
        params[tail.offset..].fill(0.0);
        let rgb = random_tensor(&mut rng, 1, 3, 4, 3);
        assert_eq!(forward(arch, &params, &super::super::input(&rgb, &[40])), bicubic(&rgb, 2));
    }
}
