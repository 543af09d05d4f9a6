//! Times, and how far they are above the floor.

use std::path::Path;

use hone_kernels::cost::{Cost, H100_BYTES, H100_FLOPS};
use hone_kernels::plan::{Part, Plan, Step};
use hone_kernels::{CudaTrainer, Device, Options};
use hone_model::backend::{Adam, Loss, TrainBackend};
use hone_model::gather::{Draw, Patch, Turn};
use hone_model::rng::Rng;

use super::nets::{BATCHES, CROP, NETS, arch, patch, weights};

/// Multiprocessors of an H100 SXM, where there is no device to ask.
const H100_MULTIPROCESSORS: u32 = 132;
/// Steps before the clock runs.
const WARM_UP: usize = 20;
/// Steps that are timed, one by one.
const STEPS: usize = 200;
/// Launches of a part between two events.
const REPEAT: usize = 50;
/// LR sizes of whole pictures: 540p.
const PICTURE: (usize, usize) = (540, 960);

/// Prints the tables, and writes the steps' times.
pub fn run(device: usize, json: Option<&Path>) -> Result<(), Box<dyn std::error::Error>> {
    let device = match Device::open(device) {
        Ok(device) => device,
        Err(reason) => {
            println!("nothing is timed: {reason}");
            return floors();
        }
    };
    println!(
        "{}, compute capability {}.{}, {} multiprocessors; floors are those of an H100 SXM: 790 TFLOP/s, 3.0 TB/s",
        device.name(),
        device.capability().0,
        device.capability().1,
        device.multiprocessors()
    );
    let mut rows = vec![];
    println!("\nstep as one graph, crops of {CROP}x{CROP}: median of {STEPS}\n{HEADER}");
    for net in NETS {
        for batch in BATCHES {
            let mut trainer = trainer(&device, net, batch)?;
            let ms = f64::from(trainer.time_steps(CROP, &draws(batch), WARM_UP, STEPS)?);
            let plan = Plan::training(arch(net), batch, CROP, device.multiprocessors());
            row(net, &format!("batch {batch}"), ms * 1e3, &plan);
            rows.push(format!("  {{\"net\": \"{net}\", \"batch\": {batch}, \"ms\": {ms}}}"));
        }
    }
    println!("\neach part of a step, batch 64: mean of {REPEAT}\n{HEADER}");
    for net in NETS {
        let mut trainer = trainer(&device, net, 64)?;
        let plan = Plan::training(arch(net), 64, CROP, device.multiprocessors());
        for (part, ms) in trainer.time_parts(CROP, &draws(64), REPEAT)? {
            let cost = plan.cost_of_part(&part);
            line(net, &label(&part, &plan), f64::from(ms) * 1e3, cost.flop, cost.bytes, cost.floor_us());
        }
    }
    println!("\nforward pass of a picture, {}x{} LR\n{HEADER}", PICTURE.1, PICTURE.0);
    for net in ["live-4x16-x2", "live-8x32-x2", "live-16x64-x2"] {
        let mut trainer = trainer(&device, net, 1)?;
        let ms = trainer.time_forward(PICTURE, WARM_UP, STEPS)?;
        let plan = Plan::forward(arch(net), 1, PICTURE.0, PICTURE.1);
        let cost = plan.steps.iter().map(|step| plan.cost(step)).fold(Cost::default(), std::ops::Add::add);
        line(
            net,
            &format!("{:.0} frames/s", 1e3 / ms),
            f64::from(ms) * 1e3,
            cost.flop,
            cost.bytes,
            cost.floor_us(),
        );
    }
    if let Some(path) = json {
        let text = format!("{{\"device\": {:?}, \"steps\": [\n{}\n]}}\n", device.name(), rows.join(",\n"));
        std::fs::write(path, text)?;
    }
    Ok(())
}

const HEADER: &str =
    "net              what                            us  TFLOP/s     GB/s  floor us  % of floor";

fn row(net: &str, what: &str, us: f64, plan: &Plan) {
    let cost = plan.total_cost();
    line(net, what, us, cost.flop, cost.bytes, plan.floor_us());
}

fn line(net: &str, what: &str, us: f64, flop: u64, bytes: u64, floor_us: f64) {
    let (tflops, gbytes) = (flop as f64 / us / 1e6, bytes as f64 / us / 1e3);
    println!(
        "{net:16} {what:24} {us:9.1} {tflops:8.1} {gbytes:8.0} {floor_us:9.1} {:11.0}",
        100.0 * floor_us / us
    );
}

