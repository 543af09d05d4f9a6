//! `hone lab` as a process: the same twice, bits that add up, sweeps that go on, bad input.

#![cfg(feature = "lab")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod common;

use std::path::Path;
use std::time::Duration;

use common::Process;
use hone_media::encode::{self, Encoder};
use hone_media::frame::{Colour, I420};
use hone_media::record::{self, Recorder};
use serde_json::Value;

const HONE: &str = env!("CARGO_BIN_EXE_hone");
const LIMIT: Duration = Duration::from_secs(120);
/// A small network that trains fast: a clip of 2 s sees some versions.
const SMALL: [&str; 10] =
    ["--scale", "2", "--blocks", "1", "--features", "8", "--steps-per-second", "100", "--batch", "4"];

fn lab(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Process {
    Process::start_with(folder, "lab", HONE, &[&["lab"], arguments].concat(), environment)
}

/// Runs it to its end; its report, without what differs from run to run.
fn report(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let mut process =
        lab(folder, &[&SMALL, arguments, &["--json", "-", "--no-machine"]].concat(), environment);
    assert_eq!(process.end(LIMIT), 0, "{arguments:?}:\n{}", process.stderr());
    assert!(!process.stderr().contains("panicked"), "{}", process.stderr());
    process.stdout()
}

fn parse(report: &str) -> Value {
    serde_json::from_str(report).unwrap()
}

fn number(value: &Value, path: &str) -> f64 {
    value.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("{path} is no number in {value:#}"))
}

fn block<'a>(report: &'a Value, name: &str) -> &'a Value {
    let blocks = report["contenders"].as_array().unwrap();
    blocks.iter().find(|block| block["name"] == name).unwrap_or_else(|| panic!("no {name} in {report:#}"))
}

/// Writes a clip of any pictures, 25 a second.
fn clip(path: &Path, (width, height): (u32, u32), frames: u32, picture: impl Fn(u32) -> I420) {
    let mut encoder = Encoder::new(&encode::Config::new(width, height, 25.0, 4000)).unwrap();
    let config = record::Config { width, height, fps: 25.0, colour: Colour::guess(height) };
    let mut recorder = Recorder::create(path, config).unwrap();
    for index in 0..frames {
        let packet = encoder.encode(&picture(index), i64::from(index) * 40_000, false).unwrap();
        recorder.write(&packet).unwrap();
    }
    recorder.finish().unwrap();
}

#[test]
fn the_same_again_and_with_other_threads() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    // It moves now and then: a view that changes all the time teaches nothing that lasts.
    clip(&folder.join("clip.mp4"), (256, 144), 50, |index| common::picture(256, 144, index / 10, 0));
    let arguments = ["--input", "clip.mp4", "--total-kbps", "600", "--seconds", "6", "--sample-every-s", "2"];
    let first = report(folder, &arguments, &[("RAYON_NUM_THREADS", "2")]);
    for threads in ["2", "1", "5"] {
        let again = report(folder, &arguments, &[("RAYON_NUM_THREADS", threads)]);
        assert_eq!(first, again, "{threads} threads");
    }
    let other = report(folder, &[&arguments[..], &["--seed", "2"]].concat(), &[]);
    assert_ne!(parse(&first)["gain_db"], parse(&other)["gain_db"], "another seed draws other patches");

    let report = parse(&first);
    assert_eq!((number(&report, "/frames"), number(&report, "/schema")), (150.0, 1.0));
    assert!(number(&report, "/model/versions") >= 1.0, "{report:#}");
    // As many steps as the trainer's speed allows once there are patches, and no more.
    let steps = number(&report, "/training_steps");
    assert!(steps > 50.0 && steps <= 600.0, "{steps} steps");
    let hone = block(&report, "hone");
    let (video, patches) = (number(&report, "/uplink_kbps/video"), number(&report, "/uplink_kbps/patches"));
    assert!(patches > 0.0);
    assert!((number(hone, "/total_kbps") - video - patches).abs() < 1e-6);
    assert!((number(block(&report, "bicubic"), "/total_kbps") - video).abs() < 1e-6);
    let plain = number(block(&report, "plain_openh264"), "/total_kbps");
    // A picture that mostly stands still may be coded as well as can be with fewer.
    assert!(plain > 0.0 && plain < 1.1 * number(hone, "/total_kbps"), "{plain} kbit/s of plain H.264");
    for name in ["bicubic", "plain_openh264"] {
        let lead = number(hone, "/psnr_y_db") - number(block(&report, name), "/psnr_y_db");
        assert!((number(block(&report, name), "/lead/all_db") - lead).abs() < 1e-6);
        assert!((-1e3..=100.0).contains(&number(block(&report, name), "/ssimulacra2")));
    }
    assert!((number(&report, "/gain_db") - number(block(&report, "bicubic"), "/lead/all_db")).abs() < 1e-9);
    let frames = report["scenes"].as_array().unwrap().iter().map(|scene| number(scene, "/frames"));
    assert_eq!(frames.sum::<f64>(), 150.0);
    assert!(number(&report, "/latency_ms/p50") >= 40.0, "both delays at least");
}

