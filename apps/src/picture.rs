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
/// Chroma sits on even columns and between two rows, as H.264 has it unless a stream says otherwise (ITU-T H.264 annex E,
/// chroma_sample_loc_type 0): 1-2-1 along a row, with the edge repeated, and the mean of two rows.
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
    // Chroma of each column of two rows, after that of the edge repeated. Filtered where the pixels lie, the loop would be
    // scalar, and ten times as slow.
    let scratch = || [vec![0.0; w + 1], vec![0.0; w + 1]];
    rows.for_each_init(scratch, |scratch, ((rgba, luma), (u, v))| {
        hone_cpu::simd(
            (scratch, luma, u, v),
            #[inline(always)]
            |([columns_u, columns_v], luma, u, v)| {
                for (y, p) in luma.iter_mut().zip(rgba.chunks_exact(4)) {
                    *y = code(y_row, [p[0], p[1], p[2]].map(f32::from), 1.0 / 255.0);
                }
                let (upper, lower) = rgba.split_at(4 * w);
                let pixels = upper.chunks_exact(4).zip(lower.chunks_exact(4));
                let columns = columns_u[1..].iter_mut().zip(&mut columns_v[1..]);
                for ((u, v), (a, b)) in columns.zip(pixels) {
                    let sum = |c: usize| f32::from(a[c]) + f32::from(b[c]);
                    let rgb = [sum(0), sum(1), sum(2)];
                    (*u, *v) = (dot(u_row, rgb), dot(v_row, rgb));
                }
                narrow(columns_u, u, u_row[3]);
                narrow(columns_v, v, v_row[3]);
            },
        );
    });
    frame::I420::from_planes(width, height, luma, u, v)
}

/// 1-2-1 at every second column, of sums over two rows; `columns` begins with a place for the edge.
#[inline(always)]
fn narrow(columns: &mut [f32], codes: &mut [u8], offset: f32) {
    columns[0] = columns[1];
    let pairs = columns.chunks_exact(2).zip(columns[1..].chunks_exact(2));
    for (code, (before, here)) in codes.iter_mut().zip(pairs) {
        let sum = before[0] + 2.0 * here[0] + here[1];
        *code = hone_cpu::code_value(sum * (0.125 / 255.0) + offset);
    }
}

/// One code value of a sum of RGB values, each 0..=1 after `weight`.
#[inline(always)]
fn code(row: [f32; 4], rgb: [f32; 3], weight: f32) -> u8 {
    hone_cpu::code_value(dot(row, rgb) * weight + row[3])
}

#[inline(always)]
fn dot([r, g, b, _]: [f32; 4], rgb: [f32; 3]) -> f32 {
    r * rgb[0] + g * rgb[1] + b * rgb[2]
}

#[cfg(test)]
mod tests {
    use hone_model::reference::yuv_rgb;

    use super::*;

    const TAGS: frame::Colour = frame::Colour { matrix: frame::Matrix::Bt709, range: frame::Range::Full };
    const WIDTH: u32 = 32;
    const HEIGHT: u32 = 4;

    /// A picture whose pixels depend on the column alone.
    fn made(rgb: impl Fn(usize) -> [u8; 3]) -> frame::I420 {
        let columns = (0..(WIDTH * HEIGHT) as usize).map(|i| rgb(i % WIDTH as usize));
        let rgba: Vec<u8> = columns.flat_map(|[r, g, b]| [r, g, b, 255]).collect();
        i420_from_rgba(&rgba, WIDTH, HEIGHT, TAGS).unwrap()
    }

    /// Chroma at an edge is that of its own column and half that of those beside it: in the middle between two columns it
    /// would be half a pixel to the right.
    #[test]
    fn chroma_sits_on_even_columns() {
        for (edge, shares) in [(8, [0.0, 0.75, 1.0]), (9, [0.0, 0.25, 1.0])] {
            let image = made(|x| if x < edge { [0; 3] } else { [0, 0, 255] });
            let u: Vec<f64> = image.u()[3..6].iter().map(|&v| f64::from(v)).collect();
            let (none, all) = (f64::from(image.u()[0]), f64::from(image.u()[15]));
            assert!(all - none > 100.0, "{none} to {all}");
            for (got, share) in u.iter().zip(shares) {
                assert!((got - none - share * (all - none)).abs() <= 1.0, "edge at {edge}: {u:?}");
            }
        }
    }

    /// What is recorded is what was shown, where chroma changes evenly: a shift by half a pixel would be 4 code values.
    #[test]
    fn a_ramp_comes_back_where_it_was() {
        let image = made(|x| [128, 128, 8 * x as u8]);
        let frame = Frame { image: std::sync::Arc::new(image), pts_us: 0, colour: TAGS, quantiser: None };
        let rgb = yuv_rgb(&yuv420(&frame));
        let (w, area) = (WIDTH as usize, (WIDTH * HEIGHT) as usize);
        // Beside the edges the ramp does not go on.
        for x in 2..w - 2 {
            let blue = 255.0 * rgb.data[2 * area + w + x];
            assert!((blue - 8.0 * x as f64).abs() <= 2.0, "column {x}: {blue}");
        }
    }
}
