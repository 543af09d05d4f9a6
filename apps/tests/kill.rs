//! Each process is killed at random moments; the others recover, recordings play, no model file is torn.
//!
//! A few runs by default; `cargo xtask kill-test --runs 100` for many.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod common;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use common::{EARLY_VERDICTS, Process};
use hone_apps::server::models::Models;
use hone_media::source::Mp4Source;
use hone_model::rng::Rng;

const SERVER: &str = env!("CARGO_BIN_EXE_hone-server");
const SENDER: &str = env!("CARGO_BIN_EXE_hone-sender");
const VIEWER: &str = env!("CARGO_BIN_EXE_hone-viewer");

/// What a process may take to begin, or to be back, on a busy machine.
const MOMENT: Duration = Duration::from_secs(40);
/// What a server takes to save what it has learned of a stream.
const SAVES_IN: Duration = Duration::from_secs(15);
/// Frames of the stream that a kill may take from a recording: the GOP that was being written. After what looks like a
/// cut one is up to twice as long as the 12 or 13 frames that half a second asks for.
const GOP_FRAMES_MAX: u64 = 26;

/// The three, with a certificate that outlives the server.
struct Trio<'a> {
    folder: &'a Path,
    /// Processes begun so far: each has files of its own.
    begun: u32,
    port: u16,
    pin: String,
}

impl Trio<'_> {
    fn start(&mut self, name: &str, binary: &str, arguments: &[&str]) -> Process {
        self.begun += 1;
        Process::start(self.folder, &format!("{name}-{}", self.begun), binary, arguments)
    }

    fn server(&mut self) -> Process {
        let config = format!(
            "[endpoint]\nbind = \"127.0.0.1:{}\"\ncertificate = {{ files = {{ cert = \"cert.pem\", key = \"key.pem\" }} }}\n\
             [operation]\nmodels = \"models\"\n{EARLY_VERDICTS}",
            self.port
        );
        std::fs::write(self.folder.join("server.toml"), config).unwrap();
        let mut server = self.start("server", SERVER, &["--config", "server.toml"]);
        server.line("listening on ");
        server
    }

    fn sender(&mut self) -> Process {
        let (server, pin) = (format!("127.0.0.1:{}", self.port), self.pin.clone());
        let input =
            ["--input", "test:256x144@25", "--scale", "2", "--bitrate", "500", "--keyframe-interval", "0.5"];
        self.start(
            "sender",
            SENDER,
            &[&["--server", &server, "--pin", &pin, "--name", "cam"], &input[..]].concat(),
        )
    }

    /// A viewer, and the file that it records.
    fn viewer(&mut self) -> (Process, String, String) {
        let (server, pin) = (format!("127.0.0.1:{}", self.port), self.pin.clone());
        let (record, stats) = (format!("lr-{}.mp4", self.begun), format!("stats-{}.jsonl", self.begun));
        let to = ["--server", &server, "--pin", &pin, "--name", "cam", "--headless", "--device", "cpu"];
        let out = ["--record-raw", &record, "--stats", &stats];
        (self.start("viewer", VIEWER, &[&to[..], &out].concat()), record, stats)
    }
}

/// Frames that a viewer has shown, by the last whole line of its statistics.
fn shown(folder: &Path, stats: &str) -> u64 {
    let text = std::fs::read_to_string(folder.join(stats)).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let last = whole.lines().next_back().unwrap_or("{}");
    serde_json::from_str::<serde_json::Value>(last).unwrap()["frames"].as_u64().unwrap_or(0)
}

/// Waits until a server that began at `begun` has saved a model. Whether it has, in that time.
fn has_saved(folder: &Path, begun: SystemTime, limit: Duration) -> bool {
    let start = Instant::now();
    let saved = || {
        let files = std::fs::read_dir(folder.join("models")).into_iter().flatten().flatten();
        let mut models = files.filter(|file| file.path().extension().is_some_and(|end| end == "hnl"));
        models.any(|model| model.metadata().and_then(|file| file.modified()).is_ok_and(|time| time >= begun))
    };
    while !saved() && start.elapsed() < limit {
        std::thread::sleep(Duration::from_millis(20));
    }
    saved()
}

/// Waits until a viewer has shown frames that it had not.
fn goes_on(viewer: &mut Process, folder: &Path, stats: &str, what: &str) {
    let before = shown(folder, stats);
    viewer.wait_for(what, MOMENT, |_| (shown(folder, stats) > before + 5).then_some(()));
}

