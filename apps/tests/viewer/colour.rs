//! Test patterns in every matrix and range.

use hone_apps::picture;
use hone_apps::screen::Screen;
use hone_media::encode::{self, Encoder};
use hone_media::frame::{Colour, I420, Matrix, Range};
use hone_model::update;
use hone_model::{Arch, Origin, Published, Weights};
use hone_runtime::{Mode, Preference};

use crate::stream::{ARCH, FPS, software};

/// Kr and Kb of each matrix. Source: ITU-R BT.601-7, BT.709-6, BT.2020-2.
const MATRICES: [(Matrix, f64, f64); 3] =
    [(Matrix::Bt601, 0.299, 0.114), (Matrix::Bt709, 0.2126, 0.0722), (Matrix::Bt2020, 0.2627, 0.0593)];
/// Side of a patch of one colour: its middle is far from what the codec and the filters mix in from others.
const PATCH: u32 = 32;
/// R'G'B' of the patches: primaries, secondaries, greys, and skin.
const PATCHES: [[f64; 3]; 12] = [
    [0.0, 0.0, 0.0],
    [1.0, 1.0, 1.0],
    [0.5, 0.5, 0.5],
    [1.0, 0.0, 0.0],
    [0.0, 1.0, 0.0],
    [0.0, 0.0, 1.0],
    [1.0, 1.0, 0.0],
    [0.0, 1.0, 1.0],
    [1.0, 0.0, 1.0],
    [0.9, 0.7, 0.6],
    [0.2, 0.4, 0.3],
    [0.75, 0.75, 0.75],
];

/// Y', Cb, Cr code values of R'G'B', written out from the recommendations: the reference.
fn reference_yuv(rgb: [f64; 3], (kr, kb): (f64, f64), range: Range) -> [f64; 3] {
    let y = kr * rgb[0] + (1.0 - kr - kb) * rgb[1] + kb * rgb[2];
    let (cb, cr) = ((rgb[2] - y) / (2.0 * (1.0 - kb)), (rgb[0] - y) / (2.0 * (1.0 - kr)));
    match range {
        Range::Limited => [219.0 * y + 16.0, 224.0 * cb + 128.0, 224.0 * cr + 128.0],
        Range::Full => [255.0 * y, 255.0 * cb + 128.0, 255.0 * cr + 128.0],
    }
}

/// R'G'B' code values of Y', Cb, Cr code values: the inverse, clamped.
fn reference_rgb(yuv: [f64; 3], (kr, kb): (f64, f64), range: Range) -> [f64; 3] {
    let [y, cb, cr] = match range {
        Range::Limited => [(yuv[0] - 16.0) / 219.0, (yuv[1] - 128.0) / 224.0, (yuv[2] - 128.0) / 224.0],
        Range::Full => [yuv[0] / 255.0, (yuv[1] - 128.0) / 255.0, (yuv[2] - 128.0) / 255.0],
    };
    let (r, b) = (y + 2.0 * (1.0 - kr) * cr, y + 2.0 * (1.0 - kb) * cb);
    let g = (y - kr * r - kb * b) / (1.0 - kr - kb);
    [r, g, b].map(|v| (v * 255.0).clamp(0.0, 255.0))
}

/// An update to weights that add nothing to the base, as their last layer is zero: what the network shows is its own
/// conversion and upscale of the picture.
fn update_that_adds_nothing() -> Vec<u8> {
    let arch: Arch = ARCH.parse().unwrap();
    let origin = Origin::Seed(3);
    let base = Published::origin(arch, origin);
    let mut params = base.weights().params().to_vec();
    params[0] += 0.05;
    update::encode(origin, &base, &base.next(&Weights::from_params(arch, params)), 1.0)
}

/// From what the codec gives to the screen, and from the screen to what the recording gets: within one code value of
/// the reference in every matrix and range, on every device, by bicubic and by the network.
#[test]
fn colours_are_those_of_the_reference() {
    for target in [Preference::Cpu.into(), software()] {
        let mut screen = match Screen::new(ARCH.parse().unwrap(), target) {
            Ok(screen) => screen,
            Err(error) => {
                eprintln!("SKIPPED: {error}");
                continue;
            }
        };
        screen.update(&update_that_adds_nothing()).unwrap();
        for (matrix, kr, kb) in MATRICES {
            for range in [Range::Limited, Range::Full] {
                let colour = Colour { matrix, range };
                let (width, height) = (4 * PATCH, 3 * PATCH);
                let mut image = I420::new(width, height).unwrap();
                let patch = |i: u32, w: u32, side: u32| ((i / w / side) * 4 + i % w / side) as usize;
                let codes = PATCHES.map(|rgb| reference_yuv(rgb, (kr, kb), range).map(|v| v.round() as u8));
                (0..).zip(image.y_mut()).for_each(|(i, v)| *v = codes[patch(i, width, PATCH)][0]);
                (0..).zip(image.u_mut()).for_each(|(i, v)| *v = codes[patch(i, width / 2, PATCH / 2)][1]);
                (0..).zip(image.v_mut()).for_each(|(i, v)| *v = codes[patch(i, width / 2, PATCH / 2)][2]);
                let config = encode::Config { colour, ..encode::Config::new(width, height, FPS, 20_000) };
                let packet = Encoder::new(&config).unwrap().encode(&image, 0, true).unwrap();
                let frame = screen.decode(&packet.data, 0).unwrap().remove(0);
                assert_eq!(frame.colour, colour, "the stream's tags");
                let (mut rgba, mut network) = (vec![], vec![]);
                screen.upscale(&frame, Mode::Bicubic, &mut rgba).unwrap();
                screen.upscale(&frame, Mode::Network, &mut network).unwrap();
                let back = picture::i420_from_rgba(&rgba, 2 * width, 2 * height, colour).unwrap();
                for (index, code) in (0..).zip(codes) {
                    let (x, y) = (index % 4 * PATCH + PATCH / 2, index / 4 * PATCH + PATCH / 2);
                    let at = |plane: &[u8], x: u32, y: u32, w: u32| f64::from(plane[(y * w + x) as usize]);
                    let decoded = [
                        at(frame.image.y(), x, y, width),
                        at(frame.image.u(), x / 2, y / 2, width / 2),
                        at(frame.image.v(), x / 2, y / 2, width / 2),
                    ];
                    let what = format!("{} {matrix:?} {range:?} patch {index}", screen.backend());
                    for c in 0..3 {
                        let off = (decoded[c] - f64::from(code[c])).abs();
                        assert!(off <= 2.0, "{what}: the codec is off by {off}");
                    }
                    let rgb = reference_rgb(decoded, (kr, kb), range);
                    let shown = (2 * y * 2 * width + 2 * x) as usize * 4;
                    for (mode, picture) in [("bicubic", &rgba), ("network", &network)] {
                        for c in 0..3 {
                            let off = (f64::from(picture[shown + c]) - rgb[c]).abs();
                            assert!(off <= 1.0, "{what}: R'G'B' {c} by {mode} is off by {off}");
                        }
                    }
                    let yuv = reference_yuv(rgb.map(|v| v / 255.0), (kr, kb), range);
                    let recorded = [
                        at(back.y(), 2 * x, 2 * y, 2 * width),
                        at(back.u(), x, y, width),
                        at(back.v(), x, y, width),
                    ];
                    for c in 0..3 {
                        let off = (recorded[c] - yuv[c]).abs();
                        assert!(off <= 1.0, "{what}: recorded plane {c} is off by {off}");
                    }
                }
            }
        }
    }
}
