//! What must not leave the camera is on no track, over any connection: masked parts, and patches where there are to be
//! none.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod common;

use std::time::{Duration, Instant};

use common::Process;
use hone_media::decode::{self, Decoder};
use hone_media::jpeg;
use hone_transport::config::Certificate;
use hone_transport::link::{self, Link};
use hone_transport::{Delivery, EndpointConfig, Server, Subscription, Track, TrackReader, hex};

const SENDER: &str = env!("CARGO_BIN_EXE_hone-sender");
const MOMENT: Duration = Duration::from_secs(60);
/// Longer than a silent connection lives.
const OUTAGE: Duration = Duration::from_secs(5);

const SIZE: (u32, u32) = (256, 144);
const SCALE: usize = 2;
/// The right half.
const MASK: &str = "128x144+128+0";
const MASK_X: usize = 128;
/// Pixels of the source from the mask's edge on that coding may blur it.
const BLUR: usize = 24;
/// What black may become by coding.
const BLACK_MAX: u8 = 40;

/// What one connection of a sender carried.
#[derive(Debug, Default)]
struct Carried {
    frames: u64,
    patches: u64,
    /// Pixels below the mask that were looked at.
    masked: u64,
}

struct Tracks {
    video: TrackReader,
    patches: TrackReader,
    decoder: Decoder,
}

impl Tracks {
    async fn open(stream: &Subscription) -> Self {
        Self {
            video: stream.track(Track::Video, Delivery::All).await.unwrap(),
            patches: stream.track(Track::Patches, Delivery::All).await.unwrap(),
            decoder: Decoder::new(decode::Limits::default()).unwrap(),
        }
    }

    /// Takes all that comes until `done`.
    async fn read(&mut self, masked: bool, done: impl Fn(&Carried) -> bool) -> Carried {
        let mut carried = Carried::default();
        let begun = Instant::now();
        while !done(&carried) {
            assert!(begun.elapsed() < MOMENT, "{carried:?}");
            tokio::select! {
                message = self.video.next() => {
                    let message = message.unwrap().unwrap();
                    carried.frames += 1;
                    for frame in self.decoder.decode(&message.payload, message.pts_us).unwrap() {
                        let width = frame.image.width() as usize;
                        let from = (MASK_X + BLUR) / SCALE;
                        for row in frame.image.y().chunks_exact(width).filter(|_| masked) {
                            carried.masked += row[from..].len() as u64;
                            assert!(row[from..].iter().all(|y| *y < BLACK_MAX), "{:?}", &row[from..]);
                        }
                    }
                }
                message = self.patches.next() => {
                    let message = message.unwrap().unwrap();
                    carried.patches += 1;
                    if masked {
                        carried.masked += masked_pixels(&message.payload);
                    }
                }
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
            }
        }
        carried
    }
}

/// Looks at a patch's pixels below the mask, which must be black.
fn masked_pixels(patch: &[u8]) -> u64 {
    let part = |at: usize| usize::from(u16::from_le_bytes([patch[at], patch[at + 1]])) * SCALE;
    let (x, rows, columns) = (part(2), part(4), part(6));
    let rgb = jpeg::decode_scan(&patch[10..], (columns as u16, rows as u16), patch[9]).unwrap();
    let from = (MASK_X + BLUR).saturating_sub(x).min(columns);
    let mut pixels = 0;
    for row in rgb.chunks_exact(3 * columns) {
        assert!(row[3 * from..].iter().all(|value| *value < BLACK_MAX), "{:?}", &row[3 * from..]);
        pixels += (columns - from) as u64;
    }
    pixels
}

/// Runs a sender with these options over two connections, and gives what each carried.
async fn run(more: &[&str], masked: bool, done: impl Fn(&Carried) -> bool) -> [Carried; 2] {
    let folder = tempfile::tempdir().unwrap();
    common::clip(&folder.path().join("clip.mp4"), SIZE, 50, 25.0);
    let config = EndpointConfig {
        bind: ([127, 0, 0, 1], 0).into(),
        certificate: Certificate::Dev,
        ..EndpointConfig::default()
    };
    let server = Server::bind(&config).await.unwrap();
    let link = Link::start(server.local_addr(), link::Config::default()).await.unwrap();
    let (address, hash) = (link.addr().to_string(), hex(&server.certificate_hash()));
    let to = ["--server", &address, "--pin", &hash, "--input", "clip.mp4", "--loop", "--scale", "2"];
    let mut sender = Process::start(folder.path(), "sender", SENDER, &[&to[..], more].concat());
    let next = async || tokio::time::timeout(MOMENT, server.incoming()).await.unwrap().unwrap();
    let first = next().await;
    let before = Tracks::open(&first).await.read(masked, &done).await;
    link.cut(true);
    tokio::time::sleep(OUTAGE).await;
    link.cut(false);
    let second = next().await;
    assert!(second.instance() > first.instance());
    let after = Tracks::open(&second).await.read(masked, &done).await;
    sender.interrupt();
    assert_eq!(sender.end(MOMENT), 0, "{}", sender.stderr());
    [before, after]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mask_is_black_in_the_video_and_in_every_patch() {
    let more = ["--mask", MASK, "--uplink-kbps", "1500", "--keyframe-interval", "1"];
    for carried in run(&more, true, |carried| carried.frames > 50 && carried.patches > 12).await {
        assert!(carried.masked > 100_000, "{carried:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_patches_there_are_none_on_the_wire() {
    // Six seconds: with patches, there is one within two.
    for carried in run(&["--no-patches"], false, |carried| carried.frames > 150).await {
        assert_eq!(carried.patches, 0, "{carried:?}");
    }
}
