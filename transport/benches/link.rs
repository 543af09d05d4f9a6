//! How old video is when it arrives over a thin link, alone and beside patches, and what a lossy link loses for good.
//!
//! ```text
//! cargo bench -p hone-transport --bench link                 the table
//! cargo bench -p hone-transport --bench link -- --seconds 60 as long as this each
//! cargo bench -p hone-transport --bench link -- --json       one object
//! ```
#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use hone_transport::config::{Certificate, Congestion, Trust};
use hone_transport::link::{self, Link};
use hone_transport::pacer::{self, Pacer};
use hone_transport::{Client, Delivery, EndpointConfig, Server, Subscription, Track, TrackReader, hex};

const FPS: u32 = 30;
const GOP: u32 = 60;
const KEYFRAME: usize = 24_000;
/// With keyframes, 0.6 Mbit/s.
const FRAME: usize = 2_130;
const PATCH: usize = 4_096;

/// The uplink that the figures are for.
fn thin(loss: f64) -> link::Config {
    link::Config { delay: Duration::from_millis(30), rate_bps: 2e6, loss, seed: 3, ..link::Config::default() }
}

struct Run {
    link: link::Config,
    congestion: Congestion,
    patches: bool,
    /// Whether a viewer sits behind a second such link; otherwise the server's own reader is measured.
    viewer: bool,
    seconds: u32,
}

struct Result {
    p50_ms: f64,
    p95_ms: f64,
    lost_percent: f64,
    patch_kbps: f64,
}

fn endpoint(congestion: Congestion, trust: Trust) -> EndpointConfig {
    EndpointConfig {
        certificate: Certificate::Dev,
        bind: ([127, 0, 0, 1], 0).into(),
        congestion,
        trust,
        ..EndpointConfig::default()
    }
}

async fn ages(mut reader: TrackReader, start: Instant) -> Vec<f64> {
    let mut ages = Vec::new();
    while let Ok(Some(message)) = reader.next().await {
        ages.push(start.elapsed().as_secs_f64() * 1e3 - message.pts_us as f64 / 1e3);
    }
    ages
}

/// Video as it comes, untouched, as the server program relays it.
async fn relay(server: &Server, from: &Subscription) {
    let mut onward = server.publish("cam", &[Track::Video]).unwrap();
    let mut to = onward.track(Track::Video).unwrap();
    let mut from = from.track(Track::Video, Delivery::All).await.unwrap();
    while let Ok(Some(message)) = from.next().await {
        to.write(message.index == 0, message.pts_us, message.payload).unwrap();
    }
}

