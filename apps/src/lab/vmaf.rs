//! VMAF, by an ffmpeg with libvmaf: all contenders of a frame go through one pipe, stacked below the camera's picture.

use std::fs::File;
use std::io::Write;
use std::process::{Child, Stdio};

use anyhow::{Context, Result};
use serde::Deserialize;
use tempfile::TempDir;

use super::ffmpeg::{self, Ffmpeg};

/// It looks at one frame in so many: it is slow.
const EVERY: usize = 4;

/// A measurement under way.
pub struct Vmaf {
    child: Child,
    log: File,
    folder: TempDir,
    contenders: usize,
    /// Chroma, which VMAF does not look at.
    grey: Vec<u8>,
}

#[derive(Deserialize)]
struct Log {
    frames: Vec<LogFrame>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogFrame {
    frame_num: usize,
    metrics: Metrics,
}

#[derive(Deserialize)]
struct Metrics {
    vmaf: f64,
}

impl Vmaf {
    /// Starts it for pictures of this size.
    ///
    /// # Errors
    /// If it does not run.
    pub fn start(ffmpeg: &Ffmpeg, (width, height): (u32, u32), fps: f64, contenders: usize) -> Result<Self> {
        let folder = tempfile::tempdir().context("no folder for what ffmpeg writes")?;
        let log = File::options().read(true).append(true).create_new(true).open(folder.path().join("log"))?;
        let labels = |name: &str, n: usize| (0..n).map(|i| format!("[{name}{i}]")).collect::<String>();
        let mut graph = format!(
            "[0:v]split={}{}[truth];[truth]crop={width}:{height}:0:0,split={contenders}{}",
            contenders + 1,
            labels("in", contenders),
            labels("ref", contenders)
        );
        for i in 0..contenders {
            let y = height as usize * (i + 1);
            graph += &format!(
                ";[in{i}]crop={width}:{height}:0:{y}[cut{i}];\
                 [cut{i}][ref{i}]libvmaf=log_fmt=json:log_path={i}.json:n_threads=1:n_subsample={EVERY}[out{i}]"
            );
        }
        let stacked = (width, height * (contenders as u32 + 1));
        let child = ffmpeg.start(stacked, fps, &log, Stdio::null(), |command| {
            command.current_dir(folder.path()).args(["-filter_complex", &graph]);
            for i in 0..contenders {
                command.args(["-map", &format!("[out{i}]"), "-f", "null", "-"]);
            }
        })?;
        let grey = vec![128; (stacked.0 * stacked.1 / 2) as usize];
        Ok(Self { child, log, folder, contenders, grey })
    }

    /// The next frame: (H, W) luma of the camera and of each contender.
    ///
    /// # Errors
    /// If ffmpeg has ended.
    pub fn push(&mut self, truth: &[u8], shown: &[&[u8]]) -> Result<()> {
        let stdin = self.child.stdin.as_mut().context("ffmpeg takes no input")?;
        let planes = [truth].into_iter().chain(shown.iter().copied()).chain([self.grey.as_slice()]);
        let mut planes = planes.map(|plane| stdin.write_all(plane));
        planes.try_for_each(|written| written).context("ffmpeg with libvmaf has ended early")
    }

    /// (frame, VMAF) of each contender.
    ///
    /// # Errors
    /// What ffmpeg says.
    pub fn finish(mut self) -> Result<Vec<Vec<(usize, f64)>>> {
        ffmpeg::end(self.child, &mut self.log)?;
        let read = |i: usize| -> Result<Vec<(usize, f64)>> {
            let text = std::fs::read(self.folder.path().join(format!("{i}.json")))?;
            let log: Log = serde_json::from_slice(&text).context("what libvmaf writes")?;
            Ok(log.frames.into_iter().map(|frame| (frame.frame_num, frame.metrics.vmaf)).collect())
        };
        (0..self.contenders).map(read).collect()
    }
}
