//! Training patches on the wire, and what both ends cut out of their frames.
//!
//! ```text
//! offset  bytes  field, little endian
//!      0      2  y of the LR crop, even
//!      2      2  x of the LR crop, even
//!      4      2  rows of the LR crop, even
//!      6      2  columns of the LR crop, even
//!      8      1  lowest bit: 0 to learn from, 1 to judge by; the others: what twice the video's bits would gain, 1/8 dB,
//!                0 where that was not measured
//!      9      1  JPEG quality, 1 to 100
//!     10      -  HR crop, s times as large: the entropy-coded scan of a 4:4:4 JPEG with standard tables
//! ```
//! The frame is named by the message's media time; the server crops LR from its own decode of it.

use hone_media::frame::Frame;
use hone_media::jpeg;
use hone_model::Yuv420;
use hone_model::arch::QUANTISER_UNKNOWN;
use hone_trainer::Pair;

use crate::picture;

const HEADER_BYTES: usize = 10;
/// Offset of the purpose.
const PURPOSE: usize = 8;
/// Parts of a dB in which the video's gain is told.
const PARTS: f64 = 8.0;
/// Pixels around a crop that its chroma interpolation reads.
const MARGIN: usize = 2;

/// A rectangle of the LR frame, all sides even.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// First row.
    pub y: u16,
    /// First column.
    pub x: u16,
    /// Rows.
    pub h: u16,
    /// Columns.
    pub w: u16,
}

impl Place {
    fn parts(self) -> [u16; 4] {
        [self.y, self.x, self.h, self.w]
    }

    /// Whether it lies in a frame of this size, on even lines.
    pub fn fits(self, width: u32, height: u32) -> bool {
        self.parts().iter().all(|v| v % 2 == 0)
            && self.h > 0
            && self.w > 0
            && u32::from(self.x) + u32::from(self.w) <= width
            && u32::from(self.y) + u32::from(self.h) <= height
    }
}

/// What a patch is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Trained on: from where the decoded stream is worst.
    Learn,
    /// Never trained on: from anywhere, so that it stands for the whole picture.
    Judge,
}

/// Why a patch message was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PatchError {
    /// Shorter than its header.
    #[error("training patch of {0} bytes: shorter than its header")]
    Short(usize),
    /// Outside the frame, odd, or larger than training takes.
    #[error("training patch at {place:?} does not fit a {width}x{height} frame")]
    Place {
        /// Where it claims to be.
        place: Place,
        /// Columns of the LR frame.
        width: u32,
        /// Rows of the LR frame.
        height: u32,
    },
    /// Not the image that the header promises.
    #[error("training patch: {0}")]
    Jpeg(#[from] jpeg::Error),
}

/// Least LR side of a patch: training crops are that large.
pub const LR_SIDE_MIN: u16 = 32;

/// LR side of a patch. To learn from: large enough to take many crops from, small enough that several a second
/// fit a thin uplink. To judge by: many small ones say more than one large one.
pub fn lr_side(purpose: Purpose, scale: usize) -> u16 {
    match (purpose, scale) {
        (Purpose::Judge, _) => LR_SIDE_MIN,
        (Purpose::Learn, 1..=3) => 48,
        (Purpose::Learn, _) => 40,
    }
}

/// Makes the message for an HR crop.
///
/// # Errors
/// What the JPEG encoder says.
pub fn encode(
    place: Place,
    purpose: Purpose,
    hr: &[u8],
    scale: usize,
    quality: u8,
) -> Result<Vec<u8>, PatchError> {
    let mut bytes: Vec<u8> = place.parts().iter().flat_map(|v| v.to_le_bytes()).collect();
    bytes.push(u8::from(purpose == Purpose::Judge));
    let s = scale as u16;
    bytes.push(quality);
    bytes.extend(jpeg::encode_scan(hr, place.w * s, place.h * s, quality)?);
    Ok(bytes)
}

/// Reads where a message's patch lies, against the LR frame's size, and what it is for.
///
/// # Errors
/// [`PatchError::Short`] or [`PatchError::Place`].
pub fn header(bytes: &[u8], width: u32, height: u32) -> Result<(Place, Purpose), PatchError> {
    if bytes.len() < HEADER_BYTES {
        return Err(PatchError::Short(bytes.len()));
    }
    let field = |i: usize| u16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]]);
    let place = Place { y: field(0), x: field(1), h: field(2), w: field(3) };
    let side_max = hone_trainer::SIDE_MAX as u16;
    if place.fits(width, height) && place.h <= side_max && place.w <= side_max {
        Ok((place, if bytes[PURPOSE] & 1 == 1 { Purpose::Judge } else { Purpose::Learn }))
    } else {
        Err(PatchError::Place { place, width, height })
    }
}

/// Says in a message what viewers would gain, PSNR-Y, if the video had twice the bits: what the patch's bits are worth there.
pub fn tell_worth(message: &mut [u8], twice_the_bits_db: f64) {
    if let Some(byte) = message.get_mut(PURPOSE) {
        let parts = (twice_the_bits_db * PARTS).round().clamp(1.0, 127.0) as u8;
        *byte = *byte & 1 | parts << 1;
    }
}

/// What [`tell_worth`] said, dB.
pub fn worth(message: &[u8]) -> Option<f64> {
    let parts = message.get(PURPOSE)? >> 1;
    (parts > 0).then_some(f64::from(parts) / PARTS)
}

