//! `cu/resblock.cu` on the interpreter, forward and backward.

use crate::compare::{F16_ROUNDING, F16_SMALLEST, F32_TRUNCATION, check};
use crate::on_ptxsim::{Device, Value, absolute, channels_last, random, tensor, turned, weights};
use half::f16;
use hone_model::reference::{conv3x3, conv3x3_grad_data, conv3x3_grad_weights};
use hone_model::rng::Rng;
use hone_ptxsim::Launch;

#[derive(Clone, Copy, Debug)]
struct Case {
    c: usize,
    n: usize,
    h: usize,
    w: usize,
    blocks: u32,
    scale: f32,
}

impl Case {
    fn len(&self) -> usize {
        self.n * self.h * self.w * self.c
    }

    fn launch(&self) -> Launch {
        let dynamic_shared = if self.c == 16 { 33_664 } else { 83_200 };
        Launch { grid: [self.blocks, 1, 1], block: [256, 1, 1], dynamic_shared }
    }

    fn shape(&self) -> [usize; 4] {
        [self.n, self.h, self.w, self.c]
    }

    /// What rounding may cost: of a sum with these absolute products, and of the result to f16.
    fn bound(&self, products: f64, want: f64) -> f64 {
        let sums = (products + 1.0) * (9 * self.c + 3) as f64 * F32_TRUNCATION;
        sums + (want.abs() + sums) * F16_ROUNDING + F16_SMALLEST
    }
}

fn sizes() -> impl Iterator<Item = Case> {
    let sizes = [
        (1, 33, 34, 4, 1.0),
        (2, 37, 21, 5, 0.1),
        (3, 1, 1, 2, 1.0),
        (2, 9, 33, 14, 0.5),
        (1, 1, 50, 3, 1.0),
        (1, 50, 1, 1, 1.0),
        (2, 15, 18, 1, 1.0),
    ];
    let cases = sizes.map(|(n, h, w, blocks, scale)| [16, 32].map(|c| Case { c, n, h, w, blocks, scale }));
    cases.into_iter().flatten()
}

fn absolutes(v: &[f64]) -> Vec<f64> {
    v.iter().map(|v| v.abs()).collect()
}

#[test]
fn forward() {
    let mut device = Device::new("resblock");
    for case in sizes() {
        let (len, c) = (case.len(), case.c);
        let mut rng = Rng::new((case.h * 100 + case.w) as u64);
        let x = random(&mut rng, len, 1.0);
        let w = [(); 2].map(|()| random(&mut rng, 9 * c * c, 0.2));
        let bias = [(); 2].map(|()| (0..c).map(|_| rng.unit() as f32 - 0.5).collect::<Vec<f32>>());
        let inputs = [&x, &w[0], &w[1]].map(|v| device.halves(v));
        let biases = [0, 1].map(|i| device.floats(&bias[i]));
        let [hidden, y] = [(); 2].map(|()| device.halves(&vec![f16::NAN; len]));
        let values = |hidden: Option<u64>| -> Vec<Value> {
            let buffers = inputs.into_iter().chain(biases).map(|buffer| Value::Buffer(Some(buffer)));
            let results = [Value::Buffer(hidden), Value::Buffer(Some(y))];
            let ints = [case.n, case.h, case.w].map(Value::Int);
            buffers.chain(results).chain(ints).chain([Value::Float(case.scale)]).collect()
        };
        let entry = format!("resblock_c{c}");
        device.run(&entry, &case.launch(), &values(Some(hidden)), &[(hidden, len * 2), (y, len * 2)]);
        let (have_hidden, have) = (device.read_halves(hidden, len), device.read_halves(y, len));
        device.run(&entry, &case.launch(), &values(None), &[(y, len * 2)]);
        check("without hidden", &device.read_halves(y, len), &have, |_| 0.0);

        let [first, second] = [0, 1].map(|i| weights(&w[i], c, c));
        let wide = |bias: &[f32]| bias.iter().map(|b| f64::from(*b)).collect::<Vec<f64>>();
        let from = tensor(&x, case.shape());
        let want: Vec<f64> =
            channels_last(&conv3x3(&from, &first, &wide(&bias[0]))).iter().map(|v| v.max(0.0)).collect();
        let products = channels_last(&conv3x3(&absolute(&from), &absolutes(&first), &vec![0.0; c]));
        check(&format!("{entry} hidden {case:?}"), &have_hidden, &want, |i| case.bound(products[i], want[i]));

        // The second layer is held to the hidden that the kernel made, which was just held to the oracle.
        let made: Vec<f16> = have_hidden.iter().map(|v| f16::from_f64(*v)).collect();
        let made = tensor(&made, case.shape());
        let sums = channels_last(&conv3x3(&made, &second, &wide(&bias[1])));
        let products = channels_last(&conv3x3(&made, &absolutes(&second), &vec![0.0; c]));
        let want: Vec<f64> =
            sums.iter().zip(&x).map(|(sum, x)| sum * f64::from(case.scale) + x.to_f64()).collect();
        check(&format!("{entry} {case:?}"), &have, &want, |i| case.bound(products[i], want[i]));
    }
}

