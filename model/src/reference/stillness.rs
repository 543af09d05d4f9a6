//! Where a decoded picture stands still: what a reused frame may keep of the network's last one.

/// Side of a cell of the grid, in LR pixels: the transform block of H.264's high profile, half of a macroblock.
pub const STILL_CELL: usize = 8;
/// Most code values of decoded luma that still count as standing still. What the codec leaves alone does not change at all, and
/// what it codes again moves by a few codes; a shape that moves differs by its contrast.
pub const STILL_CODES: u8 = 4;

/// Luma now and before, (H, W) each -> (ceil(H/8) + 1, ceil(W/8) + 1), 0 to 1: one weight for each corner of the cells.
///
/// A corner looks at the four cells around it. Up to [`STILL_CODES`] between any pixel now and before it is 1, from twice
/// that on 0, between them a ramp. So all four corners of a cell in which a pixel has moved are 0, and with them every
/// weight between them: the way from one to zero lies in the cells beside it.
///
/// # Panics
/// If a picture has another size.
pub fn stillness(now: &[u8], last: &[u8], h: usize, w: usize) -> Vec<f64> {
    assert_eq!((now.len(), last.len()), (h * w, h * w), "luma of {w}x{h}");
    let around = |corner: usize, len: usize| {
        (corner * STILL_CELL).saturating_sub(STILL_CELL)..((corner + 1) * STILL_CELL).min(len)
    };
    let mut weights = Vec::new();
    for row in 0..=h.div_ceil(STILL_CELL) {
        for col in 0..=w.div_ceil(STILL_CELL) {
            let mut most = 0;
            for y in around(row, h) {
                for x in around(col, w) {
                    most = most.max(now[y * w + x].abs_diff(last[y * w + x]));
                }
            }
            weights.push((2.0 - f64::from(most) / f64::from(STILL_CODES)).clamp(0.0, 1.0));
        }
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn one_pixel_that_moves_takes_the_weight_of_its_cell_and_of_no_corner_further_off() {
        let rng = &mut Rng::new(1);
        for (h, w) in [(1, 1), (8, 8), (9, 23), (40, 34)] {
            let last: Vec<u8> = (0..h * w).map(|_| 16 + rng.below(200) as u8).collect();
            assert!(stillness(&last, &last, h, w).iter().all(|&v| v == 1.0));
            for _ in 0..50 {
                let at = rng.below(h * w);
                let mut now = last.clone();
                now[at] += 2 * STILL_CODES;
                let (row, col) = (at / w / STILL_CELL, at % w / STILL_CELL);
                let cols = w.div_ceil(STILL_CELL) + 1;
                for (i, v) in stillness(&now, &last, h, w).into_iter().enumerate() {
                    let corner =
                        (row..=row + 1).contains(&(i / cols)) && (col..=col + 1).contains(&(i % cols));
                    assert_eq!(v, if corner { 0.0 } else { 1.0 }, "{w}x{h}: pixel {at}, corner {i}");
                }
            }
        }
    }

    #[test]
    fn between_still_and_moving_lies_a_ramp() {
        for (off, weight) in [(0, 1.0), (4, 1.0), (5, 0.75), (6, 0.5), (7, 0.25), (8, 0.0), (200, 0.0)] {
            for (now, last) in [(20 + off, 20), (20, 20 + off)] {
                assert_eq!(stillness(&[now], &[last], 1, 1), [weight; 4], "{off}");
            }
        }
    }
}
