//! What the tests share: clips with detail to learn, and the binaries as processes that cannot outlive a test.

#![allow(dead_code, reason = "each test binary uses its own part")]

#[path = "../../../media/tests/common/ffmpeg.rs"]
pub mod ffmpeg;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hone_media::encode::{self, Encoder};
use hone_media::frame::{Colour, Frame, I420};
use hone_media::record::{self, Recorder};
use hone_media::source::{Mp4Source, Source};

/// A server's settings: a small network and early verdicts, so that a stream of seconds sees several versions.
pub const EARLY_VERDICTS: &str = r#"
[trainer]
backend = "cpu"
blocks = 1
features = 8

[trainer.learn]
batch = 4
pause_after = 1000
held_out_min = 2
evaluate_every_steps = 10
publish_gain_db = 0.01
publish_certainty = 0.0
"#;

/// A textured scene that moves: sharp shapes of several sizes, which a bicubic upscale blurs, and soft ones.
/// `index` is the frame; `scene` shifts to other shapes.
pub fn picture(width: u32, height: u32, index: u32, scene: u32) -> I420 {
    let mut image = I420::new(width, height).unwrap();
    let luma = |x: u32, y: u32| {
        let (x, y) = (x + 2 * index + 31 * scene, y + index);
        let (cx, cy) = (x / 12, y / 12);
        // A shape of its own in each cell: a bar, a ring or a slope.
        let cell = (cx * 7 + cy * 13 + scene * 5) % 5;
        let (dx, dy) = (x % 12, y % 12);
        let shape = match cell {
            0 => dx < 5,
            1 => dy < 5,
            2 => dx + dy < 12,
            3 => dx.abs_diff(6) + dy.abs_diff(6) < 6,
            _ => dx.abs_diff(6).max(dy.abs_diff(6)) < 4,
        };
        let soft = 20.0 * ((x as f32 * 0.05).sin() + (y as f32 * 0.037).cos());
        (if shape { 170.0 } else { 80.0 } + soft) as u8
    };
    for (i, v) in (0..).zip(image.y_mut()) {
        *v = luma(i % width, i / width);
    }
    let chroma = |x: u32, y: u32, phase: f32| {
        (128.0 + 30.0 * (((x + index) as f32 * 0.06 + phase).sin() + (y as f32 * 0.05).cos())) as u8
    };
    for (i, v) in (0..).zip(image.u_mut()) {
        *v = chroma(i % (width / 2), i / (width / 2), 0.0);
    }
    for (i, v) in (0..).zip(image.v_mut()) {
        *v = chroma(i % (width / 2), i / (width / 2), 1.5);
    }
    image
}

/// Frame `index` of a scene at `fps`.
pub fn frame(width: u32, height: u32, index: u32, scene: u32, fps: f64) -> Frame {
    let pts_us = (f64::from(index) * 1e6 / fps).round() as i64;
    Frame {
        pts_us,
        image: Arc::new(picture(width, height, index, scene)),
        colour: Colour::guess(height),
        quantiser: None,
    }
}

/// Writes a clip of `frames` frames at high quality.
pub fn clip(path: &Path, (width, height): (u32, u32), frames: u32, fps: f64) {
    let mut encoder = Encoder::new(&encode::Config::new(width, height, fps, 6000)).unwrap();
    let config = record::Config { width, height, fps, colour: Colour::guess(height) };
    let mut recorder = Recorder::create(path, config).unwrap();
    for index in 0..frames {
        let frame = frame(width, height, index, 0, fps);
        recorder.write(&encoder.encode(&frame.image, frame.pts_us, false).unwrap()).unwrap();
    }
    recorder.finish().unwrap();
}

/// What our own source reads from a file: size, and the times of all frames.
pub fn read(path: &Path) -> ((u32, u32), Vec<i64>) {
    let mut source = Mp4Source::open(path).unwrap();
    let size = (source.info().width, source.info().height);
    let mut times = vec![];
    while let Some(frame) = source.next_frame().unwrap() {
        assert_eq!((frame.image.width(), frame.image.height()), size);
        times.push(frame.pts_us);
    }
    assert!(times.is_sorted_by(|a, b| a < b), "frame times rise: {times:?}");
    (size, times)
}

/// A binary that runs, with its output in files. It is killed when the test drops it.
pub struct Process {
    name: String,
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    /// Starts `binary`; `name` names it in messages and its files in `folder`.
    pub fn start(folder: &Path, name: &str, binary: &str, arguments: &[&str]) -> Self {
        Self::start_with(folder, name, binary, arguments, &[])
    }

    /// The same with more in its environment.
    pub fn start_with(
        folder: &Path,
        name: &str,
        binary: &str,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        let file = |end: &str| folder.join(format!("{name}.{end}"));
        let (stdout, stderr) = (file("stdout"), file("stderr"));
        let child = Command::new(binary)
            .args(arguments)
            .env_remove("HONE_LOG")
            .env_remove("RUST_BACKTRACE")
            .envs(environment.iter().copied())
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(File::create(&stdout).unwrap())
            .stderr(File::create(&stderr).unwrap())
            .spawn()
            .unwrap();
        Self { name: name.to_owned(), child, stdout, stderr }
    }

    pub fn stdout(&self) -> String {
        std::fs::read_to_string(&self.stdout).unwrap()
    }

    pub fn stderr(&self) -> String {
        std::fs::read_to_string(&self.stderr).unwrap()
    }

    /// Waits until what it wrote holds something; fails if it ends first or takes longer than `limit`.
    pub fn wait_for<T>(&mut self, what: &str, limit: Duration, find: impl Fn(&Self) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            let ended = self.child.try_wait().unwrap();
            if let Some(found) = find(self) {
                return found;
            }
            assert!(ended.is_none(), "{} ended without {what}:\n{}", self.name, self.stderr());
            assert!(start.elapsed() < limit, "{}: no {what} in {limit:?}:\n{}", self.name, self.stderr());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The rest of the first line on standard output that begins with `prefix`.
    pub fn line(&mut self, prefix: &str) -> String {
        self.wait_for(prefix, Duration::from_secs(20), |process| {
            let text = process.stdout();
            // Only a line that is whole.
            let text = &text[..text.rfind('\n')? + 1];
            text.lines().find_map(|line| line.strip_prefix(prefix)).map(|rest| rest.trim().to_owned())
        })
    }

    /// Waits until standard error holds `text`.
    pub fn logged(&mut self, text: &str, limit: Duration) {
        self.wait_for(text, limit, |process| process.stderr().contains(text).then_some(()));
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end, as Ctrl-C does.
    pub fn interrupt(&self) {
        self.signal("INT");
    }

    /// Sends a signal, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let status =
            Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(status.success(), "kill -{name} {}", self.name);
    }

    /// Waits for its end and gives its exit code.
    pub fn end(&mut self, limit: Duration) -> i32 {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or_else(|| panic!("{} ended by {status}", self.name));
            }
            assert!(start.elapsed() < limit, "{} did not end in {limit:?}:\n{}", self.name, self.stderr());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for its end, which must be a success without a warning.
    pub fn end_cleanly(&mut self, limit: Duration) {
        let code = self.end(limit);
        let log = self.stderr();
        assert_eq!(code, 0, "{}:\n{log}", self.name);
        for bad in ["WARN", "ERROR", "panicked", "error:", "\u{1b}["] {
            assert!(!log.contains(bad), "{} logged {bad:?}:\n{log}", self.name);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
