//! Coded audio that passes through untouched: what it is, and its packets; and its decoder for who listens at the end.

mod aac;
#[cfg(feature = "sound")]
pub mod decode;
mod opus;

use crate::limits::MAX_AUDIO_PACKET_BYTES;
use crate::mp4;
use crate::mp4::boxes::{self, Name, Reader};

/// A coding of audio that we carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// AAC, Low Complexity or High Efficiency.
    Aac,
    /// Opus.
    Opus,
}

/// How a decoder is set up for a stream of audio. Every value comes from the description, which was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    codec: Codec,
    /// As in RFC 6381: `mp4a.40.2`, `opus`.
    codec_string: String,
    sample_rate: u32,
    channels: u16,
    description: Vec<u8>,
    /// Length of a packet of AAC, in samples; zero for Opus, where each packet says its own.
    packet_samples: u32,
}

/// What a source says of its audio before the first packet.
#[derive(Debug, Clone, PartialEq)]
pub struct Track {
    /// How to decode it.
    pub config: Config,
    /// Mean rate in kbit/s, as far as it is known.
    pub kbps: f64,
}

/// One packet of coded audio.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// As it came: a raw AAC frame without a header, or an Opus packet.
    pub data: Vec<u8>,
    /// When it is heard, in microseconds of media time.
    pub pts_us: i64,
}

/// Why audio is left out. One line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Of another kind.
    #[error("audio is {0}; only AAC and Opus are carried")]
    Codec(String),
    /// The decoder's configuration breaks its format, or is of a kind that we do not carry.
    #[error("the configuration of the audio {0}")]
    Config(&'static str),
    /// The file's description of the track is broken.
    #[error("the audio track {0}")]
    Mp4(#[from] mp4::Error),
    /// An empty packet, or one over the limit.
    #[error("an audio packet of {0} bytes is outside 1 to {MAX_AUDIO_PACKET_BYTES}")]
    Size(usize),
    /// It can be carried, not decoded here.
    #[error("audio that {0} is not decoded")]
    Undecoded(&'static str),
    /// Damaged, or what it was never meant to be.
    #[error("a packet of audio cannot be decoded: {0}")]
    Packet(String),
}

impl Config {
    /// From a codec string as in RFC 6381 and the bytes that go with it: an AudioSpecificConfig for AAC (ISO/IEC
    /// 14496-3, clause 1.6.2.1), an identification header for Opus (RFC 7845, clause 5.1).
    ///
    /// # Errors
    /// [`Error::Codec`], [`Error::Config`].
    pub fn new(codec: &str, description: &[u8]) -> Result<Self, Error> {
        match codec {
            "opus" => opus::config(description),
            codec if codec.starts_with("mp4a.40.") => aac::config(description),
            codec => Err(Error::Codec(codec.escape_default().to_string())),
        }
    }

    /// From an audio sample entry of an MP4 file: its name and its payload.
    ///
    /// # Errors
    /// [`Error`].
    pub fn from_sample_entry(name: [u8; 4], payload: &[u8]) -> Result<Self, Error> {
        match &name {
            b"mp4a" => aac::config(&aac::description(sample_entry_boxes("mp4a", payload)?)?),
            b"Opus" => {
                let dops = boxes::need("Opus", sample_entry_boxes("Opus", payload)?, b"dOps", "has no dOps")?;
                opus::config(&opus::header_from_dops(dops)?)
            }
            name => Err(Error::Codec(codec_name(name))),
        }
    }

    /// The coding.
    #[must_use]
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// The coding as RFC 6381 writes it, such as `mp4a.40.2` or `opus`.
    #[must_use]
    pub fn codec_string(&self) -> &str {
        &self.codec_string
    }

    /// Samples a second of what is decoded, in Hz.
    #[must_use]
    pub fn sample_rate(&self) -> u32 {
        self.sample_rate
    }

    /// Channels of what is decoded.
    #[must_use]
    pub fn channels(&self) -> u16 {
        self.channels
    }

    /// What [`Config::new`] was given.
    #[must_use]
    pub fn description(&self) -> &[u8] {
        &self.description
    }

    /// How long a packet is heard, in samples of [`Config::sample_rate`]. Zero for what is no Opus packet.
    #[must_use]
    pub fn packet_samples(&self, data: &[u8]) -> u32 {
        match self.codec {
            Codec::Aac => self.packet_samples,
            Codec::Opus => opus::packet_samples(data),
        }
    }

    /// The box that describes this to a reader of MP4, and what it holds: `esds` or `dOps`.
    pub(crate) fn mp4_box(&self) -> (Name, Vec<u8>) {
        match self.codec {
            Codec::Aac => (*b"esds", aac::esds(&self.description)),
            Codec::Opus => (*b"dOps", opus::dops(&self.description)),
        }
    }
}

/// Refuses packets that no encoder makes. What is in them is for whoever decodes them.
///
/// # Errors
/// [`Error::Size`].
pub fn check_packet(bytes: usize) -> Result<(), Error> {
    if (1..=MAX_AUDIO_PACKET_BYTES).contains(&bytes) { Ok(()) } else { Err(Error::Size(bytes)) }
}

/// The boxes in an `AudioSampleEntry`, behind its fixed fields.
///
/// Source: ISO/IEC 14496-12:2022, clause 12.2.3; for versions 1 and 2 the QuickTime File Format, "Sound Sample
/// Description".
fn sample_entry_boxes<'a>(name: &'static str, payload: &'a [u8]) -> Result<&'a [u8], mp4::Error> {
    let mut entry = Reader::new(name, payload);
    entry.skip(8)?; // reserved, data_reference_index
    let version = entry.u16()?;
    entry.skip(18)?; // revision and vendor; channelcount, samplesize, samplerate: the codec's own count
    match version {
        0 => {}
        1 => entry.skip(16)?,
        2 => entry.skip(36)?,
        _ => return Err(entry.damaged("is of an unknown version")),
    }
    Ok(entry.rest())
}

/// A readable name for a sample entry.
fn codec_name(entry: &Name) -> String {
    let known = match entry {
        b"ac-3" => "AC-3",
        b"ec-3" => "E-AC-3",
        b".mp3" => "MP3",
        b"fLaC" => "FLAC",
        b"alac" => "ALAC",
        b"alaw" | b"ulaw" => "G.711",
        b"sowt" | b"twos" | b"lpcm" | b"ipcm" | b"fpcm" | b"raw " => "PCM",
        b"samr" | b"sawb" => "AMR",
        b"enca" => "encrypted",
        _ => "",
    };
    let entry = entry.escape_ascii();
    if known.is_empty() { format!("'{entry}'") } else { format!("{known}, '{entry}'") }
}
