//! Whole networks: both families, all scales, ragged sizes.

use hone_cpu::Network;
use hone_model::reference::{Tensor, bicubic, forward, input, yuv_rgb};
use hone_model::rng::Rng;
use hone_model::{Arch, Weights};
use hone_runtime::{Mode, Options, Preference, Upscaler, gpu};

use super::{BT709, EVEN_SIZES, SIZES, rgba, single};
use crate::{Picture, ROUNDOFF, Report, images, weights};

/// A sum of n = 9 * 64 rounded terms is off by about 0.4 * sqrt(n / 2) = 7 roundoffs of itself; 16 convolutions in a
/// row add up in quadrature to 4 times that; values up to 2; four standard deviations.
const TOLERANCE: f64 = 7.0 * 4.0 * 2.0 * 4.0 * ROUNDOFF;

/// Features that fill groups of 4, 8 and 16 and that do not; 64 are read from storage on the GPU.
const FEATURES: [u16; 5] = [8, 16, 24, 32, 64];

/// Both families at scales 1 to 4; blocks and features take turns.
pub fn archs() -> Vec<Arch> {
    let mut archs = Vec::new();
    for family in ["live", "edsr"] {
        for scale in 1..=4 {
            for blocks in [1, 4] {
                let features = FEATURES[archs.len() % FEATURES.len()];
                archs.push(format!("{family}-{blocks}x{features}-x{scale}").parse().expect("in range"));
            }
        }
    }
    archs
}

fn wide(weights: &Weights) -> Vec<f64> {
    weights.params().iter().map(|&v| f64::from(v)).collect()
}

/// f32 images through the CPU's network, one and two at a time.
pub fn cpu(report: &mut Report) {
    for (k, arch) in archs().into_iter().enumerate() {
        let rng = &mut Rng::new(k as u64);
        let weights = weights(rng, arch);
        let mut network = Network::new(&weights);
        for (n, (h, w)) in [(2, SIZES[k % 4]), (1, SIZES[4 + k % 2])] {
            let lr = images(rng, n, h, w);
            let want =
                forward(arch, &wide(&weights), &input(&Tensor::from_images(&lr), &lr.quantisers)).to_images();
            let want: Vec<f64> = want.rgb.iter().map(|&v| f64::from(v)).collect();
            let got = network.forward(&lr);
            assert_eq!((got.n, got.h, got.w), (n, h * arch.scale(), w * arch.scale()));
            report.check(&format!("cpu {arch} {w}x{h}"), &got.rgb, &want, |_| TOLERANCE);
        }
    }
}

/// Decoded pictures through an upscaler, to 8 bits: the network, and bicubic for the same upscaler.
pub fn upscaler(preference: Preference, report: &mut Report) {
    if preference != Preference::Cpu && crate::gpu().is_none() {
        return report.skip();
    }
    for (k, arch) in archs().into_iter().enumerate() {
        let rng = &mut Rng::new(100 + k as u64);
        let weights = weights(rng, arch);
        let mut upscaler = Upscaler::new(arch, &preference.into()).expect("the device is there");
        upscaler.set_weights(&weights).expect("its own architecture");
        for (h, w) in [EVEN_SIZES[k % 3], EVEN_SIZES[3 + k % 2]] {
            let picture = Picture::new(rng, h, w, BT709);
            let rgb = yuv_rgb(&picture.yuv());
            let input = input(&rgb, &[picture.yuv().quantiser]);
            for mode in [Mode::Network, Mode::Bicubic] {
                let want = match mode {
                    Mode::Network => forward(arch, &wide(&weights), &input),
                    Mode::Bicubic => bicubic(&rgb, arch.scale()),
                };
                let mut got = vec![0xa5; 7];
                upscaler.upscale(&picture.yuv(), mode, &mut got).expect("the device works");
                let case = format!("{} {arch} {w}x{h} {mode:?}", upscaler.backend());
                report.check_u8(&case, &got, &rgba(&want), TOLERANCE);
            }
        }
    }
}

/// Weights that are set while a frame is on the GPU apply from the next frame only.
pub fn weights_during_a_frame(report: &mut Report) {
    let Some(gpu) = crate::gpu() else { return report.skip() };
    let arch: Arch = "live-1x8-x2".parse().expect("in range");
    let rng = &mut Rng::new(7);
    let picture = Picture::new(rng, 16, 18, BT709);
    let generations = [weights(rng, arch), weights(rng, arch), weights(rng, arch)];
    let input = input(&yuv_rgb(&picture.yuv()), &[picture.yuv().quantiser]);
    let mut network = gpu::Network::new(gpu, arch, &Options::default()).expect("the device works");
    network.set_weights(&generations[0]).expect("its own architecture");
    for (k, inside) in generations.iter().enumerate() {
        let mut got = Vec::new();
        network.submit(&picture.yuv(), Mode::Network).expect("the device works");
        network.set_weights(&generations[(k + 1) % 3]).expect("its own architecture");
        network.read(&mut got).expect("the device works");
        let want = forward(arch, &wide(inside), &input);
        report.check_u8(&format!("generation {k}"), &got, &rgba(&want), TOLERANCE);
    }
    // Two generations between two frames: the newer one wins, and the frame after keeps it.
    for k in [1, 2] {
        network.set_weights(&generations[k]).expect("its own architecture");
    }
    let want = rgba(&forward(arch, &wide(&generations[2]), &input));
    for _ in 0..2 {
        let mut got = Vec::new();
        network.submit(&picture.yuv(), Mode::Network).expect("the device works");
        network.read(&mut got).expect("the device works");
        report.check_u8("two generations between two frames", &got, &want, TOLERANCE);
    }
}

/// The inputs of these cases do tell networks apart: another one is far beyond the tolerance.
pub fn distance_between_networks() -> f64 {
    let arch: Arch = "live-1x8-x2".parse().expect("in range");
    let rng = &mut Rng::new(7);
    let lr = images(rng, 1, 16, 18);
    let input = input(&Tensor::from_images(&lr), &lr.quantisers);
    let outputs = [(); 2].map(|()| single(&forward(arch, &wide(&weights(rng, arch)), &input).data));
    let [a, b] = &outputs;
    a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs())).sum::<f64>() / a.len() as f64
}
