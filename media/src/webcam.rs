//! Webcams: V4L2 on Linux, with the feature `webcam`; elsewhere ffmpeg reads them and pipes y4m.
//!
//! The feature needs libclang to build, since the crate behind it makes its bindings from the system's headers.
//!
//! Source: the kernel's V4L2 API documentation, V4L2_PIX_FMT_YUYV and V4L2_PIX_FMT_MJPEG.

#[cfg(all(target_os = "linux", feature = "webcam"))]
mod device;

#[cfg(all(target_os = "linux", feature = "webcam"))]
pub use device::Webcam;

use jpeg_decoder::{ColorTransform, Decoder, PixelFormat};

use crate::frame::{Colour, I420, Matrix, Range, SizeError};
use crate::limits::MAX_JPEG_BYTES;

/// Why a webcam gives no pictures.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The device cannot be opened or used.
    #[error("cannot be used as a webcam ({0})")]
    Device(String),
    /// It gives other formats.
    #[error("gives {0} and neither YUYV nor MJPEG; let ffmpeg read it and pipe y4m into --input -")]
    Format(String),
    /// The size is unusable.
    #[error(transparent)]
    Size(#[from] SizeError),
    /// A picture is shorter than its size asks for, or no JPEG of that size.
    #[error("gave a damaged picture ({0})")]
    Damaged(String),
}

/// How a webcam codes its pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Y, Cb, Y, Cr of two pixels in a row: 4:2:2.
    Yuyv,
    /// A JPEG each.
    Mjpeg,
}

impl Format {
    /// How planes of such pictures turn into R'G'B': JPEG is of full range; USB video class 1.5, table 3-12, has
    /// BT.601 of limited range where a camera says nothing else.
    #[must_use]
    pub fn colour(self) -> Colour {
        let range = if self == Self::Mjpeg { Range::Full } else { Range::Limited };
        Colour { matrix: Matrix::Bt601, range }
    }

    /// The planes of one picture of `width` x `height`; a row of YUYV takes `stride` bytes. Chroma is the mean of the
    /// pixels that share a sample.
    ///
    /// # Errors
    /// [`Error::Damaged`] or [`Error::Size`].
    pub fn picture(self, bytes: &[u8], (width, height): (u32, u32), stride: usize) -> Result<I420, Error> {
        let mut image = I420::new(width, height)?;
        match self {
            Self::Yuyv => yuyv(&mut image, bytes, stride)?,
            Self::Mjpeg => mjpeg(&mut image, bytes)?,
        }
        Ok(image)
    }
}

fn yuyv(image: &mut I420, bytes: &[u8], stride: usize) -> Result<(), Error> {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let row_bytes = 2 * width;
    let stride = stride.max(row_bytes);
    let need = stride.saturating_mul(height - 1).saturating_add(row_bytes);
    if bytes.len() < need {
        return Err(Error::Damaged(format!("{} bytes where {need} are needed", bytes.len())));
    }
    let row = |y: usize| &bytes[y * stride..][..row_bytes];
    for (y, luma) in image.y_mut().chunks_exact_mut(width).enumerate() {
        luma.iter_mut().zip(row(y).iter().step_by(2)).for_each(|(to, from)| *to = *from);
    }
    let chroma = |plane: &mut [u8], offset: usize| {
        for (y, line) in plane.chunks_exact_mut(width / 2).enumerate() {
            let pairs = row(2 * y).chunks_exact(4).zip(row(2 * y + 1).chunks_exact(4));
            line.iter_mut().zip(pairs).for_each(|(to, (a, b))| *to = mean(&[a[offset], b[offset]]));
        }
    };
    chroma(image.u_mut(), 1);
    chroma(image.v_mut(), 3);
    Ok(())
}

