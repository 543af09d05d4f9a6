//! Training: forward, loss, backward, Adam.

use std::sync::{Mutex, PoisonError};

use hone_model::backend::{Adam, BackendError, Images, Loss, TrainBackend};
use hone_model::gather::{Draw, Patch, Patches};
use hone_model::{Arch, Op, Weights};
use rayon::prelude::*;

use crate::bicubic::Line;
use crate::conv3x3::{Epilogue, Packed, Threads, conv3x3};
use crate::conv3x3_grad_weights::conv3x3_grad_weights;
use crate::map::Map;
use crate::network::Network;
use crate::pixel_shuffle::pixel_shuffle_grad;
use crate::program::{Program, load_image};
use crate::simd::simd;

/// Trains one network on all cores, the images of a batch side by side.
///
/// Gradients are summed in the order of the batch, so that a result does not depend on the number of cores.
pub struct CpuTrainer {
    program: Program,
    patches: Patches,
    weights: Weights,
    average: Weights,
    m: Vec<f32>,
    v: Vec<f32>,
    steps: i32,
    /// What each image of the batch comes to.
    images: Vec<Image>,
    /// Memory of one thread each: reused from image to image, so that it stays in cache.
    scratch: Mutex<Vec<Scratch>>,
    evaluator: Network,
}

/// Loss and gradient of one image of a batch.
#[derive(Clone)]
struct Image {
    grad_params: Vec<f32>,
    loss: f64,
}

/// Values and their gradients on the way through one image.
struct Scratch {
    values: Vec<Map>,
    grads: Vec<Map>,
}

impl CpuTrainer {
    /// Starts from `weights`.
    pub fn new(weights: Weights) -> Self {
        let params = weights.params().len();
        Self {
            program: Program::new(weights.arch()),
            patches: Patches::new(weights.arch().scale()),
            evaluator: Network::new(&weights),
            average: weights.clone(),
            weights,
            m: vec![0.0; params],
            v: vec![0.0; params],
            steps: 0,
            images: vec![],
            scratch: Mutex::default(),
        }
    }

    fn adam(&mut self, settings: Adam) {
        self.steps = self.steps.saturating_add(1);
        let Adam { learning_rate, beta1, beta2, eps, average_share } = settings;
        // In f64: 1 - beta2 loses half of f32's digits.
        let correction = |beta: f32| (1.0 - f64::from(beta).powi(self.steps)) as f32;
        let (c1, c2) = (correction(beta1), correction(beta2));
        let images = &self.images;
        let params = self.weights.params_mut().par_iter_mut().zip(self.average.params_mut());
        let params = params.zip(&mut self.m).zip(&mut self.v);
        params.enumerate().with_min_len(1024).for_each(|(i, (((p, average), m), v))| {
            let g: f32 = images.iter().map(|image| image.grad_params[i]).sum();
            *m = beta1 * *m + (1.0 - beta1) * g;
            *v = beta2 * *v + (1.0 - beta2) * g * g;
            *p -= learning_rate * (*m / c1) / ((*v / c2).sqrt() + eps);
            *average += average_share * (*p - *average);
        });
    }
}

impl Scratch {
    fn new(program: &Program, h: usize, w: usize) -> Self {
        Self { values: program.maps(h, w), grads: program.maps(h, w) }
    }

    fn fits(&self, h: usize, w: usize) -> bool {
        (self.values[0].h, self.values[0].w) == (h, w)
    }

    fn forward(&mut self, program: &Program, packed: &[Packed], lr: &Images, n: usize) {
        load_image(lr, n, &mut self.values[0]);
        program.run(packed, &mut self.values, |value| value, Threads::One, |_| ());
    }

    /// Loss against image `n` of `hr`, and its gradient by the last value.
    #[inline(always)]
    fn loss(&mut self, program: &Program, hr: &Images, n: usize, kind: Loss) -> f64 {
        let s = program.last_shuffle;
        let (input, last) = (&self.values[0], &self.values[program.ops.len()]);
        let output = program.output(last);
        let grad = &mut self.grads[program.ops.len()];
        let stride = grad.stride();
        let target = &hr.rgb[n * hr.h * hr.w * 3..][..hr.h * hr.w * 3];
        let inverse_count = 1.0 / hr.rgb.len() as f32;
        let mut line = Line::new(input.w, program.arch.scale());
        let mut sum = 0.0;
        for (y, target) in target.chunks_exact(hr.w * 3).enumerate() {
            output.row(input, y, &mut line);
            let grad = &mut grad.data[(y / s + 1) * stride..][..stride];
            for (plane, line) in line.values.chunks_exact(last.w).enumerate() {
                let (c, phase) = (plane / s, plane % s);
                let channel = last.at((c * s + y % s) * s + phase, 0);
                let target = target[3 * phase + c..].iter().step_by(3 * s);
                let grads = grad[channel..].iter_mut().step_by(last.group);
                for ((v, target), grad) in line.iter().zip(target).zip(grads) {
                    let d = v - target;
                    let (value, slope) = match kind {
                        Loss::L1 if d == 0.0 => (0.0, 0.0),
                        Loss::L1 => (d.abs(), d.signum()),
                        Loss::Charbonnier { eps } => {
                            let root = (d * d + eps * eps).sqrt();
                            (root, d / root)
                        }
                    };
                    sum += f64::from(value);
                    *grad = slope * inverse_count;
                }
            }
        }
        sum / hr.rgb.len() as f64
    }

