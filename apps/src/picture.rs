//! Between the rooms' views of a picture.

use hone_media::frame::{self, Frame};
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
    let mut image = frame::I420::new(width, height)?;
    let (w, matrix) = (width as usize, colour(tags).yuv_from_rgb().map(|row| row.map(|v| v as f32)));
    let code = |row: usize, rgb: [f32; 3]| {
        let [r, g, b, offset] = matrix[row];
        ((r * rgb[0] + g * rgb[1] + b * rgb[2]) / 255.0 + offset + 0.5) as u8
    };
    let pixel = |x: usize, y: usize| {
        let at = (y * w + x) * 4;
        [f32::from(rgba[at]), f32::from(rgba[at + 1]), f32::from(rgba[at + 2])]
    };
    image.y_mut().par_chunks_exact_mut(w).enumerate().for_each(|(row, line)| {
        for (x, y) in line.iter_mut().enumerate() {
            *y = code(0, pixel(x, row));
        }
    });
    let quad = |i: usize| {
        let (x, y) = (i % (w / 2) * 2, i / (w / 2) * 2);
        let corners = [pixel(x, y), pixel(x + 1, y), pixel(x, y + 1), pixel(x + 1, y + 1)];
        std::array::from_fn(|c| corners.iter().map(|corner| corner[c]).sum::<f32>() / 4.0)
    };
    for (i, u) in image.u_mut().iter_mut().enumerate() {
        *u = code(1, quad(i));
    }
    for (i, v) in image.v_mut().iter_mut().enumerate() {
        *v = code(2, quad(i));
    }
    Ok(image)
}
