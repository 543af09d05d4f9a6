//! H.264 decoding with openh264, one access unit in, pictures in output order out.
//!
//! openh264 holds back one picture of every Main or High stream, even one without B-frames, because it
//! waits for the next picture order count. A live viewer must not pay that frame of delay, so the decoder
//! asks for the held picture at once where the parameter sets rule out reordering (Baseline, or
//! `max_num_reorder_frames` 0 in the VUI, which our own encoder writes). Where pictures are reordered nothing
//! is asked for before the end: openh264 2.6 never takes back the buffers of pictures flushed from such a
//! stream, and fails with "out of memory" a few pictures later.
//!
//! Streams without B-frames decode exactly, like in any conforming decoder. In some B-frames openh264 2.6
//! gets a few pixels wrong (0.06% of a picture against ffmpeg on synthetic video), which matters little for
//! a source file and never occurs in the streams that we encode.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use openh264::OpenH264API;
use openh264::decoder::{DecodedYUV, DecoderConfig, Flush};
use openh264::formats::YUVSource;

use crate::frame::{Colour, Frame, I420, SizeError};
use crate::limits::{MAX_ACCESS_UNIT_BYTES, MAX_PIXELS, MAX_REORDER_FRAMES};
use crate::nal;
use crate::quantiser::Quantisers;
use crate::sps::{self, Sequence};

pub use crate::sps::Unsupported;

/// What the decoder may spend on one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most pixels of a coded picture; never more than [`MAX_PIXELS`].
    pub max_pixels: u64,
    /// Most bytes of an access unit.
    pub max_access_unit_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_pixels: MAX_PIXELS, max_access_unit_bytes: MAX_ACCESS_UNIT_BYTES }
    }
}

/// Why an access unit gave no picture.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The access unit is larger than [`Limits::max_access_unit_bytes`].
    #[error("an access unit of {bytes} bytes is over the limit of {limit}")]
    TooLarge {
        /// Its size in bytes.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The stream uses a feature that cannot be decoded here.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// Slices came before any parameter set: decoding must start at a keyframe.
    #[error("no keyframe yet: decoding starts at an access unit with SPS, PPS and an IDR picture")]
    NoKeyframe,
    /// The codec could not make a picture of the data: it is damaged, or a picture it refers to is missing.
    #[error("damaged H.264 data ({0}); decoding goes on at the next keyframe")]
    Codec(String),
    /// The codec returned a picture of an unusable size.
    #[error(transparent)]
    Size(#[from] SizeError),
}

/// An H.264 decoder for 8-bit 4:2:0 progressive streams.
pub struct Decoder {
    codec: openh264::decoder::Decoder,
    limits: Limits,
    sequence: Option<Sequence>,
    quantisers: Quantisers,
    /// Of the newest slice. Where pictures are reordered, that is about theirs.
    quantiser: Option<u8>,
    /// Times of access units that have not come out as pictures yet, smallest first.
    pending_us: BinaryHeap<Reverse<i64>>,
    /// The part of the access unit that the codec gets to see.
    filtered: Vec<u8>,
    pool: Pool,
}

impl Decoder {
    /// Starts a decoder.
    ///
    /// # Errors
    /// [`Error::Codec`] if the codec cannot be set up.
    pub fn new(limits: Limits) -> Result<Self, Error> {
        Ok(Self {
            codec: codec()?,
            limits,
            sequence: None,
            quantisers: Quantisers::default(),
            quantiser: None,
            pending_us: BinaryHeap::new(),
            filtered: Vec::new(),
            pool: Pool::default(),
        })
    }

    /// Decodes one access unit (Annex B) shown at `pts_us` and returns the pictures that are now due, in
    /// output order, each with its own time.
    ///
    /// Without reordering the picture of this very access unit is returned.
    ///
    /// # Errors
    /// [`Error`]. The decoder stays usable: go on with the next keyframe.
    pub fn decode(&mut self, annex_b: &[u8], pts_us: i64) -> Result<Vec<Frame>, Error> {
        let picture = self.admit(annex_b)?;
        let Some(sequence) = self.sequence else {
            return if picture { Err(Error::NoKeyframe) } else { Ok(Vec::new()) };
        };
        if picture {
            self.pending_us.push(Reverse(pts_us));
        }
        // A stream that loses pictures must not gather times without end.
        while self.pending_us.len() > MAX_REORDER_FRAMES + 1 {
            self.pending_us.pop();
        }
        let mut frames = Vec::new();
        match self.codec.decode(&self.filtered) {
            Ok(Some(yuv)) => {
                let pts_us = due(&mut self.pending_us, pts_us);
                frames.push(self.pool.frame(&yuv, pts_us, sequence.colour, self.quantiser)?);
            }
            Ok(None) => {}
            Err(error) => {
                self.pending_us.retain(|pending| pending.0 != pts_us);
                return Err(Error::Codec(error.to_string()));
            }
        }
        if !sequence.reorders {
            self.take_held(sequence.colour, &mut frames)?;
            self.pending_us.clear();
            if picture && frames.is_empty() {
                return Err(Error::Codec("no picture came of it".into()));
            }
        }
        Ok(frames)
    }

    /// Columns, rows and colour of the stream as its newest parameter set has them; None before the first.
    #[must_use]
    pub fn format(&self) -> Option<((u32, u32), Colour)> {
        self.sequence.map(|sequence| ((sequence.width, sequence.height), sequence.colour))
    }

    /// Ends the stream: returns the pictures that the decoder still holds, in output order. Another stream
    /// may follow, from a keyframe on.
    ///
    /// # Errors
    /// [`Error::Codec`] or [`Error::Size`].
    pub fn flush(&mut self) -> Result<Vec<Frame>, Error> {
        let mut frames = Vec::new();
        if let Some(sequence) = self.sequence.take() {
            self.take_held(sequence.colour, &mut frames)?;
            self.pending_us.clear();
            self.codec = codec()?;
        }
        Ok(frames)
    }

    /// Takes the pictures that the codec holds back.
    fn take_held(&mut self, colour: Colour, frames: &mut Vec<Frame>) -> Result<(), Error> {
        let held = self.codec.flush_remaining().map_err(|error| Error::Codec(error.to_string()))?;
        for yuv in &held {
            let Some(Reverse(pts_us)) = self.pending_us.pop() else { break };
            frames.push(self.pool.frame(yuv, pts_us, colour, self.quantiser)?);
        }
        Ok(())
    }

    /// Copies what the codec needs into `filtered` and says whether there is a picture in it.
    ///
    /// Only slices and checked parameter sets pass. Extensions (SVC, MVC, 3D), auxiliary pictures and
    /// messages are not needed for the picture, and code that never sees them cannot fail on them.
    fn admit(&mut self, annex_b: &[u8]) -> Result<bool, Error> {
        if annex_b.len() > self.limits.max_access_unit_bytes {
            return Err(Error::TooLarge { bytes: annex_b.len(), limit: self.limits.max_access_unit_bytes });
        }
        self.filtered.clear();
        let mut picture = false;
        for unit in nal::units(annex_b) {
            match nal::kind(unit) {
                nal::SPS => self.sequence = Some(sps::parse(unit, self.limits.max_pixels)?),
                nal::PPS => {}
                nal::IDR | nal::SLICE => picture = true,
                nal::PARTITION_A..=nal::PARTITION_C => return Err(Unsupported::Extended.into()),
                _ => continue,
            }
            self.quantiser = self.quantisers.see(unit).or(self.quantiser);
            nal::push_annex_b(&mut self.filtered, unit);
        }
        Ok(picture)
    }
}

/// What an access unit holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// A picture with which decoding can start.
    Keyframe,
    /// A picture that refers to others.
    Picture,
    /// No picture.
    Nothing,
}

