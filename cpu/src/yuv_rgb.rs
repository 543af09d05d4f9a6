//! Decoded 4:2:0 planes to RGB at luma size.

use std::cell::RefCell;

use hone_model::Yuv420;
use hone_model::arch::{RGB_MEAN, quantiser_input};
use rayon::prelude::*;

use crate::map::{GROUP_RGB, Map};
use crate::simd::{code_value, simd};

/// The working memory of one row: each step of the conversion is a loop of its own over whole lines, so that the
/// compiler turns it into SIMD.
#[derive(Default)]
struct Lines {
    /// A chroma line between two rows of samples, and one more sample, the last again.
    samples: Vec<f32>,
    u: Vec<f32>,
    v: Vec<f32>,
    rgb: [Vec<f32>; 3],
}

impl Lines {
    fn new(w: usize) -> Self {
        let line = || vec![0.0; w];
        Self { samples: vec![0.0; w / 2 + 1], u: line(), v: line(), rgb: [line(), line(), line()] }
    }

    /// Calls `work` with this thread's own, which is kept from row to row and from frame to frame.
    fn with(w: usize, work: impl FnOnce(&mut Self)) {
        thread_local! {
            static LINES: RefCell<Lines> = RefCell::default();
        }
        LINES.with_borrow_mut(|lines| {
            if lines.u.len() != w {
                *lines = Self::new(w);
            }
            work(lines);
        });
    }

    /// Row `y` as R, G and B, nominally 0..=1, not clamped.
    #[inline(always)]
    fn convert(&mut self, picture: &Yuv420, y: usize) -> &[Vec<f32>; 3] {
        let w = picture.w;
        chroma_row(picture.u, y, picture.h, &mut self.samples, &mut self.u);
        chroma_row(picture.v, y, picture.h, &mut self.samples, &mut self.v);
        let luma = &picture.y[y * w..(y + 1) * w];
        for (row, out) in picture.colour.rgb_from_yuv().iter().zip(&mut self.rgb) {
            let m = row.map(|v| v as f32);
            let values = luma.iter().zip(&self.u).zip(&self.v);
            for (out, ((&y, u), v)) in out.iter_mut().zip(values) {
                *out = m[0] * f32::from(y) + m[1] * u + m[2] * v + m[3];
            }
        }
        &self.rgb
    }
}

/// One chroma plane's row at luma size: three quarters of the near chroma row, a quarter of the far one;
/// odd columns lie half-way between two samples.
#[inline(always)]
fn chroma_row(plane: &[u8], y: usize, h: usize, samples: &mut [f32], row: &mut [f32]) {
    let half = row.len() / 2;
    let (near, far) =
        (y / 2, if y.is_multiple_of(2) { (y / 2).saturating_sub(1) } else { (y / 2 + 1).min(h / 2 - 1) });
    let (near, far) = (&plane[near * half..][..half], &plane[far * half..][..half]);
    for (sample, (near, far)) in samples.iter_mut().zip(near.iter().zip(far)) {
        *sample = 0.75 * f32::from(*near) + 0.25 * f32::from(*far);
    }
    samples[half] = samples[half - 1];
    for (pair, (left, right)) in row.chunks_exact_mut(2).zip(samples.iter().zip(&samples[1..])) {
        pair[0] = *left;
        pair[1] = 0.5 * (left + right);
    }
}

/// Calls `write(row, rgb)` for each row of `out`, `stride` values each, on all cores.
fn for_each_row<T: Send>(
    picture: &Yuv420,
    out: &mut [T],
    stride: usize,
    write: impl Fn(&mut [T], [&[f32]; 3]) + Sync,
) {
    picture.check();
    let rows = out.par_chunks_exact_mut(stride).take(picture.h).enumerate();
    rows.for_each(|(y, row)| {
        Lines::with(picture.w, |lines| {
            simd(
                (lines, row),
                #[inline(always)]
                |(lines, row)| {
                    let [r, g, b] = lines.convert(picture, y);
                    write(row, [r, g, b]);
                },
            );
        });
    });
}

/// Picture -> (H, W, 3) f32 RGB, nominally 0..=1, not clamped.
///
/// Answers to [`hone_model::reference::yuv_rgb`].
pub fn yuv_rgb(picture: &Yuv420) -> Vec<f32> {
    let mut rgb = vec![0.0; picture.h * picture.w * 3];
    for_each_row(
        picture,
        &mut rgb,
        picture.w * 3,
        #[inline(always)]
        |row, rgb| interleave(row, rgb, |v| v),
    );
    rgb
}

/// Picture -> (H, W, 3) 8-bit RGB, rounded and clamped.
pub fn rgb8_from_yuv(picture: &Yuv420) -> Vec<u8> {
    let mut rgb = vec![0; picture.h * picture.w * 3];
    for_each_row(
        picture,
        &mut rgb,
        picture.w * 3,
        #[inline(always)]
        |row, rgb| interleave(row, rgb, quantise),
    );
    rgb
}

#[inline(always)]
fn interleave<T>(row: &mut [T], [r, g, b]: [&[f32]; 3], value: impl Fn(f32) -> T) {
    for (pixel, ((r, g), b)) in row.chunks_exact_mut(3).zip(r.iter().zip(g).zip(b)) {
        pixel[0] = value(*r);
        pixel[1] = value(*g);
        pixel[2] = value(*b);
    }
}

/// 0.0..=1.0 -> 0..=255, rounded and clamped.
#[inline(always)]
pub fn quantise(v: f32) -> u8 {
    code_value(v * 255.0)
}

/// A picture as the network's input: RGB minus the mean, quantiser.
pub fn load_picture(picture: &Yuv420, map: &mut Map) {
    assert_eq!((map.h, map.w, map.group), (picture.h, picture.w, GROUP_RGB));
    let (stride, quantiser) = (map.stride(), quantiser_input(picture.quantiser));
    for_each_row(
        picture,
        &mut map.data[stride..],
        stride,
        #[inline(always)]
        |row, [r, g, b]| {
            let pixels = row[GROUP_RGB..].chunks_exact_mut(GROUP_RGB);
            for (pixel, ((r, g), b)) in pixels.zip(r.iter().zip(g).zip(b)) {
                pixel[0] = r - RGB_MEAN[0];
                pixel[1] = g - RGB_MEAN[1];
                pixel[2] = b - RGB_MEAN[2];
                pixel[3] = quantiser;
            }
        },
    );
}
