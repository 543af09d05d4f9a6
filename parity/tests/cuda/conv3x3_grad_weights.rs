//! `cu/conv3x3_grad_weights.cu` and its wgmma variant on the interpreter.

use crate::compare::{F32_TRUNCATION, check};
use crate::on_ptxsim::{Device, Value, absolute, random, tensor};
use hone_model::reference::conv3x3_grad_weights;
use hone_model::rng::Rng;
use hone_ptxsim::Launch;

const CHANNELS: [usize; 4] = [16, 32, 48, 64];

/// Which entry, how it is launched, and on what.
#[derive(Clone, Copy, Debug)]
struct Case {
    /// Input and output channels that a block takes.
    chunk: [usize; 2],
    n: usize,
    h: usize,
    w: usize,
    cx: usize,
    cy: usize,
    parts: usize,
}

/// Runs a case and compares the sum of its parts. Returns the parts.
fn compare(device: &mut Device, entry: &str, block: u32, dynamic_shared: u32, case: Case) -> Vec<f64> {
    let Case { chunk, n, h, w, cx, cy, parts } = case;
    let mut rng = Rng::new((h * 1000 + w * 10 + cx + cy) as u64);
    let x = random(&mut rng, n * h * w * cx, 1.0);
    let gy = random(&mut rng, n * h * w * cy, 1.0);
    let (from, grad) = (device.halves(&x), device.halves(&gy));
    let sizes = [parts * 9 * cy * cx, parts * cy];
    let [part, part_bias] = sizes.map(|len| device.floats(&vec![f32::NAN; len]));
    let values: Vec<Value> = [from, grad, part, part_bias]
        .map(|buffer| Value::Buffer(Some(buffer)))
        .into_iter()
        .chain([n, h, w, cx, cy].map(Value::Int))
        .collect();
    let grid = [parts, cx / chunk[0], cy / chunk[1]].map(|size| size as u32);
    let launch = Launch { grid, block: [block, 1, 1], dynamic_shared };
    device.run(entry, &launch, &values, &[(part, sizes[0] * 4), (part_bias, sizes[1] * 4)]);

    let (x, gy) = (tensor(&x, [n, h, w, cx]), tensor(&gy, [n, h, w, cy]));
    let (want, want_bias) = conv3x3_grad_weights(&x, &gy);
    let (products, products_bias) = conv3x3_grad_weights(&absolute(&x), &absolute(&gy));
    let all = device.read_floats(part, sizes[0]);
    let sum = |at: usize, len: usize, all: &[f64]| (0..parts).map(|p| all[p * len + at]).sum::<f64>();
    // (9, Cy, Cx) -> (Cy, Cx, 3, 3)
    let have: Vec<f64> = (0..9 * cy * cx).map(|i| sum(i % 9 * cy * cx + i / 9, 9 * cy * cx, &all)).collect();
    let biases = device.read_floats(part_bias, sizes[1]);
    let have_bias: Vec<f64> = (0..cy).map(|i| sum(i, cy, &biases)).collect();
    let steps = (n * h * w) as f64 * F32_TRUNCATION;
    check(&format!("{entry} {case:?}"), &have, &want, |i| products[i] * steps);
    check(&format!("{entry} {case:?}, biases"), &have_bias, &want_bias, |i| products_bias[i] * steps);
    all
}

fn mma(device: &mut Device, case: Case) -> Vec<f64> {
    let [k, n] = case.chunk;
    compare(device, &format!("conv3x3_grad_weights_k{k}_n{n}"), 288, 0, case)
}

#[test]
fn all_channel_counts_on_a_ragged_picture() {
    let mut device = Device::new("conv3x3_grad_weights");
    for k in CHANNELS {
        for n in CHANNELS {
            mma(&mut device, Case { chunk: [k, n], n: 2, h: 11, w: 19, cx: k, cy: n, parts: 3 });
        }
    }
}

#[test]
fn more_channels_than_a_chunk() {
    let mut device = Device::new("conv3x3_grad_weights");
    for (k, n, cx, cy) in [(16, 16, 80, 48), (32, 32, 64, 64), (48, 32, 144, 32), (64, 48, 128, 96)] {
        mma(&mut device, Case { chunk: [k, n], n: 1, h: 9, w: 17, cx, cy, parts: 2 });
    }
}

#[test]
fn thin_pictures_and_whole_tiles() {
    let mut device = Device::new("conv3x3_grad_weights");
    for (h, w) in [(1, 1), (1, 40), (33, 2), (8, 16), (16, 32), (7, 15)] {
        mma(&mut device, Case { chunk: [16, 16], n: 3, h, w, cx: 16, cy: 16, parts: 4 });
        mma(&mut device, Case { chunk: [64, 64], n: 1, h, w, cx: 64, cy: 64, parts: 2 });
    }
}

#[test]
fn parts_without_a_tile_are_zeros() {
    let mut device = Device::new("conv3x3_grad_weights");
    let parts = mma(&mut device, Case { chunk: [16, 16], n: 1, h: 4, w: 9, cx: 16, cy: 16, parts: 3 });
    let used = parts.chunks(9 * 16 * 16).filter(|part| part.iter().any(|v| *v != 0.0)).count();
    assert_eq!(used, 1, "one tile, one part");
}

#[test]
fn wgmma() {
    let mut device = Device::new("conv3x3_grad_weights_wgmma");
    for (n, h, w, c, parts) in [(2, 37, 21, 64, 3), (1, 1, 1, 64, 2), (1, 17, 9, 128, 2), (1, 33, 17, 64, 1)]
    {
        let case = Case { chunk: [64, 64], n, h, w, cx: c, cy: c, parts };
        compare(&mut device, "conv3x3_grad_weights_wgmma_k64_n64", 384, 120_576, case);
    }
}
