//! The catalog: what is in a broadcast, as JSON on the track `catalog.json`.
//!
//! The shape is that of the hang catalog of moq.dev: `video.renditions` maps track names to WebCodecs-like
//! decoder configurations, unknown sections are ignored, and ours is `hone`. The container is `annexb`: each
//! message is one Annex B access unit as the encoder made it, its media time in the MoQ frame header. That of audio
//! is `raw`: a message is one packet of the codec. A player that knows only hang's own containers skips such
//! renditions, as hang asks of it.

use crate::{Error, Result, Track};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most renditions in a catalog that we take; hang's own bound.
pub const RENDITIONS_MAX: usize = 64;
/// Largest width or height in a catalog that we take, pixels: the most that H.264 level 6.2 can code.
pub const SIDE_MAX: u32 = 16_888;
/// Highest sample rate in a catalog that we take, Hz, and most channels: beyond what any of these codecs can do.
pub const SAMPLE_RATE_MAX: u32 = 768_000;
/// See [`SAMPLE_RATE_MAX`].
pub const CHANNELS_MAX: u32 = 255;
/// Longest string in a catalog that we take, bytes.
pub const TEXT_BYTES_MAX: usize = 256;

/// A catalog.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Catalog {
    /// The coded video.
    #[serde(default)]
    pub video: Video,
    /// The coded audio, if there is any.
    #[serde(default, skip_serializing_if = "Audio::is_empty")]
    pub audio: Audio,
    /// What a viewer needs for super-resolution; a plain player ignores it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hone: Option<Hone>,
}

/// The `video` section.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Video {
    /// Track name to configuration; ours is `"video"`.
    #[serde(default)]
    pub renditions: BTreeMap<String, Rendition>,
}

/// One coded video track, after WebCodecs' `VideoDecoderConfig`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rendition {
    /// WebCodecs codec string, such as `avc1.42e01f`.
    pub codec: String,
    /// Width of the coded picture, pixels.
    pub coded_width: u32,
    /// Height of the coded picture, pixels.
    pub coded_height: u32,
    /// Frames per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub framerate: Option<f64>,
    /// Target bitrate, bit/s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bitrate: Option<u64>,
    /// How an access unit is wrapped.
    pub container: Container,
}

/// The `audio` section.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Audio {
    /// Track name to configuration; ours is `"audio"`.
    #[serde(default)]
    pub renditions: BTreeMap<String, AudioRendition>,
}

impl Audio {
    fn is_empty(&self) -> bool {
        self.renditions.is_empty()
    }
}

/// One coded audio track, after WebCodecs' `AudioDecoderConfig`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AudioRendition {
    /// WebCodecs codec string: `mp4a.40.2`, `opus`.
    pub codec: String,
    /// Samples a second, Hz.
    pub sample_rate: u32,
    /// Channels.
    pub number_of_channels: u32,
    /// Mean bitrate, bit/s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bitrate: Option<u64>,
    /// What the decoder is set up with, in hexadecimal digits: AAC's AudioSpecificConfig, Opus' identification header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// How a packet is wrapped: `raw` is ours.
    pub container: Container,
}

impl AudioRendition {
    /// The bytes of the description; `None` if there is none, or not in hexadecimal digits.
    pub fn description_bytes(&self) -> Option<Vec<u8>> {
        let digits = self.description.as_ref()?.as_bytes();
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let (pairs, rest) = digits.as_chunks::<2>();
        let bytes = pairs.iter().map(|&[high, low]| Some(digit(high)? << 4 | digit(low)?)).collect();
        if rest.is_empty() { bytes } else { None }
    }
}

/// How an access unit is wrapped in a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// `annexb` and `raw` are ours; others belong to other publishers.
    pub kind: String,
}

impl Default for Container {
    fn default() -> Self {
        Self { kind: "annexb".into() }
    }
}