#[test]
fn x264_and_vmaf_where_there_is_an_ffmpeg() {
    if !common::ffmpeg::have("ffmpeg") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    common::clip(&folder.join("clip.mp4"), (192, 108), 50, 25.0);
    let arguments = ["--input", "clip.mp4", "--total-kbps", "200", "--without", "openh264,ssimulacra2"];
    let report = parse(&report(folder, &[&arguments[..], &["--html", "run.html"]].concat(), &[]));
    let x264 = block(&report, "plain_x264");
    let kbps = number(block(&report, "hone"), "/total_kbps");
    assert!((number(x264, "/total_kbps") / kbps - 1.0).abs() < 0.1, "{x264:#} against {kbps}");
    assert!((10.0..60.0).contains(&number(x264, "/psnr_y_db")));
    assert!(report["contenders"].as_array().unwrap().iter().all(|block| block["name"] != "plain_openh264"));
    let page = std::fs::read_to_string(folder.join("run.html")).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.contains("<polyline") && !page.contains("\"http"));
    if block(&report, "hone")["vmaf"].is_null() {
        eprintln!("SKIPPED: VMAF: this ffmpeg has no libvmaf");
    } else {
        assert!((0.0..=100.0).contains(&number(x264, "/vmaf")));
    }
}

#[test]
fn patches_that_teach_nothing_leave_their_bits_to_the_video() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    clip(&folder.join("clip.mp4"), (256, 144), 50, |index| common::picture(256, 144, index / 10, 0));
    let run = |seconds: &str| {
        let arguments =
            ["--input", "clip.mp4", "--scale", "2", "--blocks", "1", "--features", "8", "--fps", "5"];
        let more = ["--steps-per-second", "0", "--total-kbps", "60", "--seconds", seconds];
        let without = ["--without", "openh264,x264,ssimulacra2,vmaf", "--json", "-"];
        let mut process = lab(folder, &[&arguments[..], &more, &without].concat(), &[]);
        assert_eq!(process.end(LIMIT), 0, "{}", process.stderr());
        let report = parse(&process.stdout());
        let hone = block(&report, "hone");
        (
            number(&report, "/patch_share_warm"),
            number(&report, "/uplink_kbps/video"),
            number(hone, "/total_kbps"),
        )
    };
    // A new scene is given 30 s; in the second half of a minute 10 of 30 are for trying again.
    let [begun, warm] = ["20", "60"].map(run);
    assert!(begun.0 > 0.045, "{begun:?}");
    assert!((0.005..0.7 * begun.0).contains(&warm.0), "{warm:?} after {begun:?}");
    assert!((warm.2 / begun.2 - 1.0).abs() < 0.1, "{warm:?} after {begun:?}");
}

#[test]
fn a_sender_that_learns_pays_for_its_updates_and_sends_no_patches() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    clip(&folder.join("clip.mp4"), (256, 144), 50, |index| common::picture(256, 144, index / 10, 0));
    let arguments = ["--input", "clip.mp4", "--total-kbps", "600", "--seconds", "12", "--train-at", "sender"];
    let without = ["--without", "openh264,x264,ssimulacra2,vmaf"];
    let report = parse(&report(folder, &[&arguments[..], &without].concat(), &[]));
    let [video, patches, model] =
        ["video", "patches", "model"].map(|part| number(&report, &format!("/uplink_kbps/{part}")));
    assert_eq!(patches, 0.0);
    // The last one may still be under way.
    let down = number(&report, "/downlink_kbps/model");
    assert!(down > 1.0 && down <= model, "{model} up, {down} down");
    let hone = block(&report, "hone");
    let total = number(hone, "/total_kbps");
    assert!((total - video - model).abs() < 1e-6 && total < 1.1 * 600.0, "{video} + {model} of {total}");
    let lead = block(&report, "bicubic");
    assert!(number(lead, "/lead/last_quarter_db") > 0.1, "{lead:#}");
}

