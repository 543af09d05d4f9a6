//! Peers that do harm, on a server as it is run: each is refused with a reason in the log, and is told it; nobody else
//! misses a frame.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod common;
#[path = "common/peer.rs"]
mod peer;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use common::Process;
use hone_transport::catalog::Catalog;
use hone_transport::config::Trust;
use hone_transport::token::{self, Grant, Keys, Scope};
use hone_transport::{Client, Delivery, EndpointConfig, Error, Publisher, Track, TrackWriter};
use peer::{Place, claims, claims_to_learn, keyframe};

const HONE: &str = env!("CARGO_BIN_EXE_hone");
const SERVER: &str = env!("CARGO_BIN_EXE_hone-server");
const SENDER: &str = env!("CARGO_BIN_EXE_hone-sender");

const SETTINGS: &str = r#"
[endpoint]
bind = "127.0.0.1:0"
certificate = "dev"
token_key = "token.key"
connect_timeout_ms = 3000

[endpoint.limits]
video_bytes_max = 20000
patches_bytes_max = 2000
model_bytes_max = 2000

[streams]
picture_pixels_max = 61440
pictures_per_second_max = 60

[trainer]
backend = "cpu"
blocks = 1
features = 8
"#;

/// The most that one step may take on a busy machine.
const MOMENT: Duration = Duration::from_secs(60);
/// Between two frames of a stream.
const FRAME_US: i64 = 40_000;

/// A stream that a test sends by hand.
struct Out {
    client: Client,
    _publisher: Publisher,
    catalog: TrackWriter,
    video: TrackWriter,
    /// Patches, or model updates where the catalog has them.
    beside: TrackWriter,
    pts_us: i64,
}

impl Out {
    async fn new(place: &Place, name: &str, catalog: &[u8]) -> Self {
        let client = place.dial().await;
        let learns = Catalog::parse(catalog).ok().and_then(|catalog| catalog.hone);
        let learns = learns.is_some_and(|hone| !hone.update_format.is_empty());
        let beside = if learns { Track::Model } else { Track::Patches };
        let mut publisher = client.publish(name, &[Track::Catalog, Track::Video, beside]).unwrap();
        let mut writer = |track| publisher.track(track).unwrap();
        let (mut first, video, beside) = (writer(Track::Catalog), writer(Track::Video), writer(beside));
        first.write(true, 0, catalog.to_vec().into()).unwrap();
        Self { client, _publisher: publisher, catalog: first, video, beside, pts_us: 0 }
    }

