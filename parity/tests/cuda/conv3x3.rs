//! `cu/conv3x3.cu` and `cu/conv3x3_wgmma.cu` on the interpreter, forward and as data gradient.

use crate::compare::{F16_ROUNDING, F16_SMALLEST, F32_TRUNCATION, check};
use crate::on_ptxsim::{Device, Value, absolute, channels_last, random, tensor, turned, weights};
use hone_model::reference::{Tensor, conv3x3, conv3x3_grad_data};
use hone_model::rng::Rng;
use hone_ptxsim::Launch;

const CHANNELS: [usize; 4] = [16, 32, 48, 64];

/// One call: sizes, and what takes part in it.
#[derive(Clone, Copy, Debug)]
struct Case {
    n: usize,
    h: usize,
    w: usize,
    cx: usize,
    cy: usize,
    bias: bool,
    relu: bool,
    scale: f32,
    mask: bool,
    add: bool,
}

impl Case {
    fn new(n: usize, h: usize, w: usize, cx: usize, cy: usize) -> Self {
        Self { n, h, w, cx, cy, bias: true, relu: false, scale: 1.0, mask: false, add: false }
    }

    /// Switches what takes part, by the bits of a number.
    fn with(self, bits: usize) -> Self {
        let bit = |i: usize| bits >> i & 1 == 1;
        Self {
            bias: bit(0),
            relu: bit(1),
            scale: if bit(2) { 0.1 } else { 1.0 },
            mask: bit(3),
            add: bit(4),
            ..self
        }
    }
}

/// Runs a case, as data gradient too if there is no bias and no ReLU, and compares.
fn compare(device: &mut Device, entry: &str, launch: &Launch, case: Case) {
    let Case { n, h, w, cx, cy, bias, relu, scale, mask, add } = case;
    let mut rng = Rng::new((h * 1000 + w * 10 + cx + cy) as u64);
    let x = random(&mut rng, n * h * w * cx, 1.0);
    let wt = random(&mut rng, 9 * cy * cx, 0.2);
    let biases: Vec<f32> = (0..cy).map(|_| rng.unit() as f32 - 0.5).collect();
    let adds = random(&mut rng, n * h * w * cy, 1.0);
    // Outputs of a ReLU: half of them zero.
    let masks: Vec<half::f16> =
        random(&mut rng, n * h * w * cy, 1.0).into_iter().map(|v| v.max(half::f16::ZERO)).collect();

    let buffers = [device.halves(&x), device.halves(&wt), device.halves(&adds), device.halves(&masks)];
    let bias_buffer = device.floats(&biases);
    let y = device.halves(&vec![half::f16::NAN; n * h * w * cy]);
    let some = |on: bool, buffer: u64| Value::Buffer(on.then_some(buffer));
    let values = [
        some(true, buffers[0]),
        some(true, buffers[1]),
        some(bias, bias_buffer),
        some(add, buffers[2]),
        some(mask, buffers[3]),
        some(true, y),
        Value::Int(h),
        Value::Int(w),
        Value::Int(cx),
        Value::Int(cy),
        Value::Float(scale),
        Value::Int(relu.into()),
    ];
    device.run(entry, launch, &values, &[(y, n * h * w * cy * 2)]);

    let from = tensor(&x, [n, h, w, cx]);
    let kernel = weights(&wt, cy, cx);
    let used: Vec<f64> = biases.iter().map(|b| if bias { f64::from(*b) } else { 0.0 }).collect();
    let exact = if !bias && !relu {
        // The same numbers as a data gradient: its weights are those whose turned ones the kernel got.
        conv3x3_grad_data(&from, &weights(&turned(&wt, cy, cx), cx, cy), cy)
    } else {
        conv3x3(&from, &kernel, &used)
    };
    let exact = channels_last(&exact);
    let magnitudes: Vec<f64> = kernel.iter().map(|v| v.abs()).collect();
    let products = channels_last(&conv3x3(&absolute(&from), &magnitudes, &vec![0.0; cy]));
    let want: Vec<f64> = (0..exact.len())
        .map(|i| {
            let v = if relu { exact[i].max(0.0) } else { exact[i] } * f64::from(scale);
            let v = if mask && masks[i].to_f64() <= 0.0 { 0.0 } else { v };
            if add { v + adds[i].to_f64() } else { v }
        })
        .collect();
    check(&format!("{entry} {case:?}"), &device.read_halves(y, exact.len()), &want, |i| {
        let sums = (products[i] + 1.0) * (9 * cx + 3) as f64 * F32_TRUNCATION * f64::from(scale);
        sums + (want[i].abs() + sums) * F16_ROUNDING + F16_SMALLEST
    });
}