/// The `hone` section.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hone {
    /// Name of the network architecture; empty until a server has chosen one, or the sender, where it learns.
    #[serde(default)]
    pub arch: String,
    /// Name and version of the model update format; empty until somebody offers a model track.
    #[serde(default)]
    pub update_format: String,
    /// Width of the super-resolved picture, pixels.
    pub hr_width: u32,
    /// Height of the super-resolved picture, pixels.
    pub hr_height: u32,
    /// How the coded samples become RGB.
    pub colour: Colour,
    /// Wall clock at media time 0, microseconds since 1970-01-01 UTC: capture to display latency is read from it.
    pub start_unix_us: u64,
}

/// Colour of the coded video, in the words of ISO/IEC 23091-2.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Colour {
    /// Matrix: `bt601`, `bt709` or `bt2020`.
    pub matrix: String,
    /// Range: `limited` or `full`.
    pub range: String,
}

impl Hone {
    /// The same from a sender that learns the stream itself: it offers the model track, of networks of this name.
    #[must_use]
    pub fn learned_here(self, arch: &str, update_format: &str) -> Self {
        Self { arch: arch.into(), update_format: update_format.into(), ..self }
    }
}

impl Catalog {
    /// A catalog with one rendition on [`Track::Video`].
    pub fn new(rendition: Rendition, hone: Hone) -> Self {
        let renditions = BTreeMap::from([(Track::Video.name().to_owned(), rendition)]);
        Self { video: Video { renditions }, audio: Audio::default(), hone: Some(hone) }
    }

    /// The same with a rendition on [`Track::Audio`], if there is one.
    #[must_use]
    pub fn with_audio(mut self, rendition: Option<AudioRendition>) -> Self {
        let rendition = rendition.map(|rendition| (Track::Audio.name().to_owned(), rendition));
        self.audio.renditions = rendition.into_iter().collect();
        self
    }

    /// The rendition on [`Track::Audio`].
    pub fn audio_rendition(&self) -> Option<&AudioRendition> {
        self.audio.renditions.get(Track::Audio.name())
    }

    /// Changes the size of what is coded, (columns, rows).
    pub fn set_coded_size(&mut self, (columns, rows): (u32, u32)) {
        if let Some(rendition) = self.video.renditions.get_mut(Track::Video.name()) {
            (rendition.coded_width, rendition.coded_height) = (columns, rows);
        }
    }

    /// Whether the same is shown as before, perhaps from pictures of another size.
    pub fn continues(&self, before: &Self) -> bool {
        let mut resized = before.clone();
        if let Some(rendition) = self.rendition() {
            resized.set_coded_size((rendition.coded_width, rendition.coded_height));
        }
        *self == resized
    }

    /// The rendition on [`Track::Video`].
    pub fn rendition(&self) -> Option<&Rendition> {
        self.video.renditions.get(Track::Video.name())
    }

