//! The sender's end: from camera frames to a small stream, and patches from where that stream is worst.

use std::collections::VecDeque;

use hone_media::decode::{self, Decoder};
use hone_media::encode::{self, Encoder, Packet};
use hone_media::frame::Frame;
use hone_media::scale::{self, downscale};
use hone_model::rng::Rng;
use hone_trainer::Pair;

use crate::patch::{self, PatchError, Place, Purpose};
use crate::scene::Scenes;

/// Places looked at for one patch to learn from: the worst of so many is sent. Of many, only the hardest would be
/// learned, to the harm of all else.
const CANDIDATES: usize = 2;
/// Source frames kept until the decoder has returned theirs; it reorders by no more.
const FRAMES_IN_FLIGHT_MAX: usize = 16;
/// Squared luma error a pixel below which a place teaches nothing: 51 dB, as in a fade to black.
const ERROR_MIN: f64 = 0.5;
/// JPEG quality of a patch, 4:4:4, where the stream is coarse.
pub const PATCH_QUALITY: u8 = 85;
/// A patch's own coding error may come to this share of the squared error of what viewers see without a network. Where the
/// stream is good, quality 85 is worse than it. A network would learn JPEG's errors, above all that fine noise is not there,
/// and be judged by them.
const CODING_ERROR_SHARE: f64 = 0.1;
/// Qualities that are tried where the usual one is too coarse.
const FINER_QUALITIES: [u8; 4] = [90, 94, 97, 99];

/// How a camera codes.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// HR size over LR size.
    pub scale: usize,
    /// LR picture, bitrate, keyframes.
    pub encode: encode::Config,
    /// Least JPEG quality of patches, 1 to 100.
    pub patch_quality: u8,
    /// Seed of the places looked at.
    pub seed: u64,
}

