//! Between the rooms' views of a picture.

use hone_media::frame::{self, Frame};
use hone_model::arch::QUANTISER_UNKNOWN;
use hone_model::colour::{Matrix, Range};
use hone_model::{Colour, Yuv420};
use rayon::prelude::*;

/// Media's colour tags as the model's.
pub fn colour(colour: frame::Colour) -> Colour {
    Colour {
        matrix: match colour.matrix {
            frame::Matrix::Bt601 => Matrix::Bt601,
            frame::Matrix::Bt709 => Matrix::Bt709,
            frame::Matrix::Bt2020 => Matrix::Bt2020,
        },
        range: match colour.range {
            frame::Range::Limited => Range::Limited,
            frame::Range::Full => Range::Full,
        },
    }
}

/// A frame's planes.
pub fn yuv420(frame: &Frame) -> Yuv420<'_> {
    let image = &frame.image;
    Yuv420 {
        h: image.height() as usize,
        w: image.width() as usize,
        y: image.y(),
        u: image.u(),
        v: image.v(),
        colour: colour(frame.colour),
        quantiser: frame.quantiser.unwrap_or(QUANTISER_UNKNOWN),
    }
}

/// What a screen shows, (H, W, 4) RGBA, as 4:2:0 planes in `colour`, for a recording.
///
/// Chroma is the mean of 2x2 pixels.
///
/// # Errors
/// [`frame::SizeError`] for a size that media does not know.
pub fn i420_from_rgba(
    rgba: &[u8],
    width: u32,
    height: u32,
    tags: frame::Colour,
) -> Result<frame::I420, frame::SizeError> {
    let w = width as usize;
    let [y_row, u_row, v_row] = colour(tags).yuv_from_rgb().map(|row| row.map(|v| v as f32));
    let mut luma = vec![0; rgba.len() / 4];
    let (mut u, mut v) = (vec![0; luma.len() / 4], vec![0; luma.len() / 4]);
    let chroma = u.par_chunks_exact_mut(w / 2).zip(v.par_chunks_exact_mut(w / 2));
    let rows = rgba.par_chunks_exact(8 * w).zip(luma.par_chunks_exact_mut(2 * w)).zip(chroma);
    rows.for_each(|((rgba, luma), (u, v))| {
        hone_cpu::simd(
            (luma, u, v),
            #[inline(always)]
            |(luma, u, v)| {
                for (y, p) in luma.iter_mut().zip(rgba.chunks_exact(4)) {
                    *y = code(y_row, [p[0], p[1], p[2]].map(f32::from), 1.0 / 255.0);
                }
                let (upper, lower) = rgba.split_at(4 * w);
                let pairs = upper.chunks_exact(8).zip(lower.chunks_exact(8));
                for ((u, v), (a, b)) in u.iter_mut().zip(v).zip(pairs) {
                    let sum = |c: usize| {
                        f32::from(a[c]) + f32::from(a[c + 4]) + f32::from(b[c]) + f32::from(b[c + 4])
                    };
                    let rgb = [sum(0), sum(1), sum(2)];
                    (*u, *v) = (code(u_row, rgb, 0.25 / 255.0), code(v_row, rgb, 0.25 / 255.0));
                }
            },
        );
    });
    frame::I420::from_planes(width, height, luma, u, v)
}

/// One code value of a sum of RGB values, each 0..=1 after `weight`.
#[inline(always)]
fn code([r, g, b, offset]: [f32; 4], rgb: [f32; 3], weight: f32) -> u8 {
    hone_cpu::code_value((r * rgb[0] + g * rgb[1] + b * rgb[2]) * weight + offset)
}
