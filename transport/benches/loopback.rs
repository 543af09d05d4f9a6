//! What the transport itself costs on loopback: a model update there and back, and the age of video frames that pass
//! through the server's program. Run with `cargo bench -p hone-transport`.
#![allow(clippy::unwrap_used, clippy::cast_sign_loss, reason = "a benchmark fails by panicking")]

use bytes::Bytes;
use hone_transport::{
    Client, Delivery, EndpointConfig, Server, Track,
    config::{Certificate, Trust},
    hex,
};
use std::time::{Duration, Instant};

const UPDATE_BYTES: usize = 100_000;
const UPDATES: usize = 200;
const FRAMES: u32 = 300;
const FRAME: Duration = Duration::from_micros(16_667);

async fn pair() -> (Server, Client, Client) {
    let local = EndpointConfig {
        bind: ([127, 0, 0, 1], 0).into(),
        certificate: Certificate::Dev,
        ..EndpointConfig::default()
    };
    let server = Server::bind(&local).await.unwrap();
    let trust = Trust::Pinned(vec![hex(&server.certificate_hash())]);
    let config = EndpointConfig { trust, ..local };
    let addr = server.local_addr().to_string();
    let sender = Client::connect(&config, &addr).await.unwrap();
    let viewer = Client::connect(&config, &addr).await.unwrap();
    (server, sender, viewer)
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    println!("{what}: n {}, p50 {:?}, p95 {:?}, max {:?}", times.len(), at(50), at(95), at(100));
}

/// A client's model update is echoed by the server's program: one write, one read, twice.
async fn round_trip() {
    let (server, client, _) = pair().await;
    let mut publisher = client.publish("ping", &[Track::Model]).unwrap();
    let mut ping = publisher.track(Track::Model).unwrap();
    let incoming = server.incoming().await.unwrap();
    let mut pings = incoming.track(Track::Model, Delivery::All).await.unwrap();
    let mut echo = server.publish("pong", &[Track::Model]).unwrap();
    let mut pong = echo.track(Track::Model).unwrap();
    tokio::spawn(async move {
        while let Ok(Some(message)) = pings.next().await {
            pong.write(message.index == 0, message.pts_us, message.payload).unwrap();
        }
        drop(echo);
    });
    let pongs = client.subscribe("pong").await.unwrap();
    let mut pongs = pongs.track(Track::Model, Delivery::All).await.unwrap();
    let update = Bytes::from(vec![7; UPDATE_BYTES]);
    let mut times = Vec::new();
    for i in 0..UPDATES {
        let start = Instant::now();
        ping.write(i % 20 == 0, 0, update.clone()).unwrap();
        pongs.next().await.unwrap().unwrap();
        times.push(start.elapsed());
    }
    report("100 kB model update, there and back", times.split_off(UPDATES / 10));
}

/// Sender to server to viewer, 60 fps, 2 kB frames and 20 kB keyframes.
async fn video_age() {
    let (server, sender, viewer) = pair().await;
    let mut publisher = sender.publish("cam", &[Track::Video]).unwrap();
    let mut video = publisher.track(Track::Video).unwrap();
    let incoming = server.incoming().await.unwrap();
    let mut from = incoming.track(Track::Video, Delivery::All).await.unwrap();
    let mut onward = server.publish("cam", &[Track::Video]).unwrap();
    let mut to = onward.track(Track::Video).unwrap();
    tokio::spawn(async move {
        while let Ok(Some(message)) = from.next().await {
            to.write(message.index == 0, message.pts_us, message.payload).unwrap();
        }
        drop(onward);
    });
    let start = Instant::now();
    let view = tokio::spawn(async move {
        let broadcast = viewer.subscribe("cam").await.unwrap();
        let mut video = broadcast.track(Track::Video, Delivery::All).await.unwrap();
        let mut ages = Vec::new();
        while let Some(message) = video.next().await.unwrap() {
            ages.push(start.elapsed().saturating_sub(Duration::from_micros(message.pts_us as u64)));
        }
        ages
    });
    for frame in 0..FRAMES {
        tokio::time::sleep_until((start + FRAME * frame).into()).await;
        let (key, now_us) = (frame % 60 == 0, i64::try_from(start.elapsed().as_micros()).unwrap());
        video.write(key, now_us, Bytes::from(vec![1; if key { 20_000 } else { 2_000 }])).unwrap();
    }
    drop((video, publisher));
    report("video frame, sender to viewer", view.await.unwrap().split_off(10));
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    round_trip().await;
    video_age().await;
}
