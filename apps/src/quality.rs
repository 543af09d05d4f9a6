//! PSNR and SSIM of what a screen shows against what the camera saw.

use hone_media::frame::Frame;
use rayon::prelude::*;
use serde::Serialize;

use crate::picture;

/// Highest PSNR: beyond, nothing can be seen, and a single black frame must not outweigh a second of video.
const PSNR_MAX_DB: f64 = 60.0;

/// One frame's quality.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Quality {
    /// Luma, dB.
    pub psnr_y_db: f64,
    /// All three channels, dB.
    pub psnr_rgb_db: f64,
    /// Luma; 1 for identical pictures.
    pub ssim_y: f64,
}

/// The camera's frame, prepared for comparing several pictures with it.
pub struct Truth {
    width: usize,
    luma_of_rgb: [f32; 4],
    luma: Vec<u8>,
    rgb: Vec<u8>,
}

impl Truth {
    /// Converts the frame once.
    pub fn new(frame: &Frame) -> Self {
        let row = picture::colour(frame.colour).yuv_from_rgb()[0];
        Self {
            width: frame.image.width() as usize,
            luma_of_rgb: row.map(|v| v as f32),
            luma: frame.image.y().to_vec(),
            rgb: hone_cpu::rgb8_from_yuv(&picture::yuv420(frame)),
        }
    }

    /// Columns and rows.
    pub fn size(&self) -> (usize, usize) {
        (self.width, self.luma.len() / self.width)
    }

    /// (H, W) luma code values.
    pub fn luma(&self) -> &[u8] {
        &self.luma
    }

    /// (H, W, 3) 8-bit RGB.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// Quality of a shown picture, `channels` (3 or 4) bytes a pixel, R, G, B first.
    ///
    /// Luma is computed from the shown pixels with the frame's own matrix and range, rounded to code values.
    ///
    /// # Panics
    /// If it has another size.
    pub fn quality(&self, shown: &[u8], channels: usize) -> Quality {
        self.compare_with(shown, channels).0
    }

    /// The same, and the (H, W) luma that it was computed from.
    ///
    /// # Panics
    /// If it has another size.
    pub fn compare_with(&self, shown: &[u8], channels: usize) -> (Quality, Vec<u8>) {
        assert_eq!(shown.len() / channels, self.luma.len(), "size of the shown picture");
        let (luma, rgb_error) = match channels {
            3 => self.compare::<3>(shown),
            _ => self.compare::<4>(shown),
        };
        let y_error: u64 = luma.iter().zip(&self.luma).map(|(a, b)| u64::from(a.abs_diff(*b)).pow(2)).sum();
        let quality = Quality {
            psnr_y_db: psnr_db(y_error, luma.len()),
            psnr_rgb_db: psnr_db(rgb_error, self.rgb.len()),
            ssim_y: ssim(&luma, &self.luma, self.width),
        };
        (quality, luma)
    }

    /// Luma of what is shown, and the squared error of its R, G and B.
    fn compare<const CHANNELS: usize>(&self, shown: &[u8]) -> (Vec<u8>, u64) {
        let [r, g, b, offset] = self.luma_of_rgb;
        let [r, g, b] = [r, g, b].map(|v| v / 255.0);
        let mut luma = vec![0; self.luma.len()];
        let rows =
            shown.par_chunks_exact(self.width * CHANNELS).zip(self.rgb.par_chunks_exact(self.width * 3));
        let error = luma.par_chunks_exact_mut(self.width).zip(rows).map(|(luma, (shown, truth))| {
            hone_cpu::simd(
                luma,
                #[inline(always)]
                |luma| {
                    // The longest row, 8,192 pixels, comes to 3/8 of what fits.
                    let mut error = 0u32;
                    for (p, t) in shown.chunks_exact(CHANNELS).zip(truth.chunks_exact(3)) {
                        for c in 0..3 {
                            let d = i32::from(p[c]) - i32::from(t[c]);
                            error += (d * d) as u32;
                        }
                    }
                    for (y, p) in luma.iter_mut().zip(shown.chunks_exact(CHANNELS)) {
                        let sum = r * f32::from(p[0]) + g * f32::from(p[1]) + b * f32::from(p[2]);
                        *y = hone_cpu::code_value(sum + offset);
                    }
                    u64::from(error)
                },
            )
        });
        let error = error.sum();
        (luma, error)
    }
}

