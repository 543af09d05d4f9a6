//! Viewers on links that are far too thin: what each costs the server is bounded, and nobody else waits for them.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod common;
#[path = "common/peer.rs"]
mod peer;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::Process;
use hone_transport::link::{self, Link};
use hone_transport::{Client, Delivery, Track};
use peer::{Place, claims, keyframe};

const SERVER: &str = env!("CARGO_BIN_EXE_hone-server");

const SETTINGS: &str = r#"
[endpoint]
bind = "127.0.0.1:0"
certificate = "dev"

[endpoint.limits]
send_window_bytes = 524288

[trainer]
backend = "cpu"
blocks = 1
features = 8
"#;

/// Of the settings above.
const SEND_WINDOW_BYTES: u64 = 512 << 10;
/// A viewer that keeps up: `viewer_memory_kb` of `cargo xtask live-bench`, and as much again.
const VIEWER_BYTES: u64 = 400_000;
/// What the server itself may take meanwhile: its caches fill, 10 s of the stream as it comes and a minute of nothing else.
const SERVER_BYTES: u64 = 48 << 20;
const SLOW: u64 = 12;
/// 4 Mbit/s of video, 25 frames a second, a keyframe every second.
const FRAME_BYTES: usize = 20_000;
const FRAME: Duration = Duration::from_millis(40);
const MOMENT: Duration = Duration::from_secs(60);

/// Memory of the server's process.
fn resident_bytes(process: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    1024 * line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
}

/// Media time and age of all frames that a viewer has got.
type Seen = Arc<Mutex<Vec<(i64, Duration)>>>;

/// Watches the stream in a task of its own. Media time 0 is `start`.
async fn watch(viewer: Client, delivery: Delivery, start: Instant) -> Seen {
    let seen = Seen::default();
    let theirs = seen.clone();
    tokio::spawn(async move {
        let stream = viewer.subscribe("cam").await.unwrap();
        let mut video = stream.track(Track::Video, delivery).await.unwrap();
        while let Ok(Some(message)) = video.next().await {
            let age = start.elapsed().saturating_sub(Duration::from_micros(message.pts_us as u64));
            theirs.lock().unwrap().push((message.pts_us, age));
        }
        drop(viewer);
    });
    seen
}

/// The 95th percentile of the ages of what came since `from`, and how many there were.
fn p95(seen: &Seen, from: usize) -> (Duration, usize) {
    let mut ages: Vec<_> = seen.lock().unwrap()[from..].iter().map(|(_, age)| *age).collect();
    ages.sort();
    (ages[ages.len() * 95 / 100], ages.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_that_is_too_slow_costs_little_and_slows_nobody() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("server.toml"), SETTINGS).unwrap();
    let mut server = Process::start(folder.path(), "server", SERVER, &["--config", "server.toml"]);
    let address = server.line("listening on ");
    let hash = server.line("certificate for development, pin it: ");
    let place = Place { address: address.clone(), hash, token: None };

    let start = Instant::now();
    let sender = place.dial().await;
    tokio::spawn(async move {
        let mut publisher = sender.publish("cam", &[Track::Catalog, Track::Video, Track::Patches]).unwrap();
        let mut catalog = publisher.track(Track::Catalog).unwrap();
        let mut video = publisher.track(Track::Video).unwrap();
        let _patches = publisher.track(Track::Patches).unwrap();
        catalog.write(true, 0, claims(64, 48).to_json().into()).unwrap();
        // Zeros may follow a NAL unit: a picture that is quickly decoded, of any size.
        let mut frame = keyframe(64, 48);
        frame.resize(FRAME_BYTES, 0);
        let mut tick = tokio::time::interval(FRAME);
        for n in 0u32.. {
            tick.tick().await;
            let pts_us = i64::try_from(start.elapsed().as_micros()).unwrap();
            video.write(n.is_multiple_of(25), pts_us, frame.clone().into()).unwrap();
        }
    });

    let fast = watch(place.dial().await, Delivery::All, start).await;
    let begun = Instant::now();
    while fast.lock().unwrap().len() < 25 * 12 {
        assert!(begun.elapsed() < MOMENT, "no stream");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (alone, frames) = p95(&fast, 25);
    let before = resident_bytes(&server);

    let live = Delivery::Latest { max_age: Duration::from_millis(500) };
    let (mut links, mut slow) = (vec![], vec![]);
    for seed in 0..SLOW {
        let thin = link::Config { rate_bps: 100e3, queue_bytes: 20_000.0, seed, ..link::Config::default() };
        let link = Link::start(address.parse().unwrap(), thin).await.unwrap();
        let viewer = place.dial_at(&link.addr().to_string()).await.unwrap();
        slow.push(watch(viewer, live, start).await);
        links.push(link);
    }
    let (from, mut most) = (fast.lock().unwrap().len(), 0);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(20) {
        tokio::time::sleep(Duration::from_millis(250)).await;
        most = most.max(resident_bytes(&server));
    }
    let (beside, more) = p95(&fast, from);
    let each = most.saturating_sub(before) / SLOW;
    let got: Vec<_> = slow.iter().map(|seen| seen.lock().unwrap().len()).collect();
    println!(
        "age p95 {alone:?} of {frames} frames, then {beside:?} of {more} beside {SLOW} slow ones that got {got:?}; \
         {} kB, then {} kB at most: {} kB each",
        before / 1000,
        most / 1000,
        each / 1000
    );
    // Every frame came: 20 s of them, less what a busy machine lets the sender tick.
    let pts: Vec<_> = fast.lock().unwrap().iter().map(|(pts_us, _)| *pts_us).collect();
    assert!(pts.is_sorted() && more > 20 * 25 / 2, "{more} frames in 20 s");
    assert!(beside < alone + Duration::from_millis(500), "{beside:?} against {alone:?}");
    // They are slow, and still there.
    assert!(got.iter().all(|frames| *frames > 0 && *frames < more / 4), "{got:?} of {more}");
    let bound = SLOW * (SEND_WINDOW_BYTES + VIEWER_BYTES) + SERVER_BYTES;
    assert!(most - before < bound, "{} kB more, {} kB each", (most - before) / 1000, each / 1000);
    server.interrupt();
    assert_eq!(server.end(MOMENT), 0, "{}", server.stderr());
}
