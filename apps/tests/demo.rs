//! `hone demo` as a process: its files, its report, clips of every kind, and Ctrl-C.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod common;

use std::path::Path;
use std::time::Duration;

use common::Process;
use serde_json::Value;

const HONE: &str = env!("CARGO_BIN_EXE_hone");
/// The most that a run of two seconds of a tiny clip may take.
const LIMIT: Duration = Duration::from_secs(60);

fn demo(folder: &Path, arguments: &[&str]) -> Process {
    let small = ["demo", "--slowdown", "1", "--net", "1x8", "--trainer", "cpu", "--out", "out"];
    Process::start(folder, "demo", HONE, &[&small, arguments].concat())
}

/// Runs the demo to its end and gives its report.
fn report(folder: &Path, arguments: &[&str]) -> Value {
    let mut process = demo(folder, arguments);
    assert_eq!(process.end(LIMIT), 0, "{arguments:?}:\n{}", process.stderr());
    assert!(!process.stderr().contains("WARN"), "{arguments:?}:\n{}", process.stderr());
    serde_json::from_str(&std::fs::read_to_string(folder.join("out/report.json")).unwrap()).unwrap()
}

fn number(value: &Value, path: &str) -> f64 {
    value.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("{path} is no number in {value:#}"))
}

fn count(value: &Value, path: &str) -> u64 {
    value.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("{path} is no count in {value:#}"))
}

/// Checks what every complete run must give: all frames, at the sizes that it names.
fn complete(folder: &Path, report: &Value, lr: (u32, u32), hr: (u32, u32), frames: usize) {
    let size = |key: &str| {
        let side = |i| u32::try_from(count(report, &format!("/{key}/{i}"))).unwrap();
        (side(0), side(1))
    };
    assert_eq!((size("lr"), size("hr")), (lr, hr));
    assert_eq!(count(report, "/frames"), frames as u64, "{report:#}");
    assert_eq!(count(report, "/frames_dropped"), 0, "{report:#}");
    let (shown, times) = common::read(&folder.join("out/sr.mp4"));
    assert_eq!((shown, times.len()), (hr, frames));
    let (streamed, raw_times) = common::read(&folder.join("out/lr.mp4"));
    assert_eq!((streamed, raw_times), (lr, times));
    let rows = std::fs::read_to_string(folder.join("out/frames.jsonl")).unwrap();
    let rows: Vec<Value> = rows.lines().map(|row| serde_json::from_str(row).unwrap()).collect();
    let gains = rows.iter().map(|row| number(row, "/hone/psnr_y_db") - number(row, "/bicubic/psnr_y_db"));
    assert_eq!(rows.len(), frames);
    assert!((gains.sum::<f64>() / frames as f64 - number(report, "/gain_db")).abs() < 1e-9);
    let page = std::fs::read_to_string(folder.join("out/report.html")).unwrap();
    assert!(page.starts_with("<!doctype html>") && !page.contains("\"http"), "one file that needs no other");
}

#[test]
fn report_holds_every_field_and_the_recordings_every_frame() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    common::clip(&folder.join("tiny.mp4"), (256, 144), 30, 25.0);
    let input = ["--input", "tiny.mp4", "--seconds", "2", "--device", "cpu", "--scale", "2"];
    let report = report(folder, &[&input[..], &["--video-kbps", "400"]].concat());
    // The clip lasts 1.2 s: it is repeated.
    complete(folder, &report, (128, 72), (256, 144), 50);

    assert_eq!(count(&report, "/schema"), 1);
    assert_eq!(report["clip"], "tiny.mp4");
    assert_eq!(number(&report, "/fps"), 25.0);
    assert!((number(&report, "/duration_s") - 2.0).abs() < 1e-6);
    assert_eq!(report["arch"], "live-1x8-x2");
    for end in ["trainer", "viewer"] {
        assert_eq!(report["backends"][end], "cpu");
    }
    let (video, patches) = (number(&report, "/uplink_kbps/video"), number(&report, "/uplink_kbps/patches"));
    assert!(video > 200.0 && video < 800.0 && patches > 10.0 && patches < 200.0, "{video} + {patches}");
    assert_eq!(number(&report, "/downlink_kbps/video"), video);
    assert!(number(&report, "/downlink_kbps/model") >= 0.0);
    for contender in ["bicubic", "hone", "plain_h264"] {
        let value = |key: &str| number(&report, &format!("/quality/{contender}/{key}"));
        assert!((10.0..60.0).contains(&value("psnr_y_db")), "{report:#}");
        assert!((10.0..60.0).contains(&value("psnr_rgb_db")), "{report:#}");
        assert!((0.1..=1.0).contains(&value("ssim_y")), "{report:#}");
        assert!(value("total_kbps") > 0.0);
    }
    assert!((number(&report, "/quality/hone/total_kbps") - video - patches).abs() < 1e-6);
    let gain = number(&report, "/quality/hone/psnr_y_db") - number(&report, "/quality/bicubic/psnr_y_db");
    assert!((number(&report, "/gain_db") - gain).abs() < 1e-6);
    assert!(number(&report, "/gain_last_quarter_db").is_finite());
    assert!(count(&report, "/frames_worse_than_bicubic") <= 50);
    for key in ["seconds_to_half_db", "seconds_to_one_db"] {
        let value = report.get(key).unwrap_or_else(|| panic!("no {key}"));
        assert!(
            value.is_null() || value.as_f64().is_some_and(|s| (0.0..=2.0).contains(&s)),
            "{key}: {value}"
        );
    }
    let (median, most) = (number(&report, "/latency_ms/p50"), number(&report, "/latency_ms/p95"));
    assert!(0.0 < median && median <= most && most < 5000.0, "{median} {most}");
    let (versions, bytes) = (count(&report, "/model/versions"), count(&report, "/model/bytes"));
    assert_eq!(versions == 0, bytes == 0);
}

