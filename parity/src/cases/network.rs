//! Whole networks: both families, all scales, ragged sizes.

use hone_cpu::Network;
use hone_model::reference::{Tensor, bicubic, forward, input, yuv_rgb};
use hone_model::rng::Rng;
use hone_model::{Arch, Weights};
use hone_runtime::gpu::{Gpu, Kernel, Precision};
use hone_runtime::{Mode, Preference, Upscaler, gpu};

use super::{BT709, COLOURS, EVEN_SIZES, KERNELS, SIZES, kernels, options, rgba, single};
use crate::{HALF_ROUNDOFF, NO_ADAPTER, Picture, ROUNDOFF, Report, images, weights};

/// A sum of n = 9 * 64 rounded terms is off by about 0.4 * sqrt(n / 2) = 7 roundoffs of itself; 16 convolutions in a
/// row add up in quadrature to 4 times that; values up to 2; four standard deviations.
const TOLERANCE: f64 = 7.0 * 4.0 * 2.0 * 4.0 * ROUNDOFF;

/// With activations in f16, of one block: the head's, two of a block, the body's and up to two upsamplers' stores and the RGB
/// are each off by up to 2^-10 of values up to 2, in quadrature; four standard deviations of a uniform distribution.
const HALF_TOLERANCE: f64 = 2.65 * 2.0 * HALF_ROUNDOFF * 4.0 * 0.29;

/// With sums of 12 products in f16 too: product and sum are each rounded by up to 2^-11 of the sum so far, uniformly. Over all
/// of a convolution's sums, relative to what it puts out, that is sqrt(2 * 12) * 0.7 * 2^-11 / sqrt(3); seven convolutions in
/// quadrature, values of 0.6 in the rms, six standard deviations.
const HALF_SUMS_TOLERANCE: f64 = 4.9 * 0.7 / 2048.0 / 1.73 * 2.65 * 0.6 * 6.0;

/// Features that fill groups of 4, 8 and 16 and that do not; 64 are read from storage on the GPU.
const FEATURES: [u16; 5] = [8, 16, 24, 32, 64];

/// Residual blocks: one, and those after it that add to what it made.
const BLOCKS: [u16; 3] = [1, 2, 4];

