//! JPEG for training patches: small RGB images, 4:4:4, so that chroma keeps its resolution.
//!
//! The decoder is jpeg-decoder: zune-jpeg 0.5.15 decodes some files with optimised Huffman tables wrongly (12 dB).

use jpeg_decoder::{Decoder, PixelFormat};
use jpeg_encoder::{ColorType, SamplingFactor};

use crate::limits::MAX_JPEG_BYTES;

/// Why a patch was not coded or not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The pixel buffer does not match the size.
    #[error("{have} bytes of RGB where {need} are needed")]
    Buffer {
        /// Bytes given.
        have: usize,
        /// Bytes needed: 3 per pixel.
        need: usize,
    },
    /// A quality outside 1 to 100.
    #[error("JPEG quality {0} is not within 1 to 100")]
    Quality(u8),
    /// The file is larger than [`MAX_JPEG_BYTES`].
    #[error("a JPEG patch of {0} bytes is over the limit of {MAX_JPEG_BYTES}")]
    TooLarge(usize),
    /// The header names another size.
    #[error("a JPEG patch of {have:?} pixels where {expect:?} was announced")]
    Size {
        /// Width and height found.
        have: (u16, u16),
        /// Width and height expected.
        expect: (u16, u16),
    },
    /// Neither RGB nor YCbCr.
    #[error("a JPEG patch in {0}: only YCbCr and RGB are taken")]
    Colour(String),
    /// The data is damaged.
    #[error("damaged JPEG patch ({0})")]
    Damaged(String),
    /// The encoder refused.
    #[error("JPEG encoding failed ({0})")]
    Encode(String),
}

/// Encodes RGB (H, W, 3), row-major, as a 4:4:4 baseline JPEG with optimised Huffman tables.
///
/// # Errors
/// [`Error::Buffer`], [`Error::Quality`] or, for an empty image, [`Error::Encode`].
pub fn encode(rgb: &[u8], width: u16, height: u16, quality: u8) -> Result<Vec<u8>, Error> {
    file(rgb, width, height, quality, true)
}

fn file(rgb: &[u8], width: u16, height: u16, quality: u8, own_tables: bool) -> Result<Vec<u8>, Error> {
    let need = 3 * usize::from(width) * usize::from(height);
    if rgb.len() != need {
        return Err(Error::Buffer { have: rgb.len(), need });
    }
    if !(1..=100).contains(&quality) {
        return Err(Error::Quality(quality));
    }
    let mut out = Vec::new();
    let mut encoder = jpeg_encoder::Encoder::new(&mut out, quality);
    encoder.set_sampling_factor(SamplingFactor::F_1_1);
    encoder.set_optimized_huffman_tables(own_tables);
    encoder.encode(rgb, width, height, ColorType::Rgb).map_err(|error| Error::Encode(error.to_string()))?;
    Ok(out)
}

/// Decodes a JPEG of exactly the `expect`ed (width, height) to RGB (H, W, 3), row-major.
///
/// Size and colour space are checked on the headers, before memory is taken for pixels.
///
/// # Errors
/// [`Error`] for any other size or colour space and for damaged data.
pub fn decode(bytes: &[u8], expect: (u16, u16)) -> Result<Vec<u8>, Error> {
    if bytes.len() > MAX_JPEG_BYTES {
        return Err(Error::TooLarge(bytes.len()));
    }
    let need = 3 * usize::from(expect.0) * usize::from(expect.1);
    let mut decoder = Decoder::new(bytes);
    decoder.set_max_decoding_buffer_size(need);
    decoder.read_info().map_err(damaged)?;
    let info = decoder.info().ok_or_else(|| Error::Damaged("no header".into()))?;
    if (info.width, info.height) != expect {
        return Err(Error::Size { have: (info.width, info.height), expect });
    }
    if info.pixel_format != PixelFormat::RGB24 {
        return Err(Error::Colour(format!("{:?}", info.pixel_format)));
    }
    let rgb = decoder.decode().map_err(damaged)?;
    if rgb.len() != need {
        return Err(Error::Buffer { have: rgb.len(), need });
    }
    Ok(rgb)
}

/// Encodes like [`encode()`], but gives the entropy-coded scan alone: on a small image the headers and tables
/// would be half of the bytes. Size and quality say what they were, as in RFC 2435: the quantiser tables are those
/// of ITU-T T.81 annex K scaled by quality, the Huffman tables those of annex K.
///
/// # Errors
/// As [`encode()`].
pub fn encode_scan(rgb: &[u8], width: u16, height: u16, quality: u8) -> Result<Vec<u8>, Error> {
    let mut bytes = file(rgb, width, height, quality, false)?;
    bytes.truncate(bytes.len() - END.len());
    bytes.drain(..scan_start(&bytes)?);
    Ok(bytes)
}

/// Decodes what [`encode_scan()`] made of an image of this (width, height) at this quality.
///
/// # Errors
/// As [`decode()`], and [`Error::Quality`].
pub fn decode_scan(scan: &[u8], size: (u16, u16), quality: u8) -> Result<Vec<u8>, Error> {
    if scan.len() > MAX_JPEG_BYTES {
        return Err(Error::TooLarge(scan.len()));
    }
    // The headers of any image of this size and quality.
    let blank = vec![0; 3 * usize::from(size.0) * usize::from(size.1)];
    let mut bytes = file(&blank, size.0, size.1, quality, false)?;
    bytes.truncate(scan_start(&bytes)?);
    bytes.extend_from_slice(scan);
    bytes.extend_from_slice(&END);
    decode(&bytes, size)
}

/// The marker that ends an image.
const END: [u8; 2] = [0xff, 0xd9];
/// The marker of the header in front of a scan.
const START_OF_SCAN: u8 = 0xda;

/// Where the entropy-coded data of our own encoder's file begins.
fn scan_start(bytes: &[u8]) -> Result<usize, Error> {
    let mut at = 2;
    while let Some(&[0xff, marker, high, low]) = bytes.get(at..at + 4) {
        at += 2 + usize::from(u16::from_be_bytes([high, low]));
        if marker == START_OF_SCAN && at <= bytes.len() {
            return Ok(at);
        }
    }
    Err(Error::Encode("no scan".into()))
}

fn damaged(error: impl std::fmt::Display) -> Error {
    Error::Damaged(error.to_string())
}
