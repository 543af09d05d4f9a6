//! The sender's sources, each through a server to a viewer, as processes: a test pattern, y4m on standard input, a
//! camera, a camera's two streams.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod common;
#[path = "../../media/tests/common/rtsp.rs"]
mod rtsp;

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use common::Process;
use rtsp::{Camera, have_camera};

const SERVER: &str = env!("CARGO_BIN_EXE_hone-server");
const SENDER: &str = env!("CARGO_BIN_EXE_hone-sender");
const VIEWER: &str = env!("CARGO_BIN_EXE_hone-viewer");
/// The most that starting, or ending after the last frame, may take on a busy machine.
const MOMENT: Duration = Duration::from_secs(60);
const SETTINGS: &str = r#"
[endpoint]
bind = "127.0.0.1:0"
certificate = "dev"

[trainer]
backend = "cpu"
blocks = 1
features = 8
"#;

/// A server, and a viewer that waits for the stream and records what comes.
struct Stage {
    folder: tempfile::TempDir,
    server: Process,
    viewer: Process,
    to: Vec<String>,
}

impl Stage {
    fn new() -> Self {
        Self::with("")
    }

    /// With more settings of the server.
    fn with(settings: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("server.toml"), format!("{SETTINGS}{settings}")).unwrap();
        let mut server = Process::start(folder.path(), "server", SERVER, &["--config", "server.toml"]);
        let address = server.line("listening on ");
        let hash = server.line("certificate for development, pin it: ");
        let to: Vec<String> =
            ["--server", &address, "--pin", &hash, "--name", "cam"].map(String::from).to_vec();
        let more = ["--headless", "--device", "cpu", "--record-raw", "lr.mp4"];
        let arguments: Vec<&str> = to.iter().map(String::as_str).chain(more).collect();
        let viewer = Process::start(folder.path(), "viewer", VIEWER, &arguments);
        Self { folder, server, viewer, to }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn arguments<'a>(&'a self, source: &[&'a str]) -> Vec<&'a str> {
        self.to.iter().map(String::as_str).chain(source.iter().copied()).collect()
    }

    /// Sends for some seconds after the viewer has found the stream; gives the sender's log, and size and times of what
    /// the viewer recorded.
    fn run(mut self, source: &[&str], seconds: u64) -> (Ended, (u32, u32), Vec<i64>) {
        let arguments = self.arguments(source);
        let mut sender =
            Process::start_with(self.path(), "sender", SENDER, &arguments, &[("HONE_LOG", "debug")]);
        self.viewer.logged("stream found", MOMENT);
        std::thread::sleep(Duration::from_secs(seconds));
        sender.interrupt();
        assert_eq!(sender.end(MOMENT), 0, "{}", sender.stderr());
        self.end(sender.stderr())
    }

    fn end(mut self, sender: String) -> (Ended, (u32, u32), Vec<i64>) {
        self.viewer.end_cleanly(MOMENT);
        self.server.interrupt();
        assert_eq!(self.server.end(MOMENT), 0, "{}", self.server.stderr());
        let (size, times) = common::read(&self.path().join("lr.mp4"));
        (Ended { sender, server: self.server.stderr() }, size, times)
    }
}

/// What was logged.
struct Ended {
    sender: String,
    server: String,
}

/// Whether frames are this far apart, but for those that a busy machine left out.
fn beat(times: &[i64], step_us: i64) {
    let steps: Vec<i64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let off = |step: &&i64| ((*step + step_us / 2) % step_us - step_us / 2).abs() > 50;
    assert!(!steps.iter().any(|step| off(&step)), "not all steps are multiples of {step_us} us: {steps:?}");
    let single = steps.iter().filter(|step| **step < step_us * 3 / 2).count();
    assert!(single >= 10, "few steps are {step_us} us: {steps:?}");
}

#[test]
fn a_test_pattern_goes_out_at_a_part_of_its_rate() {
    let source =
        ["--input", "test:256x144@30", "--fps", "15", "--bitrate", "600", "--keyframe-interval", "1"];
    let (_, size, times) = Stage::new().run(&source, 3);
    // There are bits enough for every pixel.
    assert_eq!(size, (256, 144));
    beat(&times, 66_667);
}

#[test]
fn y4m_is_taken_from_standard_input() {
    const FRAMES: u32 = 60;
    let stage = Stage::new();
    let mut y4m = b"YUV4MPEG2 W256 H144 F25:1 Ip A1:1 C420jpeg\n".to_vec();
    for index in 0..FRAMES {
        let image = common::picture(256, 144, index, 0);
        y4m.extend_from_slice(b"FRAME\n");
        [image.y(), image.u(), image.v()].iter().for_each(|plane| y4m.extend_from_slice(plane));
    }
    std::fs::write(stage.path().join("clip.y4m"), y4m).unwrap();
    let mut command = format!("cat clip.y4m | '{SENDER}' --scale 2 --input -");
    stage.to.iter().for_each(|argument| write!(command, " '{argument}'").unwrap());
    let mut sender = Process::start(stage.path(), "sender", "sh", &["-c", &command]);
    sender.end_cleanly(MOMENT);
    let log = sender.stderr();
    assert!(log.contains(&format!("frames={FRAMES} ")), "{log}");
    let (_, size, times) = stage.end(log);
    assert_eq!(size, (128, 72));
    beat(&times, 40_000);
}

#[test]
fn a_camera_is_sent_and_its_password_is_not_logged() {
    if !have_camera() {
        return;
    }
    let camera = Camera::start(&[
        "--user",
        "viewer:s3cret",
        "/cam=( videotestsrc is-live=true pattern=ball ! video/x-raw,format=I420,width=320,height=180,framerate=30/1 ! \
         x264enc bframes=2 speed-preset=veryfast key-int-max=30 ! rtph264pay name=pay0 pt=96 )",
    ]);
    let stage = Stage::new();
    std::fs::write(stage.path().join("password"), "s3cret\n").unwrap();
    let address = format!("rtsp://127.0.0.1:{}/cam?pass=s3cret", camera.port);
    let source =
        ["--input", &address, "--rtsp-user", "viewer", "--rtsp-password-file", "password", "--scale", "1"];
    let (ended, size, times) = stage.run(&source, 3);
    assert_eq!(size, (320, 180));
    beat(&times, 33_333);
    // As it is, and as HTTP writes it.
    for secret in ["s3cret", "dmlld2VyOnMzY3JldA"] {
        assert!(!ended.sender.contains(secret), "{}", ended.sender);
    }
}

#[test]
fn a_cameras_small_stream_is_relayed_and_learned_from_its_main_stream() {
    if !have_camera() {
        return;
    }
    let camera = Camera::start(&["--twin", "640,360,320,180,15"]);
    let address = |path: &str| format!("rtsp://127.0.0.1:{}/{path}", camera.port);
    let source = ["--input", &address("main"), "--sub-stream", &address("sub"), "--scale", "2"];
    let (ended, size, times) = Stage::new().run(&source, 12);
    assert_eq!(size, (320, 180));
    beat(&times, 66_667);
    let Ended { sender, server } = ended;
    let last =
        sender.lines().rfind(|line| line.contains("stream ended")).unwrap_or_else(|| panic!("{sender}"));
    let number = |key: &str| -> u64 {
        let rest = last.split_once(key).unwrap_or_else(|| panic!("no {key} in {last}")).1;
        rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
    };
    assert!(number("patches=") >= 6 && number("paired: ") >= 3, "{last}");
    assert_eq!(number("unlike: "), 0, "{last}");
    assert!(!server.contains("patch refused"), "{server}");
}

#[test]
fn a_camera_needs_no_sender_beside_the_server() {
    if !have_camera() {
        return;
    }
    let camera = Camera::start(&["--twin", "640,360,320,180,15"]);
    let mut stage = Stage::with(&format!(
        "[[cameras]]\nname = \"cam\"\nmain = \"rtsp://127.0.0.1:{0}/main\"\nsub = \"rtsp://127.0.0.1:{0}/sub\"\n\
         [[cameras]]\nname = \"gone\"\nmain = \"rtsp://127.0.0.1:1/\"\nsub = \"rtsp://127.0.0.1:1/\"\n",
        camera.port
    ));
    stage.viewer.logged("stream found", MOMENT);
    std::thread::sleep(Duration::from_secs(8));
    // Its cameras end with the server, and the viewers with them.
    stage.server.interrupt();
    assert_eq!(stage.server.end(MOMENT), 0, "{}", stage.server.stderr());
    stage.viewer.end_cleanly(MOMENT);
    let log = stage.server.stderr();
    assert!(log.contains("camera lost, tried again soon camera=\"gone\""), "{log}");
    let last = log.lines().rfind(|line| line.contains("stream ended") && line.contains("counts"));
    let last = last.unwrap_or_else(|| panic!("{log}"));
    assert!(!last.contains("patches=0 ") && !log.contains("patch refused"), "{last}");
    let (size, times) = common::read(&stage.path().join("lr.mp4"));
    assert_eq!(size, (320, 180));
    beat(&times, 66_667);
}
