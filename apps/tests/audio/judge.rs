//! What is made for the tests, and how a recording is judged.

use std::path::Path;
use std::process::Command;

use hone_media::source::{Mp4Source, Source};

use crate::audio::heard;
use crate::common::ffmpeg;

/// How far sound may be from its picture, in seconds.
pub const STEP_S: f64 = 0.040;

/// Whether this machine has what the tests need.
pub fn tools() -> bool {
    ffmpeg::have("ffmpeg") && ffmpeg::have("ffprobe")
}

/// Six seconds with flashes and bursts over a floor of noise, so that no two packets are equal.
pub fn clip(coding: &str, path: &Path) {
    let video = "color=black:s=256x144:r=25:d=6,drawbox=color=white:t=fill:enable='lt(mod(t\\,1)\\,0.2)'";
    let sound = "aevalsrc=(0.01+0.4*lt(mod(t\\,1)\\,0.2))*(random(0)-0.5):s=48000:d=6";
    let rest = format!("-c:v libx264 -pix_fmt yuv420p -g 25 {coding} -ac 1 -b:a 48k");
    ffmpeg::ffmpeg(&format!("-f lavfi -i {video} -f lavfi -i {sound} {rest}"), path);
}

/// When the picture turns white, and black, in seconds of the file.
pub fn turns(path: &Path) -> Vec<(f64, bool)> {
    let mut source = Mp4Source::open(path).unwrap();
    let (mut turns, mut last) = (vec![], None);
    while let Some(frame) = source.next_frame().unwrap() {
        let luma = frame.image.y();
        let mean = luma.iter().map(|v| u64::from(*v)).sum::<u64>() / luma.len() as u64;
        let white = mean > 128;
        if last.replace(white).is_some_and(|last| last != white) {
            turns.push((frame.pts_us as f64 * 1e-6, white));
        }
    }
    turns
}

/// When each flash begins, in seconds of the file.
fn flashes(path: &Path) -> Vec<f64> {
    turns(path).into_iter().filter_map(|(at, white)| white.then_some(at)).collect()
}

/// When each burst begins, as ffmpeg hears it.
pub fn bursts(path: &Path) -> Vec<f64> {
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
pub fn in_step(path: &Path) -> usize {
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
pub fn untouched(path: &Path, source: &[(i64, Vec<u8>)], rounds: bool) -> usize {
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
pub fn extent(path: &Path) -> [(f64, f64); 2] {
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
