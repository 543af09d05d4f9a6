//! Recording: H.264 packets, and audio beside them, into a fragmented MP4 file that survives a kill.
//!
//! A fragment per GOP goes to the file in one write as soon as the next keyframe arrives, so that a file
//! left by a killed process plays up to the last whole GOP.

mod sound;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use self::sound::Sound;
use crate::audio;
use crate::encode::Packet;
use crate::frame::{Colour, Matrix, Range, SizeError, check_size};
use crate::limits::{MAX_FRAGMENT_BYTES, MAX_PIXELS};
use crate::mp4::table::Sample;
use crate::mp4::write::{self, Video};
use crate::nal;
use crate::sps::{self, Unsupported};

/// What is recorded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Config {
    /// Width in pixels, even.
    pub width: u32,
    /// Height in pixels, even.
    pub height: u32,
    /// Frame rate in Hz: how long the very last frame is shown. All others last until the next one.
    pub fps: f64,
    /// Written into the file's colour box.
    pub colour: Colour,
}

/// Why a recording stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file could not be made or written.
    #[error("cannot write {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The configured size is unusable.
    #[error(transparent)]
    Size(#[from] SizeError),
    /// The first packet is no keyframe with parameter sets.
    #[error("a recording starts with a keyframe that carries SPS and PPS")]
    NoKeyframe,
    /// The parameter sets are damaged or of an unsupported kind.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// The stream's size is not the configured one.
    #[error("the stream is {have_width}x{have_height} where the recording is {width}x{height}")]
    OtherSize {
        /// Width in the stream.
        have_width: u32,
        /// Height in the stream.
        have_height: u32,
        /// Width of the recording.
        width: u32,
        /// Height of the recording.
        height: u32,
    },
    /// Times must grow, by less than an hour from frame to frame.
    #[error("frame time {pts_us} us does not follow {last_us} us")]
    Time {
        /// Time of the packet in microseconds.
        pts_us: i64,
        /// Time of the one before in microseconds.
        last_us: i64,
    },
    /// A packet is larger than a fragment may be.
    #[error("a packet of {0} bytes is over the limit of {MAX_FRAGMENT_BYTES}")]
    TooLarge(usize),
}

/// Longest time from one frame to the next: the format has 32 bits for it in microseconds.
const MAX_INTERVAL_US: i64 = 3_600_000_000;

/// Writes packets to a fragmented MP4 file. The first picture's time becomes zero.
pub struct Recorder {
    path: PathBuf,
    file: File,
    config: Config,
    /// Parameter sets of the file's header, once it is written: SPS, PPS.
    header: Option<(Vec<u8>, Vec<u8>)>,
    first_us: i64,
    sequence: u32,
    /// Samples of the fragment in the making; the last one's duration is not known yet.
    samples: Vec<Sample>,
    data: Vec<u8>,
    sound: Option<Sound>,
}

/// Audio that waits for a keyframe at most, in bytes: minutes. More is written without one.
const SOUND_BYTES_MAX: usize = 4 << 20;

impl Recorder {
    /// Makes the file, replacing an old one.
    ///
    /// # Errors
    /// [`Error::Size`] or [`Error::Io`].
    pub fn create(path: impl AsRef<Path>, config: Config) -> Result<Self, Error> {
        check_size(config.width, config.height)?;
        let path = path.as_ref().to_owned();
        let file = File::create(&path).map_err(|source| Error::Io { path: path.clone(), source })?;
        Ok(Self {
            path,
            file,
            config,
            header: None,
            first_us: 0,
            sequence: 0,
            samples: Vec::new(),
            data: Vec::new(),
            sound: None,
        })
    }

    /// Gives the file an audio track. To be called before the first packet: the header names it.
    #[must_use]
    pub fn with_audio(mut self, config: Option<audio::Config>) -> Self {
        self.sound = config.map(Sound::new);
        self
    }

    /// Adds a packet; a keyframe first writes the GOP before it to the file.
    ///
    /// # Errors
    /// [`Error`]; the file stays valid up to the last fragment written.
    pub fn write(&mut self, packet: &Packet) -> Result<(), Error> {
        if packet.data.len() > MAX_FRAGMENT_BYTES {
            return Err(Error::TooLarge(packet.data.len()));
        }
        if self.header.is_none() {
            self.write_header(packet)?;
        }
        let pts = packet.pts_us.saturating_sub(self.first_us);
        if let Some(last) = self.samples.last_mut() {
            let interval = pts.saturating_sub(last.pts);
            let duration = u32::try_from(interval).ok().filter(|_| (1..=MAX_INTERVAL_US).contains(&interval));
            let last_us = last.pts.saturating_add(self.first_us);
            last.duration = duration.ok_or(Error::Time { pts_us: packet.pts_us, last_us })?;
        }
        if packet.keyframe || self.data.len() + packet.data.len() > MAX_FRAGMENT_BYTES {
            self.write_fragment(false)?;
        }
        let start = self.data.len();
        if let Err(error) = self.push_units(packet) {
            self.data.truncate(start);
            return Err(error);
        }
        let size = u32::try_from(self.data.len() - start).map_err(|_| Error::TooLarge(packet.data.len()))?;
        self.samples.push(Sample { offset: 0, size, pts, duration: 0, sync: packet.keyframe });
        Ok(())
    }