    fn backward(&mut self, program: &Program, transposed: &[Packed], grad_params: &mut [f32]) {
        grad_params.fill(0.0);
        // Whether a gradient has been written to in this step; the first one overwrites.
        let mut started = vec![false; self.values.len()];
        started[program.ops.len()] = true;
        for (i, op) in program.ops.iter().enumerate().rev() {
            let (before, after) = self.grads.split_at_mut(i + 1);
            let grad = &mut after[0];
            match *op {
                Op::Conv3x3 { layer, src, relu, add, scale } => {
                    if let Some(add) = add {
                        accumulate(&mut before[add], grad, &mut started[add]);
                    }
                    if relu {
                        for (g, v) in grad.data.iter_mut().zip(self.values[i + 1].data.iter()) {
                            *g = if *v > 0.0 { *g } else { 0.0 };
                        }
                    }
                    if scale != 1.0 {
                        grad.data.iter_mut().for_each(|g| *g *= scale);
                    }
                    let layer_shape = &program.layers[layer];
                    let range = layer_shape.offset..layer_shape.offset + layer_shape.params();
                    conv3x3_grad_weights(&self.values[src], grad, layer_shape, &mut grad_params[range]);
                    if src == 0 {
                        continue;
                    }
                    if started[src] {
                        let held = before[src].clone();
                        let epilogue = Epilogue { add: Some(&held), ..Epilogue::default() };
                        conv3x3(grad, &transposed[layer], epilogue, &mut before[src], Threads::One);
                    } else {
                        conv3x3(
                            grad,
                            &transposed[layer],
                            Epilogue::default(),
                            &mut before[src],
                            Threads::One,
                        );
                        started[src] = true;
                    }
                }
                Op::PixelShuffle { src, s } => {
                    pixel_shuffle_grad(grad, s, &mut before[src]);
                    started[src] = true;
                }
            }
        }
    }
}

fn accumulate(sum: &mut Map, grad: &Map, started: &mut bool) {
    if std::mem::replace(started, true) {
        sum.data.iter_mut().zip(grad.data.iter()).for_each(|(s, g)| *s += g);
    } else {
        sum.data.copy_from_slice(&grad.data);
    }
}

impl TrainBackend for CpuTrainer {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn arch(&self) -> Arch {
        self.program.arch
    }

    fn keep(&mut self, slot: usize, patch: Patch<'_>) -> Result<(), BackendError> {
        self.patches.keep(slot, patch);
        Ok(())
    }

    fn step(
        &mut self,
        crop: usize,
        draws: &[Draw],
        loss: Loss,
        adam: Adam,
    ) -> Result<Option<f32>, BackendError> {
        let (lr, hr) = &self.patches.batch(crop, draws);
        let params = self.weights.params().len();
        self.images.resize(lr.n, Image { grad_params: vec![0.0; params], loss: 0.0 });
        let program = &self.program;
        let packed = program.pack(&self.weights);
        let transposed: Vec<Packed> = program
            .layers
            .iter()
            .map(|layer| Packed::transposed(layer, self.weights.layer(layer).0))
            .collect();
        let scratch = &self.scratch;
        let lock = || scratch.lock().unwrap_or_else(PoisonError::into_inner);
        self.images.par_iter_mut().enumerate().for_each(|(n, image)| {
            let kept = lock().pop().filter(|scratch| scratch.fits(lr.h, lr.w));
            let mut scratch = kept.unwrap_or_else(|| Scratch::new(program, lr.h, lr.w));
            scratch.forward(program, &packed, lr, n);
            image.loss = simd(
                &mut scratch,
                #[inline(always)]
                |scratch| scratch.loss(program, hr, n, loss),
            );
            scratch.backward(program, &transposed, &mut image.grad_params);
            lock().push(scratch);
        });
        let loss: f64 = self.images.iter().map(|image| image.loss).sum();
        if !loss.is_finite() {
            return Err(BackendError { backend: "cpu", reason: format!("the loss is {loss}") });
        }
        self.adam(adam);
        Ok(Some(loss as f32))
    }

    fn forward(&mut self, weights: &Weights, lr: &Images) -> Result<Images, BackendError> {
        self.evaluator.set_weights(weights);
        Ok(self.evaluator.forward(lr))
    }

    fn weights(&mut self) -> Result<Weights, BackendError> {
        Ok(self.weights.clone())
    }

    fn average(&mut self) -> Result<Weights, BackendError> {
        Ok(self.average.clone())
    }

    fn reset(&mut self, weights: &Weights) -> Result<(), BackendError> {
        assert_eq!(weights.arch(), self.program.arch, "weights of another network");
        self.weights = weights.clone();
        self.average = weights.clone();
        self.m.fill(0.0);
        self.v.fill(0.0);
        self.steps = 0;
        Ok(())
    }
}
