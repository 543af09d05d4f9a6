//! The trainer from step to step: graph and eager, twice the same, ten steps against the oracle, overflow, reset, average.

use crate::batch::{Batch, CHARBONNIER, device};
use crate::compare::{F32_ROUNDING, check};
use hone_kernels::{CudaTrainer, Options};
use hone_model::backend::{Adam, Loss, TrainBackend};
use hone_model::gather::{Draw, Patch, Turn};
use hone_model::reference::{AdamState, adam};
use hone_model::rng::Rng;

/// Losses of ten steps against the oracle's. Each gradient is off by up to 0.01 of a layer's in length (`network.rs`), and
/// where a gradient is smaller than that, a step of Adam is anything up to the learning rate; ten steps move the loss by a
/// tenth, and what moves it are the large ones: a fiftieth of that by chance.
const TEN_STEPS: f64 = 2e-3;

const EAGER: Options = Options { loss_scale: 65_536.0, growth_steps: 1000, eager: true };

fn bits(weights: &hone_model::Weights) -> Vec<u32> {
    weights.params().iter().map(|v| v.to_bits()).collect()
}

/// Steps on crops of all kinds, from patches that change on the way, without waiting in between: weights, average, last loss.
fn run(batch: &Batch, options: Options, steps: usize) -> (Vec<u32>, Vec<u32>, u32) {
    let mut trainer = batch.trainer(&device(), options);
    let mut rng = Rng::new(20);
    let s = batch.arch.scale();
    for step in 0..steps {
        let (h, w) = (8 + rng.below(8), 8 + rng.below(8));
        let lr: Vec<f32> = (0..h * w * 3).map(|_| rng.unit() as f32).collect();
        let hr: Vec<u8> = (0..h * w * 3 * s * s).map(|_| rng.below(256) as u8).collect();
        trainer.keep(step % 3, Patch { h, w, lr: &lr, hr: &hr, quantiser: rng.below(52) as u8 }).unwrap();
        let draws: Vec<Draw> =
            (0..3).map(|i| Draw { slot: i, y: 0, x: 0, turn: Turn(rng.below(8) as u8) }).collect();
        let adam = Adam { learning_rate: 1e-3 / (step + 1) as f32, average_share: 0.3, ..Adam::default() };
        // Another size of batch in between: plan and graph are made anew.
        let draws = if step == 3 { &draws[..2] } else { &draws[..] };
        let loss = if step == 2 { Loss::L1 } else { CHARBONNIER };
        trainer.step(8, draws, loss, adam).unwrap();
    }
    let last = trainer.status().unwrap().loss.to_bits();
    (bits(&trainer.weights().unwrap()), bits(&trainer.average().unwrap()), last)
}

#[test]
fn graphs_compute_what_single_launches_compute_and_twice_the_same() {
    for name in ["live-2x16-x2", "edsr-1x8-x2", "live-1x48-x1"] {
        let batch = Batch::new(name, 3, 8);
        let graph = run(&batch, Options::default(), 9);
        assert_ne!(graph.0, bits(&batch.weights), "{name} learned");
        assert!(graph == run(&batch, Options::default(), 9), "{name}: two runs differ");
        assert!(graph == run(&batch, EAGER, 9), "{name}: graph and eager differ");
    }
}

#[test]
#[ignore = "the processes of the next test"]
fn print_bits() {
    let (weights, average, loss) = run(&Batch::new("live-1x16-x2", 3, 8), Options::default(), 3);
    println!("bits: {weights:x?} {average:x?} {loss:x}");
}

/// Whatever order a device runs warps in, the bits are the same. The stand-in reads its settings once a process.
#[test]
fn the_order_of_warps_changes_no_bit() {
    let bits = ["forward", "reverse", "random:7/5"].map(|schedule| {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "training::print_bits", "--ignored", "--nocapture"])
            .env("PTXSIM_SCHEDULE", schedule)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let bits = said.lines().find_map(|line| line.split_once("bits: ")).map(|(_, bits)| bits.to_owned());
        bits.unwrap_or_else(|| panic!("{schedule}: {said}\n{}", String::from_utf8_lossy(&output.stderr)))
    });
    assert!(bits[0] == bits[1] && bits[0] == bits[2]);
}

#[test]
fn ten_steps_are_the_oracles_and_a_reset_starts_over() {
    for name in ["live-2x16-x2", "edsr-1x16-x2", "live-1x24-x3"] {
        let batch = Batch::new(name, 2, 8);
        let settings = Adam::default();
        let (mut params, mut state, mut want) = (batch.params(), AdamState::default(), vec![]);
        for _ in 0..10 {
            let oracle = batch.gradient(&params, CHARBONNIER);
            adam(&mut state, &mut params, &oracle.params, settings);
            want.push(oracle.loss);
        }
        assert!(want[9] < 0.99 * want[0], "{name}: ten steps must learn: {want:?}");
        let mut trainer = batch.trainer(&device(), Options::default());
        let run = |trainer: &mut CudaTrainer| -> Vec<f64> {
            let step = |_| {
                batch.step(trainer, CHARBONNIER, settings);
                f64::from(trainer.status().unwrap().loss)
            };
            (0..10).map(step).collect()
        };
        let have = run(&mut trainer);
        let worst = check(name, &have, &want, |i| TEN_STEPS * want[i]);
        println!("{name}: {worst:.3} of {TEN_STEPS}");
        trainer.reset(&batch.weights).unwrap();
        assert_eq!(bits(&trainer.weights().unwrap()), bits(&batch.weights));
        assert_eq!(bits(&trainer.average().unwrap()), bits(&batch.weights));
        assert_eq!(trainer.status().unwrap().steps, 0);
        assert_eq!(run(&mut trainer), have, "{name}: the same operations in the same order");
    }
}