fn mma(device: &mut Device, k: usize, n: usize, case: Case) {
    let z = case.n * case.cy / n;
    let grid = [case.w.div_ceil(16), case.h.div_ceil(8), z].map(|size| size as u32);
    let launch = Launch { grid, block: [128, 1, 1], dynamic_shared: 0 };
    compare(device, &format!("conv3x3_k{k}_n{n}"), &launch, case);
}

#[test]
fn all_channel_counts_on_a_ragged_picture() {
    let mut device = Device::new("conv3x3");
    for (i, k) in CHANNELS.into_iter().enumerate() {
        for (j, n) in CHANNELS.into_iter().enumerate() {
            mma(&mut device, k, n, Case::new(2, 11, 19, k, n).with(5 * i + 7 * j + 1));
        }
    }
}

#[test]
fn more_channels_than_a_chunk() {
    let mut device = Device::new("conv3x3");
    for (k, n, cx, cy) in
        [(16, 16, 80, 48), (32, 48, 64, 96), (48, 32, 144, 32), (64, 64, 128, 128), (64, 16, 192, 16)]
    {
        mma(&mut device, k, n, Case::new(1, 9, 17, cx, cy).with(cx / 16));
    }
}

#[test]
fn whatever_takes_part() {
    let mut device = Device::new("conv3x3");
    for bits in 0..32 {
        mma(&mut device, 16, 48, Case::new(1, 3, 5, 16, 48).with(bits));
        mma(&mut device, 16, 32, Case::new(1, 3, 5, 16, 32).with(bits));
    }
}

#[test]
fn thin_pictures_and_whole_tiles() {
    let mut device = Device::new("conv3x3");
    for (h, w) in [(1, 1), (1, 40), (33, 2), (8, 16), (16, 32), (7, 15), (9, 17)] {
        mma(&mut device, 32, 32, Case::new(2, h, w, 32, 32).with(19));
        mma(&mut device, 64, 64, Case::new(1, h, w, 64, 64).with(27));
    }
}

#[test]
fn an_output_may_be_what_is_added() {
    let mut device = Device::new("conv3x3");
    let x = random(&mut Rng::new(1), 5 * 7 * 16, 1.0);
    let (pixels, wt) = (device.halves(&x), device.halves(&vec![half::f16::ZERO; 9 * 16 * 16]));
    let launch = Launch { grid: [1, 1, 1], block: [128, 1, 1], dynamic_shared: 0 };
    let y = device.halves(&x);
    let pointers = [Some(pixels), Some(wt), None, Some(y), None, Some(y)].map(Value::Buffer);
    let ints = [5, 7, 16, 16].map(Value::Int);
    let values: Vec<Value> =
        pointers.into_iter().chain(ints).chain([Value::Float(1.0), Value::Int(0)]).collect();
    // Weights of zero: nothing is added to what was there. No output to poison, for it is an input too.
    device.run("conv3x3_k16_n16", &launch, &values, &[]);
    let want: Vec<f64> = x.iter().map(|v| v.to_f64()).collect();
    check("y += 0", &device.read_halves(y, x.len()), &want, |_| 0.0);
}

#[test]
fn wgmma() {
    let mut device = Device::new("conv3x3_wgmma");
    let cases = [
        (2, 37, 21, 64, 2, 27),
        (1, 1, 1, 64, 1, 0),
        (2, 17, 9, 128, 1, 5),
        (1, 33, 26, 64, 2, 24),
        (1, 1, 90, 64, 1, 31),
    ];
    for (n, h, w, cy, blocks, bits) in cases {
        let launch =
            Launch { grid: [blocks, 1, (n * cy / 64) as u32], block: [384, 1, 1], dynamic_shared: 216_960 };
        compare(&mut device, "conv3x3_wgmma_k64_n64", &launch, Case::new(n, h, w, 64, cy).with(bits));
    }
}

/// The comparison itself must be able to fail.
#[test]
#[should_panic(expected = "off by")]
fn a_wrong_weight_is_seen() {
    let x = Tensor { n: 1, c: 1, h: 2, w: 2, data: vec![1.0, 2.0, 3.0, 4.0] };
    let have = channels_last(&conv3x3(&x, &[0.0, 0.0, 0.0, 0.0, 1.01, 0.0, 0.0, 0.0, 0.0], &[0.0]));
    check("identity", &have, &x.data, |i| x.data[i] * F16_ROUNDING);
}
