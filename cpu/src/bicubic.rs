//! Bicubic upscaling by a whole factor.

use hone_model::Yuv420;
use hone_model::reference::bicubic_taps;
use rayon::prelude::*;

use crate::map::{GROUP_RGB, Map};
use crate::program::{Output, store_rgb, store_rgba};
use crate::simd::simd;
use crate::yuv_rgb::load_picture;

/// The four taps of each phase, in f32.
pub struct Taps {
    s: usize,
    phases: Vec<(isize, [f32; 4])>,
}

impl Taps {
    pub fn new(s: usize) -> Self {
        let phases = (0..s).map(|phase| {
            let (first, taps) = bicubic_taps(s, phase);
            (first, taps.map(|t| t as f32))
        });
        Self { s, phases: phases.collect() }
    }

    /// Output row `y` of a three-channel map, upscaled: (3, s, W), column `x·s + phase` at `[.., phase, x]`.
    #[inline(always)]
    pub fn row(&self, src: &Map, y: usize, out: &mut [f32]) {
        let w = src.w;
        assert_eq!((src.group, out.len()), (GROUP_RGB, 3 * self.s * w));
        let clamp = |i: isize, len: usize| i.clamp(0, len as isize - 1) as usize;
        let (first, taps) = self.phases[y % self.s];
        let [a, b, c, d]: [&[f32]; 4] = std::array::from_fn(|k| {
            let y = clamp((y / self.s) as isize + first + k as isize, src.h);
            &src.padded_row(y + 1)[GROUP_RGB..(w + 1) * GROUP_RGB]
        });
        let mut pixels = vec![0.0; w * GROUP_RGB];
        for ((((v, a), b), c), d) in pixels.iter_mut().zip(a).zip(b).zip(c).zip(d) {
            *v = taps[0] * a + taps[1] * b + taps[2] * c + taps[3] * d;
        }
        // Two columns of edge on either side, so that the horizontal taps need no guard.
        let mut line = vec![0.0; w + 4];
        for (c, out) in out.chunks_exact_mut(self.s * w).enumerate() {
            for (v, pixel) in line[2..].iter_mut().zip(pixels.chunks_exact(GROUP_RGB)) {
                *v = pixel[c];
            }
            let (left, right) = (line[2], line[w + 1]);
            line[..2].fill(left);
            line[w + 2..].fill(right);
            for ((first, taps), out) in self.phases.iter().zip(out.chunks_exact_mut(w)) {
                let from = (2 + first) as usize;
                let shifted: [&[f32]; 4] = std::array::from_fn(|k| &line[from + k..][..w]);
                for (x, v) in out.iter_mut().enumerate() {
                    *v = taps[0] * shifted[0][x]
                        + taps[1] * shifted[1][x]
                        + taps[2] * shifted[2][x]
                        + taps[3] * shifted[3][x];
                }
            }
        }
    }
}

/// (H, W, 3) f32 -> (s·H, s·W, 3) f32. Answers to [`hone_model::reference::bicubic()`].
pub fn bicubic(rgb: &[f32], h: usize, w: usize, s: usize) -> Vec<f32> {
    assert_eq!(rgb.len(), h * w * 3, "image of {w}x{h}");
    let mut map = Map::new(3, GROUP_RGB, h, w);
    for (row, rgb) in map.rows_mut().zip(rgb.chunks_exact(w * 3)) {
        for (pixel, rgb) in row[GROUP_RGB..].chunks_exact_mut(GROUP_RGB).zip(rgb.chunks_exact(3)) {
            pixel[..3].copy_from_slice(rgb);
        }
    }
    let taps = Taps::new(s);
    let mut out = vec![0.0; h * w * s * s * 3];
    let mut line = vec![0.0; 3 * s * w];
    for (y, out) in out.chunks_exact_mut(w * s * 3).enumerate() {
        taps.row(&map, y, &mut line);
        store_rgb(&line, s, out);
    }
    out
}

/// Picture -> (s·H, s·W, 4) 8-bit RGBA, alpha 255: what a viewer shows when no network is in force.
///
/// # Panics
/// If `rgba` has another length.
pub fn upscale_bicubic(picture: &Yuv420, s: usize, rgba: &mut [u8]) {
    let mut map = Map::new(3, GROUP_RGB, picture.h, picture.w);
    load_picture(picture, &mut map);
    assert_eq!(
        rgba.len(),
        picture.h * picture.w * s * s * 4,
        "output of {}x{}",
        picture.w * s,
        picture.h * s
    );
    let taps = Taps::new(s);
    rgba.par_chunks_exact_mut(picture.w * s * 4).enumerate().for_each(|(y, rgba)| {
        let mut line = vec![0.0; 3 * s * picture.w];
        simd(
            (&mut line, rgba),
            #[inline(always)]
            |(line, rgba)| {
                Output::Base(&taps).row(&map, y, line);
                store_rgba(line, s, rgba);
            },
        );
    });
}
