//! A few steps of small networks, number by number: the same program on a card and on the interpreter.

use std::fmt::Write as _;
use std::path::Path;

use hone_kernels::{CudaTrainer, Device, Options};
use hone_model::backend::{Adam, Loss, TrainBackend};
use hone_model::gather::{Draw, Patch, Turn};
use hone_model::rng::Rng;

use super::nets::{arch, patch, weights};

/// Both families, all scales, every way through the body: fused, by mma.sync, by wgmma where there is one.
const NETS: [&str; 6] =
    ["live-2x16-x2", "live-1x32-x3", "live-1x48-x1", "edsr-1x64-x2", "edsr-1x16-x4", "live-1x8-x4"];
const STEPS: usize = 3;
const CROP: usize = 13;

/// Trains and writes one line a number: where it is from, and its bits.
pub fn write(device: usize, path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::open(device)?;
    let mut out = String::new();
    for net in NETS {
        let arch = arch(net);
        let mut trainer = CudaTrainer::new(&device, &weights(arch), Options::default())?;
        let rng = &mut Rng::new(7);
        let side = CROP + 3;
        let (lr, hr) = patch(rng, side, arch.scale());
        trainer.keep(0, Patch { h: side, w: side, lr: &lr, hr: &hr, quantiser: 33 })?;
        for step in 0..STEPS {
            let draws: Vec<Draw> = (0..3)
                .map(|i| Draw { slot: 0, y: i, x: step, turn: Turn((3 * step + i) as u8 % 8) })
                .collect();
            trainer.step(CROP, &draws, Loss::Charbonnier { eps: 0.01 }, Adam::default())?;
            writeln!(out, "{net} loss {:08x}", trainer.status()?.loss.to_bits())?;
        }
        for v in trainer.weights()?.params() {
            writeln!(out, "{net} weights {:08x}", v.to_bits())?;
        }
    }
    println!("{} numbers of {} networks on {}", out.lines().count(), NETS.len(), device.name());
    Ok(std::fs::write(path, out)?)
}

/// Prints, for each network, how far apart the numbers of two traces are.
pub fn compare(a: &Path, b: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let read =
        |path: &Path| std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()));
    let (a, b) = (read(a)?, read(b)?);
    if a.lines().count() != b.lines().count() || a.is_empty() {
        return Err("these are not traces of the same program".into());
    }
    println!("{:20} {:>8} {:>9} {:>12} {:>12}", "", "numbers", "bits same", "largest", "mean apart");
    let mut sums: Vec<(&str, usize, usize, f64, f64)> = vec![];
    for (a, b) in a.lines().zip(b.lines()) {
        let parse = |line| -> Option<(&str, f32)> {
            let (what, bits) = str::rsplit_once(line, ' ')?;
            Some((what, f32::from_bits(u32::from_str_radix(bits, 16).ok()?)))
        };
        let (Some((what, x)), Some((other, y))) = (parse(a), parse(b)) else {
            return Err("not a trace".into());
        };
        if what != other {
            return Err(format!("`{what}` against `{other}`: not traces of the same program").into());
        }
        if sums.last().is_none_or(|sum| sum.0 != what) {
            sums.push((what, 0, 0, 0.0, 0.0));
        }
        if let Some((_, count, same, largest, sum)) = sums.last_mut() {
            let apart = f64::from((x - y).abs());
            *count += 1;
            *same += usize::from(x.to_bits() == y.to_bits());
            *largest = if apart <= *largest { *largest } else { apart };
            *sum += apart;
        }
    }
    for (what, count, same, largest, sum) in sums {
        println!("{what:20} {count:8} {same:9} {largest:12.3e} {:12.3e}", sum / count as f64);
    }
    Ok(())
}
