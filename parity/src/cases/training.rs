//! Training steps: loss, gradient and optimiser.

use hone_cpu::CpuTrainer;
use hone_model::Arch;
use hone_model::backend::{Adam, Images, Loss, TrainBackend};
use hone_model::gather::{Draw, Patch, Turn};
use hone_model::reference::{AdamState, Gradient, Tensor, adam, forward, gradient, input};
use hone_model::rng::Rng;

use crate::{ROUNDOFF, Report, images, weights};

/// Error of a gradient over the largest entry of its layer. A sum of n = 9 * 64 rounded terms is off by about
/// 0.4 * sqrt(n / 2) = 7 roundoffs of itself; 32 convolutions, forward and back, add up in quadrature to 6 times that;
/// factors up to 2; four standard deviations.
const GRADIENT: f64 = 7.0 * 6.0 * 2.0 * 4.0 * ROUNDOFF;
/// The same for a mean over all output values.
const LOSS: f64 = GRADIENT;
/// Where a gradient is as small as its own error, a step of Adam is anything up to the learning rate; ten steps move
/// the loss by a tenth, and one weight in a thousand by chance.
const TEN_STEPS: f64 = 1e-4;

/// Images of a batch, and their LR side: no multiple of any tile.
const BATCH: usize = 3;
const CROP: usize = 11;

const CHARBONNIER: Loss = Loss::Charbonnier { eps: 1e-3 };

const ARCHS: [&str; 10] = [
    "live-1x8-x1",
    "live-4x16-x2",
    "live-1x24-x3",
    "live-2x32-x4",
    "edsr-1x8-x1",
    "edsr-2x16-x2",
    "edsr-1x24-x3",
    "edsr-1x8-x4",
    "live-1x64-x2",
    "edsr-1x32-x2",
];

struct Case {
    arch: Arch,
    params: Vec<f64>,
    lr: Images,
    hr: Images,
}

impl Case {
    fn new(name: &str) -> (Self, CpuTrainer) {
        let arch: Arch = name.parse().expect("in range");
        let rng = &mut Rng::new(name.len() as u64 + 31);
        let weights = weights(rng, arch);
        let params: Vec<f64> = weights.params().iter().map(|&v| f64::from(v)).collect();
        let lr = images(rng, BATCH, CROP, CROP);
        // The target keeps its distance from the first output: the slope of L1 jumps where they meet.
        let mut hr = forward(arch, &params, &input(&Tensor::from_images(&lr), &lr.quantisers)).to_images();
        for v in &mut hr.rgb {
            let distance = (0.05 + 0.35 * rng.unit()) as f32;
            let sign = if *v < 0.1 || (*v < 0.9 && rng.below(2) == 0) { 1.0 } else { -1.0 };
            *v = ((*v + sign * distance).clamp(0.0, 1.0) * 255.0).round() / 255.0;
        }
        let case = Self { arch, params, lr, hr };
        let mut trainer = CpuTrainer::new(weights);
        case.keep(&mut trainer);
        (case, trainer)
    }

    /// Gives the batch to a backend: a patch in each slot.
    fn keep(&self, backend: &mut dyn TrainBackend) {
        let (lr_len, hr_len) = (self.lr.rgb.len() / BATCH, self.hr.rgb.len() / BATCH);
        for (slot, &quantiser) in self.lr.quantisers.iter().enumerate() {
            let lr = &self.lr.rgb[slot * lr_len..][..lr_len];
            let hr: Vec<u8> =
                self.hr.rgb[slot * hr_len..][..hr_len].iter().map(|v| (v * 255.0).round() as u8).collect();
            backend.keep(slot, Patch { h: CROP, w: CROP, lr, hr: &hr, quantiser }).expect("memory");
        }
    }

    fn gradient(&self, loss: Loss) -> Gradient {
        let lr = input(&Tensor::from_images(&self.lr), &self.lr.quantisers);
        let hr = Tensor::from_images(&self.hr);
        gradient(self.arch, &self.params, &lr, &hr, loss)
    }
}

/// A step on the whole patches, unturned: what draws do to them is `gather`'s to show.
fn step(trainer: &mut CpuTrainer, loss: Loss, adam: Adam) -> f32 {
    let draws: Vec<Draw> = (0..BATCH).map(|slot| Draw { slot, y: 0, x: 0, turn: Turn(0) }).collect();
    let loss = trainer.step(CROP, &draws, loss, adam).expect("a CPU does not fail");
    loss.expect("a CPU does not run ahead")
}

fn params(trainer: &mut CpuTrainer) -> Vec<f32> {
    trainer.weights().expect("a CPU does not fail").params().to_vec()
}

