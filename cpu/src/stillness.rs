//! Where a decoded picture stands still.

use hone_model::reference::{STILL_CELL, STILL_CODES};
use rayon::prelude::*;

use crate::simd::simd;

/// The weights of one picture size, and what they are made of.
#[derive(Default)]
pub struct Stillness {
    /// Most that a pixel of each cell has moved, (ceil(H/8), ceil(W/8)).
    most: Vec<u8>,
    /// (ceil(H/8) + 1, ceil(W/8) + 1).
    weights: Vec<f32>,
}

impl Stillness {
    /// Luma now and before, (H, W) each -> (ceil(H/8) + 1, ceil(W/8) + 1) weights. Answers to
    /// [`hone_model::reference::stillness()`].
    ///
    /// # Panics
    /// If a picture has another size.
    pub fn weights(&mut self, now: &[u8], last: &[u8], h: usize, w: usize) -> &[f32] {
        assert_eq!((now.len(), last.len()), (h * w, h * w), "luma of {w}x{h}");
        let (rows, cols) = (h.div_ceil(STILL_CELL), w.div_ceil(STILL_CELL));
        self.most.clear();
        self.most.resize(rows * cols, 0);
        let lines = |luma| <[u8]>::par_chunks(luma, STILL_CELL * w);
        self.most.par_chunks_exact_mut(cols).zip(lines(now).zip(lines(last))).for_each(
            |(most, (now, last))| {
                simd(
                    (most, now, last),
                    #[inline(always)]
                    |(most, now, last)| {
                        for (now, last) in now.chunks_exact(w).zip(last.chunks_exact(w)) {
                            let cells = now.chunks(STILL_CELL).zip(last.chunks(STILL_CELL));
                            for (most, (now, last)) in most.iter_mut().zip(cells) {
                                for (a, b) in now.iter().zip(last) {
                                    *most = (*most).max(a.abs_diff(*b));
                                }
                            }
                        }
                    },
                );
            },
        );
        self.weights.clear();
        for row in 0..=rows {
            for col in 0..=cols {
                let around = |at: usize, len: usize| at.saturating_sub(1)..(at + 1).min(len);
                let line = |y: usize| around(col, cols).map(move |x| y * cols + x);
                let most = around(row, rows).flat_map(line).map(|cell| self.most[cell]).max();
                let most = f32::from(most.unwrap_or(0));
                self.weights.push((2.0 - most / f32::from(STILL_CODES)).clamp(0.0, 1.0));
            }
        }
        &self.weights
    }
}

/// As [`Stillness::weights`], for once.
///
/// # Panics
/// If a picture has another size.
pub fn stillness(now: &[u8], last: &[u8], h: usize, w: usize) -> Vec<f32> {
    let mut still = Stillness::default();
    still.weights(now, last, h, w);
    still.weights
}