/// Decodes the HR crop of a message whose place was read: (s·h, s·w, 3) 8-bit RGB.
///
/// # Errors
/// [`PatchError::Jpeg`].
pub fn hr(bytes: &[u8], place: Place, scale: usize) -> Result<Vec<u8>, PatchError> {
    let s = scale as u16;
    let (quality, scan) = bytes[HEADER_BYTES - 1..].split_first().ok_or(PatchError::Short(bytes.len()))?;
    Ok(jpeg::decode_scan(scan, (place.w * s, place.h * s), *quality)?)
}

/// Cuts (y, x, h, w) out of a frame with the margin that conversion needs; calls `convert` and cuts the margin
/// off its (rows, columns, 3) result.
fn cut<T: Copy>(frame: &Frame, [y, x, h, w]: [usize; 4], convert: impl Fn(&Yuv420) -> Vec<T>) -> Vec<T> {
    let picture = picture::yuv420(frame);
    let (y0, x0) = (y.saturating_sub(MARGIN), x.saturating_sub(MARGIN));
    let (y1, x1) = ((y + h + MARGIN).min(picture.h), (x + w + MARGIN).min(picture.w));
    let crop = |plane: &[u8], d: usize| -> Vec<u8> {
        let stride = picture.w / d;
        (y0 / d..y1 / d)
            .flat_map(|row| &plane[row * stride + x0 / d..row * stride + x1 / d])
            .copied()
            .collect()
    };
    let (luma, u, v) = (crop(picture.y, 1), crop(picture.u, 2), crop(picture.v, 2));
    let rgb = convert(&Yuv420 { h: y1 - y0, w: x1 - x0, y: &luma, u: &u, v: &v, ..picture });
    let stride = (x1 - x0) * 3;
    (y - y0..y - y0 + h).flat_map(|row| &rgb[row * stride + (x - x0) * 3..][..w * 3]).copied().collect()
}

/// The decoder's pixels: (h, w, 3) f32 RGB, nominally 0..=1, as they would be in the whole frame.
pub fn lr_rgb(frame: &Frame, place: Place) -> Vec<f32> {
    cut(frame, place.parts().map(usize::from), hone_cpu::yuv_rgb)
}

/// What viewers see at `place` without a network: (s·h, s·w, 3) 8-bit RGB.
pub fn base_rgb8(frame: &Frame, place: Place, scale: usize) -> Vec<u8> {
    let base = hone_cpu::bicubic(&lr_rgb(frame, place), place.h.into(), place.w.into(), scale);
    base.iter().map(|v| (v * 255.0).clamp(0.0, 255.0).round() as u8).collect()
}

/// What is learned from `hr` (s·h, s·w, 3) at `place` of a frame that viewers see as `decoded`.
pub fn pair(decoded: &Frame, place: Place, purpose: Purpose, hr: Vec<u8>) -> Pair {
    Pair {
        pts_us: decoded.pts_us,
        h: place.h.into(),
        w: place.w.into(),
        lr: lr_rgb(decoded, place),
        quantiser: decoded.quantiser.unwrap_or(QUANTISER_UNKNOWN),
        hr,
        held_out: purpose == Purpose::Judge,
    }
}

/// The camera's pixels: (s·h, s·w, 3) 8-bit RGB.
pub fn hr_rgb8(frame: &Frame, place: Place, scale: usize) -> Vec<u8> {
    cut(frame, place.parts().map(|v| usize::from(v) * scale), hone_cpu::rgb8_from_yuv)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hone_media::frame::{Colour, I420};

    use super::*;

    fn frame(width: u32, height: u32) -> Frame {
        let mut image = I420::new(width, height).unwrap();
        for (i, v) in image.y_mut().iter_mut().enumerate() {
            *v = (i * 7 % 220) as u8;
        }
        for (i, v) in image.u_mut().iter_mut().enumerate() {
            *v = (i * 5 % 200) as u8;
        }
        Frame { pts_us: 0, image: Arc::new(image), colour: Colour::guess(height), quantiser: None }
    }

    #[test]
    fn a_crop_equals_the_same_part_of_the_whole_frame() {
        let frame = frame(64, 48);
        let whole = hone_cpu::yuv_rgb(&picture::yuv420(&frame));
        for (y, x, h, w) in [(0, 0, 16, 16), (32, 48, 16, 16), (10, 22, 20, 8), (0, 0, 48, 64)] {
            let crop = lr_rgb(&frame, Place { y, x, h, w });
            for row in 0..usize::from(h) {
                let at = ((usize::from(y) + row) * 64 + usize::from(x)) * 3;
                let len = usize::from(w) * 3;
                assert_eq!(crop[row * len..][..len], whole[at..at + len]);
            }
        }
    }

    #[test]
    fn message_round_trips_and_hostile_ones_are_refused() {
        let frame = frame(128, 96);
        let place = Place { y: 10, x: 20, h: 32, w: 24 };
        let message = encode(place, Purpose::Judge, &hr_rgb8(&frame, place, 2), 2, 95).unwrap();
        assert_eq!(header(&message, 64, 48).unwrap(), (place, Purpose::Judge));
        assert_eq!(hr(&message, place, 2).unwrap().len(), 64 * 48 * 3);
        for (width, height) in [(42, 48), (64, 40), (2, 2)] {
            assert!(matches!(header(&message, width, height), Err(PatchError::Place { .. })));
        }
        assert!(matches!(header(&message[..9], 64, 48), Err(PatchError::Short(9))));
        let mut odd = message.clone();
        odd[0] = 11;
        assert!(matches!(header(&odd, 64, 48), Err(PatchError::Place { .. })));
        let mut quality = message.clone();
        quality[HEADER_BYTES - 1] = 0;
        assert!(hr(&quality, place, 2).is_err());
    }
}
