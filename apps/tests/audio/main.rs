//! Audio from a source through a server into a viewer's recordings, as processes: untouched, and in step with the
//! pictures. Each second of the sources begins with a white flash and a burst of noise.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

#[path = "../../../media/tests/common/audio.rs"]
mod audio;
mod bad;
#[path = "../common/mod.rs"]
mod common;
mod judge;
#[path = "../../../media/tests/common/rtsp.rs"]
mod rtsp;
mod stage;

use std::time::Duration;

use audio::heard;
use hone_media::source::{Mp4Source, Source};
use hone_transport::link::{self, Link};
use judge::{STEP_S, bursts, clip, extent, in_step, tools, turns, untouched};
use rtsp::{Camera, have_camera};
use stage::{MOMENT, Stage};

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

/// A picture that turns to its negative every 50 frames, and a tick each second: both count from the start of the
/// pipeline.
fn camera() -> Camera {
    let video = |size: &str| {
        format!(
            "videotestsrc is-live=true pattern=ball flip=true ! video/x-raw,format=I420,{size},framerate=25/1 ! \
             x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15 ! rtph264pay name=pay0 pt=96"
        )
    };
    let (small, large) = (video("width=320,height=180"), video("width=640,height=360"));
    let sound = "audiotestsrc is-live=true wave=ticks volume=0.9 ! audio/x-raw,rate=44100,channels=1";
    let g711 =
        "audiotestsrc is-live=true ! audio/x-raw,rate=8000,channels=1 ! alawenc ! rtppcmapay name=pay1";
    Camera::start(&[
        &format!("/cam=( {small} {sound} ! avenc_aac ! rtpmp4gpay name=pay1 pt=97 )"),
        &format!("/main=( {large} )"),
        &format!("/g711=( {small} {g711} )"),
    ])
}

#[test]
fn a_cameras_audio_is_in_step_with_its_pictures() {
    if !have_camera() || !tools() {
        return;
    }
    let camera = camera();
    let address = |path: &str| format!("rtsp://127.0.0.1:{}/{path}", camera.port);
    let (stage, cam, main) = (Stage::new(), address("cam"), address("main"));
    // Coded anew, and as it is.
    let coded = ["--input", &cam, "--keyframe-interval", "1"];
    let relayed = ["--input", &main, "--sub-stream", &cam, "--scale", "2"];
    for (name, source) in [("coded.mp4", &coded[..]), ("relayed.mp4", &relayed)] {
        let mut viewer = stage.view("viewer", &["--record-raw", name]);
        let mut sender = stage.send(&stage.address, source);
        viewer.logged("recording", MOMENT);
        // Past the first sender reports.
        std::thread::sleep(Duration::from_secs(9));
        sender.interrupt();
        assert_eq!(sender.end(MOMENT), 0, "{}", sender.stderr());
        viewer.end_cleanly(MOMENT);
        let path = stage.path(name);
        let packets = heard(&path);
        let steps: Vec<i64> = packets.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
        let even = steps.iter().filter(|step| (**step - 23_220).abs() < 50).count();
        assert!(even * 10 > steps.len() * 9 && even > 200, "{name}: {even} of {} steps", steps.len());
        let bursts = bursts(&path);
        let mut turns: Vec<f64> = turns(&path).into_iter().map(|(at, _)| at).collect();
        turns.retain(|turn| bursts.first() < Some(turn) && Some(turn) < bursts.last());
        assert!(turns.len() >= 2 && bursts.len() >= 5, "{name}: {turns:?} {bursts:?}");
        for turn in turns {
            let off = bursts.iter().map(|burst| (burst - turn).abs()).fold(f64::MAX, f64::min);
            assert!(off <= STEP_S, "{name}: a tick is {off} s from the picture at {turn} s: {bursts:?}");
        }
    }
    // What we do not carry is named, and the pictures come.
    let g711 = address("g711");
    let mut viewer = stage.view("viewer", &["--record-raw", "mute.mp4"]);
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