fn mjpeg(image: &mut I420, bytes: &[u8]) -> Result<(), Error> {
    let damaged = |reason: &dyn std::fmt::Display| Error::Damaged(reason.to_string());
    if bytes.len() > MAX_JPEG_BYTES {
        return Err(damaged(&"a JPEG over the limit"));
    }
    let (width, height) = (image.width() as usize, image.height() as usize);
    let mut decoder = Decoder::new(bytes);
    decoder.set_max_decoding_buffer_size(3 * width * height);
    // The samples as they are, Y, Cb and Cr of each pixel: for this decoder that is RGB, which it leaves alone. Its `None`
    // panics where chroma is subsampled (jpeg-decoder 0.3.2).
    decoder.set_color_transform(ColorTransform::RGB);
    decoder.read_info().map_err(|error| damaged(&error))?;
    let info = decoder.info().ok_or_else(|| damaged(&"no header"))?;
    let (have, kind) = ((usize::from(info.width), usize::from(info.height)), info.pixel_format);
    if have != (width, height) || kind != PixelFormat::RGB24 {
        return Err(damaged(&format_args!("{kind:?} of {have:?} where {width}x{height} was agreed")));
    }
    let samples = decoder.decode().map_err(|error| damaged(&error))?;
    if samples.len() != 3 * width * height {
        return Err(damaged(&"samples are missing"));
    }
    let row = |y: usize| &samples[3 * y * width..][..3 * width];
    for (y, luma) in image.y_mut().chunks_exact_mut(width).enumerate() {
        luma.iter_mut().zip(row(y).chunks_exact(3)).for_each(|(to, pixel)| *to = pixel[0]);
    }
    let chroma = |plane: &mut [u8], component: usize| {
        for (y, line) in plane.chunks_exact_mut(width / 2).enumerate() {
            let pairs = row(2 * y).chunks_exact(6).zip(row(2 * y + 1).chunks_exact(6));
            let of = |pixels: &[u8], index: usize| pixels[3 * index + component];
            line.iter_mut()
                .zip(pairs)
                .for_each(|(to, (a, b))| *to = mean(&[of(a, 0), of(a, 1), of(b, 0), of(b, 1)]));
        }
    };
    chroma(image.u_mut(), 1);
    chroma(image.v_mut(), 2);
    Ok(())
}

/// Rounded to nearest.
fn mean(samples: &[u8]) -> u8 {
    let sum: usize = samples.iter().copied().map(usize::from).sum();
    u8::try_from((sum + samples.len() / 2) / samples.len()).expect("a mean of bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yuyv_is_taken_apart_row_by_row() {
        // Two rows of four pixels, each row followed by two bytes of padding.
        let bytes = [10, 90, 11, 190, 12, 92, 13, 192, 0, 0, 20, 95, 21, 195, 22, 96, 23, 196, 0, 0];
        for len in [18, 20] {
            let image = Format::Yuyv.picture(&bytes[..len], (4, 2), 10).unwrap();
            assert_eq!(image.y(), [10, 11, 12, 13, 20, 21, 22, 23]);
            assert_eq!((image.u(), image.v()), (&[93, 94][..], &[193, 194][..]));
        }
        assert!(matches!(Format::Yuyv.picture(&bytes[..17], (4, 2), 10), Err(Error::Damaged(_))));
        assert!(matches!(Format::Yuyv.picture(&bytes, (4, 2), usize::MAX), Err(Error::Damaged(_))));
        assert!(matches!(Format::Yuyv.picture(&bytes, (3, 2), 0), Err(Error::Size(_))));
    }

    #[test]
    fn jpegs_of_the_agreed_size_become_planes() {
        use jpeg_encoder::SamplingFactor::{F_1_1, F_2_1, F_2_2};
        // Webcams give 4:2:2 or 4:2:0, and sizes that are no multiple of a JPEG's units.
        for (width, sampling) in [(32_u16, F_1_1), (32, F_2_1), (32, F_2_2), (34, F_2_1), (34, F_2_2)] {
            jpeg_of(width, sampling);
        }
    }

    fn jpeg_of(width: u16, sampling: jpeg_encoder::SamplingFactor) {
        let height = 18_u16;
        let pixels: Vec<u8> = (0..usize::from(width) * usize::from(height))
            .flat_map(|at| [u8::try_from(at % usize::from(width) * 6).unwrap(), 80, 160])
            .collect();
        let mut jpeg = Vec::new();
        let mut encoder = jpeg_encoder::Encoder::new(&mut jpeg, 95);
        encoder.set_sampling_factor(sampling);
        encoder.encode(&pixels, width, height, jpeg_encoder::ColorType::Ycbcr).unwrap();
        let size = (u32::from(width), u32::from(height));
        let image = Format::Mjpeg.picture(&jpeg, size, 0).unwrap();
        for (at, sample) in image.y().iter().enumerate() {
            let expected = u8::try_from(at % usize::from(width) * 6).unwrap();
            assert!(sample.abs_diff(expected) <= 4, "{sample} for {expected} at {at}");
        }
        assert!(
            image.u().iter().all(|u| u.abs_diff(80) <= 2) && image.v().iter().all(|v| v.abs_diff(160) <= 2)
        );
        assert!(matches!(Format::Mjpeg.picture(&jpeg, (32, 32), 0), Err(Error::Damaged(_))));
        for cut in 0..jpeg.len() {
            // Whatever is cut off, no panic.
            let _ = Format::Mjpeg.picture(&jpeg[..cut], size, 0);
        }
    }
}
