//! `cargo bench -p hone-cpu`: GFLOP/s of direct convolution, whole networks and training steps.

use std::time::Instant;

use hone_cpu::{CpuTrainer, Network};
use hone_model::backend::{Adam, Loss, TrainBackend};
use hone_model::gather::{Draw, Patch, Turn};
use hone_model::rng::Rng;
use hone_model::{Arch, Colour, Origin, Published, Yuv420};

/// CPU seconds that this process has used; wall seconds times threads where the system does not say.
fn cpu_seconds(since: Instant) -> f64 {
    // Linux, proc(5): fields 14 and 15 of stat, in clock ticks of 10 ms.
    let ticks = std::fs::read_to_string("/proc/self/stat").ok().and_then(|stat| {
        let mut fields = stat.rsplit(')').next()?.split_whitespace().skip(11);
        Some(fields.next()?.parse::<f64>().ok()? + fields.next()?.parse::<f64>().ok()?)
    });
    ticks.map_or_else(|| since.elapsed().as_secs_f64() * threads() as f64, |ticks| ticks / 100.0)
}

/// Wall and CPU seconds a call: at least half a CPU second of calls, after one to warm up.
fn measure(mut f: impl FnMut()) -> (f64, f64) {
    f();
    let (start, cpu) = (Instant::now(), cpu_seconds(Instant::now()));
    let mut calls = 0.0;
    loop {
        f();
        calls += 1.0;
        let used = cpu_seconds(start) - cpu;
        if used > 0.5 {
            return (start.elapsed().as_secs_f64() / calls, used / calls);
        }
    }
}

fn main() {
    println!("{} threads (RAYON_NUM_THREADS changes that)", threads());
    println!("{:16} {:10} {:>9} {:>9} {:>18}", "network", "lr", "ms", "GFLOP/s", "GFLOP a CPU second");
    for net in ["live-4x16-x2", "live-8x32-x2", "live-4x16-x3", "edsr-4x16-x2", "live-16x64-x2"] {
        for (w, h) in [(480, 270), (960, 540)] {
            let arch: Arch = net.parse().expect("an architecture");
            if arch.flops(h, w) > 400_000_000_000 {
                continue;
            }
            let mut network = Network::new(&Published::origin(arch, Origin::Seed(1)).weights());
            let mut rng = Rng::new(2);
            let mut plane = |n: usize| (0..n).map(|_| rng.below(256) as u8).collect::<Vec<_>>();
            let (y, u, v) = (plane(w * h), plane(w * h / 4), plane(w * h / 4));
            let colour = Colour {
                matrix: hone_model::colour::Matrix::Bt709,
                range: hone_model::colour::Range::Limited,
            };
            let picture = Yuv420 { h, w, y: &y, u: &u, v: &v, colour, quantiser: 30 };
            let mut rgba = vec![0; h * w * arch.scale() * arch.scale() * 4];
            let seconds = measure(|| network.upscale(&picture, &mut rgba));
            row(net, &format!("{w}x{h}"), seconds, arch.flops(h, w) as f64);
        }
    }
    println!("training step, 16 patches; forward, data and weight gradient counted");
    for (net, side) in
        [("live-4x16-x2", 32), ("live-4x16-x2", 48), ("live-8x32-x2", 32), ("live-4x16-x3", 32)]
    {
        let arch: Arch = net.parse().expect("an architecture");
        let s = arch.scale();
        let mut rng = Rng::new(3);
        let mut trainer = CpuTrainer::new(Published::origin(arch, Origin::Seed(1)).weights());
        let lr: Vec<f32> = (0..side * side * 3).map(|_| rng.unit() as f32).collect();
        let hr: Vec<u8> = (0..side * side * 3 * s * s).map(|_| rng.below(256) as u8).collect();
        trainer.keep(0, Patch { h: side, w: side, lr: &lr, hr: &hr, quantiser: 30 }).expect("memory");
        let draws = [Draw { slot: 0, y: 0, x: 0, turn: Turn(0) }; 16];
        let seconds = measure(|| {
            trainer.step(side, &draws, Loss::L1, Adam::default()).expect("a step");
        });
        row(net, &format!("{side}x{side}"), seconds, (3 * 16 * arch.flops(side, side)) as f64);
    }
}

fn row(net: &str, size: &str, (wall, cpu): (f64, f64), flops: f64) {
    println!("{net:16} {size:10} {:9.2} {:9.1} {:18.1}", wall * 1e3, flops / wall / 1e9, flops / cpu / 1e9);
}

fn threads() -> usize {
    std::env::var("RAYON_NUM_THREADS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
}