#[test]
fn a_trace_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    common::clip(&folder.join("clip.mp4"), (192, 108), 50, 25.0);
    std::fs::write(folder.join("trace"), "0 400\n2 150 # a tunnel\n").unwrap();
    let arguments = ["--input", "clip.mp4", "--seconds", "6", "--without", "openh264,x264,ssimulacra2,vmaf"];
    let run = |more: &[&str]| parse(&report(folder, &[&arguments[..], more].concat(), &[]));
    let traced = run(&["--trace", "trace"]);
    // 2 s of 400 and 4 s of 150 kbit/s.
    let kbps = number(block(&traced, "hone"), "/total_kbps");
    assert!((150.0..330.0).contains(&kbps), "{kbps} kbit/s over a trace of 233");
    let (slow, fast) = (run(&["--total-kbps", "150"]), run(&["--total-kbps", "400"]));
    let bits = |report: &Value| number(block(report, "hone"), "/total_kbps");
    assert!(bits(&slow) < kbps && kbps < bits(&fast), "{} {kbps} {}", bits(&slow), bits(&fast));
}

#[test]
fn no_loss_where_there_is_nothing_to_gain() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let size = (192, 108);
    clip(&folder.join("black.mp4"), size, 75, |_| I420::new(size.0, size.1).unwrap());
    // Each frame another scene, dark and bright in turn.
    clip(&folder.join("cuts.mp4"), size, 75, |index| {
        let mut image = common::picture(size.0, size.1, 17 * index, index);
        let shift = if index % 2 == 0 { 40 } else { 0 };
        image.y_mut().iter_mut().for_each(|v| *v = (*v / 2 + shift + (index * 37 % 60) as u8).max(16));
        image
    });
    // The base model of 8x16, which is surer of itself, is worse on one of the 75 frames, and not in the mean.
    for (name, net, worst_db, worse_frames) in [
        ("black.mp4", ["4", "16"], -0.1, 0.0),
        ("cuts.mp4", ["4", "16"], -0.1, 0.0),
        ("black.mp4", ["8", "16"], -0.1, 0.0),
        ("cuts.mp4", ["8", "16"], -0.15, 1.0),
        ("black.mp4", ["1", "8"], -0.1, 0.0),
        ("cuts.mp4", ["1", "8"], -0.1, 0.0),
    ] {
        // With a base model, a larger one, and without one.
        let arguments = [
            "--input",
            name,
            "--total-kbps",
            "100",
            "--scale",
            "2",
            "--blocks",
            net[0],
            "--features",
            net[1],
        ];
        let tail = ["--without", "openh264,x264,ssimulacra2,vmaf", "--json", "-"];
        let mut process = lab(folder, &[&arguments[..], &tail].concat(), &[]);
        assert_eq!(process.end(LIMIT), 0, "{name}:\n{}", process.stderr());
        let report = parse(&process.stdout());
        let lead = &block(&report, "bicubic")["lead"];
        assert!(number(lead, "/all_db") >= 0.0, "{name} {net:?}: {lead:#}");
        assert!(number(lead, "/worst_frame_db") >= worst_db, "{name} {net:?}: {lead:#}");
        assert!(number(lead, "/share_worse") * 75.0 < worse_frames + 0.5, "{name} {net:?}: {lead:#}");
    }
}

#[test]
fn a_clip_of_one_frame_and_one_cut_short() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    common::clip(&folder.join("one.mp4"), (192, 108), 1, 25.0);
    let run = parse(&report(folder, &["--input", "one.mp4"], &[]));
    assert_eq!(number(&run, "/frames"), 1.0);
    assert_eq!(number(&run, "/gain_db"), 0.0);
    common::clip(&folder.join("whole.mp4"), (192, 108), 50, 25.0);
    let whole = std::fs::read(folder.join("whole.mp4")).unwrap();
    for share in [1, 3, 6, 9] {
        std::fs::write(folder.join("short.mp4"), &whole[..whole.len() * share / 10]).unwrap();
        let arguments = ["--input", "short.mp4", "--without", "openh264,x264,ssimulacra2,vmaf"];
        let mut process = lab(folder, &[&SMALL[..], &arguments].concat(), &[]);
        let code = process.end(LIMIT);
        let text = process.stderr();
        assert!(!text.contains("panicked"), "{text}");
        let errors =
            text.lines().filter(|line| line.starts_with("error: ") && line.contains("short.mp4")).count();
        assert!(code == 0 || (code == 1 && errors == 1), "exit code {code}:\n{text}");
    }
}

