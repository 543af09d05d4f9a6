//! `cu/adam.cu` against the oracle's Adam; the loss scale; the copies that convolutions read.

use crate::compare::{F32_ROUNDING, check};
use crate::on_device::stream;
use half::f16;
use hone_kernels::adam::{Optimiser, Settings, begin, step};
use hone_kernels::conv3x3_grad_weights::Parts;
use hone_kernels::memory::Buffer;
use hone_kernels::reduce_grads::{Sum, Sums, reduce_grads};
use hone_kernels::weights::{Place, Weights};
use hone_kernels::{Stream, adam};
use hone_model::Arch;
use hone_model::backend::{Adam, Loss};
use hone_model::reference::{self, AdamState};
use hone_model::rng::Rng;

fn random(rng: &mut Rng, len: usize, size: f64) -> Vec<f32> {
    (0..len).map(|_| ((rng.unit() * 2.0 - 1.0) * size) as f32).collect()
}

fn f64s(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}

fn arch() -> Arch {
    "live-1x24-x3".parse().unwrap()
}

fn new(stream: &Stream, params: &[f32], loss_scale: f32) -> (Weights, Optimiser) {
    let weights = hone_model::Weights::from_params(arch(), params.to_vec());
    let weights = Weights::new(stream, &weights).unwrap();
    let optimiser = Optimiser::new(stream, &weights, loss_scale).unwrap();
    (weights, optimiser)
}

/// Every f16 copy is the rounded parameter, in its place, and everything else is zero.
fn check_copies(weights: &Weights) {
    let params = weights.params.read().unwrap();
    let mut w = vec![0; weights.w.len()];
    let mut wt = vec![0; weights.wt.len()];
    let mut biases = vec![0.0; weights.biases.len()];
    for Place { layer, cx, cy, w: at, bias } in &weights.places {
        for co in 0..layer.cout {
            for ci in 0..layer.cin {
                for tap in 0..9 {
                    let value = params[layer.offset + (co * layer.cin + ci) * 9 + tap];
                    w[at + (tap * cy + co) * cx + ci] = f16::from_f32(value).to_bits();
                    wt[at + ((8 - tap) * cx + ci) * cy + co] = f16::from_f32(value).to_bits();
                }
            }
            biases[bias + co] = params[layer.offset + layer.weights() + co];
        }
    }
    assert_eq!(weights.w.read().unwrap(), w);
    assert_eq!(weights.wt.read().unwrap(), wt);
    assert_eq!(weights.biases.read().unwrap(), biases);
}

#[test]
fn steps_are_the_oracles_and_the_average_follows() {
    let stream = stream();
    let mut rng = Rng::new(9);
    let start = random(&mut rng, arch().params(), 0.5);
    let (mut weights, mut optimiser) = new(&stream, &start, 1024.0);
    check_copies(&weights);
    let (mut params, mut average, mut state) = (f64s(&start), f64s(&start), AdamState::default());
    for (i, share) in [0.25, 1.0, 0.5, 0.125, 0.0, 1.0].into_iter().enumerate() {
        let settings = Adam { learning_rate: 0.01 / (i + 1) as f32, average_share: share, ..Adam::default() };
        let grad = random(&mut rng, params.len(), 1.0);
        let scaled: Vec<f32> = grad.iter().map(|g| g * 1024.0).collect();
        optimiser.grads.write(0, &scaled).unwrap();
        let losses = random(&mut rng, 700, 1.0);
        let words = Settings { adam: settings, loss: Loss::L1, growth_steps: 1000 }.words();
        let words = Buffer::from(&stream, &words).unwrap();
        let sums = Buffer::from(&stream, &losses).unwrap();
        begin(&stream, sums.view(0, losses.len()), 350, words.view(0, 4), &mut optimiser).unwrap();
        step(&stream, words.view(0, 4), &mut optimiser, &mut weights).unwrap();

        reference::adam(&mut state, &mut params, &f64s(&grad), settings);
        for (average, param) in average.iter_mut().zip(&params) {
            *average += f64::from(share) * (param - *average);
        }
        // About ten roundings of a step below four learning rates, where a second moment near zero makes it no worse, as
        // moments add up from gradients that the kernel has exactly; three of a weight below 1. All add up from step to step.
        let bound = (i + 1) as f64 * (40.0 * 0.01 + 3.0) * F32_ROUNDING;
        check(&format!("step {i}"), &f64s(&weights.params.read().unwrap()), &params, |_| bound);
        check(&format!("average {i}"), &f64s(&optimiser.average.read().unwrap()), &average, |_| 2.0 * bound);
        check_copies(&weights);
        let status = optimiser.status().unwrap();
        assert_eq!((status.steps, status.skipped, status.loss_scale), (i as u32 + 1, 0, 1024.0));
        let loss: f64 = f64s(&losses).iter().sum::<f64>() / 350.0;
        // Three terms a thread, then 5 and 7 steps over threads and warps, of sums below 700 / 350.
        check("loss", &[f64::from(status.loss)], &[loss], |_| 16.0 * 2.0 * F32_ROUNDING);
    }
}