/// What can be said without a device: counted work, the time that no H100 can beat, and what to expect.
fn floors() -> Result<(), Box<dyn std::error::Error>> {
    println!(
        "\ncounted, not measured: the least that an H100 SXM (790 TFLOP/s, 3.0 TB/s) needs, part after part.\n\
         predicted: {:.0}% of its memory's speed, {:.0}% of its tensor cores' by mma.sync and {:.0}% by wgmma, and {} us\n\
         from one part to the next",
        100.0 * BYTES_SHARE,
        100.0 * MMA_SHARE,
        100.0 * WGMMA_SHARE,
        LAUNCH_US
    );
    println!("net              batch     parts    GFLOP       MB  floor us  predicted us");
    for net in NETS {
        for batch in BATCHES {
            let plan = Plan::training(arch(net), batch, CROP, H100_MULTIPROCESSORS);
            let cost = plan.total_cost();
            println!(
                "{net:16} {batch:5} {:9} {:8.1} {:8.1} {:9.1} {:13.0}",
                plan.parts().len(),
                cost.flop as f64 / 1e9,
                cost.bytes as f64 / 1e6,
                plan.floor_us(),
                predicted_us(&plan)
            );
        }
    }
    Ok(())
}

/// Share of the memory's speed that kernels which move long rows reach.
const BYTES_SHARE: f64 = 0.85;
/// Shares of the tensor cores' speed.
const MMA_SHARE: f64 = 0.5;
const WGMMA_SHARE: f64 = 0.75;
/// From the end of a part to the start of the next, in a graph.
const LAUNCH_US: f64 = 1.3;

/// Assumed, not measured: the constants above.
fn predicted_us(plan: &Plan) -> f64 {
    let wide = |a: usize, b: usize| plan.tensors[a].c == 64 && plan.tensors[b].c.is_multiple_of(64);
    let launch = |part: &Part| {
        let cost = plan.cost_of_part(part);
        let wgmma = match part {
            Part::Launch(
                Step::Conv3x3 { x, y, .. }
                | Step::Conv3x3Grad { gy: x, gx: y, .. }
                | Step::GradWeights { x, gy: y, .. },
            ) => wide(*x, *y),
            _ => false,
        };
        let flops = H100_FLOPS * if wgmma { WGMMA_SHARE } else { MMA_SHARE };
        LAUNCH_US + 1e6 * (cost.flop as f64 / flops).max(cost.bytes as f64 / (H100_BYTES * BYTES_SHARE))
    };
    plan.parts().iter().map(launch).sum()
}

fn trainer(
    device: &std::sync::Arc<Device>,
    net: &str,
    slots: usize,
) -> Result<CudaTrainer, Box<dyn std::error::Error>> {
    let arch = arch(net);
    let mut trainer = CudaTrainer::new(device, &weights(arch), Options::default())?;
    let rng = &mut Rng::new(3);
    for slot in 0..slots {
        let (lr, hr) = patch(rng, CROP, arch.scale());
        trainer.keep(slot, Patch { h: CROP, w: CROP, lr: &lr, hr: &hr, quantiser: 30 })?;
    }
    // Everything is compiled by the driver at its first use.
    trainer.step(CROP, &draws(slots), Loss::Charbonnier { eps: 0.01 }, Adam::default())?;
    Ok(trainer)
}

fn draws(batch: usize) -> Vec<Draw> {
    (0..batch).map(|slot| Draw { slot, y: 0, x: 0, turn: Turn((slot % Turn::COUNT) as u8) }).collect()
}

/// A part, by its kernel and channels.
fn label(part: &Part, plan: &Plan) -> String {
    let c = |id: usize| plan.tensors[id].c;
    match part {
        Part::Gather => "gather".into(),
        Part::Adam => "adam".into(),
        Part::Launch(step) => match *step {
            Step::Conv3x3 { x, y, .. } => format!("conv3x3 {} to {}", c(x), c(y)),
            Step::Conv3x3Grad { gy, gx, .. } => format!("conv3x3 {} to {} (grad)", c(gy), c(gx)),
            Step::GradWeights { x, gy, .. } => format!("grad_weights {} to {}", c(x), c(gy)),
            Step::Resblock { x, .. } => format!("resblock {}", c(x)),
            Step::ResblockGrad { gy, .. } => format!("resblock_grad {}", c(gy)),
            Step::PixelShuffle { c, s, .. } => format!("pixel_shuffle {c} x{s}"),
            Step::PixelShuffleGrad { c, s, .. } => format!("pixel_shuffle_grad {c} x{s}"),
            Step::Add { a, .. } => format!("add {}", c(a)),
            Step::Loss { .. } => "loss".into(),
            Step::ReduceGrads(_) => "reduce_grads".into(),
        },
    }
}