#[test]
fn a_gradient_too_large_for_f16_is_skipped_and_the_loss_scale_falls_until_it_fits() {
    for eager in [true, false] {
        let batch = Batch::new("live-1x16-x1", 1, 7);
        // A gradient of 1 / 147, times 2^24, is above 65504; of the layers before it is more.
        let options = Options { loss_scale: 16_777_216.0, growth_steps: 2, eager };
        let mut trainer = batch.trainer(&device(), options);
        let before = bits(&batch.weights);
        let mut scale = options.loss_scale;
        let first = loop {
            batch.step(&mut trainer, CHARBONNIER, Adam::default());
            let status = trainer.status().unwrap();
            assert!(status.loss.is_finite() && status.loss > 0.0);
            if status.steps == 1 {
                break status;
            }
            scale /= 2.0;
            assert_eq!(status.loss_scale, scale);
            assert_eq!(bits(&trainer.weights().unwrap()), before, "a void step changes no weight");
            assert_eq!(bits(&trainer.average().unwrap()), before);
            assert!(status.skipped < 20, "{status:?}");
        };
        assert!(first.skipped >= 1, "{first:?}");
        assert_ne!(bits(&trainer.weights().unwrap()), before);
        // What then counts is a step like any other: the same as from a scale that fits at once.
        let fits = Options { loss_scale: first.loss_scale, ..options };
        let mut other = batch.trainer(&device(), fits);
        batch.step(&mut other, CHARBONNIER, Adam::default());
        assert_eq!(bits(&other.weights().unwrap()), bits(&trainer.weights().unwrap()));
        // And it grows again, up to where a step is skipped.
        let mut grown = false;
        for _ in 0..4 {
            batch.step(&mut trainer, CHARBONNIER, Adam::default());
            grown |= trainer.status().unwrap().loss_scale > first.loss_scale;
        }
        assert!(grown);
    }
}

#[test]
fn the_average_follows_the_weights() {
    let batch = Batch::new("live-1x8-x1", 2, 8);
    let mut trainer = batch.trainer(&device(), Options::default());
    let mut want = batch.params();
    for share in [1.0, 0.25, 0.5] {
        batch.step(&mut trainer, CHARBONNIER, Adam { average_share: share, ..Adam::default() });
        for (want, now) in want.iter_mut().zip(trainer.weights().unwrap().params()) {
            *want += f64::from(share) * (f64::from(*now) - *want);
        }
        let have: Vec<f64> = trainer.average().unwrap().params().iter().map(|v| f64::from(*v)).collect();
        // A difference, a product and a sum of values below 2, three times.
        check(&format!("share {share}"), &have, &want, |_| 18.0 * F32_ROUNDING);
    }
}

#[test]
fn what_is_not_finite_is_an_error_and_leaves_the_weights() {
    let batch = Batch::new("live-1x8-x1", 1, 8);
    let mut trainer = batch.trainer(&device(), Options::default());
    let mut lr = vec![0.5; 8 * 8 * 3];
    lr[100] = f32::NAN;
    trainer.keep(0, Patch { h: 8, w: 8, lr: &lr, hr: &[7; 8 * 8 * 3], quantiser: 30 }).unwrap();
    let draws = batch.draws();
    let results: Vec<_> = (0..6).map(|_| trainer.step(8, &draws, CHARBONNIER, Adam::default())).collect();
    // On a device that runs ahead the first steps do not know yet.
    let error = results.into_iter().find_map(Result::err).expect("a loss of NaN is told");
    assert_eq!(error.to_string(), "cuda training backend: the loss is NaN");
    assert_eq!(bits(&trainer.weights().unwrap()), bits(&batch.weights));
    // Without the bad patch training goes on.
    batch.keep(&mut trainer);
    for _ in 0..6 {
        // Old news may come first.
        let _ = trainer.step(8, &draws, CHARBONNIER, Adam::default());
    }
    assert_ne!(bits(&trainer.weights().unwrap()), bits(&batch.weights));
}

#[test]
#[should_panic(expected = "a patch in the slot that is drawn")]
fn a_draw_from_an_empty_slot_never_reaches_the_device() {
    let batch = Batch::new("live-1x8-x1", 1, 8);
    let mut trainer = batch.trainer(&device(), Options::default());
    let _ = trainer.step(8, &[Draw { slot: 5, y: 0, x: 0, turn: Turn(0) }], CHARBONNIER, Adam::default());
}

#[test]
fn memory_is_what_the_plan_says() {
    let batch = Batch::new("live-1x16-x2", 2, 8);
    let mut trainer = batch.trainer(&device(), Options::default());
    let before = trainer.bytes();
    batch.step(&mut trainer, CHARBONNIER, Adam::default());
    let multiprocessors = device().multiprocessors();
    let plan = hone_kernels::plan::Plan::training(batch.arch, 2, 8, multiprocessors);
    assert_eq!(trainer.bytes(), before + plan.bytes());
}
