//! A frame without the network: the bicubic upscale, and where nothing moves the detail of the network's last frame.

use std::cell::RefCell;

use hone_model::reference::STILL_CELL;
use hone_model::{Colour, Yuv420};
use rayon::prelude::*;

use crate::bicubic::{Line, Taps};
use crate::map::{GROUP_RGB, Map};
use crate::program::{Output, store_rgba};
use crate::simd::simd;
use crate::stillness::Stillness;
use crate::yuv_rgb::load_picture;

/// Keeps the network's last frame and makes frames of it. Memory is taken for the first picture of a size.
pub struct Reuse {
    taps: Taps,
    s: usize,
    last: Last,
    /// The RGB of both pictures.
    maps: Option<[Map; 2]>,
    stillness: Stillness,
}

/// The picture that the network saw, and what it made of it; of no size before the first.
#[derive(Default)]
struct Last {
    size: (usize, usize),
    planes: [Vec<u8>; 3],
    colour: Option<Colour>,
    shown: Vec<u8>,
}

/// What one thread works with.
#[derive(Default)]
struct Lines {
    now: Line,
    last: Line,
    /// (s, W): of column `x·s + phase` at `[phase, x]`, as in the others.
    weights: Vec<f32>,
    /// RGBA of one phase, (W).
    packed: Vec<u32>,
}

impl Lines {
    fn new(w: usize, s: usize) -> Self {
        Self { now: Line::new(w, s), last: Line::new(w, s), weights: vec![0.0; s * w], packed: vec![0; w] }
    }

    /// Calls `work` with this thread's own, which is kept from row to row and from frame to frame.
    fn with(w: usize, s: usize, work: impl FnOnce(&mut Self)) {
        thread_local! {
            static LINES: RefCell<Lines> = RefCell::default();
        }
        LINES.with_borrow_mut(|lines| {
            if (lines.packed.len(), lines.weights.len()) != (w, s * w) {
                *lines = Self::new(w, s);
            }
            work(lines);
        });
    }
}

impl Reuse {
    /// For frames of `s` times the size of their pictures; nothing is kept yet.
    pub fn new(s: usize) -> Self {
        Self { taps: Taps::new(s), s, last: Last::default(), maps: None, stillness: Stillness::default() }
    }

    /// Whether a frame of (H, W) pictures is kept.
    pub fn fits(&self, h: usize, w: usize) -> bool {
        self.last.size == (h, w)
    }

    /// Keeps a picture and what the network made of it, (s·H, s·W, 4) RGBA.
    ///
    /// # Panics
    /// If sizes do not fit together.
    pub fn keep(&mut self, picture: &Yuv420, shown: &[u8]) {
        picture.check();
        let (h, w) = (picture.h, picture.w);
        assert_eq!(shown.len(), 4 * self.s * h * self.s * w, "a frame of {w}x{h}");
        self.last.size = (h, w);
        self.last.colour = Some(picture.colour);
        let planes = self.last.planes.iter_mut().zip([picture.y, picture.u, picture.v]);
        for (to, from) in planes.chain([(&mut self.last.shown, shown)]) {
            to.clear();
            to.extend_from_slice(from);
        }
    }

    /// Picture -> (s·H, s·W, 4) 8-bit RGBA, alpha 255. Answers to [`hone_model::reference::reuse()`].
    ///
    /// # Panics
    /// If the frame that is kept does not [fit](Reuse::fits), or `rgba` has another length.
    pub fn upscale(&mut self, picture: &Yuv420, rgba: &mut [u8]) {
        let (s, h, w) = (self.s, picture.h, picture.w);
        assert!(self.fits(h, w), "no frame of {w}x{h} is kept");
        assert_eq!(rgba.len(), self.last.shown.len(), "a frame of {w}x{h}");
        if self.maps.as_ref().is_none_or(|[map, _]| (map.h, map.w) != (h, w)) {
            self.maps = Some([(); 2].map(|()| Map::new(3, GROUP_RGB, h, w)));
        }
        let Some([now, before]) = &mut self.maps else { return };
        let [y, u, v] = &self.last.planes;
        let colour = self.last.colour.unwrap_or(picture.colour);
        load_picture(picture, now);
        load_picture(&Yuv420 { y, u, v, colour, ..*picture }, before);
        let corners = self.stillness.weights(picture.y, y, h, w);
        let (now, before, taps) = (&*now, &*before, &self.taps);
        let rows = rgba.par_chunks_exact_mut(4 * s * w).zip(self.last.shown.par_chunks_exact(4 * s * w));
        rows.enumerate().for_each(|(row, (rgba, shown))| {
            Lines::with(w, s, |lines| {
                simd(
                    (lines, rgba),
                    #[inline(always)]
                    |(lines, rgba)| {
                        let base = Output::Base(taps);
                        base.row(now, row, &mut lines.now);
                        if weights_row(corners, s, row, w, &mut lines.weights) {
                            base.row(before, row, &mut lines.last);
                            add_residual(lines, shown, s);
                        }
                        store_rgba(&lines.now.values, s, rgba);
                    },
                );
            });
        });
    }
}

/// The weights of output row `row`, bilinear between the corners of its cells; whether there are any.
#[inline(always)]
fn weights_row(corners: &[f32], s: usize, row: usize, w: usize, weights: &mut [f32]) -> bool {
    let cols = w.div_ceil(STILL_CELL) + 1;
    let side = (s * STILL_CELL) as f32;
    let (cell, share) = (row / (s * STILL_CELL), ((row % (s * STILL_CELL)) as f32 + 0.5) / side);
    let (above, below) = (&corners[cell * cols..][..cols], &corners[(cell + 1) * cols..][..cols]);
    if above.iter().chain(below).all(|weight| *weight == 0.0) {
        return false;
    }
    for (phase, line) in weights.chunks_exact_mut(w).enumerate() {
        for (cell, line) in line.chunks_mut(STILL_CELL).enumerate() {
            let corner = |i: usize| above[i] + (below[i] - above[i]) * share;
            let (left, right) = (corner(cell), corner(cell + 1));
            for (x, weight) in line.iter_mut().enumerate() {
                *weight = left + (right - left) * (((x * s + phase) as f32 + 0.5) / side);
            }
        }
    }
    true
}

/// Adds `weight * (shown - last)` to (3, s, W).
#[inline(always)]
fn add_residual(lines: &mut Lines, shown: &[u8], s: usize) {
    let w = lines.packed.len();
    for (phase, weights) in lines.weights.chunks_exact(w).enumerate() {
        // The way back of `store_rgba`.
        for (packed, pixels) in lines.packed.iter_mut().zip(shown.chunks_exact(4 * s)) {
            let pixel = &pixels[4 * phase..4 * phase + 4];
            *packed = u32::from_le_bytes([pixel[0], pixel[1], pixel[2], pixel[3]]);
        }
        for c in 0..3 {
            let from = (c * s + phase) * w;
            let values = lines.now.values[from..from + w].iter_mut().zip(&lines.last.values[from..from + w]);
            for (((now, last), weight), packed) in values.zip(weights).zip(&lines.packed) {
                let shown = (packed >> (8 * c) & 255) as f32;
                *now += weight * (shown * (1.0 / 255.0) - last);
            }
        }
    }
}
