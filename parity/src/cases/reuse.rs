//! Frames with the detail of the network's last one, through an upscaler: all scales, ragged sizes.

use hone_model::Arch;
use hone_model::reference::{bicubic, reuse, yuv_rgb};
use hone_model::rng::Rng;
use hone_runtime::{Mode, Preference, Upscaler};

use super::{BT709, EVEN_SIZES, options, rgba};
use crate::{NO_ADAPTER, Picture, ROUNDOFF, Report, weights};

/// Two upscales as in the cases of bicubic, and a weight that is off by 8 roundoffs on a residual up to 3.
const TOLERANCE: f64 = (2.0 * 12.0 * 1.6 * 1.25 * 1.25 + 8.0 * 3.0) * ROUNDOFF;

/// Runs the cases: a frame by the network, then others that reuse it, with and without frames by bicubic in between.
pub fn run(preference: Preference, report: &mut Report) {
    if preference != Preference::Cpu && crate::gpu().is_none() {
        return report.skip(NO_ADAPTER);
    }
    for s in 1..=4 {
        let arch: Arch = format!("live-1x8-x{s}").parse().expect("in range");
        let rng = &mut Rng::new(600 + s as u64);
        let mut upscaler = Upscaler::new(arch, &options(preference)).expect("the device is there");
        upscaler.set_weights(&weights(rng, arch)).expect("its own architecture");
        upscaler.keep(true);
        for (h, w) in EVEN_SIZES {
            let case = format!("{} reuse x{s} {w}x{h}", upscaler.backend());
            let last = Picture::new(rng, h, w, BT709);
            assert_eq!(upscaler.possible(h, w, Mode::Reuse), Mode::Network, "{case}: nothing is kept");
            // Asked for too early, it is the network's: that frame is kept.
            let shown = frame(&mut upscaler, &last, Mode::Reuse);
            assert_eq!(upscaler.possible(h, w, Mode::Reuse), Mode::Reuse, "{case}");
            assert!(shown == frame(&mut upscaler, &last, Mode::Network), "{case}: the network's");
            let mut reused = false;
            for round in 0..3 {
                let now = last.nearly(rng);
                let plain = bicubic(&yuv_rgb(&now.yuv()), s);
                if round > 0 {
                    frame(&mut upscaler, &now, Mode::Bicubic);
                }
                let want = reuse(&now.yuv(), &last.yuv(), &shown, s);
                reused |= want != plain;
                let got = frame(&mut upscaler, &now, Mode::Reuse);
                report.check_u8(&case, &got, &rgba(&want), TOLERANCE);
            }
            assert!(reused || h * w < 100, "{case}: the cases must tell it from bicubic");
        }
        upscaler.keep(false);
        assert_eq!(upscaler.possible(18, 66, Mode::Reuse), Mode::Network);
    }
}

fn frame(upscaler: &mut Upscaler, picture: &Picture, mode: Mode) -> Vec<u8> {
    let mut rgba = vec![0xa5; 7];
    upscaler.upscale(&picture.yuv(), mode, &mut rgba).expect("the device works");
    rgba
}
