//! 3x3 convolution with each of its fusions, on the GPU. The CPU's is reached through the network, as are head and tail.

use hone_model::arch::Layer;
use hone_model::reference::{Tensor, conv3x3};
use hone_model::rng::Rng;
use hone_runtime::gpu::{
    Activation, Conv3x3, Gpu, Input, Kernel, Output, Pass, Precision, Size, WeightsBuffer, WeightsLayout,
};

use super::{SIZES, kernels, poison, single};
use crate::{HALF_ROUNDOFF, NO_ADAPTER, ROUNDOFF, Report, random, random_tensor};

/// (Cin, Cout): heads, bodies, tails; groups that do not fill up; 64 -> 64 reads its weights from storage.
const CHANNELS: [(usize, usize); 10] =
    [(3, 8), (3, 16), (8, 8), (16, 16), (16, 3), (16, 12), (24, 24), (24, 27), (32, 48), (64, 64)];

/// (ReLU, add, scale): every fusion that a network uses.
const FUSIONS: [(bool, bool, f32); 4] =
    [(false, false, 1.0), (true, false, 1.0), (false, true, 1.0), (false, true, 0.1)];

/// Runs the table.
pub fn run(gpu: Option<&Gpu>, report: &mut Report) {
    let Some(gpu) = gpu else { return report.skip(NO_ADAPTER) };
    let kernels = kernels(gpu, report);
    for (c, (cin, cout)) in CHANNELS.into_iter().enumerate() {
        for (k, (gpu, kernel)) in kernels.iter().enumerate() {
            // Every kernel meets every channel pair, size and fusion, not all at once: compiling takes the time.
            for (h, w) in SIZES.into_iter().skip((c + k) % 3).step_by(3) {
                one(gpu, *kernel, report, (cin, cout), (h, w), FUSIONS[(c + k) % FUSIONS.len()]);
            }
        }
    }
}

fn one(
    gpu: &Gpu,
    kernel: Kernel,
    report: &mut Report,
    (cin, cout): (usize, usize),
    (h, w): (usize, usize),
    (relu, add, scale): (bool, bool, f32),
) {
    let case = format!("conv3x3 {kernel:?} {cin}->{cout} {w}x{h} relu {relu} add {add} scale {scale}");
    let rng = &mut Rng::new((cin * 1_000_003 + cout * 1_009 + h * 101 + w) as u64);
    let layer = Layer { name: case.clone(), cin, cout, offset: 0, zero_init: false };
    let mut params = random(rng, layer.params());
    if kernel.precision == Precision::F16 || kernel.precision.tile_side().is_some() {
        params.iter_mut().for_each(|v| *v = (*v * 512.0).round() / 512.0);
    }
    let wide: Vec<f64> = params.iter().map(|&v| f64::from(v)).collect();
    let (weight, bias) = wide.split_at(layer.weights());
    let x = held(kernel.precision, random_tensor(rng, cin, h, w));
    let skip = held(kernel.precision, random_tensor(rng, cout, h, w));

    let mut want = conv3x3(&x, weight, bias);
    // What the sums would be without cancellation.
    let abs = |values: &[f64]| -> Vec<f64> { values.iter().map(|v| v.abs()).collect() };
    let mut magnitude = conv3x3(&Tensor { data: abs(&x.data), ..x.clone() }, &abs(weight), &abs(bias)).data;
    for (i, v) in want.data.iter_mut().enumerate() {
        let skip = if add { skip.data[i] } else { 0.0 };
        *v = if relu { v.max(0.0) } else { *v } * f64::from(scale) + skip;
        magnitude[i] = magnitude[i] * f64::from(scale) + skip.abs();
    }

    let size = Size { h, w };
    let input = Activation::new(gpu, kernel.precision, size, cin).expect("a small buffer");
    let output = Activation::new(gpu, kernel.precision, size, cout).expect("a small buffer");
    let other = Activation::new(gpu, kernel.precision, size, cout).expect("a small buffer");
    input.write(gpu, &single(&x.data));
    output.write(gpu, &poison(cout, h, w));
    other.write(gpu, &single(&skip.data));
    let layout = WeightsLayout::new(kernel.precision, vec![(layer, 1)]);
    let weights = WeightsBuffer::new(gpu, kernel, &layout).expect("a small buffer");
    weights.write(gpu, &layout, &layout.pack(&params));
    let fused = Conv3x3 { relu, scale };
    let layer = (0, &layout.layers[0]);
    let ends = (Input::Activation(&input), Output::Activation(&output));
    let pass = Pass::conv3x3(gpu, kernel, fused, layer, [&weights; 2], ends, add.then_some(&other));
    gpu.run(&[&pass]).expect("the device works");

    let (got, border) = output.read(gpu).expect("the device works");
    assert!(border, "{case}: wrote into the border");
    let (got, fill) = got.split_at(cout * h * w);
    assert!(fill.iter().all(|&v| v == 0.0), "{case}: the channels that fill up the last group");
    // A sum of n rounded products is off by at most n roundoffs of the sum of magnitudes (Higham 2002, eq. 3.5);
    // scale and add round twice more.
    let terms = (9 * cin + 1 + 2) as f64;
    let stored = |v: f64| {
        if kernel.precision.stores_f16() { HALF_ROUNDOFF * v.abs() + HALF_TINY } else { 0.0 }
    };
    let summed = match kernel.precision {
        Precision::F16 => half_sums(cin) * f64::from(scale),
        _ => 0.0,
    };
    report.check(&case, got, &want.data, |i| {
        terms * ROUNDOFF * magnitude[i] + stored(want.data[i]) * 1.001 + summed
    });
}

/// What sums of 12 products in f16 add. Of values within -1..=1 such a product has a variance of 1/9, so that a sum of them
/// is 1.15 at most in the rms; product and sum are each rounded by up to 2^-11 of that, uniformly, where they are not fused.
/// Over all sums, six standard deviations: the bounds of the worst case would hide a wrong tap.
fn half_sums(cin: usize) -> f64 {
    let roundings = (2 * 9 * cin.next_multiple_of(4)) as f64;
    6.0 * roundings.sqrt() * 1.15 / 2048.0 / 3f64.sqrt()
}

/// The step of f16 below its smallest normal number.
const HALF_TINY: f64 = 1.0 / (1 << 24) as f64;

/// Values that an activation of this precision holds exactly.
fn held(precision: Precision, mut t: Tensor) -> Tensor {
    if precision.stores_f16() {
        // 10 bits of fraction on a grid of 2^-9 within -1..=1.
        t.data.iter_mut().for_each(|v| *v = (*v * 512.0).round() / 512.0);
    }
    t
}