#[test]
fn void_steps_change_nothing_and_the_loss_scale_moves() {
    let stream = stream();
    let mut rng = Rng::new(10);
    let start = random(&mut rng, arch().params(), 0.5);
    let (mut weights, mut optimiser) = new(&stream, &start, 8.0);
    let words = Settings { adam: Adam::default(), loss: Loss::L1, growth_steps: 3 }.words();
    let words = Buffer::from(&stream, &words).unwrap();
    // One part for the gradient of the first layer.
    let place = weights.places[0].clone();
    let len = 9 * place.cx * place.cy;
    let parts = Parts { weights_at: 0, biases_at: len, count: 1 };
    let sums = Sums::new(&stream, &[Sum { place, parts, factor: 1.0 }]).unwrap();
    let mut run = |gradient: f32, loss: f32, weights: &mut Weights| {
        let parts = Buffer::from(&stream, &vec![gradient; len + 32]).unwrap();
        reduce_grads(&stream, &sums, &parts, &mut optimiser).unwrap();
        let sums = Buffer::from(&stream, &[loss]).unwrap();
        begin(&stream, sums.view(0, 1), 1, words.view(0, 4), &mut optimiser).unwrap();
        step(&stream, words.view(0, 4), &mut optimiser, weights).unwrap();
        let status = optimiser.status().unwrap();
        (status.loss_scale, status.steps, status.skipped)
    };
    // A gradient that is not finite voids a step and halves the scale, down to its floor.
    for (i, scale) in [4.0, 2.0, 1.0, 1.0].into_iter().enumerate() {
        let gradient = if i % 2 == 0 { f32::NAN } else { f32::NEG_INFINITY };
        assert_eq!(run(gradient, 0.5, &mut weights), (scale, 0, i as u32 + 1));
        assert_eq!(weights.params.read().unwrap(), start);
    }
    check_copies(&weights);
    // Three good steps double it; a void one starts the count again.
    for (i, scale) in [1.0, 1.0, 2.0, 2.0].into_iter().enumerate() {
        assert_eq!(run(0.25, 0.5, &mut weights), (scale, i as u32 + 1, 4));
    }
    assert_ne!(weights.params.read().unwrap(), start);
    assert_eq!(run(f32::INFINITY, 0.5, &mut weights), (1.0, 4, 5));
    for (i, scale) in [1.0, 1.0, 2.0].into_iter().enumerate() {
        assert_eq!(run(0.25, 0.5, &mut weights), (scale, i as u32 + 5, 5));
    }
    // A loss that is not finite voids a step too, but says nothing about the scale.
    let before = weights.params.read().unwrap();
    for (i, loss) in [f32::NAN, f32::INFINITY].into_iter().enumerate() {
        for gradient in [0.25, f32::NAN] {
            assert_eq!(run(gradient, loss, &mut weights).0, 2.0, "{i}");
        }
    }
    assert_eq!(weights.params.read().unwrap(), before);
}

#[test]
fn the_loss_scale_has_a_ceiling_and_a_reset_starts_over() {
    let stream = stream();
    let mut rng = Rng::new(11);
    let start = random(&mut rng, arch().params(), 0.5);
    let (mut weights, mut optimiser) = new(&stream, &start, 8_388_608.0);
    let words = Settings { adam: Adam::default(), loss: Loss::L1, growth_steps: 1 }.words();
    let words = Buffer::from(&stream, &words).unwrap();
    let sums = Buffer::from(&stream, &[1.0f32]).unwrap();
    let mut runs = vec![];
    for _ in 0..2 {
        optimiser.grads.write(0, &random(&mut Rng::new(12), start.len(), 1.0)).unwrap();
        for _ in 0..3 {
            adam::begin(&stream, sums.view(0, 1), 1, words.view(0, 4), &mut optimiser).unwrap();
            adam::step(&stream, words.view(0, 4), &mut optimiser, &mut weights).unwrap();
        }
        assert_eq!(optimiser.status().unwrap().loss_scale, 16_777_216.0);
        runs.push((weights.params.read().unwrap(), optimiser.average.read().unwrap()));
        weights.set(&stream, &hone_model::Weights::from_params(arch(), start.clone())).unwrap();
        optimiser.reset(&weights, 8_388_608.0).unwrap();
        check_copies(&weights);
    }
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0].0, start);
}