#[test]
fn gradients() {
    let mut device = Device::new("resblock");
    for case in sizes() {
        let (len, c, count) = (case.len(), case.c, case.blocks as usize);
        let mut rng = Rng::new((case.h * 100 + case.w) as u64);
        let [gy, x, h] = [(); 3].map(|()| random(&mut rng, len, 1.0));
        let hidden: Vec<f16> = h.into_iter().map(|v| v.max(f16::ZERO)).collect();
        let w = [(); 2].map(|()| random(&mut rng, 9 * c * c, 0.2));
        let turned = [0, 1].map(|i| turned(&w[i], c, c));
        let inputs = [&gy, &x, &hidden, &turned[0], &turned[1]].map(|v| device.halves(v));
        let gx = device.halves(&vec![f16::NAN; len]);
        let sizes = [count * 9 * c * c, count * c].repeat(2);
        let parts: Vec<u64> = sizes.iter().map(|len| device.floats(&vec![f32::NAN; *len])).collect();
        let buffers = inputs.into_iter().chain([gx]).chain(parts.iter().copied());
        let ints = [case.n, case.h, case.w].map(Value::Int);
        let values: Vec<Value> = buffers
            .map(|buffer| Value::Buffer(Some(buffer)))
            .chain(ints)
            .chain([Value::Float(case.scale)])
            .collect();
        let entry = format!("resblock_grad_c{c}");
        let dynamic_shared = if c == 16 { 54_400 } else { 86_784 };
        let launch = Launch { grid: [case.blocks, 1, 1], block: [288, 1, 1], dynamic_shared };
        let outputs: Vec<(u64, usize)> =
            parts.iter().zip(&sizes).map(|(part, len)| (*part, len * 4)).chain([(gx, len * 2)]).collect();
        device.run(&entry, &launch, &values, &outputs);

        // Sums of the parts: weights as (C, C, 3, 3), biases.
        let sum = |part: usize, at: usize| -> Vec<f64> {
            let all = device.read_floats(parts[part], sizes[part]);
            let len = sizes[part] / count;
            let sums: Vec<f64> = (0..len).map(|i| (0..count).map(|p| all[p * len + i]).sum()).collect();
            if at == 0 { sums } else { (0..len).map(|i| sums[i % 9 * c * c + i / 9]).collect() }
        };

        let [first, second] = [0, 1].map(|i| weights(&w[i], c, c));
        let [from, input, mask] = [&gy, &x, &hidden].map(|v| tensor(v, case.shape()));
        let scale = f64::from(case.scale);
        // gh, and how far rounding may take the kernel's own, which it keeps to itself, from it.
        let mut gh = conv3x3_grad_data(&from, &second, c);
        let mut off = conv3x3_grad_data(&absolute(&from), &absolutes(&second), c);
        for (i, mask) in mask.data.iter().enumerate() {
            gh.data[i] *= if *mask > 0.0 { scale } else { 0.0 };
            off.data[i] = if *mask > 0.0 { case.bound(off.data[i], gh.data[i]) } else { 0.0 };
        }

        let mut want = conv3x3_grad_data(&gh, &first, c);
        want.data.iter_mut().zip(&from.data).for_each(|(sum, gy)| *sum += gy);
        let mut bound = conv3x3_grad_data(&off, &absolutes(&first), c);
        let products = conv3x3_grad_data(&absolute(&gh), &absolutes(&first), c);
        for (i, bound) in bound.data.iter_mut().enumerate() {
            *bound += case.bound(products.data[i] + *bound, want.data[i]) + *bound * F16_ROUNDING;
        }
        let bound = channels_last(&bound);
        let what = format!("{entry} {case:?}");
        check(&what, &device.read_halves(gx, len), &channels_last(&want), |i| bound[i]);

        let steps = (case.n * case.h * case.w + count) as f64 * F32_TRUNCATION;
        let layers = [(0, &input, &gh, Some(&off)), (2, &mask, &from, None)];
        for (part, x, g, off) in layers {
            let (want, want_bias) = conv3x3_grad_weights(x, g);
            let (products, products_bias) = conv3x3_grad_weights(&absolute(x), &absolute(g));
            let zeros = (vec![0.0; want.len()], vec![0.0; c]);
            let (off, off_bias) = off.map_or(zeros, |off| conv3x3_grad_weights(&absolute(x), off));
            check(&format!("{what}, weights {part}"), &sum(part, 1), &want, |i| {
                (products[i] + off[i]) * steps + off[i]
            });
            check(&format!("{what}, biases {part}"), &sum(part + 1, 0), &want_bias, |i| {
                (products_bias[i] + off_bias[i]) * steps + off_bias[i]
            });
        }
    }
}
