//! Bicubic upscaling by a whole factor.

use std::cell::RefCell;

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

    /// Output row `y` of a three-channel map, upscaled.
    #[inline(always)]
    pub fn row(&self, src: &Map, y: usize, out: &mut Line) {
        let w = src.w;
        let Line { values, pixels, channel } = out;
        assert_eq!((src.group, values.len()), (GROUP_RGB, 3 * self.s * w));
        let clamp = |i: isize, len: usize| i.clamp(0, len as isize - 1) as usize;
        let (first, taps) = self.phases[y % self.s];
        let [a, b, c, d]: [&[f32]; 4] = std::array::from_fn(|k| {
            let y = clamp((y / self.s) as isize + first + k as isize, src.h);
            &src.padded_row(y + 1)[GROUP_RGB..(w + 1) * GROUP_RGB]
        });
        for ((((v, a), b), c), d) in pixels.iter_mut().zip(a).zip(b).zip(c).zip(d) {
            *v = taps[0] * a + taps[1] * b + taps[2] * c + taps[3] * d;
        }
        for (c, out) in values.chunks_exact_mut(self.s * w).enumerate() {
            for (v, pixel) in channel[2..].iter_mut().zip(pixels.chunks_exact(GROUP_RGB)) {
                *v = pixel[c];
            }
            let (left, right) = (channel[2], channel[w + 1]);
            channel[..2].fill(left);
            channel[w + 2..].fill(right);
            for ((first, taps), out) in self.phases.iter().zip(out.chunks_exact_mut(w)) {
                let from = (2 + first) as usize;
                let shifted: [&[f32]; 4] = std::array::from_fn(|k| &channel[from + k..][..w]);
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

/// One row of an image while it is made.
#[derive(Default)]
pub struct Line {
    /// (3, s, W) f32: column `x·s + phase` at `[.., phase, x]`.
    pub values: Vec<f32>,
    /// A row of the picture, between two of its rows.
    pixels: Vec<f32>,
    /// One channel of it, with two columns of edge on either side, so that the horizontal taps need no guard.
    channel: Vec<f32>,
}

impl Line {
    /// For pictures of `w` columns at scale `s`.
    pub fn new(w: usize, s: usize) -> Self {
        Self { values: vec![0.0; 3 * s * w], pixels: vec![0.0; w * GROUP_RGB], channel: vec![0.0; w + 4] }
    }

    /// Calls `work` with this thread's own, which is kept from row to row and from frame to frame.
    pub fn with(w: usize, s: usize, work: impl FnOnce(&mut Self)) {
        thread_local! {
            static LINE: RefCell<Line> = RefCell::default();
        }
        LINE.with_borrow_mut(|line| {
            if (line.values.len(), line.channel.len()) != (3 * s * w, w + 4) {
                *line = Self::new(w, s);
            }
            work(line);
        });
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
    let mut line = Line::new(w, s);
    for (y, out) in out.chunks_exact_mut(w * s * 3).enumerate() {
        taps.row(&map, y, &mut line);
        store_rgb(&line.values, s, out);
    }
    out
}

/// What a viewer shows when no network is in force. Memory is taken for the first picture of a size.
pub struct Bicubic {
    taps: Taps,
    /// The picture's RGB.
    map: Map,
}

impl Bicubic {
    /// For images of `s` times the size of their pictures.
    pub fn new(s: usize) -> Self {
        Self { taps: Taps::new(s), map: Map::new(3, GROUP_RGB, 0, 0) }
    }

    /// Picture -> (s·H, s·W, 4) 8-bit RGBA, alpha 255.
    ///
    /// # Panics
    /// If `rgba` has another length.
    pub fn upscale(&mut self, picture: &Yuv420, rgba: &mut [u8]) {
        let (s, h, w) = (self.taps.s, picture.h, picture.w);
        assert_eq!(rgba.len(), 4 * s * h * s * w, "image of {}x{}", s * w, s * h);
        if (self.map.h, self.map.w) != (h, w) {
            self.map = Map::new(3, GROUP_RGB, h, w);
        }
        load_picture(picture, &mut self.map);
        let Self { taps, map } = &*self;
        let rows = rgba.par_chunks_exact_mut(4 * s * w).enumerate();
        rows.for_each(|(y, rgba)| {
            Line::with(w, s, |line| {
                simd(
                    (line, rgba),
                    #[inline(always)]
                    |(line, rgba)| {
                        Output::Base(taps).row(map, y, line);
                        store_rgba(&line.values, s, rgba);
                    },
                );
            });
        });
    }
}
