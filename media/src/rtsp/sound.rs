//! A camera's audio: its packets on the clock of the pictures.
//!
//! Both streams count from starts of their own. When playing begins the camera says which of their times belong
//! together (RFC 2326, clause 12.33, RTP-Info); later its sender reports say so again, and better.

use retina::client::Stream;
use retina::codec::{AudioFrame, ParametersRef, VideoFrame};

use super::clock::Clock;
use super::session::JUMP_MAX_US;
use crate::audio::{self, Config};

/// Reports that differ by less from what was said in the beginning change nothing: a step would be heard.
const SKEW_MAX_US: i64 = 20_000;

/// The audio stream of a camera that we take, and where it stands among its streams.
pub(super) fn choose(streams: &[Stream]) -> Option<(usize, Config)> {
    for (index, stream) in streams.iter().enumerate().filter(|(_, stream)| stream.media() == "audio") {
        let coding = stream.encoding_name();
        let config = match stream.parameters() {
            Some(ParametersRef::Audio(parameters)) if coding == "mpeg4-generic" => {
                Config::new("mp4a.40.2", parameters.extra_data())
            }
            // Retina reads no Opus.
            _ => Err(audio::Error::Codec(coding.to_uppercase())),
        };
        match config {
            Ok(config) => return Some((index, config)),
            Err(error) => tracing::warn!(%error, "an audio stream of the camera is left out; set it to AAC"),
        }
    }
    None
}

/// The audio of one connection.
pub(super) struct Sound {
    pub(super) stream: usize,
    /// From the first packet on.
    clock: Option<Clock>,
    report: Option<(i64, u64)>,
    /// What the reports say is to be added.
    shift_us: i64,
}

impl Sound {
    pub(super) fn new(stream: usize) -> Self {
        Self { stream, clock: None, report: None, shift_us: 0 }
    }

    /// Takes a sender report of the audio, or one of the pictures' that `pictures` has heard.
    pub(super) fn report(&mut self, report: Option<(i64, u64)>, pictures: Option<&Clock>) {
        self.report = report.or(self.report);
        let (Some(clock), Some(pictures)) = (&mut self.clock, pictures) else { return };
        if let Some((ticks, ntp)) = self.report {
            clock.report(ticks, ntp);
        }
        if let (Some(ours), Some(theirs)) = (clock.zero_unix_us(), pictures.zero_unix_us()) {
            let skew_us = ours.saturating_sub(theirs);
            if skew_us.saturating_sub(self.shift_us).saturating_abs() > SKEW_MAX_US {
                tracing::debug!(skew_us, "the camera's audio is set by its reports");
                self.shift_us = skew_us;
            }
        }
    }

    /// A packet at its media time, which must be after `last_us`; None if it is from before the first picture or out
    /// of order. `picture_us` is the time of the newest picture.
    pub(super) fn packet(
        &mut self,
        frame: &AudioFrame,
        (pictures, zero_npt_us): (&Clock, i64),
        picture_us: i64,
        last_us: i64,
    ) -> Option<audio::Packet> {
        let timestamp = frame.timestamp();
        if self.clock.is_none() {
            let (rate, start) = (timestamp.clock_rate().get(), i64::from(timestamp.start()));
            self.clock = Some(Clock::new(rate, start, zero_npt_us.saturating_neg()));
            self.report(None, Some(pictures));
        }
        let pts_us = self.clock?.pts_us(timestamp.timestamp()).saturating_add(self.shift_us);
        let size = audio::check_packet(frame.data().len());
        if pts_us <= last_us || pts_us.abs_diff(picture_us) > JUMP_MAX_US || size.is_err() {
            tracing::trace!(pts_us, last_us, picture_us, "a packet of the camera's audio is left out");
            return None;
        }
        Some(audio::Packet { data: frame.data().to_vec(), pts_us })
    }
}

/// What the camera calls the time of media time zero, in microseconds, where `picture` has media time `start_us`.
pub(super) fn zero_npt_us(picture: &VideoFrame, start_us: i64) -> i64 {
    let timestamp = picture.timestamp();
    let from_start = Clock::new(timestamp.clock_rate().get(), i64::from(timestamp.start()), 0);
    from_start.pts_us(timestamp.timestamp()).saturating_sub(start_us)
}
