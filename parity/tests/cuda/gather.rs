//! `cu/gather.cu` and the pool against `hone_model::gather`: numbers are moved, and the input is rounded once.

use crate::on_device::{poisoned, stream};
use half::f16;
use hone_kernels::gather::gather_images;
use hone_kernels::memory::{Buffer, Shape};
use hone_kernels::pool::Pool;
use hone_model::arch::{RGB_MEAN, quantiser_input};
use hone_model::gather::{Draw, Patch, Patches, Turn};
use hone_model::rng::Rng;

/// What the network reads of a pixel.
fn input(rgb: &[f32], quantiser: f32) -> [f16; 16] {
    let mut channels = [f16::ZERO; 16];
    for c in 0..3 {
        channels[c] = f16::from_f32(rgb[c] - RGB_MEAN[c]);
    }
    channels[3] = f16::from_f32(quantiser);
    channels
}

fn inputs(rgb: &[f32], quantisers: &[f32]) -> Vec<f16> {
    let pixels = rgb.len() / 3 / quantisers.len();
    rgb.chunks_exact(3).enumerate().flat_map(|(i, rgb)| input(rgb, quantisers[i / pixels])).collect()
}

#[test]
fn batches_are_those_of_the_host() {
    let stream = stream();
    let mut rng = Rng::new(3);
    for scale in 1..=4 {
        let (mut pool, mut patches) = (Pool::new(&stream, scale), Patches::new(scale));
        // Slots are filled out of order, and some again with patches of another size.
        for (slot, h, w) in [(3, 17, 23), (0, 11, 11), (5, 13, 40), (0, 12, 31), (3, 11, 12), (1, 30, 11)] {
            let lr: Vec<f32> = (0..h * w * 3).map(|_| rng.unit() as f32).collect();
            let hr: Vec<u8> = (0..h * w * 3 * scale * scale).map(|_| rng.below(256) as u8).collect();
            let patch = Patch { h, w, lr: &lr, hr: &hr, quantiser: rng.below(52) as u8 };
            pool.keep(slot, patch).unwrap();
            patches.keep(slot, patch);
        }
        let sizes = [(0, 12, 31), (1, 30, 11), (3, 11, 12), (5, 13, 40)];
        for crop in [1, 7, 11] {
            let draws: Vec<Draw> = (0..2 * Turn::COUNT)
                .map(|i| {
                    let (slot, h, w) = sizes[rng.below(sizes.len())];
                    let mut at = |size: usize| rng.below(size - crop + 1);
                    Draw { slot, y: at(h), x: at(w), turn: Turn((i % Turn::COUNT) as u8) }
                })
                .collect();
            let (lr, hr) = patches.batch(crop, &draws);
            let (network, lr_have, hr_have) = pool.batch(crop, &draws, quantiser_input).unwrap();
            assert_eq!(lr_have.read().unwrap(), lr.rgb, "x{scale}, crop {crop}");
            let codes: Vec<f32> = hr_have.read().unwrap().iter().map(|v| f32::from(*v) / 255.0).collect();
            assert_eq!(codes, hr.rgb, "x{scale}, crop {crop}");
            let quantisers: Vec<f32> = lr.quantisers.iter().map(|q| quantiser_input(*q)).collect();
            assert_eq!(network.read().unwrap(), inputs(&lr.rgb, &quantisers), "x{scale}, crop {crop}");
        }
    }
}

#[test]
fn images_are_read_whole() {
    let stream = stream();
    let mut rng = Rng::new(4);
    for (n, h, w) in [(1, 1, 1), (2, 5, 7), (3, 17, 19)] {
        let rgb: Vec<f32> = (0..n * h * w * 3).map(|_| rng.unit() as f32 * 2.0 - 0.5).collect();
        let quantisers: Vec<f32> = (0..n).map(|i| i as f32 / 8.0 - 0.25).collect();
        let mut to = poisoned(&stream, Shape { n, h, w, c: 16 });
        let (images, fourth) =
            (Buffer::from(&stream, &rgb).unwrap(), Buffer::from(&stream, &quantisers).unwrap());
        gather_images(&stream, &images, &fourth, &mut to).unwrap();
        assert_eq!(to.read().unwrap(), inputs(&rgb, &quantisers), "{n}x{h}x{w}");
    }
}

#[test]
fn the_pool_uses_room_again_and_grows_in_chunks() {
    let stream = stream();
    let mut pool = Pool::new(&stream, 2);
    assert_eq!(pool.bytes(), 0);
    let (lr, hr) = (vec![0.5; 64 * 64 * 3], vec![7; 128 * 128 * 3]);
    let patch = Patch { h: 64, w: 64, lr: &lr, hr: &hr, quantiser: 30 };
    for _ in 0..400 {
        pool.keep(0, patch).unwrap();
    }
    // 98 KB each: 400 of them would not fit into one chunk.
    assert_eq!(pool.bytes(), 16 << 20);
    for slot in 0..200 {
        pool.keep(slot, patch).unwrap();
    }
    assert_eq!(pool.bytes(), 32 << 20);
}

#[test]
#[should_panic(expected = "a crop inside its patch")]
fn a_crop_beyond_its_patch_never_reaches_the_device() {
    let mut pool = Pool::new(&stream(), 1);
    pool.keep(0, Patch { h: 4, w: 4, lr: &[0.5; 48], hr: &[7; 48], quantiser: 30 }).unwrap();
    let draw = Draw { slot: 0, y: 1, x: 0, turn: Turn(0) };
    let _ = pool.batch(4, &[draw], quantiser_input);
}
