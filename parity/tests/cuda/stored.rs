//! A training plan by the oracle's operations, with the one thing added that the device does on purpose: what it stores as
//! f16 is rounded to f16.

use half::f16;
use hone_kernels::loss::Output;
use hone_kernels::plan::{Plan, Step};
use hone_kernels::reduce_grads::Sum;
use hone_model::backend::{Images, Loss};
use hone_model::reference::{
    self, Tensor, bicubic, conv3x3, conv3x3_grad_data, conv3x3_grad_weights, pixel_shuffle,
    pixel_shuffle_grad,
};

fn stored(mut t: Tensor) -> Tensor {
    t.data.iter_mut().for_each(|v| *v = f16::from_f64(*v).to_f64());
    t
}

fn zip(mut a: Tensor, b: &Tensor, f: impl Fn(f64, f64) -> f64) -> Tensor {
    a.data.iter_mut().zip(&b.data).for_each(|(a, b)| *a = f(*a, *b));
    a
}

/// Loss and gradient, as [`reference::gradient`] has them.
pub fn gradient(
    plan: &Plan,
    params: &[f32],
    [lr, hr]: [&Images; 2],
    kind: Loss,
    loss_scale: f64,
) -> (f64, Vec<f64>) {
    let layers = plan.arch.layers();
    // (Cout, Cin, 3, 3) as f16, biases as f32.
    let layer = |i: usize| {
        let (weights, biases) =
            params[layers[i].offset..][..layers[i].params()].split_at(layers[i].weights());
        let weights: Vec<f64> = weights.iter().map(|w| f16::from_f32(*w).to_f64()).collect();
        (weights, biases.iter().map(|b| f64::from(*b)).collect::<Vec<_>>())
    };
    let rgb = Tensor::from_images(lr);
    let mut input = reference::input(&rgb, &lr.quantisers).channels(layers[0].cin);
    let size = lr.h * lr.w;
    for (i, v) in input.data.iter_mut().enumerate() {
        if let Some(mean) = hone_model::arch::RGB_MEAN.get(i / size % layers[0].cin) {
            *v = f64::from(*v as f32 - mean);
        }
    }
    let mut tensors: Vec<Option<Tensor>> = vec![None; plan.tensors.len()];
    tensors[0] = Some(stored(input));
    let mut loss = f64::NAN;
    let mut grads = vec![f64::NAN; params.len()];
    let mut sums = plan.sums.iter().flatten();
    let grad_weights = |grads: &mut [f64], sum: &Sum, x: &Tensor, gy: &Tensor| {
        let (w, b) = conv3x3_grad_weights(x, gy);
        let to = &mut grads[sum.place.layer.offset..][..w.len() + b.len()];
        for (to, v) in to.iter_mut().zip(w.into_iter().chain(b)) {
            *to = v * f64::from(sum.factor) / loss_scale;
        }
    };
    for step in &plan.steps {
        let at = |id: usize| tensors[id].as_ref().unwrap();
        let (to, result) = match *step {
            Step::Conv3x3 { layer: i, x, y, add, relu, scale } => {
                let (weights, biases) = layer(i);
                let mut t = conv3x3(at(x), &weights, &biases);
                t.data.iter_mut().for_each(|v| *v = if relu { v.max(0.0) } else { *v } * f64::from(scale));
                (y, add.map_or(t.clone(), |add| zip(t, at(add), |a, b| a + b)))
            }
            Step::Conv3x3Grad { layer: i, gy, gx, add, mask, scale } => {
                let mut t = conv3x3_grad_data(at(gy), &layer(i).0, layers[i].cin);
                t.data.iter_mut().for_each(|v| *v *= f64::from(scale));
                if let Some(mask) = mask {
                    t = zip(t, at(mask), |g, v| if v > 0.0 { g } else { 0.0 });
                }
                (gx, add.map_or(t.clone(), |add| zip(t, at(add), |a, b| a + b)))
            }
            Step::Resblock { layer: i, x, hidden, y, scale } => {
                let ((first, bias1), (second, bias2)) = (layer(i), layer(i + 1));
                let mut h = conv3x3(at(x), &first, &bias1);
                h.data.iter_mut().for_each(|v| *v = v.max(0.0));
                let h = stored(h);
                let t = zip(conv3x3(&h, &second, &bias2), at(x), |a, b| a * f64::from(scale) + b);
                tensors[hidden.unwrap()] = Some(h);
                (y, t)
            }
            Step::ResblockGrad { layer: i, gy, x, hidden, gx, scale, .. } => {
                let gh = conv3x3_grad_data(at(gy), &layer(i + 1).0, layers[i + 1].cin);
                let gh = zip(gh, at(hidden), |g, v| if v > 0.0 { g * f64::from(scale) } else { 0.0 });
                let gh = stored(gh);
                for _ in 0..2 {
                    let sum = sums.next().unwrap();
                    let second = sum.place.layer.offset == layers[i + 1].offset;
                    let (x, gy) = if second { (at(hidden), at(gy)) } else { (at(x), &gh) };
                    grad_weights(&mut grads, sum, x, gy);
                }
                let gx_value = conv3x3_grad_data(&gh, &layer(i).0, layers[i].cin);
                (gx, zip(gx_value, at(gy), |a, b| a + b))
            }
            Step::PixelShuffle { x, y, s, .. } => (y, pixel_shuffle(at(x), s)),
            Step::PixelShuffleGrad { gy, gx, s, .. } => (gx, pixel_shuffle_grad(at(gy), s)),
            Step::Add { a, b, y } => (y, zip(at(a).clone(), at(b), |a, b| a + b)),
            Step::Loss { tail, grad } => {
                let s = plan.output.s();
                let mut y = pixel_shuffle(at(tail), s);
                let base = bicubic(&rgb, plan.arch.scale());
                for (i, v) in y.data.iter_mut().enumerate() {
                    *v += match plan.output {
                        Output::Mean => f64::from(hone_model::arch::RGB_MEAN[i / (hr.h * hr.w) % 3]),
                        Output::Bicubic { .. } => base.data[i],
                    };
                }
                let (value, mut slopes) = reference::loss(kind, &y, &Tensor::from_images(hr));
                loss = value;
                slopes.data.iter_mut().for_each(|v| *v *= loss_scale);
                (grad, pixel_shuffle_grad(&slopes, s))
            }
            Step::GradWeights { x, gy, .. } => {
                grad_weights(&mut grads, sums.next().unwrap(), at(x), at(gy));
                continue;
            }
            Step::ReduceGrads(_) => continue,
        };
        tensors[to] = Some(stored(result));
    }
    (loss, grads)
}