/// A recording plays up to its last fragment: it holds all that its viewer had shown, but for the GOP that the kill cut.
fn plays(folder: &Path, record: &str, stats: &str) {
    let stem = record.strip_suffix(".mp4").unwrap();
    let parts = (1..).map(|part| match part {
        1 => folder.join(record),
        part => folder.join(format!("{stem}-{part}.mp4")),
    });
    // Killed within its first GOP, a recording is empty.
    let frames = |part: PathBuf| Mp4Source::open(&part).map_or(0, |_| common::read(&part).1.len());
    let recorded: usize = parts.take_while(|part| part.exists()).map(frames).sum();
    let shown = shown(folder, stats);
    assert!(
        recorded as u64 + GOP_FRAMES_MAX >= shown,
        "{record}: {recorded} frames of {shown} that were shown"
    );
}

/// Every saved model is whole, as the server reads them. How many there are.
fn models(folder: &Path) -> usize {
    let folder = folder.join("models");
    let models = Models::open(&folder, usize::MAX).unwrap();
    let files =
        std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let files: Vec<String> = files.collect();
    for name in &files {
        let parts: Vec<&str> = name.split('.').collect();
        let ["cam", arch, "hnl"] = parts[..] else { panic!("{name} is no saved model of this stream") };
        assert!(models.load("cam", arch.parse().unwrap()).is_some(), "{name} was torn");
    }
    files.len()
}

#[test]
fn whoever_is_killed_the_others_recover() {
    let runs =
        std::env::var("HONE_KILL_RUNS").map_or(3, |runs| runs.parse().expect("HONE_KILL_RUNS is a number"));
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let key = rcgen::KeyPair::generate().unwrap();
    let cert = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap().self_signed(&key).unwrap();
    std::fs::write(folder.join("cert.pem"), cert.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
    let pin = {
        use sha2::Digest;
        hone_transport::hex(&sha2::Sha256::digest(cert.der()).into())
    };
    // Free now; the server binds it again after each death.
    let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut trio = Trio { folder, begun: 0, port, pin };
    let mut rng = Rng::new(5);
    let mut server = trio.server();
    let mut sender = trio.sender();
    let (mut viewer, record, mut stats) = trio.viewer();
    let mut recordings = vec![(record, stats.clone())];
    let (mut begun, mut saves) = (SystemTime::now(), 0);
    let mut slowest = Duration::ZERO;
    for run in 0..runs {
        goes_on(&mut viewer, folder, &stats, "video before the kill");
        std::thread::sleep(Duration::from_secs_f64(1.5 * rng.unit()));
        let mut killed = Instant::now();
        let victim = ["server", "sender", "viewer"][run % 3];
        match victim {
            "server" => {
                // What was learned is saved every ten seconds, longer than a server lives here: every other one is let do so.
                // The first has to; a later one may have learned nothing better than what it found.
                if run % 6 == 0 {
                    let limit = if run == 0 { MOMENT } else { SAVES_IN };
                    saves += u32::from(has_saved(folder, begun, limit));
                    assert!(saves > 0, "nothing is saved: {}", server.stderr());
                    std::thread::sleep(Duration::from_secs_f64(rng.unit()));
                    killed = Instant::now();
                }
                drop(server);
                // As it lies there, before the next one looks.
                assert_eq!(models(folder), 1);
                begun = SystemTime::now();
                server = trio.server();
            }
            "sender" => {
                drop(sender);
                sender = trio.sender();
            }
            _ => {
                drop(viewer);
                let (next, record, next_stats) = trio.viewer();
                (viewer, stats) = (next, next_stats);
                recordings.push((record, stats.clone()));
            }
        }
        goes_on(&mut viewer, folder, &stats, &format!("video after the {victim} was killed, run {run}"));
        slowest = slowest.max(killed.elapsed());
    }
    for process in [&viewer, &sender] {
        process.interrupt();
    }
    assert_eq!(viewer.end(MOMENT), 0, "{}", viewer.stderr());
    assert_eq!(sender.end(MOMENT), 0, "{}", sender.stderr());
    server.interrupt();
    assert_eq!(server.end(MOMENT), 0, "{}", server.stderr());
    for (record, stats) in &recordings {
        plays(folder, record, stats);
    }
    assert_eq!(models(folder), 1);
    let recordings = recordings.len();
    println!(
        "{runs} kills, slowest recovery {slowest:?}, {recordings} recordings play, {saves} servers had saved a model"
    );
}
