//! A second harness for links: the kernel's own. Server and viewer in one network namespace, the camera in another, a
//! cable with a rate between them that is pulled, and an address that changes. Needs root and `ip`; the links of
//! `links.rs` need neither.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod common;

use std::process::{Command, Stdio};
use std::time::Duration;

use common::Process;

const SERVER: &str = env!("CARGO_BIN_EXE_hone-server");
const SENDER: &str = env!("CARGO_BIN_EXE_hone-sender");
const VIEWER: &str = env!("CARGO_BIN_EXE_hone-viewer");
const MOMENT: Duration = Duration::from_secs(60);

/// Two namespaces and the cable between them; both are gone when this is dropped.
struct Net {
    server: String,
    camera: String,
}

/// Whether it worked.
fn ip(arguments: &[&str]) -> bool {
    let quiet = || Stdio::null();
    let status = Command::new("ip").args(arguments).stdout(quiet()).stderr(quiet()).status();
    status.is_ok_and(|status| status.success())
}

impl Net {
    /// None where the machine does not let us.
    fn new(kbps: u32) -> Option<Self> {
        let name = |end: &str| format!("hone-{}-{end}", std::process::id());
        let net = Self { server: name("server"), camera: name("camera") };
        let (server, camera) = (net.server.as_str(), net.camera.as_str());
        let made = ip(&["netns", "add", server])
            && ip(&["netns", "add", camera])
            && ip(&[
                "link", "add", "cable", "netns", server, "type", "veth", "peer", "name", "cable", "netns",
                camera,
            ]);
        let rate = format!("{kbps}kbit");
        let ready = made
            && [(server, "10.99.0.1/24"), (camera, "10.99.0.2/24")].iter().all(|(side, address)| {
                let queue = [
                    "qdisc", "add", "dev", "cable", "root", "tbf", "rate", &rate, "burst", "8kb", "latency",
                    "400ms",
                ];
                ip(&["-n", side, "link", "set", "lo", "up"])
                    && ip(&["-n", side, "addr", "add", address, "dev", "cable"])
                    && ip(&["-n", side, "link", "set", "cable", "up"])
                    && ip(&[&["netns", "exec", side, "tc"][..], &queue[..]].concat())
            });
        ready.then_some(net)
    }

    fn start(&self, side: &str, folder: &std::path::Path, name: &str, program: &[&str]) -> Process {
        Process::start(folder, name, "ip", &[&["netns", "exec", side][..], program].concat())
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        ip(&["netns", "del", &self.server]);
        ip(&["netns", "del", &self.camera]);
    }
}

#[test]
fn a_pulled_cable_and_a_new_address_cost_no_more_than_their_time() {
    let Some(net) = Net::new(1_000) else {
        eprintln!("SKIPPED: no network namespaces: they take root, and ip and tc of iproute2");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    // The kernel's bundles of packets are larger than the queue lets through at once.
    let settings = "[endpoint]\nbind = \"10.99.0.1:0\"\ncertificate = \"dev_anywhere\"\nallow_anonymous = true\ngso = false\n\
                    [trainer]\nbackend = \"cpu\"\nblocks = 1\nfeatures = 8\n";
    std::fs::write(path.join("server.toml"), settings).unwrap();
    std::fs::write(path.join("sender.toml"), "[endpoint]\ngso = false\n").unwrap();
    let mut server = net.start(&net.server, path, "server", &[SERVER, "--config", "server.toml"]);
    let address = server.line("listening on ");
    let hash = server.line("certificate for development, pin it: ");
    let to = ["--server", &address, "--pin", &hash];
    let more = ["--headless", "--device", "cpu", "--record-raw", "lr.mp4"];
    let mut viewer = net.start(&net.server, path, "viewer", &[&[VIEWER][..], &to, &more].concat());
    let source =
        ["--config", "sender.toml", "--input", "test:320x192@30", "--scale", "2", "--uplink-kbps", "400"];
    let mut sender = net.start(&net.camera, path, "sender", &[&[SENDER][..], &to, &source].concat());
    viewer.logged("stream found", MOMENT);
    std::thread::sleep(Duration::from_secs(3));

    assert!(ip(&["-n", &net.camera, "link", "set", "cable", "down"]));
    sender.logged("link lost", MOMENT);
    std::thread::sleep(Duration::from_secs(2));
    assert!(ip(&["-n", &net.camera, "link", "set", "cable", "up"]));
    sender.logged("link found again", MOMENT);
    std::thread::sleep(Duration::from_secs(3));

    assert!(ip(&["-n", &net.camera, "addr", "del", "10.99.0.2/24", "dev", "cable"]));
    assert!(ip(&["-n", &net.camera, "addr", "add", "10.99.0.3/24", "dev", "cable"]));
    std::thread::sleep(Duration::from_secs(8));

    sender.interrupt();
    assert_eq!(sender.end(MOMENT), 0, "{}", sender.stderr());
    viewer.end_cleanly(MOMENT);
    server.interrupt();
    assert_eq!(server.end(MOMENT), 0, "{}", server.stderr());
    assert_eq!(viewer.stderr().matches("stream found").count(), 1, "{}", viewer.stderr());
    let (size, times) = common::read(&path.join("lr.mp4"));
    assert_eq!(size, (160, 96));
    let gaps: Vec<i64> =
        times.windows(2).map(|pair| (pair[1] - pair[0]) / 1_000).filter(|ms| *ms > 500).collect();
    let shown_ms = (times[times.len() - 1] - times[0]) / 1_000;
    // 3 + 2 + 3 s of silence until the link is given up, and 8 s: whatever the machine does in between.
    assert!(shown_ms > 12_000, "{shown_ms} ms; {}", sender.stderr());
    assert!((1..=3).contains(&gaps.len()), "gaps of {gaps:?} ms; {}", sender.stderr());
}
