//! Senders whose audio is not what they say: each is refused with a reason, and nobody else is disturbed.

use std::time::{Duration, Instant};

use hone_media::encode::{Config, Encoder};
use hone_transport::catalog::{self, AudioRendition, Catalog, Container, Hone, Rendition};
use hone_transport::config::{Limits, Trust};
use hone_transport::{Client, EndpointConfig, Publisher, Track, TrackWriter};

use crate::stage::{MOMENT, Stage};

const SIZE: (u32, u32) = (64, 48);

/// A stream that a test sends by hand.
struct Out {
    _client: Client,
    publisher: Publisher,
    video: TrackWriter,
    _others: [TrackWriter; 2],
    pictures: i64,
    keyframe: Vec<u8>,
}

impl Out {
    /// Announces pictures, and audio; whether there is a track of it is up to `tracks`.
    async fn new(stage: &Stage, name: &str, tracks: &[Track]) -> Self {
        let trust = Trust::Pinned(vec![stage.hash.clone()]);
        // More than the server takes.
        let limits = Limits { audio_bytes_max: 1 << 20, ..Limits::default() };
        let config =
            EndpointConfig { bind: ([127, 0, 0, 1], 0).into(), trust, limits, ..EndpointConfig::default() };
        let client = Client::connect(&config, &stage.address).await.unwrap();
        let mut publisher = client.publish(name, tracks).unwrap();
        let mut catalog_out = publisher.track(Track::Catalog).unwrap();
        let rendition = Rendition {
            codec: "avc1.42e01f".into(),
            coded_width: SIZE.0,
            coded_height: SIZE.1,
            framerate: None,
            bitrate: None,
            container: Container { kind: "annexb".into() },
        };
        let hone = Hone {
            arch: String::new(),
            update_format: String::new(),
            hr_width: 2 * SIZE.0,
            hr_height: 2 * SIZE.1,
            colour: catalog::Colour { matrix: "bt601".into(), range: "limited".into() },
            start_unix_us: 0,
        };
        let audio = AudioRendition {
            codec: "mp4a.40.2".into(),
            sample_rate: 48_000,
            number_of_channels: 2,
            bitrate: None,
            description: Some("1190".into()),
            container: Container { kind: "raw".into() },
        };
        let catalog = Catalog::new(rendition, hone).with_audio(Some(audio));
        catalog_out.write(true, 0, catalog.to_json().into()).unwrap();
        let (video, patches) =
            (publisher.track(Track::Video).unwrap(), publisher.track(Track::Patches).unwrap());
        let mut encoder = Encoder::new(&Config::new(SIZE.0, SIZE.1, 25.0, 300)).unwrap();
        let picture = crate::common::picture(SIZE.0, SIZE.1, 0, 0);
        let keyframe = encoder.encode(&picture, 0, true).unwrap().data;
        let _others = [catalog_out, patches];
        Self { _client: client, publisher, video, _others, pictures: 0, keyframe }
    }

    fn audio(&mut self) -> TrackWriter {
        self.publisher.track(Track::Audio).unwrap()
    }

    fn picture(&mut self) {
        self.video.write(true, self.pictures * 40_000, self.keyframe.clone().into()).unwrap();
        self.pictures += 1;
    }
}

const ALL: [Track; 4] = [Track::Catalog, Track::Video, Track::Patches, Track::Audio];

/// Waits until a figure of a stream is as it should be.
async fn until(stage: &Stage, what: &str, name: &str, good: impl Fn(Option<f64>) -> bool) {
    let start = Instant::now();
    while !good(stage.figure(name)) {
        assert!(start.elapsed() < MOMENT, "{what}: {name} is {:?}", stage.figure(name));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn pictures(name: &str) -> String {
    format!("hone_pictures_total{{stream=\"{name}\"}}")
}

fn audio_bytes(name: &str) -> String {
    format!("hone_track_bytes_total{{stream=\"{name}\",track=\"audio\"}}")
}

#[tokio::test(flavor = "multi_thread")]
async fn audio_that_lies_or_floods_is_refused_and_the_others_stay() {
    let stage = Stage::new();
    let mut honest = Out::new(&stage, "honest", &ALL).await;
    let mut sound = honest.audio();
    honest.picture();
    sound.write(true, 0, vec![1; 100].into()).unwrap();
    until(&stage, "an honest stream", &audio_bytes("honest"), |bytes| bytes == Some(100.0)).await;

    // A track that is announced and not there.
    let mut lie = Out::new(&stage, "lie", &ALL[..3]).await;
    lie.picture();
    // A packet that is too large: the audio ends there, the pictures do not.
    let mut huge = Out::new(&stage, "huge", &ALL).await;
    let mut huge_sound = huge.audio();
    huge.picture();
    huge_sound.write(true, 0, vec![1; 200].into()).unwrap();
    until(&stage, "before", &audio_bytes("huge"), |bytes| bytes == Some(200.0)).await;
    huge_sound.write(true, 20_000, vec![1; 100_000].into()).unwrap();
    huge_sound.write(true, 40_000, vec![1; 300].into()).unwrap();
    huge.picture();
    until(&stage, "after", &pictures("huge"), |count| count == Some(2.0)).await;
    // Garbage is passed on: it is for whoever decodes it.
    let mut garbage = Out::new(&stage, "garbage", &ALL).await;
    let mut garbage_sound = garbage.audio();
    garbage.picture();
    for at in 0..50 {
        garbage_sound.write(at % 10 == 0, at * 20_000, vec![at as u8 ^ 0x5a; 97].into()).unwrap();
    }
    until(&stage, "garbage", &audio_bytes("garbage"), |bytes| bytes == Some(50.0 * 97.0)).await;
    // More packets than any coding has.
    let mut flood = Out::new(&stage, "flood", &ALL).await;
    let mut flood_sound = flood.audio();
    flood.picture();
    until(&stage, "begun", &pictures("flood"), |count| count.is_some()).await;
    for at in 0..8_000 {
        flood_sound.write(at % 50 == 0, at, vec![0; 8].into()).unwrap();
        if at % 50 == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    until(&stage, "dropped", &pictures("flood"), |count| count.is_none()).await;

    assert_eq!(stage.figure(&audio_bytes("huge")), Some(200.0));
    honest.picture();
    sound.write(false, 20_000, vec![2; 100].into()).unwrap();
    until(&stage, "undisturbed", &audio_bytes("honest"), |bytes| bytes == Some(200.0)).await;
    until(&stage, "undisturbed", &pictures("honest"), |count| count == Some(2.0)).await;
    assert_eq!(stage.figure(&pictures("lie")), None);
    drop((lie, huge, garbage, flood, honest));
    let (_, log) = stage.end();
    for reason in
        ["has no track audio", "100000 bytes on track audio exceeds", "more than 500 packets of audio"]
    {
        assert!(log.contains(reason), "no {reason:?} in\n{log}");
    }
}