impl Run {
    async fn measure(&self) -> Result {
        let server = Server::bind(&endpoint(self.congestion, Trust::System)).await.unwrap();
        let trust = Trust::Pinned(vec![hex(&server.certificate_hash())]);
        let uplink = Link::start(server.local_addr(), self.link).await.unwrap();
        let down = link::Config { seed: self.link.seed + 1, ..self.link };
        let downlink = Link::start(server.local_addr(), down).await.unwrap();
        let config = endpoint(self.congestion, trust);
        let sender = Client::connect(&config, &uplink.addr().to_string()).await.unwrap();
        let mut publisher = sender.publish("cam", &[Track::Video, Track::Patches]).unwrap();
        let mut video = publisher.track(Track::Video).unwrap();
        let mut patch = publisher.track(Track::Patches).unwrap();
        let incoming = server.incoming().await.unwrap();
        let patches = incoming.track(Track::Patches, Delivery::All).await.unwrap();
        let start = Instant::now();
        let arrived = if self.viewer {
            let viewer = Client::connect(&config, &downlink.addr().to_string()).await.unwrap();
            tokio::spawn(async move {
                let watch = async {
                    let broadcast = viewer.subscribe("cam").await.unwrap();
                    let live = Delivery::Latest { max_age: Duration::from_secs(2) };
                    ages(broadcast.track(Track::Video, live).await.unwrap(), start).await
                };
                tokio::join!(watch, relay(&server, &incoming)).0
            })
        } else {
            let reader = incoming.track(Track::Video, Delivery::All).await.unwrap();
            tokio::spawn(async move {
                let _server = server;
                ages(reader, start).await
            })
        };
        let patches = tokio::spawn(ages(patches, start));
        let mut pacer = Pacer::new(start.elapsed(), pacer::Config::default());
        let crop = Bytes::from(vec![0x5A; PATCH]);
        let (frames, mut crops) = (self.seconds * FPS, 0u64);
        for frame in 0..frames {
            tokio::time::sleep_until((start + Duration::from_secs(1) * frame / FPS).into()).await;
            let key = frame % GOP == 0;
            let bytes = vec![frame as u8; if key { KEYFRAME } else { FRAME }];
            pacer.spend_on_video(bytes.len() as u64);
            video.write(key, start.elapsed().as_micros() as i64, bytes.into()).unwrap();
            let (now, stats) = (start.elapsed(), sender.stats());
            pacer.on_sent(now, video.bytes_written() + patch.bytes_written(), stats.bytes_sent);
            pacer.on_rtt(now, stats.rtt, stats.min_rtt);
            while self.patches && pacer.budget(now) > 0 {
                patch.write(crops.is_multiple_of(32), now.as_micros() as i64, crop.clone()).unwrap();
                pacer.spend(PATCH as u64);
                crops += 1;
            }
        }
        let patch_kbps = patch.bytes_written() as f64 / 125.0 / f64::from(self.seconds);
        drop((video, patch, publisher));
        // What is under way after the last frame still counts.
        tokio::time::sleep(Duration::from_secs(3)).await;
        sender.close().await;
        let mut ages = arrived.await.unwrap();
        patches.abort();
        let lost_percent = 100.0 * (1.0 - ages.len() as f64 / f64::from(frames));
        // The first second has no figure of the round trip yet.
        ages.drain(..ages.len().min(FPS as usize));
        ages.sort_by(f64::total_cmp);
        let percentile = |p: usize| ages.get(ages.len() * p / 100).copied().unwrap_or(f64::INFINITY);
        Result { p50_ms: percentile(50), p95_ms: percentile(95), lost_percent, patch_kbps }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let json = arguments.iter().any(|a| a == "--json");
    let seconds = arguments.iter().position(|a| a == "--seconds");
    let seconds = seconds.and_then(|at| arguments.get(at + 1)?.parse().ok()).unwrap_or(20);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let measure = |link, congestion, patches, viewer| {
        runtime.block_on(Run { link, congestion, patches, viewer, seconds }.measure())
    };
    if json {
        let ratio = |loss| {
            let beside = |patches| measure(thin(loss), Congestion::default(), patches, false).p95_ms;
            beside(true) / beside(false)
        };
        let (clean, lossy) = (ratio(0.0), ratio(0.02));
        let lost = measure(thin(0.1), Congestion::default(), true, true).lost_percent;
        println!(
            "{{\"age_p95_ratio_loss0\":{clean:.2},\"age_p95_ratio_loss2\":{lossy:.2},\
             \"loss10_frames_lost_percent\":{lost:.2}}}"
        );
        return;
    }
    println!("0.6 Mbit/s of video, {seconds} s; 2 Mbit/s, 30 ms each way, 50 kB queue");
    println!("loss  control        patches  path          age p50   p95 ms   lost %  patches kbit/s");
    for congestion in [Congestion::LossTolerant, Congestion::Cubic] {
        for (loss, patches, viewer) in [
            (0.0, false, false),
            (0.0, true, false),
            (0.02, false, false),
            (0.02, true, false),
            (0.1, false, false),
            (0.1, true, true),
        ] {
            let result = measure(thin(loss), congestion, patches, viewer);
            println!(
                "{loss:4.2}  {:13}  {:7}  {:12}  {:7.0}  {:7.0}  {:7.2}  {:7.0}",
                format!("{congestion:?}"),
                if patches { "paced" } else { "none" },
                if viewer { "to a viewer" } else { "to the server" },
                result.p50_ms,
                result.p95_ms,
                result.lost_percent,
                result.patch_kbps
            );
        }
    }
}
