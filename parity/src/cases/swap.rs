//! When new weights take force, and that a frame is a function of its inputs alone.

use hone_model::rng::Rng;
use hone_model::{Arch, Weights};
use hone_runtime::{Error, Mode, Preference, Upscaler};

use super::{BT709, options};
use crate::{NO_ADAPTER, Picture, Report, weights};

/// Runs the cases on one upscaler; outputs are compared bit for bit with those of a fresh one.
pub fn run(preference: Preference, report: &mut Report) {
    if preference != Preference::Cpu && crate::gpu().is_none() {
        return report.skip(NO_ADAPTER);
    }
    for arch in ["live-2x16-x2", "edsr-1x8-x3"] {
        let arch: Arch = arch.parse().expect("in range");
        let rng = &mut Rng::new(11);
        let pictures = [Picture::new(rng, 18, 34, BT709), Picture::new(rng, 16, 16, BT709)];
        let generations = [weights(rng, arch), weights(rng, arch), weights(rng, arch)];
        let fresh = generations.each_ref().map(|weights| {
            let mut upscaler = open(arch, preference);
            upscaler.set_weights(weights).expect("its own architecture");
            pictures.each_ref().map(|p| frame(&mut upscaler, p))
        });
        assert!(fresh[0] != fresh[1] && fresh[1] != fresh[2], "{arch}: the cases must tell weights apart");

        let mut upscaler = open(arch, preference);
        let case = format!("{} {arch}", upscaler.backend());
        let mut expect = |upscaler: &mut Upscaler, what: &str, generation: usize| {
            for (k, picture) in pictures.iter().enumerate() {
                let got: Vec<f32> = frame(upscaler, picture).into_iter().map(f32::from).collect();
                let want: Vec<f64> = fresh[generation][k].iter().map(|&v| f64::from(v)).collect();
                // The same operations in the same order: the same bits.
                report.check(&format!("{case}: {what}"), &got, &want, |_| f64::MIN_POSITIVE);
            }
        };
        assert!(!upscaler.has_weights());
        upscaler.set_weights(&generations[0]).expect("its own architecture");
        expect(&mut upscaler, "first weights", 0);
        expect(&mut upscaler, "the same again", 0);
        upscaler.set_weights(&generations[1]).expect("its own architecture");
        expect(&mut upscaler, "one swap", 1);
        upscaler.set_weights(&generations[2]).expect("its own architecture");
        upscaler.set_weights(&generations[0]).expect("its own architecture");
        expect(&mut upscaler, "two swaps between two frames", 0);
        for generation in [1, 2] {
            upscaler.set_weights(&generations[generation]).expect("its own architecture");
            expect(&mut upscaler, "swap after swap", generation);
        }
        let other: Arch = "live-1x24-x2".parse().expect("in range");
        let refused = upscaler.set_weights(&Weights::zeros(other));
        assert!(matches!(refused, Err(Error::Arch { have, got }) if have == arch && got == other));
        expect(&mut upscaler, "after weights of another network", 2);
    }
}

fn open(arch: Arch, preference: Preference) -> Upscaler {
    Upscaler::new(arch, &options(preference)).expect("the device is there")
}

fn frame(upscaler: &mut Upscaler, picture: &Picture) -> Vec<u8> {
    let mut rgba = Vec::new();
    upscaler.upscale(&picture.yuv(), Mode::Network, &mut rgba).expect("the device works");
    rgba
}
