//! A server's own cameras while nobody watches them.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod common;
#[path = "../../media/tests/common/rtsp.rs"]
mod rtsp;

use std::time::Duration;

use common::Process;
use rtsp::{Camera, have_camera};

const SERVER: &str = env!("CARGO_BIN_EXE_hone-server");
const VIEWER: &str = env!("CARGO_BIN_EXE_hone-viewer");
/// The most that one step may take on a busy machine.
const MOMENT: Duration = Duration::from_secs(60);

#[test]
fn a_camera_that_nobody_watches_is_not_decoded() {
    if !have_camera() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let camera = Camera::start(&["--twin", "640,360,320,180,15"]);
    let settings = format!(
        "[endpoint]\nbind = \"127.0.0.1:0\"\ncertificate = \"dev\"\n[streams]\non_demand = true\n\
         [trainer]\nbackend = \"cpu\"\nblocks = 1\nfeatures = 8\n\
         [[cameras]]\nname = \"cam\"\nmain = \"rtsp://127.0.0.1:{0}/main\"\nsub = \"rtsp://127.0.0.1:{0}/sub\"\n",
        camera.port
    );
    std::fs::write(folder.join("server.toml"), settings).unwrap();
    let mut server = Process::start(folder, "server", SERVER, &["--config", "server.toml"]);
    let address = server.line("listening on ");
    let hash = server.line("certificate for development, pin it: ");
    server.logged("the encoder rests", MOMENT);
    // 90 pictures or so pass by.
    std::thread::sleep(Duration::from_secs(6));
    let to = ["--server", &address, "--pin", &hash, "--name", "cam", "--headless", "--device", "cpu"];
    let mut viewer =
        Process::start(folder, "viewer", VIEWER, &[&to[..], &["--record-raw", "lr.mp4"]].concat());
    viewer.logged("stream found", MOMENT);
    std::thread::sleep(Duration::from_secs(4));
    server.interrupt();
    assert_eq!(server.end(MOMENT), 0, "{}", server.stderr());
    viewer.end_cleanly(MOMENT);
    assert!(common::read(&folder.join("lr.mp4")).1.len() > 15, "{}", viewer.stderr());
    let log = server.stderr();
    let last = log.lines().rfind(|line| line.contains("stream ended") && line.contains("counts"));
    let last = last.unwrap_or_else(|| panic!("{log}"));
    let number = |key: &str| -> u64 {
        let rest = last.split_once(key).unwrap_or_else(|| panic!("no {key} in {last}")).1;
        rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
    };
    assert!(number("passed_by=") > 60, "{last}");
    assert!(number("decoded=") <= number("frames="), "{last}");
}
