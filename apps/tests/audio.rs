//! Audio from a source through a server into a viewer's recordings, as processes: untouched, and in step with the
//! pictures. Each second of the sources begins with a white flash and a burst of noise.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

#[path = "../../media/tests/common/audio.rs"]
mod audio;
mod common;
#[path = "../../media/tests/common/rtsp.rs"]
mod rtsp;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use audio::{Heard, heard};
use common::{Process, ffmpeg};
use hone_media::source::{Mp4Source, Source};
use hone_transport::link::{self, Link};
use rtsp::{Camera, have_camera};

const SERVER: &str = env!("CARGO_BIN_EXE_hone-server");
const SENDER: &str = env!("CARGO_BIN_EXE_hone-sender");
const VIEWER: &str = env!("CARGO_BIN_EXE_hone-viewer");
/// The most that starting, or ending after the last frame, may take on a busy machine.
const MOMENT: Duration = Duration::from_secs(60);
/// How far sound may be from its picture.
const STEP_S: f64 = 0.040;
const SETTINGS: &str = r#"
[endpoint]
bind = "127.0.0.1:0"
certificate = "dev"

[trainer]
backend = "cpu"
blocks = 1
features = 8
"#;

fn tools() -> bool {
    ffmpeg::have("ffmpeg") && ffmpeg::have("ffprobe")
}

/// Six seconds with flashes and bursts over a floor of noise, so that no two packets are equal.
fn clip(coding: &str, path: &Path) {
    let video = "color=black:s=256x144:r=25:d=6,drawbox=color=white:t=fill:enable='lt(mod(t\\,1)\\,0.2)'";
    let sound = "aevalsrc=(0.01+0.4*lt(mod(t\\,1)\\,0.2))*(random(0)-0.5):s=48000:d=6";
    let rest = format!("-c:v libx264 -pix_fmt yuv420p -g 25 {coding} -ac 1 -b:a 48k");
    ffmpeg::ffmpeg(&format!("-f lavfi -i {video} -f lavfi -i {sound} {rest}"), path);
}

/// When each flash begins, in seconds of the file.
fn flashes(path: &Path) -> Vec<f64> {
    let mut source = Mp4Source::open(path).unwrap();
    let (mut begins, mut white) = (vec![], true);
    while let Some(frame) = source.next_frame().unwrap() {
        let luma = frame.image.y();
        let mean = luma.iter().map(|v| u64::from(*v)).sum::<u64>() / luma.len() as u64;
        if mean > 128 && !white {
            begins.push(frame.pts_us as f64 * 1e-6);
        }
        white = mean > 128;
    }
    begins
}

/// When each burst begins, as ffmpeg hears it.
fn bursts(path: &Path) -> Vec<f64> {
    const RATE: usize = 48_000;
    const WINDOW: usize = RATE / 500;
    // What is missing in between is silent, so that the rest stays where it is.
    let heard =
        ["-map", "0:a:0", "-af", "aresample=48000:async=1:first_pts=0", "-ac", "1", "-f", "s16le", "-"];
    let ran = Command::new("ffmpeg").args(["-v", "error", "-i"]).arg(path).args(heard).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let samples: Vec<f64> =
        ran.stdout.as_chunks::<2>().0.iter().map(|pair| f64::from(i16::from_le_bytes(*pair))).collect();
    let (mut begins, mut quiet) = (vec![], 0);
    for (index, window) in samples.chunks(WINDOW).enumerate() {
        let loud = window.iter().map(|v| v * v).sum::<f64>() / window.len() as f64 > 800.0 * 800.0;
        // Loud after a tenth of a second without.
        if loud && quiet > 50 {
            begins.push((index * WINDOW) as f64 / RATE as f64);
        }
        quiet = if loud { 0 } else { quiet + 1 };
    }
    begins
}

