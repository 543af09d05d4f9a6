//! A frame without the network: the bicubic upscale, and where nothing moves the detail of the network's last frame.

use super::{STILL_CELL, Tensor, bicubic, stillness, yuv_rgb};
use crate::Yuv420;

/// Picture now and before, and what the network made of the one before, (s·H, s·W, 4) RGBA -> (1, 3, s·H, s·W), not
/// clamped: `bicubic(now) + weight * (shown - bicubic(last))`.
///
/// The weight is that of [`stillness`], bilinear between the corners of a cell.
///
/// # Panics
/// If sizes do not fit together.
pub fn reuse(now: &Yuv420, last: &Yuv420, shown: &[u8], s: usize) -> Tensor {
    let (h, w) = (now.h, now.w);
    assert_eq!((last.h, last.w, shown.len()), (h, w, 4 * s * h * s * w), "frames of {w}x{h}");
    let corners = stillness(now.y, last.y, h, w);
    let cols = w.div_ceil(STILL_CELL) + 1;
    let mut y = bicubic(&yuv_rgb(now), s);
    let base = bicubic(&yuv_rgb(last), s);
    let side = (s * STILL_CELL) as f64;
    for row in 0..y.h {
        let v = (row as f64 + 0.5) / side;
        for col in 0..y.w {
            let u = (col as f64 + 0.5) / side;
            let (i, j) = (v.floor() as usize, u.floor() as usize);
            let line =
                |i: usize| corners[i * cols + j] * (1.0 - u.fract()) + corners[i * cols + j + 1] * u.fract();
            let weight = line(i) * (1.0 - v.fract()) + line(i + 1) * v.fract();
            for c in 0..3 {
                let at = y.at(0, c, row, col);
                let shown = f64::from(shown[(row * y.w + col) * 4 + c]) / 255.0;
                y.data[at] += weight * (shown - base.data[at]);
            }
        }
    }
    y
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::colour::{Colour, Matrix, Range};
    use crate::rng::Rng;

    const COLOUR: Colour = Colour { matrix: Matrix::Bt709, range: Range::Limited };

    fn random(rng: &mut Rng, len: usize) -> Vec<u8> {
        (0..len).map(|_| 40 + rng.below(160) as u8).collect()
    }

    fn yuv<'a>(size: (usize, usize), y: &'a [u8], chroma: &'a [u8]) -> Yuv420<'a> {
        Yuv420 { h: size.0, w: size.1, y, u: chroma, v: chroma, colour: COLOUR, quantiser: 30 }
    }

    /// Luma of a texture with a box of another one on it, whose left upper corner is at `(top, left)`.
    fn scene(size: (usize, usize), texture: &[u8], (top, left): (usize, usize)) -> Vec<u8> {
        let inside = |at: usize, from: usize| (from..from + 10).contains(&at);
        let luma = |i: usize| {
            let (y, x) = (i / size.1, i % size.1);
            // Stripes of much contrast: wherever the box moves to, it differs from what was there.
            if inside(y, top) && inside(x, left) { 20 + 180 * ((x - left) % 2) as u8 } else { texture[i] }
        };
        (0..size.0 * size.1).map(luma).collect()
    }

    #[test]
    fn what_stands_still_is_the_networks_and_what_moves_is_bicubic() {
        let rng = &mut Rng::new(4);
        let size = (48, 64);
        let (texture, chroma) = (random(rng, 48 * 64), random(rng, 24 * 32));
        for s in 1..=4 {
            let shown = random(rng, 4 * s * 48 * s * 64);
            let before = scene(size, &texture, (17, 20));
            for (top, left) in [(17, 21), (18, 20), (20, 25), (16, 12)] {
                let after = scene(size, &texture, (top, left));
                let (now, last) = (yuv(size, &after, &chroma), yuv(size, &before, &chroma));
                let out = reuse(&now, &last, &shown, s);
                let plain = bicubic(&yuv_rgb(&now), s);
                // Cells in which the box was or is.
                let cells = |from: usize, to: usize| from / 8 * 8..(to + 10).div_ceil(8) * 8;
                let rows = cells(17.min(top), 17.max(top));
                let cols = cells(20.min(left), 20.max(left));
                let far =
                    |at: usize, range: &std::ops::Range<usize>| at + 8 < range.start || at >= range.end + 8;
                let mut kept = 0;
                for y in 0..out.h {
                    for x in 0..out.w {
                        for c in 0..3 {
                            let at = out.at(0, c, y, x);
                            let moved = (y / s, x / s);
                            let differs =
                                |y: usize, x: usize| after[y * 64 + x].abs_diff(before[y * 64 + x]) >= 8;
                            let (top, left) = (moved.0 / 8 * 8, moved.1 / 8 * 8);
                            if (top..top + 8).any(|y| (left..left + 8).any(|x| differs(y, x))) {
                                assert_eq!(
                                    out.data[at], plain.data[at],
                                    "x{s}: a cell that moves at {y}, {x}"
                                );
                            } else if far(y / s, &rows) || far(x / s, &cols) {
                                let want = f64::from(shown[(y * out.w + x) * 4 + c]) / 255.0;
                                assert!((out.data[at] - want).abs() < 1e-12, "x{s}: still at {y}, {x}");
                                kept += 1;
                            }
                        }
                    }
                }
                assert!(kept > out.data.len() / 3, "x{s}: {kept}");
            }
        }
    }

    /// With a residual of one everywhere the output over bicubic is the weight itself: no step in it is larger than the ramp's.
    #[test]
    fn there_is_no_seam_between_cells() {
        let rng = &mut Rng::new(5);
        let (h, w) = (40, 56);
        let chroma = vec![128; h * w / 4];
        let before = vec![16; h * w];
        for s in 1..=4 {
            // Black, and white shown for it.
            let shown = vec![255; 4 * s * h * s * w];
            let mut after = before.clone();
            for k in 0..6 {
                // One that moves for sure, and some that move a little.
                after[rng.below(h * w)] = 16 + if k == 5 { 50 } else { rng.below(12) as u8 };
            }
            let (now, last) = (yuv((h, w), &after, &chroma), yuv((h, w), &before, &chroma));
            let (out, plain) = (reuse(&now, &last, &shown, s), bicubic(&yuv_rgb(&now), s));
            let weight = |y: usize, x: usize| out.data[out.at(0, 0, y, x)] - plain.data[plain.at(0, 0, y, x)];
            let step_max = 1.0 / (8 * s) as f64 + 1e-9;
            let mut least = f64::INFINITY;
            for y in 0..out.h - 1 {
                for x in 0..out.w - 1 {
                    for (a, b) in [((y, x), (y + 1, x)), ((y, x), (y, x + 1))] {
                        let step = (weight(a.0, a.1) - weight(b.0, b.1)).abs();
                        assert!(step <= step_max, "x{s}: a step of {step} at {a:?}");
                    }
                    least = least.min(weight(y, x));
                }
            }
            assert_eq!(least, 0.0, "x{s}: something moves");
        }
    }
}
