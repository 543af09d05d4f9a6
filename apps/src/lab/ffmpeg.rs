//! An ffmpeg beside us: what it can do, and its errors.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// An ffmpeg, and what of it can be used.
#[derive(Clone, Debug)]
pub struct Ffmpeg {
    path: PathBuf,
    /// First line of what it says of itself.
    pub version: String,
    /// Whether it codes with x264.
    pub x264: bool,
    /// Whether it measures VMAF.
    pub vmaf: bool,
}

impl Ffmpeg {
    /// The one that was asked for, or the one on `PATH` if there is one.
    ///
    /// # Errors
    /// If the one that was asked for does not run.
    pub fn find(asked: Option<&Path>) -> Result<Option<Self>> {
        let path = asked.unwrap_or(Path::new("ffmpeg"));
        match Self::ask(path) {
            Ok(ffmpeg) => Ok(Some(ffmpeg)),
            Err(error) if asked.is_some() => Err(error),
            Err(_) => Ok(None),
        }
    }

    fn ask(path: &Path) -> Result<Self> {
        let say = |question: &str| -> Result<String> {
            let output = Command::new(path).args(["-hide_banner", question]).stdin(Stdio::null()).output();
            let output = output.with_context(|| format!("cannot run --ffmpeg {}", path.display()))?;
            ensure!(output.status.success(), "--ffmpeg {} {question}: {}", path.display(), output.status);
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        };
        let names = |text: &str, name: &str| text.split_whitespace().any(|word| word == name);
        Ok(Self {
            version: say("-version")?.lines().next().unwrap_or_default().to_owned(),
            x264: names(&say("-encoders")?, "libx264"),
            vmaf: names(&say("-filters")?, "libvmaf"),
            path: path.to_owned(),
        })
    }

    /// Starts it with raw 4:2:0 pictures on its standard input. Its own errors go to `log`.
    pub(super) fn start(
        &self,
        (width, height): (u32, u32),
        fps: f64,
        log: &File,
        stdout: Stdio,
        arguments: impl FnOnce(&mut Command),
    ) -> Result<Child> {
        let mut command = Command::new(&self.path);
        command.args(["-hide_banner", "-nostats", "-v", "error", "-f", "rawvideo", "-pix_fmt", "yuv420p"]);
        command.args(["-s", &format!("{width}x{height}"), "-framerate", &fps.to_string(), "-i", "-"]);
        arguments(&mut command);
        command.stdin(Stdio::piped()).stdout(stdout).stderr(log.try_clone()?);
        command.spawn().with_context(|| format!("cannot run {}", self.path.display()))
    }
}

/// Waits for its end, which must be a success; else says what it wrote last.
pub(super) fn end(mut child: Child, log: &mut File) -> Result<()> {
    drop(child.stdin.take());
    if child.wait()?.success() {
        return Ok(());
    }
    let mut text = String::new();
    log.rewind()?;
    log.take(100_000).read_to_string(&mut text)?;
    bail!("ffmpeg: {}", text.lines().last().unwrap_or("failed without a word"))
}