/// The flashes of a recording have their bursts; gives how many.
fn in_step(path: &Path) -> usize {
    let (flashes, bursts) = (flashes(path), bursts(path));
    let mut pairs = 0;
    for flash in &flashes {
        let Some(burst) = bursts.iter().min_by(|a, b| (*a - flash).abs().total_cmp(&(*b - flash).abs()))
        else {
            continue;
        };
        // Where one of both is lost, the next is a second away.
        if (burst - flash).abs() < 0.5 {
            pairs += 1;
            let what = format!("{}: a burst at {burst} s for a flash at {flash} s", path.display());
            assert!((burst - flash).abs() <= STEP_S, "{what}; {flashes:?} {bursts:?}");
        }
    }
    pairs
}

/// The recorded packets are the source's, byte for byte, one after the other but for gaps; gives how many. `rounds`
/// is whether the source was looped.
fn untouched(path: &Path, source: &Heard, rounds: bool) -> usize {
    let recorded = heard(path);
    let mut at = None;
    for (index, (_, data)) in recorded.iter().enumerate() {
        let found = source.iter().position(|(_, have)| have == data);
        let found = found.unwrap_or_else(|| panic!("{}: packet {index} is not the source's", path.display()));
        assert!(
            rounds || at.is_none_or(|at| at < found),
            "{}: packet {index} is out of order",
            path.display()
        );
        at = Some(found);
    }
    recorded.len()
}

/// Start and duration of both tracks, in seconds.
fn extent(path: &Path) -> [(f64, f64); 2] {
    ["v:0", "a:0"].map(|stream| {
        let arguments = ["-v", "error", "-select_streams", stream, "-of", "csv=p=0", "-show_entries"];
        let ran = Command::new("ffprobe")
            .args(arguments)
            .arg("packet=pts_time,duration_time")
            .arg(path)
            .output()
            .unwrap();
        let text = String::from_utf8(ran.stdout).unwrap();
        let times: Vec<f64> = text.lines().filter_map(|line| line.split(',').next()?.parse().ok()).collect();
        let (first, last) = (times[0], times[times.len() - 1]);
        (first, last - first)
    })
}

/// A server, and who goes to it.
struct Stage {
    folder: tempfile::TempDir,
    server: Process,
    address: String,
    hash: String,
    http: String,
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("server.toml"), SETTINGS).unwrap();
        let arguments = ["--config", "server.toml", "--http", "127.0.0.1:0"];
        let mut server = Process::start(folder.path(), "server", SERVER, &arguments);
        let address = server.line("listening on ");
        let hash = server.line("certificate for development, pin it: ");
        let http = server.line("figures on http://").trim_end_matches("/metrics").to_owned();
        Self { folder, server, address, hash, http }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start(&self, name: &str, binary: &str, address: &str, more: &[&str]) -> Process {
        let to = ["--server", address, "--pin", &self.hash, "--name", "cam"];
        Process::start(self.folder.path(), name, binary, &[&to[..], more].concat())
    }

    fn view(&self, name: &str, files: &[&str]) -> Process {
        let more = [&["--headless", "--device", "cpu"][..], files].concat();
        self.start(name, VIEWER, &self.address, &more)
    }

    fn send(&self, address: &str, source: &[&str]) -> Process {
        self.start("sender", SENDER, address, source)
    }

    /// A figure of the server's.
    fn figure(&self, name: &str) -> Option<f64> {
        let mut stream = TcpStream::connect(&self.http).unwrap();
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: {}\r\n\r\n", self.http).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        hone_apps::top::parse(&text).get(name).copied()
    }

    fn end(mut self) -> (tempfile::TempDir, String) {
        self.server.interrupt();
        assert_eq!(self.server.end(MOMENT), 0, "{}", self.server.stderr());
        let log = self.server.stderr();
        (self.folder, log)
    }
}

