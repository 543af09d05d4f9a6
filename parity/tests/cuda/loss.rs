//! `cu/loss.cu` against the oracle's bicubic base, pixel shuffle and loss.

use crate::compare::{F16_ROUNDING, F16_SMALLEST, F32_ROUNDING, check};
use crate::on_device::{activations, poisoned, read, stream};
use hone_kernels::adam::{Optimiser, Settings};
use hone_kernels::loss::{Output, Target, image, loss, parts};
use hone_kernels::memory::Buffer;
use hone_kernels::weights::Weights;
use hone_model::arch::RGB_MEAN;
use hone_model::backend::{Adam, Loss};
use hone_model::reference::{self, Tensor, bicubic};
use hone_model::rng::Rng;

/// An output: 16 taps whose absolute sum is below 1.6, in two sums of four, on values up to 1; then the tail.
const OUTPUT: f64 = (8.0 * 1.6 + 2.0) * F32_ROUNDING;

const OUTPUTS: [Output; 5] = [
    Output::Mean,
    Output::Bicubic { s: 1 },
    Output::Bicubic { s: 2 },
    Output::Bicubic { s: 3 },
    Output::Bicubic { s: 4 },
];

struct Case {
    tail: hone_kernels::memory::Tensor,
    lr: Option<Buffer<f32>>,
    /// The output.
    want: Tensor,
}

fn case(stream: &hone_kernels::Stream, rng: &mut Rng, output: Output, [n, h, w]: [usize; 3]) -> Case {
    let s = output.s();
    let (tail, oracle) = activations(stream, rng, [n, h, w, 3 * s * s]);
    let lr: Vec<f32> = (0..n * h * w * 3).map(|_| rng.unit() as f32).collect();
    let mut want = reference::pixel_shuffle(&oracle, s);
    let images = hone_model::backend::Images { n, h, w, rgb: lr.clone(), quantisers: vec![26; n] };
    let base = bicubic(&Tensor::from_images(&images), s);
    for (i, v) in want.data.iter_mut().enumerate() {
        *v += match output {
            Output::Mean => f64::from(RGB_MEAN[i / (h * w) % 3]),
            Output::Bicubic { .. } => base.data[i],
        };
    }
    let lr = (output != Output::Mean).then(|| Buffer::from(stream, &lr).unwrap());
    Case { tail, lr, want }
}

#[test]
fn images_are_the_base_plus_the_shuffled_tail() {
    let stream = stream();
    let mut rng = Rng::new(5);
    for output in OUTPUTS {
        for sizes in [[1, 1, 1], [2, 3, 2], [1, 13, 17]] {
            let case = case(&stream, &mut rng, output, sizes);
            let mut to = Buffer::from(&stream, &vec![f32::NAN; case.want.data.len()]).unwrap();
            image(&stream, output, &case.tail, case.lr.as_ref(), &mut to).unwrap();
            let want: Vec<f64> = case.want.to_images().rgb.iter().map(|v| f64::from(*v)).collect();
            let have: Vec<f64> = to.read().unwrap().iter().map(|v| f64::from(*v)).collect();
            check(&format!("{output:?} {sizes:?}"), &have, &want, |_| OUTPUT + 2.0 * F32_ROUNDING);
        }
    }
}

