//! The opponent that others would take: x264 as it is used for live video, at full resolution, with the same bits.

use std::fs::File;
use std::io::{Read, Write};
use std::process::Stdio;
use std::sync::mpsc;

use anyhow::{Context, Result, anyhow, ensure};
use hone_media::source::Source;

use super::ffmpeg::{self, Ffmpeg};
use crate::plain::{self, FRAMES_AHEAD, Judge, for_each_frame};
use crate::sender::Plan;

/// A miss of the bits that is not worth another trial.
const CLOSE: f64 = 0.01;
/// Trials at most.
const TRIALS: usize = 4;
/// A trial changes the rate by so many times at most.
const STEP_MAX: f64 = 2.0;

/// Codes the first `frames` frames of what `open` gives with x264 (veryfast, zerolatency, keyframes as the stream has
/// them, one thread) at the rate that spends `bytes`. Returns the bytes that it did spend.
///
/// # Errors
/// What the source, ffmpeg or the decoder say.
pub fn run<'a>(
    ffmpeg: &Ffmpeg,
    open: impl Fn() -> Result<Box<dyn Source + 'a>>,
    plan: &Plan,
    frames: usize,
    bytes: u64,
    judge: &mut Judge,
) -> Result<u64> {
    let wanted = bytes as f64;
    let mut kbps = wanted / 125.0 / (frames as f64 / plan.fps);
    let mut best: Option<(f64, Vec<u8>)> = None;
    for _ in 0..TRIALS {
        let stream = code(ffmpeg, &open, plan, frames, kbps)?;
        let miss = stream.len() as f64 / wanted;
        let off = (miss - 1.0).abs();
        if best.as_ref().is_none_or(|(least, _)| off < *least) {
            best = Some((off, stream));
        }
        if off < CLOSE {
            break;
        }
        kbps = (kbps / miss.clamp(1.0 / STEP_MAX, STEP_MAX)).max(1.0);
    }
    let (_, stream) = best.context("x264 was not tried")?;
    let units = access_units(&stream);
    ensure!(units.len() == frames, "x264 made {} pictures of {frames} frames", units.len());
    std::thread::scope(|scope| {
        let (coded, inbox) = mpsc::sync_channel(FRAMES_AHEAD);
        let measuring = scope.spawn(|| plain::show(inbox, judge));
        let mut units = units.into_iter();
        let sent = for_each_frame(&open, plan, frames, |frame| {
            let unit = units.next().context("x264 made too few pictures")?;
            coded.send((unit.to_vec(), frame)).context("measuring has ended")
        });
        drop(coded);
        let bytes = measuring.join().map_err(|_| anyhow!("measuring x264 failed"))??;
        sent.map(|()| bytes)
    })
}

/// The Annex B stream at a rate.
fn code<'a>(
    ffmpeg: &Ffmpeg,
    open: &impl Fn() -> Result<Box<dyn Source + 'a>>,
    plan: &Plan,
    frames: usize,
    kbps: f64,
) -> Result<Vec<u8>> {
    let mut log: File = tempfile::tempfile().context("no file for what ffmpeg writes")?;
    let gop = plan.encode(plan.hr, kbps).gop_frames.to_string();
    let mut child = ffmpeg.start(plan.hr, plan.fps, &log, Stdio::piped(), |command| {
        command.args(["-c:v", "libx264", "-preset", "veryfast", "-tune", "zerolatency", "-threads", "1"]);
        command.args(["-g", &gop, "-keyint_min", &gop, "-sc_threshold", "0"]);
        command.args(["-b:v", &format!("{:.0}", kbps * 1e3), "-f", "h264", "-"]);
    })?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let (mut stdin, mut stdout) =
        (stdin.context("ffmpeg takes no input")?, stdout.context("ffmpeg gives no output")?);
    let (fed, read) = std::thread::scope(|scope| {
        let reading = scope.spawn(move || {
            let mut stream = vec![];
            stdout.read_to_end(&mut stream).map(|_| stream)
        });
        let fed = for_each_frame(open, plan, frames, |frame| {
            let planes = [frame.image.y(), frame.image.u(), frame.image.v()];
            planes.iter().try_for_each(|plane| stdin.write_all(plane)).context("ffmpeg has ended early")
        });
        drop(stdin);
        (fed, reading.join())
    });
    // Why it ended says more than that it did.
    ffmpeg::end(child, &mut log)?;
    fed?;
    Ok(read.map_err(|_| anyhow!("reading from ffmpeg failed"))??)
}

/// Cuts an Annex B stream behind each slice: with one thread, x264 makes one a picture.
fn access_units(stream: &[u8]) -> Vec<&[u8]> {
    let starts: Vec<usize> =
        (0..stream.len().saturating_sub(3)).filter(|&i| stream[i..i + 3] == [0, 0, 1]).collect();
    let mut units = vec![];
    let mut begin = 0;
    for (n, &start) in starts.iter().enumerate() {
        let kind = stream[start + 3] & 0x1f;
        if kind == 1 || kind == 5 {
            let end = starts.get(n + 1).map_or(stream.len(), |&next| {
                // A start code may have a zero more.
                if stream[next - 1] == 0 { next - 1 } else { next }
            });
            units.push(&stream[begin..end]);
            begin = end;
        }
    }
    units
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_units_end_behind_their_slice() {
        let stream = [0, 0, 0, 1, 0x67, 9, 0, 0, 1, 0x65, 1, 2, 0, 0, 0, 1, 0x41, 3, 0, 0, 1, 0x41, 4];
        let units = access_units(&stream);
        assert_eq!(units, [&stream[..12], &stream[12..18], &stream[18..]]);
        assert!(access_units(&[0, 0]).is_empty());
    }
}