#[test]
fn files_arrive_untouched_in_step_and_in_both_recordings() {
    if !tools() {
        return;
    }
    for coding in ["-c:a aac", "-c:a libopus"] {
        let stage = Stage::new();
        clip(coding, &stage.path("clip.mp4"));
        let source = heard(&stage.path("clip.mp4"));
        let mut viewer = stage.view("viewer", &["--record", "sr.mp4", "--record-raw", "lr.mp4"]);
        let mut sender = stage.send(&stage.address, &["--input", "clip.mp4", "--keyframe-interval", "1"]);
        sender.logged("sending", MOMENT);
        std::thread::sleep(Duration::from_secs(4));
        let audio = stage.figure("hone_track_bytes_total{stream=\"cam\",track=\"audio\"}").unwrap();
        assert!(audio > 5_000.0, "{coding}: {audio} bytes of audio");
        sender.end_cleanly(MOMENT);
        viewer.end_cleanly(MOMENT);
        for name in ["lr.mp4", "sr.mp4"] {
            let path = stage.path(name);
            let packets = untouched(&path, &source, false);
            let [(video_start, video), (audio_start, sound)] = extent(&path);
            assert!(video_start.abs() < 1e-6 && (0.0..0.1).contains(&audio_start), "{name}: {audio_start}");
            assert!(
                (video - sound).abs() < 0.15,
                "{coding}, {name}: {video} s of pictures, {sound} s of sound"
            );
            let pairs = in_step(&path);
            assert!(packets > 200 && pairs >= 4, "{coding}, {name}: {packets} packets, {pairs} pairs");
        }
        stage.end();
    }
}

#[test]
fn a_source_without_audio_and_one_that_keeps_it_announce_none() {
    if !tools() {
        return;
    }
    let stage = Stage::new();
    clip("-c:a aac", &stage.path("clip.mp4"));
    let mut viewer = stage.view("viewer", &["--record-raw", "lr.mp4"]);
    let mut sender = stage.send(&stage.address, &["--input", "clip.mp4", "--start", "3", "--no-audio"]);
    sender.end_cleanly(MOMENT);
    viewer.end_cleanly(MOMENT);
    assert!(Mp4Source::open(stage.path("lr.mp4")).unwrap().audio().is_none());
    // Audio is paid out of what the uplink may carry, and has to fit in.
    let mut sender = stage.send(&stage.address, &["--input", "clip.mp4", "--uplink-kbps", "40"]);
    assert_eq!(sender.end(MOMENT), 1);
    assert!(sender.stderr().contains("--no-audio"), "{}", sender.stderr());
    stage.end();
}