    /// A frame, and what goes beside it. What a server does not read in time a sender drops: this one is to have it all.
    async fn send(&mut self, (video, beside): &(Vec<u8>, Option<Vec<u8>>)) {
        self.video.write(true, self.pts_us, video.clone().into()).unwrap();
        if let Some(beside) = beside {
            self.beside.write(true, self.pts_us, beside.clone().into()).unwrap();
        }
        self.pts_us += FRAME_US;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Sends a frame every 40 ms until `stop`, and watches what arrives at a viewer: it must be every one.
async fn honest(place: Place, stop: Arc<AtomicBool>) -> u64 {
    let mut out = Out::new(&place, "honest", &claims(64, 48).to_json()).await;
    let frame = (keyframe(64, 48), None);
    out.send(&frame).await;
    let viewer = place.dial().await;
    let stream = tokio::time::timeout(MOMENT, viewer.subscribe("honest")).await.unwrap().unwrap();
    let mut video = stream.track(Track::Video, Delivery::All).await.unwrap();
    let watching = tokio::spawn(async move {
        let (mut last_us, mut frames) = (None, 0u64);
        while let Some(message) = video.next().await.unwrap() {
            let follows = last_us.is_none_or(|last: i64| message.pts_us == last + FRAME_US);
            assert!(follows, "{last_us:?} us, then {} us", message.pts_us);
            last_us = Some(message.pts_us);
            frames += 1;
        }
        frames
    });
    let mut sent = 1;
    let mut tick = tokio::time::interval(Duration::from_millis(40));
    while !stop.load(Ordering::Relaxed) {
        tick.tick().await;
        out.send(&frame).await;
        sent += 1;
    }
    let Out { client, _publisher, catalog, video, beside, .. } = out;
    drop((video, beside, catalog, _publisher));
    client.close().await;
    let seen = tokio::time::timeout(MOMENT, watching).await.unwrap().unwrap();
    // The viewer came when the first was there.
    assert_eq!(seen, sent);
    seen
}

/// What becomes of a sender.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    /// Its session is closed, and it is told the same reason.
    Ended,
    /// Its video goes on.
    GoesOn,
}
use Then::{Ended, GoesOn};

struct Case {
    name: &'static str,
    catalog: Vec<u8>,
    sends: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// Other catalogs behind that, each for the pictures from then on.
    changes: Vec<Vec<u8>>,
    /// What the server logs.
    says: &'static str,
    then: Then,
}

fn cases() -> Vec<Case> {
    let small = keyframe(64, 48);
    let frame = || vec![(small.clone(), None)];
    let noise = |i: u8, bytes: u8| (0..bytes).map(|k| k.wrapping_mul(i) ^ 0x5a).collect::<Vec<u8>>();
    let beside = |message: Vec<u8>| vec![(small.clone(), None), (small.clone(), Some(message))];
    let case = |name, catalog: &Catalog, sends, says, then| Case {
        name,
        catalog: catalog.to_json(),
        sends,
        changes: vec![],
        says,
        then,
    };
    let changes = |name, changes: Vec<Vec<u8>>, says| Case {
        changes,
        ..case(name, &claims(64, 48), frame(), says, Ended)
    };
    let resized = |columns| {
        let mut catalog = claims(64, 48);
        catalog.set_coded_size((columns, columns / 4 * 3));
        catalog.to_json()
    };
    let honest = claims(64, 48);
    let learner = claims_to_learn(64, 48, "live-1x8-x2");
    let other = claims_to_learn(64, 48, "live-1x8-x4");
    vec![
        Case {
            name: "catalog-garbage",
            catalog: b"{\"video\":7}".to_vec(),
            sends: frame(),
            changes: vec![],
            says: "bad catalog",
            then: Ended,
        },
        changes("change-garbage", vec![b"{\"video\":7}".to_vec()], "bad catalog"),
        changes("change-of-all", vec![claims(32, 24).to_json()], "has come to say something else"),
        changes("change-broken", vec![resized(40)], "no whole scale"),
        changes(
            "restless",
            (0..40).map(|i| resized([128, 64][i % 2])).collect(),
            "change their size all the time",
        ),
        case("liar", &honest, vec![(keyframe(320, 192), None)], "are not what its catalog says", Ended),
        case("giant", &claims(640, 480), frame(), "larger than 61440 pixels", Ended),
        case("no-network", &claims_to_learn(64, 48, "live"), frame(), "stream dropped", Ended),
        case("other-network", &other, frame(), "does not suit its sizes", Ended),
        case("model-garbage", &learner, beside(noise(3, 90)), "a model update of its", Ended),
        case("flood", &honest, vec![(small.clone(), None); 900], "more than 60 pictures a second", Ended),
        case(
            "video-large",
            &honest,
            vec![(small.clone(), None), (vec![1; 20_001], None)],
            "20001 bytes on track video exceeds the limit of 20000",
            Ended,
        ),
        case(
            "patch-large",
            &honest,
            beside(vec![1; 2_001]),
            "2001 bytes on track patches exceeds the limit of 2000",
            GoesOn,
        ),
        case(
            "model-large",
            &learner,
            beside(vec![1; 2_001]),
            "2001 bytes on track model exceeds the limit of 2000",
            GoesOn,
        ),
        case(
            "video-garbage",
            &honest,
            (0..40).map(|i| (noise(i, 200), None)).collect(),
            "a picture is missing for training",
            GoesOn,
        ),
        case(
            "slice-garbage",
            &honest,
            (1..40).map(|i| ([&[0, 0, 0, 1, 0x65], &noise(i, 200)[..]].concat(), None)).collect(),
            "a picture is missing for training",
            GoesOn,
        ),
        case(
            "patch-garbage",
            &honest,
            (0..100).map(|i| (small.clone(), Some(noise(i, 200)))).collect(),
            "training patch refused",
            GoesOn,
        ),
    ]
}

/// Waits for a warning that holds all these words, and says how many there are.
fn warned(server: &mut Process, words: &[&str]) -> usize {
    let holds = |line: &&str| line.contains("WARN") && words.iter().all(|word| line.contains(word));
    server.wait_for(&format!("warning of {words:?}"), MOMENT, |process| {
        Some(process.stderr().lines().filter(holds).count()).filter(|lines| *lines > 0)
    })
}

/// Its session ends, and it is told why.
async fn is_told(out: &Out, says: &str, name: &str) {
    let ended = tokio::time::timeout(MOMENT, out.client.closed()).await;
    let ended = ended.unwrap_or_else(|_| panic!("{name} was not told"));
    let told =
        matches!(&ended, Error::Refused { reason } if reason.contains(says) || says == "stream dropped");
    assert!(told, "{name}: {ended}");
}

/// Its frames still reach a viewer.
async fn goes_on(place: &Place, out: &mut Out, name: &str) {
    let viewer = place.dial().await;
    let stream = tokio::time::timeout(MOMENT, viewer.subscribe(name)).await.unwrap().unwrap();
    // What came before may be gone already.
    let live = Delivery::Latest { max_age: Duration::from_secs(1) };
    let mut video = stream.track(Track::Video, live).await.unwrap();
    let (frame, from_us) = ((keyframe(64, 48), None), out.pts_us);
    for _ in 0..5 {
        out.send(&frame).await;
    }
    let begun = Instant::now();
    while tokio::time::timeout(MOMENT, video.next()).await.unwrap().unwrap().unwrap().pts_us < from_us {
        assert!(begun.elapsed() < MOMENT, "{name}");
    }
}

/// A token of the key in `file`.
fn token(file: &Path, until: SystemTime) -> String {
    let all = || Scope::new(&["*".to_owned()]).unwrap();
    let keys = Keys::parse(&std::fs::read_to_string(file).unwrap()).unwrap();
    let grant = Grant { publish: all(), view: all(), until: Some(until) };
    keys.sign(&grant, SystemTime::UNIX_EPOCH).unwrap()
}

/// Begins a handshake and says no more: the first datagram of a client that is not answered.
async fn slow_loris(place: &Place) -> tokio::net::UdpSocket {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let config = EndpointConfig { connect_timeout_ms: 300, trust: Trust::System, ..place.endpoint() };
    assert!(Client::connect(&config, &socket.local_addr().unwrap().to_string()).await.is_err());
    let mut datagram = [0; 2048];
    let (bytes, _) = socket.recv_from(&mut datagram).await.unwrap();
    socket.send_to(&datagram[..bytes], &place.address).await.unwrap();
    socket
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_harm_is_refused_with_a_reason_and_nobody_else_misses_a_frame() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("server.toml"), SETTINGS).unwrap();
    std::fs::write(folder.join("other.key"), token::generate().unwrap()).unwrap();
    let made = Command::new(HONE).args(["token", "key", "token.key"]).current_dir(folder).status().unwrap();
    assert!(made.success());
    let mut server = Process::start(folder, "server", SERVER, &["--config", "server.toml"]);
    let address = server.line("listening on ");
    let hash = server.line("certificate for development, pin it: ");
    let key = folder.join("token.key");
    let later = SystemTime::now() + Duration::from_secs(3600);
    let place = Place { address, hash, token: Some(token(&key, later)) };