#[test]
fn bad_wishes_are_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("trace"), "0 600\n5 fast\n").unwrap();
    std::fs::write(
        folder.join("matrix.toml"),
        "clips = ['none.mp4']\ntotal_kbps = [300]\nscale = ['auto']\n",
    )
    .unwrap();
    std::fs::write(folder.join("typo.toml"), "clips = ['bundled']\ntotal_kbps = [300]\nscales = ['auto']\n")
        .unwrap();
    for (arguments, words) in [
        (&["--input", "none.mp4"][..], &["none.mp4", "no such file"][..]),
        (&["--trace", "trace"], &["trace", "line 2"]),
        (&["--trace", "none"], &["none"]),
        (&["--total-kbps", "1"], &["--total-kbps 1"]),
        (&["--total-kbps", "NaN"], &["--total-kbps"]),
        (&["--scale", "5"], &["auto, 1, 2, 3 or 4"]),
        (&["--seconds", "0"], &["--seconds 0"]),
        (&["--features", "7"], &["7"]),
        (&["--hr-height", "2000"], &["--hr-height 2000"]),
        (&["--ffmpeg", "none"], &["--ffmpeg none"]),
        (&["--matrix", "none.toml"], &["none.toml"]),
        (&["--matrix", "matrix.toml"], &["matrix.toml", "none.mp4"]),
        (&["--matrix", "typo.toml"], &["typo.toml, line 3", "scales"]),
        (&["--results", "x"], &["--matrix"]),
    ] {
        let mut process = lab(folder, arguments, &[]);
        let code = process.end(LIMIT);
        let text = process.stderr();
        assert!(code == 1 || code == 2, "{arguments:?}: exit code {code}\n{text}");
        assert!(!text.contains("panicked"), "{arguments:?}:\n{text}");
        for word in words {
            assert!(text.contains(word), "{arguments:?}: no {word:?} in\n{text}");
        }
    }
}

#[test]
fn a_sweep_goes_on_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    common::clip(&folder.join("a.mp4"), (192, 108), 50, 25.0);
    common::clip(&folder.join("b.mp4"), (128, 96), 50, 25.0);
    let matrix = "clips = ['a.mp4', 'b.mp4']\ntotal_kbps = [100, 200]\nscale = [1, 2]\n\
                  [settings]\nseconds = 4\nblocks = 1\nfeatures = 8\nwithout = ['x264', 'ssimulacra2', 'vmaf']\n";
    std::fs::write(folder.join("sweep.toml"), matrix).unwrap();
    let results = folder.join("sweep.jsonl");
    let lines = || std::fs::read_to_string(&results).unwrap_or_default().lines().count();
    let mut process = lab(folder, &["--matrix", "sweep.toml"], &[]);
    process.wait_for("two cells", LIMIT, |_| (lines() >= 2).then_some(()));
    process.signal("KILL");
    drop(process);
    let before = std::fs::read_to_string(&results).unwrap();
    let done = before.lines().count();
    assert!((2..8).contains(&done), "{done} cells before the kill");
    // As if it had been killed while it wrote.
    std::fs::write(&results, format!("{before}{{\"key\":\"0123")).unwrap();
    let mut process = lab(folder, &["--matrix", "sweep.toml"], &[]);
    assert_eq!(process.end(LIMIT), 0, "{}", process.stderr());
    assert!(process.stderr().contains(&format!("{done} of 8 cells are done")), "{}", process.stderr());
    let after = std::fs::read_to_string(&results).unwrap();
    assert!(after.starts_with(&before), "what was done is kept as it was");
    let keys: Vec<Value> = after.lines().map(|line| parse(line)["key"].clone()).collect();
    let mut distinct: Vec<&str> = keys.iter().map(|key| key.as_str().unwrap()).collect();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!((keys.len(), distinct.len()), (8, 8));
    let table = process.stdout();
    assert!(table.contains("| default | 1 | 100 | 2 |") && table.contains("| a.mp4 | 200 |"), "{table}");
    // Nothing is left to do.
    let mut process = lab(folder, &["--matrix", "sweep.toml"], &[]);
    assert_eq!(process.end(LIMIT), 0, "{}", process.stderr());
    assert_eq!((process.stdout(), std::fs::read_to_string(&results).unwrap()), (table, after));
}

#[test]
fn ctrl_c_writes_what_was_done() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    common::clip(&folder.join("clip.mp4"), (192, 108), 25, 25.0);
    let arguments = ["--input", "clip.mp4", "--seconds", "36000", "--json", "run.json", "--html", "run.html"];
    let mut process = lab(folder, &[&SMALL[..], &arguments].concat(), &[]);
    process.logged(" steps", LIMIT);
    std::thread::sleep(Duration::from_millis(1500));
    process.interrupt();
    assert_eq!(process.end(Duration::from_secs(30)), 0, "{}", process.stderr());
    let report = parse(&std::fs::read_to_string(folder.join("run.json")).unwrap());
    assert_eq!(report["complete"], false);
    let frames = number(&report, "/frames");
    assert!(frames > 10.0, "{frames} frames");
    assert!(std::fs::read_to_string(folder.join("run.html")).unwrap().contains("stopped early"));
}
