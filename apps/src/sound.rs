//! Audio between its two descriptions: that of a source and that in a catalog.

use hone_media::audio;
use hone_transport::catalog::{AudioRendition, Catalog, Container};

/// How packets are wrapped in messages: not at all.
const CONTAINER: &str = "raw";

/// A source's audio, as a catalog tells it.
pub fn rendition(track: &audio::Track) -> AudioRendition {
    let config = &track.config;
    AudioRendition {
        codec: config.codec_string().to_owned(),
        sample_rate: config.sample_rate(),
        number_of_channels: config.channels().into(),
        bitrate: Some((track.kbps * 1e3).round() as u64),
        description: Some(config.description().iter().map(|byte| format!("{byte:02x}")).collect()),
        container: Container { kind: CONTAINER.into() },
    }
}

/// The audio of a stream, as far as it can be used: what cannot be is left out with a warning, and the pictures stay.
pub fn config(catalog: &Catalog) -> Option<audio::Config> {
    let rendition = catalog.audio_rendition()?;
    if rendition.container.kind != CONTAINER {
        tracing::warn!(container = ?rendition.container.kind, "the stream's audio is wrapped in a way of others");
        return None;
    }
    let description = rendition.description_bytes().unwrap_or_default();
    let config = audio::Config::new(&rendition.codec, &description);
    config.inspect_err(|error| tracing::warn!(%error, "the stream's audio is left out")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_source_has_arrives_and_lies_do_not() {
        let opus = b"OpusHead\x01\x02\x38\x01\x80\xbb\0\0\0\0\0";
        for (codec, description) in [("mp4a.40.2", &[0x11, 0x90][..]), ("opus", opus)] {
            let track = audio::Track { config: audio::Config::new(codec, description).unwrap(), kbps: 64.4 };
            let told = rendition(&track);
            assert_eq!((&*told.codec, told.bitrate), (codec, Some(64_400)));
            let catalog = Catalog::default().with_audio(Some(told.clone()));
            let back = Catalog::parse(&catalog.to_json()).unwrap();
            assert_eq!(config(&back), Some(track.config));
            for lie in [
                AudioRendition { description: None, ..told.clone() },
                AudioRendition { description: Some("ff".into()), ..told.clone() },
                AudioRendition { codec: "ac-3".into(), ..told.clone() },
                AudioRendition { container: Container { kind: "legacy".into() }, ..told },
            ] {
                assert_eq!(config(&Catalog::default().with_audio(Some(lie.clone()))), None, "{lie:?}");
            }
        }
        assert_eq!(config(&Catalog::default()), None);
    }
}