    let stop = Arc::new(AtomicBool::new(false));
    let watched = tokio::spawn(honest(place.clone(), stop.clone()));

    // At the door.
    let foreign = Some(token(&folder.join("other.key"), later));
    let expired = Some(token(&key, SystemTime::now() - Duration::from_secs(60)));
    for (token, says) in [(None, "no token"), (foreign, "not signed"), (expired, "expired")] {
        let stranger = Place { token, ..place.clone() };
        let error = stranger.dial_at(&place.address).await.err().unwrap();
        assert!(matches!(error, Error::Token { .. }), "{says}: {error}");
        warned(&mut server, &["session refused", says]);
    }
    let _loris = slow_loris(&place).await;
    warned(&mut server, &["handshake failed", "timed out"]);

    // Inside.
    for Case { name, catalog, sends, changes, says, then } in cases() {
        let mut out = Out::new(&place, name, &catalog).await;
        for message in &sends {
            out.send(message).await;
        }
        if !changes.is_empty() {
            let started = |line: &str| line.contains("stream started") && line.contains(name);
            server.wait_for(&format!("start of {name}"), MOMENT, |process| {
                process.stderr().lines().any(started).then_some(())
            });
        }
        for catalog in changes {
            out.catalog.write(true, out.pts_us, catalog.into()).unwrap();
            // Each is to be read, or only the newest would count.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let lines = warned(&mut server, &[name, says]);
        // Nobody fills the log.
        assert!(lines <= 2, "{name}: {lines} lines");
        match then {
            Ended => is_told(&out, says, name).await,
            GoesOn => goes_on(&place, &mut out, name).await,
        }
    }

    // Who runs a sender is told, and it does not send to nobody for ever.
    std::fs::write(folder.join("publish.token"), token(&key, later)).unwrap();
    let to = ["--server", &place.address, "--pin", &place.hash, "--token", "@publish.token"];
    let what = ["--name", "wide", "--input", "test:640x480@10", "--scale", "1"];
    let mut sender = Process::start(folder, "sender", SENDER, &[&to[..], &what].concat());
    assert_eq!(sender.end(MOMENT), 1, "{}", sender.stderr());
    assert!(sender.stderr().contains("refused the stream: its pictures of 640x480"), "{}", sender.stderr());

    stop.store(true, Ordering::Relaxed);
    let frames = watched.await.unwrap();
    assert!(frames > 100, "{frames}");
    server.interrupt();
    assert_eq!(server.end(MOMENT), 0, "{}", server.stderr());
}
