//! `cu/reduce_grads.cu`: fixed sums of parts, into the order of `Weights::params`.

use crate::compare::{F32_ROUNDING, check};
use crate::on_device::stream;
use hone_kernels::adam::{Optimiser, Status};
use hone_kernels::conv3x3_grad_weights::Parts;
use hone_kernels::memory::Buffer;
use hone_kernels::reduce_grads::{Sum, Sums, reduce_grads};
use hone_kernels::weights::{Place, Weights};
use hone_kernels::{Stream, adam};
use hone_model::Arch;
use hone_model::backend::{Adam, Loss};
use hone_model::rng::Rng;

/// Parts of all layers of a network, of ragged counts, with NaN between them.
fn parts(rng: &mut Rng, arch: Arch) -> (Vec<f32>, Vec<Sum>) {
    let (mut values, mut sums) = (vec![f32::NAN; 3], vec![]);
    for (i, place) in Place::all(arch).into_iter().enumerate() {
        let count = [1, 3, 7, 8, 19][i % 5];
        let weights_at = values.len();
        let mut fill = |values: &mut Vec<f32>, len: usize| {
            values.extend((0..len).map(|_| (rng.unit() * 2.0 - 1.0) as f32));
        };
        fill(&mut values, count * 9 * place.cx * place.cy);
        values.push(f32::NAN);
        let biases_at = values.len();
        fill(&mut values, count * place.cy);
        values.push(f32::NAN);
        let parts = Parts { weights_at, biases_at, count };
        sums.push(Sum { place, parts, factor: if i == 1 { 0.1 } else { 1.0 } });
    }
    (values, sums)
}

/// The sum and the sum of absolutes for each parameter.
fn oracle(values: &[f32], sums: &[Sum], params: usize) -> (Vec<f64>, Vec<f64>) {
    let (mut want, mut absolute) = (vec![f64::NAN; params], vec![0.0; params]);
    for Sum { place, parts, factor } in sums {
        let Place { layer, cx, cy, .. } = place;
        let mut put = |param: usize, at: &dyn Fn(usize) -> usize| {
            let terms: Vec<f64> = (0..parts.count).map(|p| f64::from(values[at(p)])).collect();
            want[layer.offset + param] = terms.iter().sum::<f64>() * f64::from(*factor);
            absolute[layer.offset + param] = terms.iter().map(|v| v.abs()).sum();
        };
        for co in 0..layer.cout {
            for ci in 0..layer.cin {
                for tap in 0..9 {
                    let at = |p: usize| parts.weights_at + ((p * 9 + tap) * cy + co) * cx + ci;
                    put((co * layer.cin + ci) * 9 + tap, &at);
                }
            }
            put(layer.weights() + co, &|p: usize| parts.biases_at + p * cy + co);
        }
    }
    (want, absolute)
}

fn optimiser(stream: &Stream, arch: Arch) -> Optimiser {
    let weights = Weights::new(stream, &hone_model::Weights::zeros(arch)).unwrap();
    let mut optimiser = Optimiser::new(stream, &weights, 4.0).unwrap();
    optimiser.grads.write(0, &vec![f32::NAN; arch.params()]).unwrap();
    optimiser
}

#[test]
fn every_parameter_of_every_layer() {
    let stream = stream();
    let mut rng = Rng::new(7);
    for name in ["live-2x8-x1", "edsr-1x24-x3", "live-1x48-x4"] {
        let arch: Arch = name.parse().unwrap();
        let (values, sums) = parts(&mut rng, arch);
        let mut optimiser = optimiser(&stream, arch);
        let on_device = Buffer::from(&stream, &values).unwrap();
        // In two launches, as when not all parts fit.
        for sums in [&sums[..2], &sums[2..]] {
            reduce_grads(&stream, &Sums::new(&stream, sums).unwrap(), &on_device, &mut optimiser).unwrap();
        }
        let have: Vec<f64> = optimiser.grads.read().unwrap().iter().map(|v| f64::from(*v)).collect();
        let (want, absolute) = oracle(&values, &sums, arch.params());
        // Each of up to 19 additions and the factor round what is below the sum of absolutes.
        check(name, &have, &want, |i| 20.0 * F32_ROUNDING * absolute[i] + f64::MIN_POSITIVE);
    }
}

#[test]
fn an_infinite_or_missing_number_voids_the_step() {
    let stream = stream();
    let mut rng = Rng::new(8);
    let arch: Arch = "live-1x8-x2".parse().unwrap();
    let settings = adam::Settings { adam: Adam::default(), loss: Loss::L1, growth_steps: 1000 }.words();
    let settings = Buffer::from(&stream, &settings).unwrap();
    let losses = Buffer::from(&stream, &[1.0f32, 2.0]).unwrap();
    let (values, sums) = parts(&mut rng, arch);
    let last = &sums[4].parts;
    let cases = [None, Some((sums[0].parts.weights_at, f32::INFINITY)), Some((last.biases_at + 2, f32::NAN))];
    for bad in cases {
        let mut optimiser = optimiser(&stream, arch);
        let mut values = values.clone();
        if let Some((at, value)) = bad {
            values[at] = value;
        }
        let on_device = Buffer::from(&stream, &values).unwrap();
        let sums = Sums::new(&stream, &sums).unwrap();
        reduce_grads(&stream, &sums, &on_device, &mut optimiser).unwrap();
        adam::begin(&stream, losses.view(0, 2), 6, settings.view(0, 4), &mut optimiser).unwrap();
        let (good, scale) = if bad.is_none() { (1, 4.0) } else { (0, 2.0) };
        let want = Status { loss_scale: scale, steps: good, skipped: 1 - good, loss: 0.5 };
        assert_eq!(optimiser.status().unwrap(), want, "{bad:?}");
        // Only that one step is void.
        adam::begin(&stream, losses.view(0, 2), 6, settings.view(0, 4), &mut optimiser).unwrap();
        assert_eq!(optimiser.status().unwrap().steps, good + 1, "{bad:?}");
    }
}