    /// Adds a packet of audio beside the pictures, wherever they are. Left out are packets from before the first
    /// picture, and any that are not later than the one before.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write_audio(&mut self, packet: &audio::Packet) -> Result<(), Error> {
        let (Some(sound), Some(_)) = (&mut self.sound, &self.header) else { return Ok(()) };
        sound.push(packet, packet.pts_us.saturating_sub(self.first_us));
        if sound.bytes() > SOUND_BYTES_MAX {
            let (samples, data) = sound.take();
            self.put_fragment(&[], &samples, [&[], &data])?;
        }
        Ok(())
    }

    /// Writes what is left and hands the file to the disk.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn finish(mut self) -> Result<(), Error> {
        self.write_rest()?;
        self.file.sync_all().map_err(|source| Error::Io { path: self.path.clone(), source })
    }

    fn write_header(&mut self, packet: &Packet) -> Result<(), Error> {
        let unit = |kind| nal::units(&packet.data).find(|unit| nal::kind(unit) == kind);
        let (Some(sps), Some(pps)) = (unit(nal::SPS), unit(nal::PPS)) else { return Err(Error::NoKeyframe) };
        let fits = |unit: &[u8]| u16::try_from(unit.len()).is_ok();
        if !packet.keyframe || sps.len() < 4 || !fits(sps) || !fits(pps) {
            return Err(Error::NoKeyframe);
        }
        self.check_size_of(sps)?;
        let side = |side: u32| u16::try_from(side).expect("MAX_SIDE fits 16 bits");
        let video = Video {
            width: side(self.config.width),
            height: side(self.config.height),
            sps,
            pps,
            colour: colour_codes(self.config.colour.matrix),
            full_range: self.config.colour.range == Range::Full,
        };
        let header = write::header(&video, self.sound.as_ref().map(|sound| &sound.config));
        self.put(&header)?;
        self.header = Some((sps.to_vec(), pps.to_vec()));
        self.first_us = packet.pts_us;
        Ok(())
    }

    fn check_size_of(&self, sps: &[u8]) -> Result<(), Error> {
        let have = sps::parse(sps, MAX_PIXELS)?;
        let Config { width, height, .. } = self.config;
        if (have.width, have.height) != (width, height) {
            return Err(Error::OtherSize { have_width: have.width, have_height: have.height, width, height });
        }
        Ok(())
    }

    /// Appends a packet's NAL units with lengths in place of start codes. Parameter sets that the file's
    /// header holds are left out; changed ones stay in the stream.
    fn push_units(&mut self, packet: &Packet) -> Result<(), Error> {
        for unit in nal::units(&packet.data) {
            let (sps, pps) = self.header.as_ref().ok_or(Error::NoKeyframe)?;
            if unit == sps || unit == pps {
                continue;
            }
            if nal::kind(unit) == nal::SPS {
                self.check_size_of(unit)?;
            }
            let len = u32::try_from(unit.len()).map_err(|_| Error::TooLarge(unit.len()))?;
            self.data.extend_from_slice(&len.to_be_bytes());
            self.data.extend_from_slice(unit);
        }
        Ok(())
    }

    /// Writes what is complete: of the audio, all but the last packet unless it is the `end`.
    fn write_fragment(&mut self, end: bool) -> Result<(), Error> {
        let (sound, sound_data) = match &mut self.sound {
            Some(sound) if end => sound.take_all(),
            Some(sound) => sound.take(),
            None => Default::default(),
        };
        let (samples, data) = (std::mem::take(&mut self.samples), std::mem::take(&mut self.data));
        self.put_fragment(&samples, &sound, [&data, &sound_data])
    }

    fn put_fragment(&mut self, video: &[Sample], sound: &[Sample], data: [&[u8]; 2]) -> Result<(), Error> {
        if video.is_empty() && sound.is_empty() {
            return Ok(());
        }
        self.sequence = self.sequence.wrapping_add(1);
        let fragment = write::fragment(self.sequence, video, sound, data);
        self.put(&fragment)?;
        let (frames, packets, bytes) = (video.len(), sound.len(), fragment.len());
        tracing::debug!(fragment = self.sequence, frames, packets, bytes, "recorded");
        Ok(())
    }

    fn write_rest(&mut self) -> Result<(), Error> {
        let interval_us = 1e6 / self.config.fps;
        if let Some(last) = self.samples.last_mut() {
            #[expect(clippy::cast_possible_truncation, reason = "clamped first; NaN becomes 0")]
            #[expect(clippy::cast_sign_loss, reason = "clamped first")]
            let duration = interval_us.round().clamp(1.0, 1e9) as u32;
            last.duration = duration;
        }
        self.write_fragment(true)
    }

    /// One write for the whole of it: whatever the process meets afterwards, the system has the bytes.
    fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all(bytes).map_err(|source| Error::Io { path: self.path.clone(), source })
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if let Err(error) = self.write_rest() {
            tracing::warn!(%error, "the end of the recording is lost");
        }
    }
}

/// `colour_primaries`, `transfer_characteristics` and `matrix_coefficients` of ITU-T H.273.
fn colour_codes(matrix: Matrix) -> [u16; 3] {
    match matrix {
        Matrix::Bt601 => [6, 6, 6],
        Matrix::Bt709 => [1, 1, 1],
        Matrix::Bt2020 => [9, 14, 9],
    }
}
