//! Channels into space, on the GPU: the end of a convolution that passes its input on. The CPU's is reached through the
//! network.

use hone_model::arch::Layer;
use hone_model::reference::pixel_shuffle;
use hone_model::rng::Rng;
use hone_runtime::gpu::{
    Activation, Conv3x3, Gpu, Input, Output, Pass, Precision, Size, WeightsBuffer, WeightsLayout,
};

use super::{KERNELS, SIZES, poison, single};
use crate::{NO_ADAPTER, Report, random_tensor};

/// Runs the table.
pub fn run(gpu: Option<&Gpu>, report: &mut Report) {
    let Some(gpu) = gpu else { return report.skip(NO_ADAPTER) };
    for s in 1..=4 {
        for (k, c) in [3, 8].into_iter().enumerate() {
            let mut kernels = KERNELS.into_iter().filter(|kernel| kernel.precision == Precision::F32).cycle();
            for (h, w) in SIZES.into_iter().skip(k).step_by(2) {
                if let Some(kernel) = kernels.next() {
                    let case = format!("pixel_shuffle {kernel:?} {c} channels x{s} {w}x{h}");
                    let channels = c * s * s;
                    let rng = &mut Rng::new((s * 1_009 + c * 101 + h) as u64);
                    let x = random_tensor(rng, channels, h, w);
                    let want = pixel_shuffle(&x, s);

                    let (size, precision) = (Size { h, w }, kernel.precision);
                    let input = Activation::new(gpu, precision, size, channels).expect("a small buffer");
                    let output = Activation::new(gpu, precision, size.times(s), c).expect("a small buffer");
                    input.write(gpu, &single(&x.data));
                    output.write(gpu, &poison(c, h * s, w * s));
                    let name = String::new();
                    let layer = Layer { name, cin: channels, cout: channels, offset: 0, zero_init: false };
                    let mut params = vec![0.0; layer.params()];
                    for channel in 0..channels {
                        params[(channel * channels + channel) * 9 + 4] = 1.0;
                    }
                    let layout = WeightsLayout::new(precision, vec![(layer, s)]);
                    let weights = WeightsBuffer::new(gpu, kernel, &layout).expect("a small buffer");
                    weights.write(gpu, &layout, &layout.pack(&params));
                    let conv = Conv3x3 { relu: false, scale: 1.0 };
                    let (layer, ends) =
                        ((0, &layout.layers[0]), (Input::Activation(&input), Output::Activation(&output)));
                    let pass = Pass::conv3x3(gpu, kernel, conv, layer, [&weights; 2], ends, None);
                    gpu.run(&[&pass]).expect("the device works");

                    let (got, border) = output.read(gpu).expect("the device works");
                    assert!(border, "{case}: wrote into the border");
                    let (got, fill) = got.split_at(c * h * s * w * s);
                    assert!(
                        fill.iter().all(|&v| v == 0.0),
                        "{case}: the channels that fill up the last group"
                    );
                    // Values move, they do not change.
                    report.check(&case, got, &want.data, |_| f64::MIN_POSITIVE);
                }
            }
        }
    }
}
