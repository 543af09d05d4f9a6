//! Decoded 4:2:0 planes to RGB at luma size.

use hone_model::Yuv420;
use hone_model::arch::{RGB_MEAN, quantiser_input};
use pulp::Arch;
use rayon::prelude::*;

use crate::map::{GROUP_RGB, Map};

/// One chroma plane's row at luma size: three quarters of the near chroma row, a quarter of the far one;
/// odd columns lie half-way between two samples.
#[inline(always)]
fn chroma_row(plane: &[u8], y: usize, h: usize, w: usize, row: &mut [f32]) {
    let (near, far) =
        (y / 2, if y.is_multiple_of(2) { (y / 2).saturating_sub(1) } else { (y / 2 + 1).min(h / 2 - 1) });
    let (near, far) = (&plane[near * w / 2..][..w / 2], &plane[far * w / 2..][..w / 2]);
    let sample = |x: usize| 0.75 * f32::from(near[x]) + 0.25 * f32::from(far[x]);
    let mut left = sample(0);
    for (x, pair) in row.chunks_exact_mut(2).enumerate() {
        let right = if x + 1 < w / 2 { sample(x + 1) } else { left };
        pair[0] = left;
        pair[1] = 0.5 * (left + right);
        left = right;
    }
}

/// Calls `pixel(x, rgb)` along row `y`; RGB nominally 0..=1, not clamped.
#[inline(always)]
fn for_each_pixel(picture: &Yuv420, y: usize, mut pixel: impl FnMut(usize, [f32; 3])) {
    let (h, w) = (picture.h, picture.w);
    let matrix = picture.colour.rgb_from_yuv().map(|row| row.map(|v| v as f32));
    let (mut u, mut v) = (vec![0.0; w], vec![0.0; w]);
    chroma_row(picture.u, y, h, w, &mut u);
    chroma_row(picture.v, y, h, w, &mut v);
    let luma = &picture.y[y * w..(y + 1) * w];
    for (x, ((&y, u), v)) in luma.iter().zip(&u).zip(&v).enumerate() {
        pixel(x, matrix.map(|m| m[0] * f32::from(y) + m[1] * u + m[2] * v + m[3]));
    }
}

/// Picture -> (H, W, 3) f32 RGB, nominally 0..=1, not clamped.
///
/// Answers to [`hone_model::reference::yuv_rgb`].
pub fn yuv_rgb(picture: &Yuv420) -> Vec<f32> {
    picture.check();
    let mut rgb = vec![0.0; picture.h * picture.w * 3];
    rgb.par_chunks_exact_mut(picture.w * 3).enumerate().for_each(|(y, row)| {
        for_each_pixel(picture, y, |x, rgb| row[3 * x..3 * x + 3].copy_from_slice(&rgb));
    });
    rgb
}

/// Picture -> (H, W, 3) 8-bit RGB, rounded and clamped.
pub fn rgb8_from_yuv(picture: &Yuv420) -> Vec<u8> {
    picture.check();
    let mut rgb = vec![0; picture.h * picture.w * 3];
    let arch = Arch::new();
    rgb.par_chunks_exact_mut(picture.w * 3).enumerate().for_each(|(y, row)| {
        arch.dispatch(|| {
            for_each_pixel(picture, y, |x, rgb| row[3 * x..3 * x + 3].copy_from_slice(&rgb.map(quantise)));
        });
    });
    rgb
}

/// 0.0..=1.0 -> 0..=255, rounded and clamped.
#[inline(always)]
pub fn quantise(v: f32) -> u8 {
    // `as` saturates and takes NaN to 0.
    (v * 255.0 + 0.5) as u8
}

/// A picture as the network's input: RGB minus the mean, quantiser.
pub fn load_picture(picture: &Yuv420, map: &mut Map) {
    picture.check();
    assert_eq!((map.h, map.w, map.group), (picture.h, picture.w, GROUP_RGB));
    let (stride, quantiser) = (map.stride(), quantiser_input(picture.quantiser));
    let arch = Arch::new();
    map.data[stride..].par_chunks_exact_mut(stride).take(picture.h).enumerate().for_each(|(y, row)| {
        arch.dispatch(|| {
            for_each_pixel(picture, y, |x, rgb| {
                for (c, v) in rgb.iter().enumerate() {
                    row[(x + 1) * GROUP_RGB + c] = v - RGB_MEAN[c];
                }
                row[(x + 1) * GROUP_RGB + 3] = quantiser;
            });
        });
    });
}