/// Both families at scales 1 to 4, each with so many blocks; features take turns.
fn archs(blocks: &[u16]) -> Vec<Arch> {
    let mut archs = Vec::new();
    for family in ["live", "edsr"] {
        for scale in 1..=4 {
            for blocks in blocks {
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
    for (k, arch) in archs(&BLOCKS).into_iter().enumerate() {
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
        return report.skip(NO_ADAPTER);
    }
    // In software each network takes seconds to compile: one of each family and scale is enough, see `every_kernel`.
    let all = preference == Preference::Cpu;
    let taken = |k: usize| all || k % BLOCKS.len() == k / BLOCKS.len() % BLOCKS.len();
    for (k, arch) in archs(&BLOCKS).into_iter().enumerate().filter(|&(k, _)| taken(k)) {
        let rng = &mut Rng::new(100 + k as u64);
        let weights = weights(rng, arch);
        let mut upscaler = Upscaler::new(arch, &options(preference)).expect("the device is there");
        upscaler.set_weights(&weights).expect("its own architecture");
        for (h, w) in [EVEN_SIZES[k % 3], EVEN_SIZES[3 + k % 2]] {
            let picture = Picture::new(rng, h, w, COLOURS[k % COLOURS.len()]);
            let rgb = yuv_rgb(&picture.yuv());
            let input = input(&rgb, &[picture.yuv().quantiser]);
            let network = forward(arch, &wide(&weights), &input);
            for (mode, want) in [(Mode::Network, network), (Mode::Bicubic, bicubic(&rgb, arch.scale()))] {
                let mut got = vec![0xa5; 7];
                upscaler.upscale(&picture.yuv(), mode, &mut got).expect("the device works");
                let case = format!("{} {arch} {w}x{h} {mode:?}", upscaler.backend());
                report.check_u8(&case, &got, &rgba(&want), TOLERANCE);
            }
        }
    }
}

fn tolerance(precision: Precision, arch: Arch) -> f64 {
    // A further block stores twice more, and adds a half to the square of what all stores are relative to: ReLU lets half
    // of its first convolution through.
    let blocks = f64::from(arch.blocks);
    let growth = ((2.0 * blocks + 5.0) / 7.0 * 1.5f64.powf(blocks - 1.0)).sqrt();
    match precision {
        Precision::F32 => TOLERANCE,
        Precision::F16Storage | Precision::Coop8 | Precision::Coop16 => HALF_TOLERANCE * growth,
        Precision::F16 => (HALF_TOLERANCE + HALF_SUMS_TOLERANCE) * growth,
    }
}

/// Every way to compute, through a network of each family and scale: weights that fill groups and that do not, and that
/// leave uniform memory. Each way meets both depths, all sizes and all colours, not all at once: compiling takes the time.
pub fn every_kernel(report: &mut Report) {
    let Some(gpu) = crate::gpu() else { return report.skip(NO_ADAPTER) };
    let kernels = kernels(&gpu, report);
    for (a, arch) in archs(&[1]).into_iter().enumerate() {
        for (k, (gpu, kernel)) in kernels.iter().enumerate() {
            let arch = Arch { blocks: BLOCKS[1 + (a + k) % 2], ..arch };
            let rng = &mut Rng::new((200 + 10 * a + k) as u64);
            let weights = weights(rng, arch);
            let (h, w) = EVEN_SIZES[(a + k) % EVEN_SIZES.len()];
            let picture = Picture::new(rng, h, w, COLOURS[(a + k) % COLOURS.len()]);
            let input = input(&yuv_rgb(&picture.yuv()), &[picture.yuv().quantiser]);
            let want = rgba(&forward(arch, &wide(&weights), &input));
            let got = on_gpu(gpu, *kernel, &weights, &picture);
            let case = format!("{kernel:?} {arch} {w}x{h} {:?}", picture.yuv().colour);
            report.check_u8(&case, &got, &want, tolerance(kernel.precision, arch));
        }
    }
}

/// Full HD in every way to compute, against the CPU's network, which is itself held to the oracle: that would take minutes.
pub fn full_hd(report: &mut Report) {
    let Some(gpu) = crate::gpu() else { return report.skip(NO_ADAPTER) };
    let arch: Arch = "live-1x8-x1".parse().expect("in range");
    let rng = &mut Rng::new(300);
    let weights = weights(rng, arch);
    let (h, w) = (1080, 1920);
    let picture = Picture::new(rng, h, w, BT709);
    let mut cpu = Upscaler::new(arch, &options(Preference::Cpu)).expect("the CPU is there");
    cpu.set_weights(&weights).expect("its own architecture");
    let mut want = Vec::new();
    cpu.upscale(&picture.yuv(), Mode::Network, &mut want).expect("a CPU does not fail");
    let want: Vec<f64> = want.into_iter().map(|v| f64::from(v) / 255.0).collect();
    for (gpu, kernel) in kernels(&gpu, report) {
        let got = on_gpu(&gpu, kernel, &weights, &picture);
        let case = format!("{kernel:?} {arch} {w}x{h}");
        // Either rounds by half a code value, so that two right results may differ by one.
        report.check_u8(&case, &got, &want, 0.51 / 255.0 + TOLERANCE + tolerance(kernel.precision, arch));
    }
}

fn on_gpu(gpu: &Gpu, kernel: Kernel, weights: &Weights, picture: &Picture) -> Vec<u8> {
    let mut network =
        gpu::Network::with_kernel(gpu.clone(), weights.arch(), kernel).expect("the device works");
    network.set_weights(weights).expect("its own architecture");
    let mut got = Vec::new();
    network.submit(&picture.yuv(), Mode::Network).expect("the device works");
    network.read(&mut got).expect("the device works");
    got
}

/// Weights that are set while a frame is on the GPU apply from the next frame only.
pub fn weights_during_a_frame(report: &mut Report) {
    let Some(gpu) = crate::gpu() else { return report.skip(NO_ADAPTER) };
    let arch: Arch = "live-1x8-x2".parse().expect("in range");
    let rng = &mut Rng::new(7);
    let picture = Picture::new(rng, 16, 18, BT709);
    let generations = [weights(rng, arch), weights(rng, arch), weights(rng, arch)];
    let input = input(&yuv_rgb(&picture.yuv()), &[picture.yuv().quantiser]);
    let mut network = gpu::Network::with_kernel(gpu, arch, KERNELS[1]).expect("the device works");
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
