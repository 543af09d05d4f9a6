//! What a server keeps for slow readers is bounded for all sessions together, and a flood costs others nothing fresh.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use bytes::Bytes;
use common::{client, config, dial, payload, soon};
use hone_transport::{
    Delivery, EndpointConfig, Server, Track,
    config::Limits,
    link::{self, Link},
};
use std::{sync::Arc, time::Duration};

const CACHE_BYTES: u64 = 8 << 20;
/// Beyond the cache: the newest group of each track, and some tenths of a second of the flood, which are told apart from
/// what is fresh no sooner. A cache for each session would keep [`FLOODERS`] times [`CACHE_BYTES`].
const BEYOND_BYTES: u64 = 8 << 20;
const FLOODERS: usize = 4;
/// Of each one, [`CROP_BYTES`] every [`CROP_EVERY`]: the cache holds a second and more of all floods. An honest viewer that a
/// busy machine holds up for longer than that is no longer told apart from one that left.
const CROPS: u64 = 160;
const CROP_BYTES: usize = 64 << 10;
const CROP_EVERY: Duration = Duration::from_millis(40);
const FRAMES: u64 = 250;

async fn small_server() -> Arc<Server> {
    let limits = Limits { cache_bytes_max: CACHE_BYTES, ..Limits::default() };
    Arc::new(Server::bind(&EndpointConfig { limits, ..config() }).await.unwrap())
}

/// Reads what comes under this name on this track, and drops it.
async fn drain(server: &Server, track: Track) -> tokio::task::JoinHandle<u64> {
    let incoming = soon("announcement", server.incoming()).await.unwrap();
    let mut reader = incoming.track(track, Delivery::All).await.unwrap();
    tokio::spawn(async move {
        let mut bytes = 0;
        while let Ok(Some(message)) = reader.next().await {
            bytes += message.payload.len() as u64;
        }
        bytes
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_is_bounded_and_takes_nothing_fresh_from_others() {
    let server = small_server().await;
    // A stream that behaves, and its viewer behind 100 ms of delay and some loss: it is always a little behind.
    let far =
        link::Config { delay: Duration::from_millis(100), loss: 0.02, seed: 5, ..link::Config::default() };
    let link = Link::start(server.local_addr(), far).await.unwrap();
    let mut publisher = server.publish("honest", &[Track::Video]).unwrap();
    let mut video = publisher.track(Track::Video).unwrap();
    let viewer = dial(&server, link.addr()).await;
    let stream = soon("stream", viewer.subscribe("honest")).await.unwrap();
    let mut watched = stream.track(Track::Video, Delivery::All).await.unwrap();
    let watching = tokio::spawn(async move {
        let mut seen = 0;
        while let Some(message) = watched.next().await.unwrap() {
            assert_eq!(message.pts_us, seen as i64 * 20_000);
            seen += 1;
        }
        seen
    });

    // Four that flood, with media times that stand still: only the cache bounds them.
    let mut floods = Vec::new();
    for i in 0..FLOODERS {
        let sender = client(&server).await;
        let mut publisher = sender.publish(&format!("flood-{i}"), &[Track::Patches]).unwrap();
        let mut patches = publisher.track(Track::Patches).unwrap();
        let drained = drain(&server, Track::Patches).await;
        floods.push(tokio::spawn(async move {
            let crop = Bytes::from(vec![7; CROP_BYTES]);
            for n in 0..CROPS {
                patches.write(n % 4 == 0, 0, crop.clone()).unwrap();
                tokio::time::sleep(CROP_EVERY).await;
            }
            drop((patches, publisher));
            sender.close().await;
            drained.await.unwrap()
        }));
    }
    let mut most = 0;
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    for frame in 0..FRAMES {
        tick.tick().await;
        video.write(frame % 25 == 0, frame as i64 * 20_000, payload(frame, 2_000)).unwrap();
        most = most.max(server.stats().cached_bytes);
    }
    drop((video, publisher));
    assert_eq!(soon("all frames", watching).await.unwrap(), FRAMES);
    let mut flooded = 0;
    for flood in floods {
        flooded += soon("end of a flood", flood).await.unwrap();
    }
    println!("{flooded} B came, {most} B were kept at most, of {CACHE_BYTES} B");
    assert!(flooded > FLOODERS as u64 * CACHE_BYTES, "{flooded} B are no flood");
    assert!(most < CACHE_BYTES + BEYOND_BYTES, "{most} B were kept");
}