#[test]
fn other_scales_and_sizes() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    common::clip(&folder.join("clip.mp4"), (190, 106), 25, 25.0);
    // The rows and columns that no whole LR pixel covers are cut off.
    for (scale, lr, hr) in [
        ("1", (190, 106), (190, 106)),
        ("2", (94, 52), (188, 104)),
        ("3", (62, 34), (186, 102)),
        ("4", (46, 26), (184, 104)),
    ] {
        let arguments = ["--input", "clip.mp4", "--device", "cpu", "--video-kbps", "100", "--scale", scale];
        let report = report(folder, &arguments);
        complete(folder, &report, lr, hr, 25);
    }
    let arguments = ["--input", "clip.mp4", "--device", "cpu", "--scale", "2", "--lr-height", "36"];
    let report = report(folder, &arguments);
    complete(folder, &report, (64, 36), (128, 72), 25);
}

#[test]
fn a_clip_with_b_frames_sound_and_60_frames_a_second() {
    if !common::ffmpeg::have("ffmpeg") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    common::ffmpeg::ffmpeg(
        "-f lavfi -i testsrc2=size=192x108:rate=60:duration=1 -f lavfi -i sine=duration=1 \
         -c:v libx264 -pix_fmt yuv420p -bf 3 -b_strategy 0 -c:a aac",
        &folder.join("clip.mp4"),
    );
    let arguments = ["--input", "clip.mp4", "--device", "cpu", "--video-kbps", "200", "--scale", "2"];
    let report = report(folder, &arguments);
    complete(folder, &report, (96, 54), (192, 108), 60);
    assert!((number(&report, "/fps") - 60.0).abs() < 0.1);
}

#[test]
fn a_viewer_on_the_software_adapter() {
    let arch = hone_model::Arch::new(hone_model::Family::Live, 1, 8, 2).unwrap();
    let software = hone_runtime::Preference::Gpu { allow_software: true };
    if let Err(error) = hone_runtime::Upscaler::new(arch, &software.into()) {
        eprintln!("SKIPPED: {error}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    common::clip(&folder.join("clip.mp4"), (192, 108), 15, 25.0);
    let arguments =
        ["--input", "clip.mp4", "--device", "software-gpu", "--video-kbps", "100", "--scale", "2"];
    let report = report(folder, &arguments);
    complete(folder, &report, (96, 54), (192, 108), 15);
    assert_ne!(report["backends"]["viewer"], "cpu");
}

#[test]
fn ctrl_c_in_the_middle_ends_with_playable_recordings() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    common::clip(&folder.join("clip.mp4"), (192, 108), 25, 25.0);
    let arguments = ["--input", "clip.mp4", "--device", "cpu", "--scale", "2", "--seconds", "600"];
    let mut process = demo(folder, &arguments);
    process.logged("[", LIMIT);
    std::thread::sleep(Duration::from_millis(1500));
    process.interrupt();
    assert_eq!(process.end(Duration::from_secs(10)), 0, "{}", process.stderr());
    let (size, times) = common::read(&folder.join("out/sr.mp4"));
    assert!(size == (192, 108) && times.len() > 10, "{size:?}, {} frames", times.len());
    let (_, raw_times) = common::read(&folder.join("out/lr.mp4"));
    assert_eq!(times, raw_times);
    // The report covers what was shown.
    let report: Value =
        serde_json::from_str(&std::fs::read_to_string(folder.join("out/report.json")).unwrap()).unwrap();
    assert_eq!(count(&report, "/frames"), times.len() as u64);
    assert_eq!(count(&report, "/frames_dropped"), 0, "{report:#}");
}