/// Why a frame could not be coded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The frame cannot be scaled to the stream's size.
    #[error(transparent)]
    Scale(#[from] scale::Error),
    /// The encoder failed.
    #[error(transparent)]
    Encode(#[from] encode::Error),
    /// Its own stream does not decode.
    #[error(transparent)]
    Decode(#[from] decode::Error),
    /// A patch could not be coded.
    #[error(transparent)]
    Patch(#[from] PatchError),
}

/// Codes frames and cuts patches.
pub struct Camera {
    config: Config,
    encoder: Encoder,
    /// Sees what the server and every viewer see.
    decoder: Decoder,
    sources: VecDeque<Frame>,
    newest: Option<(Frame, Frame)>,
    scenes: Scenes,
    rng: Rng,
}

impl Camera {
    /// Opens the codecs.
    ///
    /// # Errors
    /// What they say of the settings.
    pub fn new(config: Config) -> Result<Self, Error> {
        Ok(Self {
            encoder: Encoder::new(&config.encode)?,
            decoder: Decoder::new(decode::Limits::default())?,
            sources: VecDeque::new(),
            newest: None,
            scenes: Scenes::default(),
            rng: Rng::new(config.seed),
            config,
        })
    }

    /// Codes the next frame, whatever its size, to the stream's size.
    ///
    /// # Errors
    /// [`Error`].
    pub fn frame(&mut self, frame: &Frame, force_keyframe: bool) -> Result<Packet, Error> {
        let (width, height) = (self.config.encode.width, self.config.encode.height);
        let lr = downscale(&frame.image, width, height)?;
        let packet = self.encoder.encode(&lr, frame.pts_us, force_keyframe)?;
        if self.sources.len() == FRAMES_IN_FLIGHT_MAX {
            self.sources.pop_front();
        }
        self.sources.push_back(frame.clone());
        for decoded in self.decoder.decode(&packet.data, packet.pts_us)? {
            self.scenes.see(&decoded.image, decoded.pts_us);
            while let Some(source) = self.sources.pop_front() {
                if source.pts_us == decoded.pts_us {
                    self.newest = Some((source, decoded));
                    break;
                }
            }
        }
        Ok(packet)
    }

    /// Whether the scene has settled: patches from before say little of what follows.
    pub fn settled(&self) -> bool {
        self.scenes.settled()
    }

    /// Changes the bitrate from the next frame on, kbit/s.
    ///
    /// # Errors
    /// If the encoder refuses it.
    pub fn set_bitrate_kbps(&mut self, bitrate_kbps: u32) -> Result<(), Error> {
        Ok(self.encoder.set_bitrate_kbps(bitrate_kbps)?)
    }

    /// The message for one patch of the newest frame. To learn from: the worst of a few random places; to judge
    /// by: a random place. None before the first frame, if the frame is smaller than a patch, or if there is
    /// nothing to learn from it.
    ///
    /// # Errors
    /// [`Error::Patch`].
    pub fn patch(&mut self, purpose: Purpose) -> Result<Option<(i64, Vec<u8>)>, Error> {
        let Some((source, decoded)) = &self.newest else { return Ok(None) };
        Ok(cut(source, decoded, purpose, self.config.scale, self.config.patch_quality, &mut self.rng)?)
    }

    /// The same for who learns here: nothing is coded, nothing is lost.
    pub fn pair(&mut self, purpose: Purpose) -> Option<Pair> {
        let (source, decoded) = self.newest.as_ref()?;
        let s = self.config.scale;
        let place = choose(source, decoded, purpose, s, &mut self.rng)?;
        Some(patch::pair(decoded, place, purpose, patch::hr_rgb8(source, place, s)))
    }
}

/// The message for one patch of `source`, whose LR picture viewers see as `decoded`; None as for [`Camera::patch`].
pub(crate) fn cut(
    source: &Frame,
    decoded: &Frame,
    purpose: Purpose,
    s: usize,
    quality: u8,
    rng: &mut Rng,
) -> Result<Option<(i64, Vec<u8>)>, PatchError> {
    let Some(place) = choose(source, decoded, purpose, s, rng) else { return Ok(None) };
    let hr = patch::hr_rgb8(source, place, s);
    let bearable = CODING_ERROR_SHARE * luma_error(&patch::base_rgb8(decoded, place, s), &hr);
    let mut message = patch::encode(place, purpose, &hr, s, quality)?;
    for finer in FINER_QUALITIES.into_iter().filter(|finer| *finer > quality) {
        if luma_error(&patch::hr(&message, place, s)?, &hr) <= bearable {
            break;
        }
        message = patch::encode(place, purpose, &hr, s, finer)?;
    }
    Ok(Some((source.pts_us, message)))
}

/// Where to cut; None as for [`Camera::patch`].
fn choose(source: &Frame, decoded: &Frame, purpose: Purpose, s: usize, rng: &mut Rng) -> Option<Place> {
    // The LR grid covers the source only where it is a whole number of LR pixels.
    let width = decoded.image.width().min(source.image.width() / s as u32);
    let height = decoded.image.height().min(source.image.height() / s as u32);
    let side = u32::from(patch::lr_side(purpose, s)).min(width.min(height) / 2 * 2) as u16;
    if side < patch::LR_SIDE_MIN {
        return None;
    }
    let pixels = usize::from(side).pow(2) * s * s;
    let mut even = |range: u32| (rng.below(range as usize / 2 + 1) * 2) as u16;
    let mut worst: Option<(f64, Place)> = None;
    let candidates = if purpose == Purpose::Learn { CANDIDATES } else { 1 };
    for _ in 0..candidates {
        let place =
            Place { y: even(height - u32::from(side)), x: even(width - u32::from(side)), h: side, w: side };
        let error = error(source, decoded, place, s) / pixels as f64;
        if worst.is_none_or(|(most, _)| error > most) {
            worst = Some((error, place));
        }
    }
    worst.filter(|(error, _)| purpose == Purpose::Judge || *error >= ERROR_MIN).map(|(_, place)| place)
}

/// Mean squared luma error between two pictures of 8-bit RGB.
fn luma_error(a: &[u8], b: &[u8]) -> f64 {
    const LUMA: [f64; 3] = [0.2126, 0.7152, 0.0722];
    let squares = a.chunks_exact(3).zip(b.chunks_exact(3)).map(|(a, b)| {
        let d: f64 = (0..3).map(|c| LUMA[c] * (f64::from(a[c]) - f64::from(b[c]))).sum();
        d * d
    });
    squares.sum::<f64>() / (a.len() / 3) as f64
}

/// Squared luma error at `place` of the decoded LR picture, each pixel repeated s by s times: cheap, and where it
/// is large a bicubic upscale is bad too.
fn error(source: &Frame, decoded: &Frame, place: Place, s: usize) -> f64 {
    let (hr_width, lr_width) = (source.image.width() as usize, decoded.image.width() as usize);
    let (y, x, w) = (usize::from(place.y), usize::from(place.x), usize::from(place.w));
    let mut sum = 0;
    for row in 0..usize::from(place.h) * s {
        let hr = &source.image.y()[(y * s + row) * hr_width + x * s..][..w * s];
        let lr = &decoded.image.y()[(y + row / s) * lr_width + x..][..w];
        for (hr, lr) in hr.chunks_exact(s).zip(lr) {
            sum += hr.iter().map(|&v| u64::from(v.abs_diff(*lr)).pow(2)).sum::<u64>();
        }
    }
    sum as f64
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hone_media::frame::{Colour, I420};

    use super::*;

    /// A texture, off by up to `off` code values.
    fn frame(off: u8) -> Frame {
        let mut image = I420::new(64, 64).unwrap();
        let mut rng = Rng::new(1);
        for (i, v) in image.y_mut().iter_mut().enumerate() {
            let noise = rng.below(2 * usize::from(off) + 1) as u8;
            *v = 60 + (i * 7 % 40) as u8 + (i / 64 * 3 % 50) as u8 + noise - off;
        }
        Frame { pts_us: 0, image: Arc::new(image), colour: Colour::guess(64), quantiser: None }
    }

    #[test]
    fn a_patch_is_truer_than_the_stream_that_it_corrects() {
        let truth = frame(0);
        let quality = |off| {
            let message =
                cut(&truth, &frame(off), Purpose::Judge, 1, PATCH_QUALITY, &mut Rng::new(1)).unwrap();
            message.unwrap().1[9]
        };
        let qualities = [30, 6, 2].map(quality);
        assert_eq!(qualities[0], PATCH_QUALITY);
        assert!(qualities.is_sorted() && qualities[2] > PATCH_QUALITY, "{qualities:?}");
    }
}