impl Holds {
    /// Looks at the NAL units of an access unit (Annex B).
    #[must_use]
    pub fn of(annex_b: &[u8]) -> Self {
        let kinds = nal::units(annex_b).map(nal::kind);
        kinds.fold(Self::Nothing, |holds, kind| match (holds, kind) {
            (_, nal::IDR) | (Self::Keyframe, _) => Self::Keyframe,
            (_, nal::SLICE) => Self::Picture,
            (holds, _) => holds,
        })
    }
}

/// The codec of a keyframe as RFC 6381 writes it, such as `avc1.64001f`; None without a parameter set.
#[must_use]
pub fn codec_name(annex_b: &[u8]) -> Option<String> {
    let sps = nal::units(annex_b).find(|unit| nal::kind(unit) == nal::SPS)?;
    let [profile, constraints, level] = sps.get(1..4)?.try_into().ok()?;
    Some(format!("avc1.{profile:02x}{constraints:02x}{level:02x}"))
}

fn codec() -> Result<openh264::decoder::Decoder, Error> {
    let config = DecoderConfig::new().flush_after_decode(Flush::NoFlush);
    openh264::decoder::Decoder::with_api_config(OpenH264API::from_source(), config)
        .map_err(|error| Error::Codec(error.to_string()))
}

/// The time of the next picture in output order: the smallest one pending.
fn due(pending_us: &mut BinaryHeap<Reverse<i64>>, fallback_us: i64) -> i64 {
    pending_us.pop().map_or(fallback_us, |Reverse(pts_us)| pts_us)
}

/// Pictures that were handed out: one that nobody holds any more is filled again.
#[derive(Default)]
struct Pool(Vec<Arc<I420>>);

impl Pool {
    /// Pictures that are remembered. Who holds more at a time has new ones made.
    const MAX: usize = 8;

    /// Copies a decoded picture out of the codec's buffers.
    fn frame(
        &mut self,
        yuv: &DecodedYUV<'_>,
        pts_us: i64,
        colour: Colour,
        quantiser: Option<u8>,
    ) -> Result<Frame, SizeError> {
        let side = |side: usize| u32::try_from(side).unwrap_or(u32::MAX);
        let (width, height) = yuv.dimensions();
        let mut image = self.take(side(width), side(height))?;
        // Nobody else has it yet: this copies nothing.
        let planes = Arc::make_mut(&mut image);
        let (y_stride, u_stride, v_stride) = yuv.strides();
        copy('Y', yuv.y(), y_stride, planes.y_mut(), width)?;
        copy('U', yuv.u(), u_stride, planes.u_mut(), width / 2)?;
        copy('V', yuv.v(), v_stride, planes.v_mut(), width / 2)?;
        if self.0.len() < Self::MAX {
            self.0.push(image.clone());
        }
        Ok(Frame { pts_us, image, colour, quantiser })
    }

    fn take(&mut self, width: u32, height: u32) -> Result<Arc<I420>, SizeError> {
        self.0.retain(|image| (image.width(), image.height()) == (width, height));
        match self.0.iter().position(|image| Arc::strong_count(image) == 1) {
            Some(free) => Ok(self.0.swap_remove(free)),
            None => Ok(Arc::new(I420::new(width, height)?)),
        }
    }
}

/// Packs the rows of a plane of the codec.
fn copy(plane: char, from: &[u8], stride: usize, to: &mut [u8], width: usize) -> Result<(), SizeError> {
    let (have, need) = (from.len(), to.len());
    let mut rows = from.chunks(stride.max(1)).filter_map(|row| row.get(..width));
    for to in to.chunks_exact_mut(width) {
        to.copy_from_slice(rows.next().ok_or(SizeError::Plane { plane, have, need })?);
    }
    Ok(())
}
