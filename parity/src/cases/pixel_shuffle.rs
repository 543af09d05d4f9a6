//! Channels into space, on the GPU. The CPU's is reached through the network.

use hone_model::reference::pixel_shuffle;
use hone_model::rng::Rng;
use hone_runtime::gpu::{Activation, Gpu, Pass, Size};

use super::{SIZES, poison, single};
use crate::{Report, random_tensor};

/// Runs the table.
pub fn run(gpu: Option<&Gpu>, report: &mut Report) {
    let Some(gpu) = gpu else { return report.skip() };
    for s in 1..=4 {
        for c in [3, 4, 8, 16] {
            for (h, w) in SIZES {
                let case = format!("pixel_shuffle {c} channels x{s} {w}x{h}");
                let x = random_tensor(&mut Rng::new((s * 1_009 + c * 101 + h) as u64), c * s * s, h, w);
                let want = pixel_shuffle(&x, s);
                let input = Activation::new(gpu, Size { h, w }, c * s * s).expect("a small buffer");
                let output = Activation::new(gpu, Size { h: h * s, w: w * s }, c).expect("a small buffer");
                input.write(gpu, &single(&x.data));
                output.write(gpu, &poison(c, h * s, w * s));
                let pass = Pass::pixel_shuffle(gpu, c, s, [&input, &output]);
                gpu.run(&[&pass]).expect("the device works");
                let (got, border) = output.read(gpu).expect("the device works");
                assert!(border, "{case}: wrote into the border");
                let (got, fill) = got.split_at(c * h * s * w * s);
                assert!(fill.iter().all(|&v| v == 0.0), "{case}: the channels that fill up the last group");
                // Values move, they do not change.
                report.check(&case, got, &want.data, |_| f64::MIN_POSITIVE);
            }
        }
    }
}
