//! Each process is killed at random moments; the others recover, recordings play, no model file is torn.
//!
//! A few runs by default; `cargo xtask kill-test --runs 100` for many.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use common::{EARLY_VERDICTS, Process};
use hone_model::rng::Rng;

const SERVER: &str = env!("CARGO_BIN_EXE_hone-server");
const SENDER: &str = env!("CARGO_BIN_EXE_hone-sender");
const VIEWER: &str = env!("CARGO_BIN_EXE_hone-viewer");

/// What a process may take to begin, or to be back, on a busy machine.
const MOMENT: Duration = Duration::from_secs(40);

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

/// Frames that a viewer has shown, by its statistics.
fn frames(folder: &Path, stats: &str) -> u64 {
    let text = std::fs::read_to_string(folder.join(stats)).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let last = whole.lines().next_back().unwrap_or("{}");
    serde_json::from_str::<serde_json::Value>(last).unwrap()["frames"].as_u64().unwrap_or(0)
}

/// Waits until a viewer has shown frames that it had not.
fn goes_on(viewer: &mut Process, folder: &Path, stats: &str, what: &str) {
    let before = frames(folder, stats);
    viewer.wait_for(what, MOMENT, |_| (frames(folder, stats) > before + 5).then_some(()));
}

/// Every recording plays up to its last fragment; every model file is whole.
fn all_is_whole(folder: &Path, recordings: &[String]) {
    for file in recordings {
        // Killed within its first fragment, a recording is empty.
        if std::fs::metadata(folder.join(file)).is_ok_and(|file| file.len() > 4096) {
            let (_, times) = common::read(&folder.join(file));
            assert!(!times.is_empty(), "{file}");
        }
    }
    let models = std::fs::read_dir(folder.join("models")).into_iter().flatten();
    for model in models {
        let name = model.unwrap().file_name().into_string().unwrap();
        assert!(!name.contains("corrupt"), "{name} was torn");
    }
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
    let mut recordings = vec![record];
    let mut slowest = Duration::ZERO;
    for run in 0..runs {
        goes_on(&mut viewer, folder, &stats, "video before the kill");
        std::thread::sleep(Duration::from_secs_f64(1.5 * rng.unit()));
        let killed = Instant::now();
        let victim = ["server", "sender", "viewer"][run % 3];
        match victim {
            "server" => {
                drop(server);
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
                recordings.push(record);
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
    all_is_whole(folder, &recordings);
    println!("{runs} kills, slowest recovery {slowest:?}, {} recordings play", recordings.len());
}