#[test]
fn losses_and_gradients_are_the_oracles() {
    let stream = stream();
    let mut rng = Rng::new(6);
    let weights = Weights::new(&stream, &hone_model::Weights::zeros("live-1x8-x1".parse().unwrap())).unwrap();
    for output in OUTPUTS {
        for (kind, eps) in [
            (Loss::L1, 0.0),
            (Loss::Charbonnier { eps: 1e-3 }, 1e-3),
            (Loss::Charbonnier { eps: 0.25 }, 0.25),
        ] {
            for (sizes, scale) in [([1, 1, 1], 1.0), ([2, 3, 2], 1024.0), ([3, 13, 9], 65_536.0)] {
                let name = format!("{output:?} {kind:?} {sizes:?}");
                let case = case(&stream, &mut rng, output, sizes);
                let hr: Vec<u8> = (0..case.want.data.len()).map(|_| rng.below(256) as u8).collect();
                let images = hone_model::backend::Images {
                    n: case.want.n,
                    h: case.want.h,
                    w: case.want.w,
                    rgb: hr.iter().map(|v| f32::from(*v) / 255.0).collect(),
                    quantisers: vec![26; case.want.n],
                };
                let target = Tensor::from_images(&images);
                let (value, slopes) = reference::loss(kind, &case.want, &target);

                let settings = Settings { adam: Adam::default(), loss: kind, growth_steps: 9 };
                let settings = Buffer::from(&stream, &settings.words()).unwrap();
                let optimiser = Optimiser::new(&stream, &weights, scale).unwrap();
                let mut grad = poisoned(&stream, case.tail.shape());
                let count = parts(case.tail.shape());
                let mut sums = Buffer::from(&stream, &vec![f32::NAN; count]).unwrap();
                let given = Target {
                    tail: &case.tail,
                    lr: case.lr.as_ref(),
                    hr: &Buffer::from(&stream, &hr).unwrap(),
                    settings: settings.view(0, 4),
                    state: optimiser.state(),
                };
                loss(&stream, output, &given, &mut grad, &mut sums).unwrap();

                let values = hr.len() as f64;
                let sum: f64 = sums.read().unwrap().iter().map(|v| f64::from(*v)).sum();
                // A part is a sum of up to 48 values of each of 128 threads, in about 48 + 8 steps.
                check(&name, &[sum / values], &[value], |_| {
                    (60.0 * F32_ROUNDING + 2.0 * OUTPUT) * (value + 1.0)
                });

                let s = output.s();
                let want: Vec<f64> = reference::pixel_shuffle_grad(&slopes, s).data;
                let want: Vec<f64> = want.iter().map(|v| v * f64::from(scale)).collect();
                let distances = Tensor {
                    data: case.want.data.iter().zip(&target.data).map(|(y, t)| (y - t).abs()).collect(),
                    ..target.clone()
                };
                let distances = reference::pixel_shuffle_grad(&distances, s).data;
                check(&name, &read(&grad, 3 * s * s), &want, |i| {
                    // An error of the output turns the slope by as much as its curve is steep, 1 / root at most.
                    let root = (distances[i] * distances[i] + eps * eps).sqrt();
                    let turned = (2.0 * OUTPUT / (root + f64::MIN_POSITIVE)).min(2.0) + 6.0 * F32_ROUNDING;
                    turned * f64::from(scale) / values + want[i].abs() * F16_ROUNDING + F16_SMALLEST
                });
            }
        }
    }
}

#[test]
fn where_output_and_target_meet_l1_has_no_slope() {
    let stream = stream();
    let hr: Vec<u8> = (0..5 * 7 * 3).map(|i| (i * 37 % 256) as u8).collect();
    let lr: Vec<f32> = hr.iter().map(|v| f32::from(*v) / 255.0).collect();
    let shape = hone_kernels::memory::Shape { n: 1, h: 5, w: 7, c: 16 };
    let weights = hone_model::Weights::zeros("live-1x8-x1".parse().unwrap());
    let optimiser = Optimiser::new(&stream, &Weights::new(&stream, &weights).unwrap(), 1024.0).unwrap();
    let settings = Settings { adam: Adam::default(), loss: Loss::L1, growth_steps: 9 };
    let settings = Buffer::from(&stream, &settings.words()).unwrap();
    let mut grad = poisoned(&stream, shape);
    let mut sums = Buffer::from(&stream, &vec![f32::NAN; parts(shape)]).unwrap();
    let given = Target {
        tail: &hone_kernels::memory::Tensor::zeros(&stream, shape).unwrap(),
        lr: Some(&Buffer::from(&stream, &lr).unwrap()),
        hr: &Buffer::from(&stream, &hr).unwrap(),
        settings: settings.view(0, 4),
        state: optimiser.state(),
    };
    loss(&stream, Output::Bicubic { s: 1 }, &given, &mut grad, &mut sums).unwrap();
    assert_eq!(sums.read().unwrap(), [0.0]);
    assert!(read(&grad, 3).iter().all(|g| *g == 0.0));
}
