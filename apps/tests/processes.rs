//! The three binaries as three processes on loopback.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use common::{EARLY_VERDICTS, Process};

const SERVER: &str = env!("CARGO_BIN_EXE_hone-server");
const SENDER: &str = env!("CARGO_BIN_EXE_hone-sender");
const VIEWER: &str = env!("CARGO_BIN_EXE_hone-viewer");

const ENDPOINT: &str = "[endpoint]\nbind = \"127.0.0.1:0\"\ncertificate = \"dev\"\n";

const SIZE: (u32, u32) = (256, 144);
const FPS: f64 = 25.0;
/// The most that starting, or ending after the last frame, may take on a busy machine.
const MOMENT: Duration = Duration::from_secs(30);

/// A server, and what its peers must be told: address and hash.
fn server(folder: &Path) -> (Process, String, String) {
    let settings = folder.join("server.toml");
    std::fs::write(&settings, format!("{ENDPOINT}{EARLY_VERDICTS}")).unwrap();
    let mut server = Process::start(folder, "server", SERVER, &["--config", settings.to_str().unwrap()]);
    let address = server.line("listening on ");
    let hash = server.line("certificate for development, pin it: ");
    (server, address, hash)
}

/// `key=value` in the last line of a log that has it.
fn field(log: &str, key: &str) -> String {
    let start =
        log.rfind(&format!("{key}=")).unwrap_or_else(|| panic!("no {key}= in\n{log}")) + key.len() + 1;
    log[start..].split_whitespace().next().unwrap().trim_matches('"').to_owned()
}

#[test]
fn viewers_early_twice_and_late_hold_the_same_weights() {
    const FRAMES: u32 = 225;
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    common::clip(&folder.join("clip.mp4"), SIZE, FRAMES, FPS);
    let (mut server, address, hash) = server(folder);
    let viewer = |name: &str, more: &[&str]| {
        let to = ["--server", &address, "--pin", &hash, "--name", "cam", "--headless", "--device", "cpu"];
        Process::start(folder, name, VIEWER, &[&to, more].concat())
    };

    let mut first = viewer(
        "first",
        &["--every-frame", "--record", "sr.mp4", "--record-raw", "lr.mp4", "--stats", "stats.jsonl"],
    );
    let mut second = viewer("second", &["--every-frame", "--y4m", "second.y4m"]);
    // Time to connect and wait for a stream that is not there.
    std::thread::sleep(Duration::from_millis(500));
    let to = ["--server", &address, "--pin", &hash, "--name", "cam", "--input", "clip.mp4"];
    let mut sender = Process::start(
        folder,
        "sender",
        SENDER,
        &[&to[..], &["--scale", "2", "--video-kbps", "1500"]].concat(),
    );
    first.logged("stream found", MOMENT);
    let begun = Instant::now();
    first.logged("version=2 ", MOMENT);
    // A late viewer begins with the newest group: the second one opens after four seconds.
    std::thread::sleep(Duration::from_millis(5000).saturating_sub(begun.elapsed()));
    let mut late = viewer("late", &["--record-raw", "late.mp4"]);

    sender.end_cleanly(MOMENT);
    for process in [&mut first, &mut second, &mut late] {
        process.end_cleanly(MOMENT);
    }
    server.interrupt();
    assert_eq!(server.end(MOMENT), 0, "{}", server.stderr());

    let log = first.stderr();
    let ended = |key: &str| field(&log, key);
    assert_eq!((ended("frames"), ended("dropped")), (FRAMES.to_string(), "0".to_owned()), "{log}");
    assert!(ended("version").parse::<u64>().unwrap() >= 2, "{log}");
    assert_eq!(ended("weights").len(), 32);
    for other in [second.stderr(), late.stderr()] {
        assert_eq!(field(&other, "weights"), ended("weights"), "{log}\n{other}");
        assert_eq!(field(&other, "version"), ended("version"));
    }

    let (size, times) = common::read(&folder.join("sr.mp4"));
    assert_eq!((size, times.len()), (SIZE, FRAMES as usize));
    let (size, raw_times) = common::read(&folder.join("lr.mp4"));
    assert_eq!((size, raw_times.len()), ((SIZE.0 / 2, SIZE.1 / 2), FRAMES as usize));
    assert_eq!(times, raw_times);
    let (size, late_times) = common::read(&folder.join("late.mp4"));
    assert_eq!(size, (SIZE.0 / 2, SIZE.1 / 2));
    assert!(!late_times.is_empty() && late_times.len() < FRAMES as usize, "{}", late_times.len());
    // YUV4MPEG2: a line, then "FRAME\n" and 4:2:0 planes for each frame.
    let y4m = std::fs::read(folder.join("second.y4m")).unwrap();
    let head = y4m.iter().position(|&byte| byte == b'\n').unwrap() + 1;
    assert!(y4m.starts_with(b"YUV4MPEG2 W256 H144 F25000:1000 "));
    assert_eq!(y4m.len() - head, FRAMES as usize * (6 + (SIZE.0 * SIZE.1) as usize * 3 / 2));
}

#[test]
fn a_viewer_that_waits_and_a_sender_that_loops_end_by_ctrl_c() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    common::clip(&folder.join("clip.mp4"), (192, 108), 10, FPS);
    let (mut server, address, hash) = server(folder);
    let to = ["--server", &address, "--pin", &hash];

    let mut waiting =
        Process::start(folder, "waiting", VIEWER, &[&to[..], &["--headless", "--name", "none"]].concat());
    let mut looping = Process::start(
        folder,
        "looping",
        SENDER,
        &[&to[..], &["--name", "loop", "--input", "clip.mp4", "--scale", "2", "--loop"]].concat(),
    );
    let more = ["--headless", "--name", "loop", "--device", "cpu", "--record", "sr.mp4"];
    let mut viewer = Process::start(folder, "viewer", VIEWER, &[&to[..], &more].concat());
    // More of it than the clip is long: it has begun again.
    viewer.logged("stream found", MOMENT);
    std::thread::sleep(Duration::from_secs(1));

    waiting.interrupt();
    assert_eq!(waiting.end(MOMENT), 1);
    assert!(waiting.stderr().contains("error: stopped before stream `none` began"), "{}", waiting.stderr());
    looping.interrupt();
    looping.end_cleanly(MOMENT);
    // The end of the stream is the end of its viewer.
    viewer.end_cleanly(MOMENT);
    let (size, times) = common::read(&folder.join("sr.mp4"));
    assert!(size == (192, 108) && times.len() > 10, "{size:?}, {} frames", times.len());
    server.interrupt();
    assert_eq!(server.end(MOMENT), 0, "{}", server.stderr());
}

#[test]
fn a_viewer_whose_file_or_device_fails_says_so_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    common::clip(&folder.join("clip.mp4"), (192, 108), 10, FPS);
    let (_server, address, hash) = server(folder);
    let to = ["--server", &address, "--pin", &hash];
    // The sender goes on: it is not the end of the stream that ends the viewer.
    let _sender = Process::start(
        folder,
        "sender",
        SENDER,
        &[&to[..], &["--input", "clip.mp4", "--scale", "2", "--loop"]].concat(),
    );
    let more = ["--headless", "--device", "cpu", "--record", "no/such/folder/sr.mp4"];
    let mut viewer = Process::start(folder, "viewer", VIEWER, &[&to[..], &more].concat());
    assert_eq!(viewer.end(MOMENT), 1);
    let log = viewer.stderr();
    assert!(log.contains("error: cannot write no/such/folder/sr.mp4: "), "{log}");
    assert!(!log.contains("panicked"), "{log}");
}