    /// The JSON text.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers always serialise")
    }

    /// Reads a catalog from a peer. Its size is bounded by the track's limit; every number and text is bounded
    /// here.
    ///
    /// # Errors
    /// [`Error::Catalog`] with the reason.
    pub fn parse(json: &[u8]) -> Result<Self> {
        let catalog: Self = serde_json::from_slice(json).map_err(|e| Error::Catalog(e.to_string()))?;
        catalog.check().map_err(Error::Catalog)?;
        Ok(catalog)
    }

    fn check(&self) -> Result<(), String> {
        let side = |what, pixels: u32| match pixels {
            1..=SIDE_MAX => Ok(()),
            _ => Err(format!("{what} is {pixels} pixels, outside 1 to {SIDE_MAX}")),
        };
        let text = |what, text: &str| match text.len() {
            0..=TEXT_BYTES_MAX => Ok(()),
            bytes => Err(format!("{what} has {bytes} bytes, more than {TEXT_BYTES_MAX}")),
        };
        if self.video.renditions.len().max(self.audio.renditions.len()) > RENDITIONS_MAX {
            return Err(format!("more than {RENDITIONS_MAX} renditions"));
        }
        for (name, rendition) in &self.video.renditions {
            text("a rendition's name", name)?;
            text("codec", &rendition.codec)?;
            text("container.kind", &rendition.container.kind)?;
            side("codedWidth", rendition.coded_width)?;
            side("codedHeight", rendition.coded_height)?;
            if let Some(fps) = rendition.framerate
                && !(fps > 0.0 && fps <= 1000.0)
            {
                return Err(format!("framerate is {fps}, outside 0 to 1000"));
            }
        }
        for (name, rendition) in &self.audio.renditions {
            text("a rendition's name", name)?;
            text("audio codec", &rendition.codec)?;
            text("audio container.kind", &rendition.container.kind)?;
            text("audio description", rendition.description.as_deref().unwrap_or_default())?;
            if !(1..=SAMPLE_RATE_MAX).contains(&rendition.sample_rate) {
                return Err(format!(
                    "sampleRate is {} Hz, outside 1 to {SAMPLE_RATE_MAX}",
                    rendition.sample_rate
                ));
            }
            if !(1..=CHANNELS_MAX).contains(&rendition.number_of_channels) {
                let channels = rendition.number_of_channels;
                return Err(format!("numberOfChannels is {channels}, outside 1 to {CHANNELS_MAX}"));
            }
            if rendition.description.is_some() && rendition.description_bytes().is_none() {
                return Err("audio description is not in hexadecimal digits".into());
            }
        }
        if let Some(hone) = &self.hone {
            text("hone.arch", &hone.arch)?;
            text("hone.update_format", &hone.update_format)?;
            text("hone.colour.matrix", &hone.colour.matrix)?;
            text("hone.colour.range", &hone.colour.range)?;
            side("hone.hr_width", hone.hr_width)?;
            side("hone.hr_height", hone.hr_height)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn catalog() -> Catalog {
        let rendition = Rendition {
            codec: "avc1.42e01f".into(),
            coded_width: 640,
            coded_height: 360,
            framerate: Some(24.0),
            bitrate: Some(400_000),
            container: Container::default(),
        };
        let colour = Colour { matrix: "bt709".into(), range: "limited".into() };
        let hone = Hone {
            arch: "live-4x16-s3".into(),
            update_format: "delta-1".into(),
            hr_width: 1920,
            hr_height: 1080,
            colour,
            start_unix_us: 1_700_000_000_000_000,
        };
        Catalog::new(rendition, hone)
    }

    fn with_audio() -> Catalog {
        catalog().with_audio(Some(AudioRendition {
            codec: "mp4a.40.2".into(),
            sample_rate: 48_000,
            number_of_channels: 2,
            bitrate: Some(96_000),
            description: Some("1190".into()),
            container: Container { kind: "raw".into() },
        }))
    }

    #[test]
    fn the_shape_is_that_of_hang_with_our_section() {
        let json: serde_json::Value = serde_json::from_slice(&catalog().to_json()).unwrap();
        let expected = serde_json::json!({
            "video": { "renditions": { "video": {
                "codec": "avc1.42e01f",
                "codedWidth": 640,
                "codedHeight": 360,
                "framerate": 24.0,
                "bitrate": 400_000,
                "container": { "kind": "annexb" },
            } } },
            "hone": {
                "arch": "live-4x16-s3",
                "update_format": "delta-1",
                "hr_width": 1920,
                "hr_height": 1080,
                "colour": { "matrix": "bt709", "range": "limited" },
                "start_unix_us": 1_700_000_000_000_000u64,
            },
        });
        assert_eq!(json, expected);
        let back = Catalog::parse(&catalog().to_json()).unwrap();
        assert_eq!(back, catalog());
        assert_eq!(back.rendition().unwrap().coded_width, 640);

        let json: serde_json::Value = serde_json::from_slice(&with_audio().to_json()).unwrap();
        let expected = serde_json::json!({ "renditions": { "audio": {
            "codec": "mp4a.40.2",
            "sampleRate": 48_000,
            "numberOfChannels": 2,
            "bitrate": 96_000,
            "description": "1190",
            "container": { "kind": "raw" },
        } } });
        assert_eq!(json["audio"], expected);
        let back = Catalog::parse(&with_audio().to_json()).unwrap();
        assert_eq!(back, with_audio());
        assert_eq!(back.audio_rendition().unwrap().description_bytes().unwrap(), [0x11, 0x90]);
    }

    #[test]
    fn a_foreign_catalog_reads_and_unknown_sections_are_ignored() {
        let json = br#"{"video":{"renditions":{"hd":{"codec":"vp09.00","codedWidth":2,"codedHeight":2,
            "container":{"kind":"cmaf","init":"AAEC"},"jitter":40}},"rotation":90},"audio":{"renditions":{}}}"#;
        let catalog = Catalog::parse(json).unwrap();
        assert!(catalog.hone.is_none() && catalog.rendition().is_none());
        assert_eq!(Catalog::parse(b"{}").unwrap(), Catalog::default());
    }

    #[test]
    fn numbers_and_texts_out_of_bounds_are_named() {
        let change = |change: fn(&mut Catalog)| {
            let mut catalog = with_audio();
            change(&mut catalog);
            Catalog::parse(&catalog.to_json()).unwrap_err().to_string()
        };
        fn rendition(catalog: &mut Catalog) -> &mut Rendition {
            catalog.video.renditions.values_mut().next().unwrap()
        }
        fn audio(catalog: &mut Catalog) -> &mut AudioRendition {
            catalog.audio.renditions.values_mut().next().unwrap()
        }
        for (error, what) in [
            (change(|c| audio(c).sample_rate = 0), "sampleRate"),
            (change(|c| audio(c).sample_rate = u32::MAX), "sampleRate"),
            (change(|c| audio(c).number_of_channels = 0), "numberOfChannels"),
            (change(|c| audio(c).number_of_channels = 256), "numberOfChannels"),
            (change(|c| audio(c).codec = "x".repeat(257)), "audio codec"),
            (change(|c| audio(c).description = Some("00".repeat(129))), "audio description"),
            (change(|c| audio(c).description = Some("119".into())), "hexadecimal"),
            (change(|c| audio(c).description = Some("\u{e9}".into())), "hexadecimal"),
            (change(|c| rendition(c).coded_width = 0), "codedWidth"),
            (change(|c| rendition(c).coded_height = SIDE_MAX + 1), "codedHeight"),
            (change(|c| rendition(c).framerate = Some(0.0)), "framerate"),
            (change(|c| rendition(c).codec = "x".repeat(257)), "codec"),
            (change(|c| c.hone.as_mut().unwrap().hr_width = u32::MAX), "hone.hr_width"),
            (change(|c| c.hone.as_mut().unwrap().arch = "x".repeat(257)), "hone.arch"),
        ] {
            assert!(error.contains(what), "{error}");
        }
        let many = change(|c| {
            let one = rendition(c).clone();
            c.video.renditions = (0..65).map(|i| (i.to_string(), one.clone())).collect();
        });
        assert!(many.contains("renditions"), "{many}");
    }

    proptest! {
        #[test]
        fn garbage_is_an_error_and_never_a_panic(
            mut json in Just(with_audio().to_json()), at: prop::sample::Index, byte: u8, cut: prop::sample::Index,
        ) {
            let at = at.index(json.len());
            json[at] = byte;
            json.truncate(cut.index(json.len()) + 1);
            if let Ok(catalog) = Catalog::parse(&json) {
                prop_assert_eq!(Catalog::parse(&catalog.to_json()).unwrap(), catalog);
            }
        }
    }
}