#[test]
fn a_late_viewer_soon_hears_and_a_killed_recording_plays() {
    if !tools() {
        return;
    }
    let stage = Stage::new();
    clip("-c:a aac", &stage.path("clip.mp4"));
    let source = heard(&stage.path("clip.mp4"));
    let send = ["--input", "clip.mp4", "--loop", "--keyframe-interval", "1"];
    let sender = stage.send(&stage.address, &send);
    std::thread::sleep(Duration::from_millis(4_300));
    // Across the seam of the loop.
    let mut viewer = stage.view("viewer", &["--record-raw", "late.mp4"]);
    viewer.logged("recording", MOMENT);
    std::thread::sleep(Duration::from_secs(6));
    viewer.signal("KILL");
    sender.interrupt();
    let path = stage.path("late.mp4");
    let packets = untouched(&path, &source, true);
    let [(video_start, _), (audio_start, _)] = extent(&path);
    // It begins with the newest group of each: a second of pictures, half a second of sound.
    assert!(video_start.abs() < 1e-6 && audio_start < 1.1, "sound begins at {audio_start} s");
    let pairs = in_step(&path);
    assert!(packets > 150 && pairs >= 3, "{packets} packets, {pairs} pairs");
    stage.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_was_cut_leaves_a_gap_and_nothing_out_of_step() {
    if !tools() {
        return;
    }
    let stage = Stage::new();
    clip("-c:a libopus", &stage.path("clip.mp4"));
    let source = heard(&stage.path("clip.mp4"));
    let link = Link::start(stage.address.parse().unwrap(), link::Config::default()).await.unwrap();
    let mut viewer = stage.view("viewer", &["--record-raw", "lr.mp4"]);
    let send = ["--input", "clip.mp4", "--loop", "--keyframe-interval", "1"];
    let mut sender = stage.send(&link.addr().to_string(), &send);
    viewer.logged("recording", MOMENT);
    let pause = |seconds| tokio::time::sleep(Duration::from_secs(seconds));
    pause(3).await;
    link.cut(true);
    tokio::task::block_in_place(|| sender.logged("link lost", MOMENT));
    pause(1).await;
    link.cut(false);
    tokio::task::block_in_place(|| sender.logged("link found again", MOMENT));
    pause(5).await;
    sender.interrupt();
    assert_eq!(sender.end(MOMENT), 0, "{}", sender.stderr());
    assert_eq!(viewer.end(MOMENT), 0, "{}", viewer.stderr());
    let path = stage.path("lr.mp4");
    let recorded = heard(&path);
    untouched(&path, &source, true);
    let gap = recorded.windows(2).map(|pair| pair[1].0 - pair[0].0).max().unwrap();
    assert!(gap > 1_000_000, "no outage in the recording: {gap} us at most");
    let pairs = in_step(&path);
    assert!(pairs >= 4, "{pairs} pairs");
    let (_, log) = stage.end();
    assert!(log.contains("the sender is back"), "{log}");
}

#[test]
fn a_cameras_audio_is_in_step_with_its_pictures() {
    if !have_camera() || !tools() {
        return;
    }
    // The ball's picture turns to its negative each second, and each second there is a tick, both by the pipeline's
    // clock.
    let camera = Camera::start(&[
        "/cam=( videotestsrc is-live=true pattern=ball animation-mode=running-time flip=true ! \
         video/x-raw,format=I420,width=320,height=180,framerate=30/1 ! \
         x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15 ! rtph264pay name=pay0 pt=96 \
         audiotestsrc is-live=true wave=ticks volume=0.9 ! audio/x-raw,rate=44100,channels=1 ! \
         avenc_aac ! rtpmp4gpay name=pay1 pt=97 )",
        "/g711=( videotestsrc is-live=true ! video/x-raw,format=I420,width=320,height=180,framerate=30/1 ! \
         x264enc tune=zerolatency key-int-max=15 ! rtph264pay name=pay0 pt=96 \
         audiotestsrc is-live=true ! audio/x-raw,rate=8000,channels=1 ! alawenc ! rtppcmapay name=pay1 )",
    ]);
    let address = |path: &str| format!("rtsp://127.0.0.1:{}/{path}", camera.port);
    let (stage, cam) = (Stage::new(), address("cam"));
    let mut viewer = stage.view("viewer", &["--record-raw", "lr.mp4"]);
    let mut sender = stage.send(&stage.address, &["--input", &cam, "--keyframe-interval", "1"]);
    viewer.logged("recording", MOMENT);
    // Past the first sender reports.
    std::thread::sleep(Duration::from_secs(9));
    sender.interrupt();
    assert_eq!(sender.end(MOMENT), 0, "{}", sender.stderr());
    viewer.end_cleanly(MOMENT);
    let path = stage.path("lr.mp4");
    let packets = heard(&path);
    let steps: Vec<i64> = packets.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    let even = steps.iter().filter(|step| (**step - 23_220).abs() < 50).count();
    assert!(even * 10 > steps.len() * 9 && even > 200, "{even} of {} steps are of one frame", steps.len());
    // White after black and black after white.
    let mut turns = flashes(&path);
    let bursts = bursts(&path);
    turns.retain(|turn| bursts.first() < Some(turn) && Some(turn) < bursts.last());
    assert!(turns.len() >= 2 && bursts.len() >= 5, "{turns:?} {bursts:?}");
    for turn in turns {
        let off = bursts.iter().map(|burst| (burst - turn).abs()).fold(f64::MAX, f64::min);
        assert!(off <= STEP_S, "a tick is {off} s from the picture at {turn} s: {bursts:?}");
    }

    // What we do not carry is named, and the pictures come.
    let g711 = address("g711");
    let mut viewer = stage.view("other", &["--record-raw", "mute.mp4"]);
    let mut sender = stage.send(&stage.address, &["--input", &g711]);
    viewer.logged("recording", MOMENT);
    std::thread::sleep(Duration::from_secs(2));
    sender.interrupt();
    assert_eq!(sender.end(MOMENT), 0, "{}", sender.stderr());
    viewer.end_cleanly(MOMENT);
    assert!(sender.stderr().contains("PCMA") && sender.stderr().contains("left out"), "{}", sender.stderr());
    assert!(Mp4Source::open(stage.path("mute.mp4")).unwrap().audio().is_none());
    stage.end();
}
