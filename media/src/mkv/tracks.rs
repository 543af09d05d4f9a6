//! What is in a file: the first H.264 track, and the first audio that we carry.

use super::ebml::{children, id, unsigned};
use crate::audio::{self, Config};
use crate::mp4::Error;
use crate::mp4::avc::Configuration;
use crate::mp4::table::Sample;

/// The tracks that are read.
pub(super) struct Tracks {
    pub video: Video,
    pub audio: Option<Audio>,
}

/// Pictures.
pub(super) struct Video {
    pub configuration: Configuration,
    pub wanted: Wanted,
}

/// Sound.
pub(super) struct Audio {
    pub config: Config,
    pub wanted: Wanted,
}

/// A track whose blocks are listed.
#[derive(Default)]
pub(super) struct Wanted {
    pub number: u64,
    /// How long a frame lasts, in microseconds; zero where the file does not say.
    pub frame_us: u32,
    /// How much is decoded before what is heard.
    pub delay_us: i64,
    pub samples: Vec<Sample>,
}

/// An entry of the list of tracks.
#[derive(Default)]
struct Entry<'a> {
    kind: u64,
    codec: &'a [u8],
    private: &'a [u8],
    encoded: bool,
    wanted: Wanted,
}

/// Kinds of tracks.
const VIDEO: u64 = 1;
const AUDIO: u64 = 2;

impl Tracks {
    /// From the payload of `Tracks`.
    pub(super) fn parse(payload: &[u8]) -> Result<Self, Error> {
        let (mut video, mut audio, mut others) = (None, None, Vec::new());
        for child in children(payload) {
            let (id::TRACK_ENTRY, entry) = child? else { continue };
            let entry = Entry::parse(entry)?;
            match entry.kind {
                VIDEO if video.is_none() => match entry.codec {
                    b"V_MPEG4/ISO/AVC" if !entry.encoded => {
                        let configuration = Configuration::parse(entry.private)?;
                        video = Some(Video { configuration, wanted: entry.wanted });
                    }
                    codec => others.push(codec_name(codec, entry.encoded)),
                },
                AUDIO if audio.is_none() => match entry.config() {
                    Ok(config) => audio = Some(Audio { config, wanted: entry.wanted }),
                    // The pictures are as good without it.
                    Err(error) => tracing::warn!(%error, "an audio track of the file is left out"),
                },
                _ => {}
            }
        }
        if let Some(Audio { config, wanted }) = &mut audio
            && wanted.frame_us == 0
        {
            // Frames that share a block need it. A packet of Opus says its own length, and is alone.
            let us = u64::from(config.packet_samples(&[])) * 1_000_000 / u64::from(config.sample_rate());
            wanted.frame_us = u32::try_from(us).unwrap_or(0);
        }
        Ok(Self { video: video.ok_or(Error::NoH264(others))?, audio })
    }
}

impl<'a> Entry<'a> {
    fn parse(payload: &'a [u8]) -> Result<Self, Error> {
        let mut entry = Self::default();
        for child in children(payload) {
            let (id, child) = child?;
            match id {
                id::TRACK_NUMBER => entry.wanted.number = unsigned(child)?,
                id::TRACK_TYPE => entry.kind = unsigned(child)?,
                id::CODEC_ID => entry.codec = child.trim_ascii_end().strip_suffix(b"\0").unwrap_or(child),
                id::CODEC_PRIVATE => entry.private = child,
                id::CONTENT_ENCODINGS => entry.encoded = true,
                id::DEFAULT_DURATION => {
                    entry.wanted.frame_us =
                        u32::try_from(unsigned(child)?.saturating_add(500) / 1000).unwrap_or(0);
                }
                id::CODEC_DELAY => {
                    entry.wanted.delay_us = i64::try_from(unsigned(child)? / 1000).unwrap_or(i64::MAX);
                }
                _ => {}
            }
        }
        Ok(entry)
    }

    fn config(&self) -> Result<Config, audio::Error> {
        match self.codec {
            b"A_AAC" if !self.encoded => Config::new("mp4a.40.2", self.private),
            b"A_OPUS" if !self.encoded => Config::new("opus", self.private),
            codec => Err(audio::Error::Codec(codec_name(codec, self.encoded))),
        }
    }
}

/// A readable name for what a track holds.
fn codec_name(codec: &[u8], encoded: bool) -> String {
    let name = match codec {
        b"V_MPEGH/ISO/HEVC" => "H.265".to_owned(),
        b"V_AV1" => "AV1".to_owned(),
        b"V_VP8" => "VP8".to_owned(),
        b"V_VP9" => "VP9".to_owned(),
        b"V_MPEG4/ISO/AVC" => "H.264".to_owned(),
        // A name of any length would fill the screen.
        codec => format!("'{}'", codec[..codec.len().min(32)].escape_ascii()),
    };
    if encoded { format!("{name}, compressed again or encrypted") } else { name }
}

/// Length of a tick in nanoseconds, from the payload of `Info`.
pub(super) fn tick_ns(payload: &[u8]) -> Result<u64, Error> {
    let mut tick_ns = 1_000_000;
    for child in children(payload) {
        if let (id::TIMESTAMP_SCALE, scale) = child? {
            tick_ns = unsigned(scale)?;
        }
    }
    if tick_ns == 0 {
        return Err(Error::Damaged { name: "TimestampScale", problem: "is zero" });
    }
    Ok(tick_ns)
}
