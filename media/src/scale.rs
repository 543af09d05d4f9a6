//! Downscaling by exact area averaging.
//!
//! Every output sample is the mean of the input area that it covers, fractional coverage included, rounded
//! to nearest. All arithmetic is on integers, so results are the same everywhere. Each plane is averaged on
//! its own grid: the centres of planes stay aligned, and a centre-aligned upscale undoes the geometry.

use crate::frame::{I420, SizeError, check_size};

/// Why a picture was not scaled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The target size is unusable.
    #[error(transparent)]
    Size(#[from] SizeError),
    /// The target is larger than the picture.
    #[error("cannot scale {from:?} up to {to:?}: only downscaling is offered")]
    Larger {
        /// Width and height of the picture.
        from: (u32, u32),
        /// Width and height asked for.
        to: (u32, u32),
    },
}

/// Scales a picture down to `width` x `height` by area averaging, at any ratio from 1 on.
///
/// # Errors
/// [`Error`] for an unusable or larger target size.
pub fn downscale(image: &I420, width: u32, height: u32) -> Result<I420, Error> {
    check_size(width, height)?;
    let from = (image.width(), image.height());
    if width > from.0 || height > from.1 {
        return Err(Error::Larger { from, to: (width, height) });
    }
    if from == (width, height) {
        return Ok(image.clone());
    }
    let size = |(width, height): (u32, u32)| Size { width: width as usize, height: height as usize };
    let half = |(width, height): (u32, u32)| size((width / 2, height / 2));
    let to = (width, height);
    let y = plane(image.y(), size(from), size(to));
    let u = plane(image.u(), half(from), half(to));
    let v = plane(image.v(), half(from), half(to));
    Ok(I420::from_planes(width, height, y, u, v)?)
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Size {
    width: usize,
    height: usize,
}

fn plane(src: &[u8], from: Size, to: Size) -> Vec<u8> {
    let ratio = from.width / to.width;
    if to.width * ratio == from.width && to.height * ratio == from.height {
        match ratio {
            2 => return whole_ratio::<2>(src, from, to),
            3 => return whole_ratio::<3>(src, from, to),
            4 => return whole_ratio::<4>(src, from, to),
            _ => {}
        }
    }
    any_ratio(src, from, to)
}

/// Mean of S x S blocks. Sums stay below 2^16: 16 * 255.
fn whole_ratio<const S: usize>(src: &[u8], from: Size, to: Size) -> Vec<u8> {
    let mut dst = vec![0; to.width * to.height];
    let mut columns = vec![0_u16; from.width];
    let area = u16::try_from(S * S).expect("S is at most 4");
    for (rows, out) in src.chunks_exact(from.width * S).zip(dst.chunks_exact_mut(to.width)) {
        columns.fill(0);
        for row in rows.chunks_exact(from.width) {
            for (sum, &sample) in columns.iter_mut().zip(row) {
                *sum += u16::from(sample);
            }
        }
        for (out, block) in out.iter_mut().zip(columns.chunks_exact(S)) {
            *out = byte(u32::from((block.iter().sum::<u16>() + area / 2) / area));
        }
    }
    dst
}

fn byte(mean: u32) -> u8 {
    u8::try_from(mean).unwrap_or(u8::MAX)
}

/// Along one side, what an output sample covers: a run of input samples, of which only the first and the
/// last may be covered in part.
///
/// Lengths are counted in units of 1/`to` of an input sample, so that all are whole: an output sample is
/// `from` units long, an input sample `to`.
struct Cover {
    first: usize,
    last: usize,
    first_units: u32,
    last_units: u32,
}

/// Covers of all output samples, with both lengths divided by their greatest common divisor.
fn covers(from: usize, to: usize) -> (Vec<Cover>, u32, u32) {
    let divisor = gcd(from, to);
    let (long, short) = (from / divisor, to / divisor);
    let units = |count: usize| u32::try_from(count).expect("sides are at most MAX_SIDE");
    let covers = (0..to)
        .map(|index| {
            let (start, end) = (index * long, (index + 1) * long);
            let (first, last) = (start / short, (end - 1) / short);
            let first_units = units(((first + 1) * short).min(end) - start);
            let last_units = if last > first { units(end - last * short) } else { 0 };
            Cover { first, last, first_units, last_units }
        })
        .collect();
    (covers, units(long), units(short))
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn any_ratio(src: &[u8], from: Size, to: Size) -> Vec<u8> {
    let (rows, row_units, inner_row) = covers(from.height, to.height);
    let (columns, column_units, inner_column) = covers(from.width, to.width);
    // At most 255 * MAX_SIDE down a column, which fits 32 bits, and 255 * MAX_SIDE^2 in all, which needs 64.
    let area = u64::from(row_units) * u64::from(column_units);
    let mut dst = vec![0; to.width * to.height];
    let mut sums = vec![0_u32; from.width];
    for (cover, out) in rows.iter().zip(dst.chunks_exact_mut(to.width)) {
        sums.fill(0);
        for row in cover.first..=cover.last {
            let units = weight(cover, row, inner_row);
            for (sum, &sample) in sums.iter_mut().zip(&src[row * from.width..]) {
                *sum += units * u32::from(sample);
            }
        }
        for (out, cover) in out.iter_mut().zip(&columns) {
            let total: u64 = (cover.first..=cover.last)
                .map(|column| u64::from(weight(cover, column, inner_column)) * u64::from(sums[column]))
                .sum();
            *out = byte(u32::try_from((total + area / 2) / area).unwrap_or(u32::MAX));
        }
    }
    dst
}

fn weight(cover: &Cover, index: usize, inner: u32) -> u32 {
    if index == cover.first {
        cover.first_units
    } else if index == cover.last {
        cover.last_units
    } else {
        inner
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, in floating point: integrate the covered rectangle.
    fn reference(src: &[u8], from: Size, to: Size) -> Vec<f64> {
        let (sx, sy) = (from.width as f64 / to.width as f64, from.height as f64 / to.height as f64);
        let overlap =
            |index: usize, start: f64, end: f64| ((index + 1) as f64).min(end) - (index as f64).max(start);
        let mut out = Vec::new();
        for oy in 0..to.height {
            for ox in 0..to.width {
                let (x0, x1) = (ox as f64 * sx, (ox + 1) as f64 * sx);
                let (y0, y1) = (oy as f64 * sy, (oy + 1) as f64 * sy);
                let mut sum = 0.0;
                for iy in 0..from.height {
                    for ix in 0..from.width {
                        let (wx, wy) = (overlap(ix, x0, x1), overlap(iy, y0, y1));
                        if wx > 0.0 && wy > 0.0 {
                            sum += wx * wy * f64::from(src[iy * from.width + ix]);
                        }
                    }
                }
                out.push(sum / (sx * sy));
            }
        }
        out
    }

    proptest! {
        #[test]
        fn equals_the_integral_of_the_area(
            (from, to, seed) in (1_usize..24, 1_usize..24).prop_flat_map(|(w, h)| {
                (Just((w, h)), (1..=w, 1..=h), any::<u32>())
            })
        ) {
            let from = Size { width: from.0, height: from.1 };
            let to = Size { width: to.0, height: to.1 };
            let mut state = seed;
            let src: Vec<u8> = (0..from.width * from.height)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    state.to_be_bytes()[0]
                })
                .collect();
            for (have, want) in plane(&src, from, to).iter().zip(reference(&src, from, to)) {
                // Half a step of rounding, and the reference's own rounding error.
                let error = (f64::from(*have) - want).abs();
                prop_assert!(error <= 0.5 + 1e-9, "{have} for {want}");
            }
        }
    }

    #[test]
    fn whole_ratios_equal_the_general_path() {
        let src: Vec<u8> = (0..48 * 24).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let from = Size { width: 48, height: 24 };
        for ratio in [2, 3, 4] {
            let to = Size { width: 48 / ratio, height: 24 / ratio };
            assert_eq!(plane(&src, from, to), any_ratio(&src, from, to), "{ratio}");
        }
    }

    #[test]
    fn white_stays_white_at_the_largest_size() {
        let from = Size { width: crate::limits::MAX_SIDE as usize, height: 6 };
        let white = vec![255; from.width * from.height];
        for to in [Size { width: 8190, height: 4 }, Size { width: 2, height: 2 }] {
            assert!(plane(&white, from, to).iter().all(|&sample| sample == 255));
        }
    }

    #[test]
    fn sizes_are_checked() {
        let image = I420::new(8, 8).unwrap();
        assert!(matches!(downscale(&image, 10, 8), Err(Error::Larger { .. })));
        assert!(matches!(downscale(&image, 3, 4), Err(Error::Size(_))));
        assert_eq!(downscale(&image, 8, 8).unwrap(), image);
        assert_eq!(downscale(&image, 4, 2).unwrap(), I420::new(4, 2).unwrap());
    }
}