/// The gradient itself: with a huge `eps`, the first step of Adam is the gradient times -`learning_rate` / `eps`.
pub fn cpu_gradient(report: &mut Report) {
    const EPS: f32 = 1e6;
    for name in ARCHS {
        for loss in [Loss::L1, CHARBONNIER] {
            let (mut case, mut trainer) = Case::new(name);
            // The rate makes the largest step 1, so that the roundoff of the weights it is added to is small against it.
            let oracle = case.gradient(loss);
            let largest = oracle.params.iter().fold(0f64, |a, g| a.max(g.abs()));
            let learning_rate = (f64::from(EPS) / largest) as f32;
            let settings = Adam { learning_rate, eps: EPS, ..Adam::default() };
            let got = step(&mut trainer, loss, settings);
            let case_name = format!("cpu {name} {loss:?}");
            report.check(&format!("{case_name} loss"), &[got], &[oracle.loss], |_| LOSS * oracle.loss);

            adam(&mut AdamState::default(), &mut case.params, &oracle.params, settings);
            // Units of the largest entry of the layer, which became 1 or less; and the roundoff of a weight below 2.
            let mut tolerance = vec![0.0; case.params.len()];
            for layer in case.arch.layers() {
                let range = layer.offset..layer.offset + layer.params();
                let layer_largest = oracle.params[range.clone()].iter().fold(0f64, |a, g| a.max(g.abs()));
                tolerance[range].fill(GRADIENT * layer_largest / largest + 4.0 * ROUNDOFF);
            }
            report.check(&format!("{case_name} gradient"), &params(&mut trainer), &case.params, |i| {
                tolerance[i]
            });
        }
    }
}

/// One step with the settings that training uses.
pub fn cpu_step(report: &mut Report) {
    let settings = Adam::default();
    for name in ARCHS {
        let (mut case, mut trainer) = Case::new(name);
        let oracle = case.gradient(CHARBONNIER);
        step(&mut trainer, CHARBONNIER, settings);
        adam(&mut AdamState::default(), &mut case.params, &oracle.params, settings);
        let rate = f64::from(settings.learning_rate);
        let largest = oracle.params.iter().fold(0f64, |a, g| a.max(g.abs()));
        // The first step is the sign of the gradient times the rate: an error e of the gradient g shows as e/|g|
        // of a step, and where g is within its error the step is anything between minus and plus the rate.
        let tolerance = |i: usize| {
            let relative = GRADIENT * largest / (oracle.params[i].abs() + f64::from(settings.eps));
            rate * relative.min(2.0) + 4.0 * ROUNDOFF
        };
        report.check(&format!("cpu {name} step"), &params(&mut trainer), &case.params, tolerance);
    }
}

/// The running average of the weights.
pub fn cpu_average(report: &mut Report) {
    let (_, mut trainer) = Case::new("live-1x8-x1");
    let mut want: Vec<f64> = params(&mut trainer).into_iter().map(f64::from).collect();
    for share in [1.0, 0.25, 0.5] {
        step(&mut trainer, CHARBONNIER, Adam { average_share: share, ..Adam::default() });
        for (want, now) in want.iter_mut().zip(params(&mut trainer)) {
            *want += f64::from(share) * (f64::from(now) - *want);
        }
        let got = trainer.average().expect("a CPU does not fail");
        // A difference, a product and a sum of values below 2, three times.
        report.check(&format!("cpu average, share {share}"), got.params(), &want, |_| 18.0 * ROUNDOFF);
    }
}

/// The losses of ten steps, and that a reset starts over.
pub fn cpu_ten_steps(report: &mut Report) {
    let settings = Adam::default();
    for name in ["live-4x16-x2", "edsr-2x16-x2", "live-1x24-x3"] {
        let (mut case, mut trainer) = Case::new(name);
        let start = trainer.weights().expect("a CPU does not fail");
        let mut state = AdamState::default();
        let mut want = Vec::new();
        for _ in 0..10 {
            let oracle = case.gradient(CHARBONNIER);
            adam(&mut state, &mut case.params, &oracle.params, settings);
            want.push(oracle.loss);
        }
        assert!(want[9] < 0.99 * want[0], "{name}: ten steps must learn: {want:?}");
        let run = |trainer: &mut CpuTrainer| -> Vec<f32> {
            (0..10).map(|_| step(trainer, CHARBONNIER, settings)).collect()
        };
        let got = run(&mut trainer);
        report.check(&format!("cpu {name} losses of ten steps"), &got, &want, |i| TEN_STEPS * want[i]);
        trainer.reset(&start).expect("a CPU does not fail");
        let again: Vec<f64> = run(&mut trainer).into_iter().map(f64::from).collect();
        // The same operations in the same order: the same bits.
        report.check(&format!("cpu {name} after a reset"), &got, &again, |_| f64::MIN_POSITIVE);
    }
}
