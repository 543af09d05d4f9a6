//! The catalog: what is in a broadcast, as JSON on the track `catalog.json`.
//!
//! The shape is that of the hang catalog of moq.dev: `video.renditions` maps track names to WebCodecs-like
//! decoder configurations, unknown sections are ignored, and ours is `hone`. The container is `annexb`: each
//! message is one Annex B access unit as the encoder made it, its media time in the MoQ frame header. A player
//! that knows only hang's own containers skips such a rendition, as hang asks of it.

use crate::{Error, Result, Track};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most renditions in a catalog that we take; hang's own bound.
pub const RENDITIONS_MAX: usize = 64;
/// Largest width or height in a catalog that we take, pixels: the most that H.264 level 6.2 can code.
pub const SIDE_MAX: u32 = 16_888;
/// Longest string in a catalog that we take, bytes.
pub const TEXT_BYTES_MAX: usize = 256;

/// A catalog.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Catalog {
    /// The coded video.
    #[serde(default)]
    pub video: Video,
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

/// How an access unit is wrapped in a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// `annexb` is ours; others belong to other publishers.
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
    /// Name of the network architecture; empty until a server has chosen one.
    #[serde(default)]
    pub arch: String,
    /// Name and version of the model update format; empty until a server offers a model track.
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

impl Catalog {
    /// A catalog with one rendition on [`Track::Video`].
    pub fn new(rendition: Rendition, hone: Hone) -> Self {
        let renditions = BTreeMap::from([(Track::Video.name().to_owned(), rendition)]);
        Self { video: Video { renditions }, hone: Some(hone) }
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
        if self.video.renditions.len() > RENDITIONS_MAX {
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
            let mut catalog = catalog();
            change(&mut catalog);
            Catalog::parse(&catalog.to_json()).unwrap_err().to_string()
        };
        fn rendition(catalog: &mut Catalog) -> &mut Rendition {
            catalog.video.renditions.values_mut().next().unwrap()
        }
        for (error, what) in [
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
            mut json in Just(catalog().to_json()), at: prop::sample::Index, byte: u8, cut: prop::sample::Index,
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
