//! From decoded YUV to RGB: which matrix, which range.

use serde::{Deserialize, Serialize};

/// Luma coefficients. Source: ITU-T H.273, table 4 (`MatrixCoefficients`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Matrix {
    /// BT.601: standard definition.
    Bt601,
    /// BT.709: high definition.
    Bt709,
    /// BT.2020, non-constant luminance.
    Bt2020,
}

/// Code values of black and white. Source: ITU-T H.273, section 8.3 (`VideoFullRangeFlag`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Range {
    /// Luma 16..=235, chroma 16..=240.
    Limited,
    /// 0..=255.
    Full,
}

/// How the code values of a picture are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Colour {
    /// Luma coefficients.
    pub matrix: Matrix,
    /// Code values of black and white.
    pub range: Range,
}

impl Colour {
    /// (Kr, Kb); Kg is what is left to 1.
    pub fn luma_coefficients(&self) -> (f64, f64) {
        match self.matrix {
            Matrix::Bt601 => (0.299, 0.114),
            Matrix::Bt709 => (0.2126, 0.0722),
            Matrix::Bt2020 => (0.2627, 0.0593),
        }
    }

    /// Rows R, G, B over (Y, Cb, Cr, 1): code values 0..=255 in, RGB out, nominally 0..=1, not clamped.
    pub fn rgb_from_yuv(&self) -> [[f64; 4]; 3] {
        let (kr, kb) = self.luma_coefficients();
        let kg = 1.0 - kr - kb;
        let (y0, y_span, c_span) = match self.range {
            Range::Limited => (16.0, 219.0, 224.0),
            Range::Full => (0.0, 255.0, 255.0),
        };
        let row = |cb: f64, cr: f64| {
            let (y, cb, cr) = (1.0 / y_span, cb / c_span, cr / c_span);
            [y, cb, cr, -y0 * y - 128.0 * (cb + cr)]
        };
        [
            row(0.0, 2.0 * (1.0 - kr)),
            row(-2.0 * (1.0 - kb) * kb / kg, -2.0 * (1.0 - kr) * kr / kg),
            row(2.0 * (1.0 - kb), 0.0),
        ]
    }

    /// Rows Y, Cb, Cr over (R, G, B, 1): RGB 0..=1 in, code values out, not rounded.
    pub fn yuv_from_rgb(&self) -> [[f64; 4]; 3] {
        let (kr, kb) = self.luma_coefficients();
        let kg = 1.0 - kr - kb;
        let (y0, y_span, c_span) = match self.range {
            Range::Limited => (16.0, 219.0, 224.0),
            Range::Full => (0.0, 255.0, 255.0),
        };
        let (b, r) = (c_span / (2.0 * (1.0 - kb)), c_span / (2.0 * (1.0 - kr)));
        [
            [kr * y_span, kg * y_span, kb * y_span, y0],
            [-kr * b, -kg * b, (1.0 - kb) * b, 128.0],
            [(1.0 - kr) * r, -kg * r, -kb * r, 128.0],
        ]
    }
}

/// One decoded picture, borrowed: 4:2:0 planes of code values, rows packed.
#[derive(Clone, Copy, Debug)]
pub struct Yuv420<'a> {
    /// Rows of luma, even.
    pub h: usize,
    /// Columns of luma, even.
    pub w: usize,
    /// `h * w` luma values.
    pub y: &'a [u8],
    /// `h/2 * w/2` Cb values.
    pub u: &'a [u8],
    /// `h/2 * w/2` Cr values.
    pub v: &'a [u8],
    /// How to read them.
    pub colour: Colour,
    /// How coarsely it was coded, 0 to 51.
    pub quantiser: u8,
}

impl Yuv420<'_> {
    /// Holds the planes to their sizes; every reader of a picture calls it once.
    ///
    /// # Panics
    /// If a side is odd or zero, or a plane has another length.
    pub fn check(&self) {
        let (h, w) = (self.h, self.w);
        assert!(h > 0 && w > 0 && h % 2 == 0 && w % 2 == 0, "picture of {w}x{h}");
        assert!(
            self.y.len() == h * w && self.u.len() == h * w / 4 && self.v.len() == h * w / 4,
            "planes of {w}x{h}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values_and_inverse() {
        let limited = Colour { matrix: Matrix::Bt601, range: Range::Limited };
        // (81, 90, 240) is saturated red in BT.601 limited range.
        let m = limited.rgb_from_yuv();
        let rgb = m.map(|r| r[0] * 81.0 + r[1] * 90.0 + r[2] * 240.0 + r[3]);
        assert!((rgb[0] - 1.0).abs() < 0.01 && rgb[1].abs() < 0.01 && rgb[2].abs() < 0.01, "{rgb:?}");
        for matrix in [Matrix::Bt601, Matrix::Bt709, Matrix::Bt2020] {
            for range in [Range::Limited, Range::Full] {
                let colour = Colour { matrix, range };
                let (to, from) = (colour.rgb_from_yuv(), colour.yuv_from_rgb());
                let yuv = [130.0, 60.0, 200.0];
                let rgb = to.map(|r| r[0] * yuv[0] + r[1] * yuv[1] + r[2] * yuv[2] + r[3]);
                let back = from.map(|r| r[0] * rgb[0] + r[1] * rgb[1] + r[2] * rgb[2] + r[3]);
                for (a, b) in yuv.iter().zip(back) {
                    assert!((a - b).abs() < 1e-9);
                }
            }
        }
    }
}
