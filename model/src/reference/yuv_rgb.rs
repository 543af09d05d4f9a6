//! Decoded 4:2:0 planes to RGB at luma size.

use super::Tensor;
use crate::Yuv420;

/// A picture of code values -> RGB (1, 3, H, W), nominally 0..=1, not clamped.
///
/// Chroma sits on even luma columns and between luma rows (the H.264 default, ITU-T H.264 annex E,
/// `chroma_sample_loc_type` 0), is interpolated linearly, and repeats at the edges.
pub fn yuv_rgb(picture: &Yuv420) -> Tensor {
    picture.check();
    let Yuv420 { h, w, y, u, v, colour, .. } = *picture;
    let matrix = colour.rgb_from_yuv();
    let (ch, cw) = (h / 2, w / 2);
    let at_luma = |plane: &[u8], row: usize, col: usize| {
        let (near, far) = (
            row / 2,
            if row.is_multiple_of(2) { (row / 2).saturating_sub(1) } else { (row / 2 + 1).min(ch - 1) },
        );
        let line = |r: usize| {
            let left = f64::from(plane[r * cw + col / 2]);
            let right = f64::from(plane[r * cw + (col / 2 + 1).min(cw - 1)]);
            if col.is_multiple_of(2) { left } else { 0.5 * (left + right) }
        };
        0.75 * line(near) + 0.25 * line(far)
    };
    let mut rgb = Tensor::zeros(1, 3, h, w);
    for row in 0..h {
        for col in 0..w {
            let yuv = [f64::from(y[row * w + col]), at_luma(u, row, col), at_luma(v, row, col)];
            for (c, m) in matrix.iter().enumerate() {
                let at = rgb.at(0, c, row, col);
                rgb.data[at] = m[0] * yuv[0] + m[1] * yuv[1] + m[2] * yuv[2] + m[3];
            }
        }
    }
    rgb
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Colour;
    use crate::colour::{Matrix, Range};

    #[test]
    fn grey_ramp_and_chroma_positions() {
        let colour = Colour { matrix: Matrix::Bt709, range: Range::Limited };
        let quantiser = 0;
        let grey =
            yuv_rgb(&Yuv420 { h: 2, w: 2, y: &[16, 235, 126, 126], u: &[128], v: &[128], colour, quantiser });
        assert!(grey.data[0].abs() < 1e-12 && (grey.data[1] - 1.0).abs() < 1e-12);
        // Cb 128 -> 228 over two columns: luma columns 0, 1, 2 see 128, 178, 228.
        let ramp =
            yuv_rgb(&Yuv420 { h: 2, w: 4, y: &[126; 8], u: &[128, 228], v: &[128; 2], colour, quantiser });
        let blue = &ramp.data[16..20];
        assert!((blue[1] - 0.5 * (blue[0] + blue[2])).abs() < 1e-12 && (blue[3] - blue[2]).abs() < 1e-12);
    }
}