fn psnr_db(squared_error: u64, values: usize) -> f64 {
    let mse = squared_error as f64 / values as f64;
    (10.0 * (255.0 * 255.0 / mse).log10()).min(PSNR_MAX_DB)
}

/// Mean SSIM over 8x8 windows at every fourth pixel.
///
/// Source: Wang et al. 2004, "Image quality assessment", eq. 13, with the flat windows that x264 and FFmpeg use.
fn ssim(a: &[u8], b: &[u8], width: usize) -> f64 {
    const WINDOW: usize = 8;
    const STRIDE: usize = 4;
    const C1: f64 = (0.01 * 255.0) * (0.01 * 255.0);
    const C2: f64 = (0.03 * 255.0) * (0.03 * 255.0);
    let height = a.len() / width;
    if width < WINDOW || height < WINDOW {
        return if a == b { 1.0 } else { f64::NAN };
    }
    let n = (WINDOW * WINDOW) as f64;
    // Sums over squares of 4x4, of which a window is four: a, b, a² + b², a·b.
    let rows = a.par_chunks_exact(STRIDE * width).zip(b.par_chunks_exact(STRIDE * width));
    let squares: Vec<Vec<[u32; 4]>> = rows
        .map(|(a, b)| {
            let mut sums = vec![[0; 4]; width / STRIDE];
            for (a, b) in a.chunks_exact(width).zip(b.chunks_exact(width)) {
                for ((a, b), sums) in a.chunks_exact(STRIDE).zip(b.chunks_exact(STRIDE)).zip(&mut sums) {
                    for (a, b) in a.iter().zip(b) {
                        let (a, b) = (u32::from(*a), u32::from(*b));
                        sums[0] += a;
                        sums[1] += b;
                        sums[2] += a * a + b * b;
                        sums[3] += a * b;
                    }
                }
            }
            sums
        })
        .collect();
    let (mut sum, mut count) = (0.0, 0);
    for rows in squares.windows(2) {
        for (upper, lower) in rows[0].windows(2).zip(rows[1].windows(2)) {
            let total = |i: usize| f64::from(upper[0][i] + upper[1][i] + lower[0][i] + lower[1][i]) / n;
            let (ma, mb) = (total(0), total(1));
            let (variances, cov) = (total(2) - ma * ma - mb * mb, total(3) - ma * mb);
            sum += (2.0 * ma * mb + C1) * (2.0 * cov + C2) / ((ma * ma + mb * mb + C1) * (variances + C2));
            count += 1;
        }
    }
    sum / f64::from(count)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hone_media::frame::{Colour, I420};

    use super::*;

    fn truth() -> (Truth, Vec<u8>) {
        let mut image = I420::new(32, 16).unwrap();
        for (i, v) in image.y_mut().iter_mut().enumerate() {
            *v = 40 + (i * 13 % 150) as u8;
        }
        let frame = Frame { pts_us: 0, image: Arc::new(image), colour: Colour::guess(720), quantiser: None };
        let rgb = hone_cpu::rgb8_from_yuv(&picture::yuv420(&frame));
        (Truth::new(&frame), rgb)
    }

    #[test]
    fn identical_pictures_are_perfect() {
        let (truth, rgb) = truth();
        let quality = truth.quality(&rgb, 3);
        assert_eq!(quality.psnr_rgb_db, PSNR_MAX_DB);
        // RGB code values are finer than limited-range luma: the way back is exact.
        assert_eq!((quality.psnr_y_db, quality.ssim_y), (PSNR_MAX_DB, 1.0));
    }

    #[test]
    fn a_known_error_gives_the_known_psnr() {
        let (truth, rgb) = truth();
        let shown: Vec<u8> = rgb.iter().map(|v| v + 10).collect();
        let quality = truth.quality(&shown, 3);
        assert!((quality.psnr_rgb_db - 10.0 * (65025.0f64 / 100.0).log10()).abs() < 1e-9);
        // 10 of 255 in RGB are 8.6 of 219 code values in luma, 9 once rounded.
        assert!((quality.psnr_y_db - 29.2).abs() < 0.3, "{quality:?}");
        assert!(quality.ssim_y > 0.9 && quality.ssim_y < 1.0);
    }
}
