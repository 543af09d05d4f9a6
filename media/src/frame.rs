//! Pictures: 8-bit 4:2:0 planes, their colour description and their media time.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::limits::MAX_SIDE;

/// A size that no 4:2:0 picture of this crate can have, or planes that do not fit theirs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SizeError {
    /// Width or height is odd, zero or larger than [`MAX_SIDE`].
    #[error("{width}x{height} is not a usable picture size: both sides must be even, from 2 to {MAX_SIDE}")]
    Picture {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// A plane holds another number of bytes than its size asks for.
    #[error("plane {plane} has {have} bytes where {need} are needed")]
    Plane {
        /// `'Y'`, `'U'` or `'V'`.
        plane: char,
        /// Bytes given.
        have: usize,
        /// Bytes needed.
        need: usize,
    },
}

/// An 8-bit 4:2:0 picture in three tightly packed planes: Y (H, W), U and V (H/2, W/2), row-major.
///
/// Both sides are even and at most [`MAX_SIDE`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct I420 {
    width: u32,
    height: u32,
    y: Vec<u8>,
    u: Vec<u8>,
    v: Vec<u8>,
}

impl I420 {
    /// A black picture (Y 16, U and V 128).
    ///
    /// # Errors
    /// [`SizeError::Picture`] for an odd, empty or too large size.
    pub fn new(width: u32, height: u32) -> Result<Self, SizeError> {
        let luma = check_size(width, height)?;
        Ok(Self { width, height, y: vec![16; luma], u: vec![128; luma / 4], v: vec![128; luma / 4] })
    }

    /// Takes over three tightly packed planes.
    ///
    /// # Errors
    /// [`SizeError`] for an unusable size or a plane of the wrong length.
    pub fn from_planes(
        width: u32,
        height: u32,
        y: Vec<u8>,
        u: Vec<u8>,
        v: Vec<u8>,
    ) -> Result<Self, SizeError> {
        let luma = check_size(width, height)?;
        for (plane, have, need) in [('Y', y.len(), luma), ('U', u.len(), luma / 4), ('V', v.len(), luma / 4)]
        {
            if have != need {
                return Err(SizeError::Plane { plane, have, need });
            }
        }
        Ok(Self { width, height, y, u, v })
    }

    /// Width in luma pixels.
    #[must_use]
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in luma pixels.
    #[must_use]
    pub fn height(&self) -> u32 {
        self.height
    }

    /// The luma plane, (H, W).
    #[must_use]
    pub fn y(&self) -> &[u8] {
        &self.y
    }

    /// The Cb plane, (H/2, W/2).
    #[must_use]
    pub fn u(&self) -> &[u8] {
        &self.u
    }

    /// The Cr plane, (H/2, W/2).
    #[must_use]
    pub fn v(&self) -> &[u8] {
        &self.v
    }

    /// The luma plane, (H, W), to be changed.
    pub fn y_mut(&mut self) -> &mut [u8] {
        &mut self.y
    }

    /// The Cb plane, (H/2, W/2), to be changed.
    pub fn u_mut(&mut self) -> &mut [u8] {
        &mut self.u
    }

    /// The Cr plane, (H/2, W/2), to be changed.
    pub fn v_mut(&mut self) -> &mut [u8] {
        &mut self.v
    }
}

/// Checks a picture size and returns its number of luma samples.
pub(crate) fn check_size(width: u32, height: u32) -> Result<usize, SizeError> {
    let usable = |side: u32| (2..=MAX_SIDE).contains(&side) && side.is_multiple_of(2);
    if usable(width) && usable(height) {
        Ok(width as usize * height as usize)
    } else {
        Err(SizeError::Picture { width, height })
    }
}

/// Which linear combination of R'G'B' the luma and chroma planes hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Matrix {
    /// ITU-R BT.601: K_r 0.299, K_b 0.114.
    Bt601,
    /// ITU-R BT.709: K_r 0.2126, K_b 0.0722.
    Bt709,
    /// ITU-R BT.2020, non-constant luminance: K_r 0.2627, K_b 0.0593.
    Bt2020,
}

/// Which code values stand for black and white.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Range {
    /// Luma 16 to 235, chroma 16 to 240.
    Limited,
    /// 0 to 255.
    Full,
}

/// How planes turn into R'G'B'.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Colour {
    /// The matrix.
    pub matrix: Matrix,
    /// The range.
    pub range: Range,
}

impl Colour {
    /// What players assume when a stream says nothing: limited range, BT.709 from 720 lines on, BT.601 below.
    #[must_use]
    pub fn guess(height: u32) -> Self {
        Self { matrix: if height >= 720 { Matrix::Bt709 } else { Matrix::Bt601 }, range: Range::Limited }
    }
}

/// A picture with its media time; cheap to clone.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Presentation time in microseconds of media time.
    pub pts_us: i64,
    /// The picture.
    pub image: Arc<I420>,
    /// How the planes turn into R'G'B'.
    pub colour: Colour,
    /// How coarsely the picture was coded, 0 to 51; None where that is not known.
    pub quantiser: Option<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_empty_and_huge_sizes_are_refused() {
        for (w, h) in [(3, 2), (2, 3), (0, 2), (2, 0), (MAX_SIDE + 2, 2), (2, u32::MAX - 1)] {
            assert_eq!(I420::new(w, h), Err(SizeError::Picture { width: w, height: h }));
        }
        let black = I420::new(4, 2).unwrap();
        assert_eq!((black.y(), black.u(), black.v()), (&[16; 8][..], &[128; 2][..], &[128; 2][..]));
    }

    #[test]
    fn planes_must_fit() {
        let bad = I420::from_planes(4, 2, vec![0; 8], vec![0; 2], vec![0; 3]);
        assert_eq!(bad, Err(SizeError::Plane { plane: 'V', have: 3, need: 2 }));
        assert!(I420::from_planes(4, 2, vec![0; 8], vec![0; 2], vec![0; 2]).is_ok());
    }

    #[test]
    fn guess_turns_at_720_lines() {
        assert_eq!(Colour::guess(718).matrix, Matrix::Bt601);
        assert_eq!(Colour::guess(720), Colour { matrix: Matrix::Bt709, range: Range::Limited });
    }
}
