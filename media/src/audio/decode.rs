//! AAC and Opus to samples, for who listens. The packets are a stranger's: what is wrong with one is an error, and the
//! next one may be good again.

use ropus::{Channels, DecodeMode};
use symphonia_codec_aac::AacDecoder;
use symphonia_core::codecs::audio::well_known::CODEC_ID_AAC;
use symphonia_core::codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions};
use symphonia_core::packet::PacketRef;
use symphonia_core::units::{Duration, Timestamp};

use super::{Codec, Config, Error, check_packet};

/// A sample of the left channel and one of the right, from -1 to 1.
pub type Stereo = [f32; 2];

/// The coding of Low Complexity AAC.
const LOW_COMPLEXITY: &str = "mp4a.40.2";

/// Longest packet of Opus, in samples of each channel: 120 ms.
const OPUS_SAMPLES_MAX: usize = 5_760;

/// Decodes one stream: AAC of Low Complexity, or Opus, in mono or stereo.
pub struct Decoder {
    coding: Coding,
    /// As decoded, channels interleaved.
    pcm: Vec<f32>,
    stereo: Vec<Stereo>,
}

enum Coding {
    Aac(Box<AacDecoder>),
    /// And the channels that it gives.
    Opus(Box<ropus::Decoder>, usize),
}

impl Decoder {
    /// A decoder for what `config` describes.
    ///
    /// # Errors
    /// [`Error::Undecoded`] for High Efficiency AAC and other rare kinds, and for more than two channels.
    pub fn new(config: &Config) -> Result<Self, Error> {
        if config.channels() > 2 {
            return Err(Error::Undecoded("has more than two channels"));
        }
        let coding = match config.codec() {
            Codec::Aac => Coding::Aac(Box::new(aac(config)?)),
            Codec::Opus => {
                let channels = if config.channels() == 1 { Channels::Mono } else { Channels::Stereo };
                let decoder = ropus::Decoder::new(config.sample_rate(), channels)
                    .map_err(|_| Error::Undecoded("is Opus of a rare kind"))?;
                Coding::Opus(Box::new(decoder), config.channels().into())
            }
        };
        Ok(Self { coding, pcm: vec![], stereo: vec![] })
    }

    /// The samples of one packet, at [`Config::sample_rate`]; mono is on both channels.
    ///
    /// # Errors
    /// [`Error::Size`], [`Error::Packet`]. The decoder goes on with the next packet.
    pub fn decode(&mut self, data: &[u8]) -> Result<&[Stereo], Error> {
        check_packet(data.len())?;
        let channels = match &mut self.coding {
            Coding::Aac(decoder) => {
                let packet = PacketRef::new(0, Timestamp::ZERO, Duration::ZERO, data);
                let decoded =
                    decoder.decode_ref(&packet).map_err(|error| Error::Packet(error.to_string()))?;
                decoded.copy_to_vec_interleaved(&mut self.pcm);
                decoded.num_planes()
            }
            Coding::Opus(decoder, channels) => {
                self.pcm.resize(OPUS_SAMPLES_MAX * *channels, 0.0);
                let samples = decoder
                    .decode_float(data, &mut self.pcm, DecodeMode::Normal)
                    .map_err(|error| Error::Packet(format!("{error:?}")))?;
                self.pcm.truncate(samples * *channels);
                *channels
            }
        };
        self.stereo.clear();
        let frames = self.pcm.chunks_exact(channels.max(1));
        self.stereo.extend(frames.map(|frame| [tame(frame[0]), tame(frame[frame.len() - 1])]));
        Ok(&self.stereo)
    }
}

fn aac(config: &Config) -> Result<AacDecoder, Error> {
    if config.codec_string() != LOW_COMPLEXITY {
        return Err(Error::Undecoded("is AAC of another kind than Low Complexity"));
    }
    // What comes behind the part of Low Complexity announces what a plain decoder may leave out: High Efficiency on top
    // of it. A rate that is written out has three bytes more.
    let description = config.description();
    let written_out = matches!(description, [a, b, ..] if a & 7 == 7 && b & 0x80 != 0);
    let plain = &description[..description.len().min(if written_out { 5 } else { 2 })];
    let mut parameters = AudioCodecParameters::new();
    parameters.for_codec(CODEC_ID_AAC).with_extra_data(plain.into());
    AacDecoder::try_new(&parameters, &AudioDecoderOptions::default())
        .map_err(|_| Error::Undecoded("is AAC of a rare kind"))
}

/// Damage must not hurt an ear.
fn tame(sample: f32) -> f32 {
    if sample.is_finite() { sample.clamp(-1.0, 1.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_decoded_is_named() {
        let opus = |channels: u8, more: &[u8]| {
            let header = [&b"OpusHead\x01"[..], &[channels], &b"\x38\x01\x80\xbb\0\0\0\0"[..], more].concat();
            Config::new("opus", &header).unwrap()
        };
        let aac = |codec: &str, description: &[u8]| Config::new(codec, description).unwrap();
        for (config, says) in [
            (opus(2, &[0]), None),
            (opus(6, &[1, 4, 2, 0, 4, 1, 2, 3, 5]), Some("more than two")),
            (aac(LOW_COMPLEXITY, &[0x11, 0x90]), None),
            (aac(LOW_COMPLEXITY, &[0x15, 0x88]), None),
            // High Efficiency on top, not that, and a rate that is written out.
            (aac(LOW_COMPLEXITY, &[0x12, 0x08, 0x56, 0xe5, 0xa5]), None),
            (aac(LOW_COMPLEXITY, &[0x12, 0x08, 0x56, 0xe5, 0x00]), None),
            (aac(LOW_COMPLEXITY, &[0x17, 0x80, 0x3e, 0x80, 0x08]), None),
            (aac(LOW_COMPLEXITY, &[0x11, 0x94]), Some("rare")),
            (aac(LOW_COMPLEXITY, &[0x11, 0xb0]), Some("more than two")),
            (aac("mp4a.40.5", &[0x2b, 0x11, 0x88, 0x00]), Some("Low Complexity")),
        ] {
            let error = Decoder::new(&config).err().map(|error| error.to_string());
            let as_expected = match (&error, says) {
                (Some(error), Some(says)) => error.contains(says),
                (error, says) => error.is_none() && says.is_none(),
            };
            assert!(as_expected, "{:x?}: {error:?}", config.description());
        }
    }

    #[test]
    fn what_is_no_sound_is_silent() {
        for (sample, tamed) in [(f32::NAN, 0.0), (f32::INFINITY, 0.0), (7.0, 1.0), (-9.0, -1.0), (0.5, 0.5)] {
            assert_eq!(tame(sample), tamed);
        }
    }
}
