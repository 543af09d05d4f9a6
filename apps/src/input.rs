//! What a sender can send, as people write it: a file, a pipe, a camera, a test pattern.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use hone_media::rtsp::{self, Address, Credentials};
use hone_media::source::{
    Ahead, Looped, Mp4Source, Pattern, RtspSource, Source, Thinned, WhenFull, Y4mSource,
};
use serde::Deserialize;

use crate::auto_scale::Looks;
use crate::mask::{Mask, Masked};

/// A source's name.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// y4m on standard input.
    Stdin,
    /// A test pattern.
    Pattern {
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
        /// Frames a second.
        fps: f64,
    },
    /// A camera.
    Rtsp(Address),
    /// A webcam.
    Webcam(PathBuf),
    /// A y4m file.
    Y4m(PathBuf),
    /// An MP4 or Matroska file.
    Mp4(PathBuf),
}

/// Size and rate of a test pattern that asks for none.
const PATTERN: &str = "1280x720@30";
/// Most frames a second of a test pattern.
const PATTERN_FPS_MAX: f64 = 240.0;

impl FromStr for Input {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "-" {
            return Ok(Self::Stdin);
        }
        if let Some(format) = text.strip_prefix("test") {
            let format = match format.strip_prefix(':') {
                Some(format) => Some(format),
                None => format.is_empty().then_some(PATTERN),
            };
            if let Some(format) = format {
                return pattern(format).ok_or_else(|| {
                    format!("'{text}' is no test pattern; write test:WIDTHxHEIGHT@FPS, as in test:{PATTERN}")
                });
            }
        }
        if text.starts_with("rtsp") && text.contains("://") {
            return text.parse().map(Self::Rtsp).map_err(|error: rtsp::AddressError| error.to_string());
        }
        if let Some((scheme, _)) = text.split_once("://") {
            return Err(format!(
                "{scheme}:// is no source of ours; let ffmpeg read it and pipe y4m into --input -"
            ));
        }
        let path = PathBuf::from(text);
        if text.starts_with("/dev/video") {
            return Ok(Self::Webcam(path));
        }
        let y4m = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("y4m"));
        Ok(if y4m { Self::Y4m(path) } else { Self::Mp4(path) })
    }
}

fn pattern(format: &str) -> Option<Input> {
    let (size, fps) = format.split_once('@').unwrap_or((format, "30"));
    let (width, height) = size.split_once('x')?;
    let fps = fps.parse().ok().filter(|fps| (1.0..=PATTERN_FPS_MAX).contains(fps))?;
    Some(Input::Pattern { width: width.parse().ok()?, height: height.parse().ok()?, fps })
}

/// Where frames come from, on a command line.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Source")]
pub struct Options {
    /// What to send: an MP4, Matroska or y4m file, `-` for y4m on standard input, `rtsp://HOST/PATH` for a camera,
    /// `/dev/video0` for a webcam, or
    /// `test:1280x720@30` for a moving test pattern with the time in it.
    #[arg(long, value_name = "SOURCE")]
    pub input: Input,
    /// Start a file again when it ends.
    #[arg(long = "loop")]
    pub repeat: bool,
    /// Start so many seconds into a file; with --loop, each time.
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0, value_parser = seconds)]
    pub start: f64,
    /// Send at most so many frames a second: one in 2, one in 3 ... of the source's, each at its own time.
    #[arg(long, value_name = "FPS", value_parser = rate)]
    pub fps: Option<f64>,
    /// A privacy mask, in pixels of the source: black in all that is sent. May be given several times.
    #[arg(long, value_name = "WIDTHxHEIGHT+X+Y")]
    pub mask: Vec<Mask>,
    /// Leave out the source's audio. Without this, AAC and Opus of files and AAC of cameras are sent as they are.
    #[arg(long)]
    pub no_audio: bool,
    /// How cameras are reached.
    #[command(flatten)]
    pub camera: CameraOptions,
}

/// How cameras are reached, on a command line.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Camera")]
pub struct CameraOptions {
    /// How a camera's packets travel.
    #[arg(long, value_enum, default_value_t)]
    pub rtsp_transport: Transport,
    /// Who we are at the camera, instead of a user in its address.
    #[arg(long, value_name = "USER", requires = "rtsp_password_file")]
    pub rtsp_user: Option<String>,
    /// A file whose first line is the password: unlike an address, it does not show in the list of processes.
    #[arg(long, value_name = "FILE", requires = "rtsp_user")]
    pub rtsp_password_file: Option<PathBuf>,
}

/// How a camera's packets travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// In the RTSP connection: nothing is lost.
    #[default]
    Tcp,
    /// Beside it: a lost packet costs the rest of the GOP, none waits for it.
    Udp,
}

impl CameraOptions {
    /// The settings for a camera, without its audio.
    ///
    /// # Errors
    /// If the password's file cannot be read.
    pub fn config(&self, address: &Address) -> Result<rtsp::Config> {
        let mut address = address.clone();
        if let (Some(user), Some(file)) = (&self.rtsp_user, &self.rtsp_password_file) {
            address.credentials = Some(Credentials { user: user.clone(), password: first_line(file)? });
        }
        let transport = match self.rtsp_transport {
            Transport::Tcp => rtsp::Transport::Tcp,
            Transport::Udp => rtsp::Transport::Udp,
        };
        // Different from process to process, which is all that it has to be.
        let seed = u64::from(std::process::id()) ^ unix_us().unsigned_abs();
        Ok(rtsp::Config { address, transport, audio: false, seed })
    }
}

fn first_line(file: &Path) -> Result<String> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

fn seconds(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|s| (0.0..=1e6).contains(s)).ok_or_else(|| "not a number of seconds".to_owned())
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|fps| (0.1..=1000.0).contains(fps));
    rate.ok_or_else(|| "not a rate from 0.1 to 1000".to_owned())
}

/// As long as a loop may run: 30 years, to stay far from the end of time.
const LOOP_US: i64 = 30 * 365 * 86_400 * 1_000_000;

impl Options {
    /// Opens the source; everything that rules it out is found here. Where it may have to be waited for, it is read
    /// on a thread of its own, and `stop` ends it.
    ///
    /// # Errors
    /// One line that names the source and says what to do.
    pub fn open(&self, stop: &Arc<AtomicBool>) -> Result<Box<dyn Source>> {
        let start_us = (self.start * 1e6).round() as i64;
        let file = matches!(self.input, Input::Y4m(_) | Input::Mp4(_));
        if !file && (self.repeat || start_us > 0) {
            bail!("--loop and --start are for files");
        }
        let source: Box<dyn Source> = match &self.input {
            Input::Stdin => {
                let pipe = Y4mSource::new("standard input", Box::new(std::io::stdin()))?;
                Box::new(Ahead::new(pipe, WhenFull::Wait, stop.clone()))
            }
            &Input::Pattern { width, height, fps } => {
                let pattern = Pattern::new(width, height, fps, Box::new(unix_us));
                Box::new(pattern.context("the test pattern")?)
            }
            Input::Rtsp(address) => {
                let config = rtsp::Config { audio: !self.no_audio, ..self.camera.config(address)? };
                let camera = RtspSource::open(config)?;
                Box::new(Ahead::new(camera, WhenFull::DropOldest, stop.clone()))
            }
            Input::Webcam(path) => webcam(path, stop)?,
            Input::Y4m(path) => {
                let path = path.clone();
                self.file(move || Y4mSource::open_at(&path, start_us))?
            }
            Input::Mp4(path) => {
                let path = path.clone();
                self.file(move || Mp4Source::open_at(&path, start_us))?
            }
        };
        let source = match self.fps {
            Some(fps) => Box::new(Thinned::new(source, fps)),
            None => source,
        };
        Ok(match self.mask.is_empty() {
            true => source,
            false => Box::new(Masked::new(source, self.mask.clone())),
        })
    }

    /// Frames to try scales on: of a file or a pattern, which is opened for that and closed again; the first second of a
    /// camera, whose `source` goes on behind it; none of a pipe, which can be read once and is to lose nothing.
    ///
    /// # Errors
    /// As [`Options::open`].
    pub fn looks<'a>(&'a self, source: &'a mut dyn Source, stop: &'a Arc<AtomicBool>) -> Result<Looks<'a>> {
        let path = match &self.input {
            Input::Stdin => return Ok(Looks::none()),
            Input::Rtsp(_) | Input::Webcam(_) => return Ok(Looks::first_of(source)),
            Input::Pattern { .. } => return Ok(Looks::into_file(None, move |_| self.open(stop))),
            Input::Y4m(path) | Input::Mp4(path) => path,
        };
        if !std::fs::metadata(path).is_ok_and(|file| file.is_file()) {
            return Ok(Looks::none());
        }
        let from = |at_us: i64| {
            let start = self.start + at_us as f64 / 1e6;
            Self { start, repeat: false, ..self.clone() }.open(stop)
        };
        Ok(Looks::into_file(from(0)?.info().duration_us, from))
    }

    fn file<S: Source + 'static>(
        &self,
        mut open: impl FnMut() -> Result<S, hone_media::source::Error> + Send + 'static,
    ) -> Result<Box<dyn Source>> {
        Ok(match self.repeat {
            true => Box::new(Looped::new(open, LOOP_US)?),
            false => Box::new(open()?),
        })
    }
}

/// What is asked of a webcam; the nearest that it has is taken.
#[cfg(all(target_os = "linux", feature = "webcam"))]
fn webcam(path: &Path, stop: &Arc<AtomicBool>) -> Result<Box<dyn Source>> {
    const SIZE: (u32, u32) = (1280, 720);
    const FPS: u32 = 30;
    let webcam = hone_media::webcam::Webcam::open(path, SIZE, FPS)?;
    Ok(Box::new(Ahead::new(webcam, WhenFull::DropOldest, stop.clone())))
}

#[cfg(not(all(target_os = "linux", feature = "webcam")))]
fn webcam(path: &Path, _stop: &Arc<AtomicBool>) -> Result<Box<dyn Source>> {
    bail!("{}: {}", path.display(), webcam_hint(std::env::consts::OS, path))
}

/// How ffmpeg reads a webcam for us; `os` as [`std::env::consts::OS`] has it.
#[cfg(any(test, not(all(target_os = "linux", feature = "webcam"))))]
fn webcam_hint(os: &str, path: &Path) -> String {
    let (why, from) = match os {
        "macos" => ("webcams have numbers on macOS", "avfoundation -framerate 30 -i 0".to_owned()),
        "windows" => ("webcams have names on Windows", "dshow -i video=\"NAME\"".to_owned()),
        _ => (
            "this program was built without webcams (on Linux: cargo build --features webcam)",
            format!("v4l2 -i {}", path.display()),
        ),
    };
    format!(
        "{why}; let ffmpeg read it: ffmpeg -f {from} -pix_fmt yuv420p -f yuv4mpegpipe - | hone-sender --input -"
    )
}

/// The time of day of this machine, microseconds since 1970-01-01 UTC.
fn unix_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(input: &str) -> Options {
        let camera = CameraOptions::default();
        Options {
            input: input.parse().unwrap(),
            repeat: false,
            start: 0.0,
            fps: None,
            mask: vec![],
            no_audio: false,
            camera,
        }
    }

    fn input(text: &str) -> Result<Input, String> {
        text.parse()
    }

    #[test]
    fn sources_are_told_apart_by_how_they_are_written() {
        let pattern = |width, height, fps| Input::Pattern { width, height, fps };
        for (text, expected) in [
            ("-", Input::Stdin),
            ("test", pattern(1280, 720, 30.0)),
            ("test:640x360", pattern(640, 360, 30.0)),
            ("test:1920x1080@23.976", pattern(1920, 1080, 23.976)),
            ("rtsp://u:p@cam/1", Input::Rtsp("rtsp://u:p@cam/1".parse().unwrap())),
            ("/dev/video2", Input::Webcam("/dev/video2".into())),
            ("clip.mp4", Input::Mp4("clip.mp4".into())),
            ("test.mp4", Input::Mp4("test.mp4".into())),
            ("testcard", Input::Mp4("testcard".into())),
            ("a b/clip.Y4M", Input::Y4m("a b/clip.Y4M".into())),
        ] {
            assert_eq!(input(text), Ok(expected), "{text}");
        }
        for text in ["test:", "test:640", "test:640x@30", "test:640x360@0", "test:640x360@1000", "test:-2x2"]
        {
            assert!(input(text).unwrap_err().contains("write test:WIDTHxHEIGHT@FPS"), "{text}");
        }
        assert!(input("rtsps://u:secret@cam/1").unwrap_err().contains("rtsps is not supported"));
        assert!(input("https://example.com/a.m3u8").unwrap_err().contains("pipe y4m"));
    }

    #[test]
    fn a_webcam_that_cannot_be_opened_is_ffmpegs() {
        let hint = |os| webcam_hint(os, Path::new("/dev/video0"));
        for (os, from) in [
            ("linux", "ffmpeg -f v4l2 -i /dev/video0 "),
            ("macos", "ffmpeg -f avfoundation -framerate 30 -i 0 "),
            ("windows", "ffmpeg -f dshow -i video=\"NAME\" "),
        ] {
            assert!(hint(os).contains(from) && hint(os).ends_with("| hone-sender --input -"), "{os}");
        }
        assert!(hint("linux").contains("--features webcam") && !hint("macos").contains("Linux"));
    }

    #[test]
    fn options_of_files_are_refused_elsewhere() {
        let options = |input, repeat, start| Options { repeat, start, ..options(input) };
        for options in [options("test", true, 0.0), options("test", false, 1.0), options("-", true, 0.0)] {
            let error = options.open(&Arc::default()).err().unwrap().to_string();
            assert!(error.contains("for files"), "{error}");
        }
        let error = options("test:63x48", false, 0.0).open(&Arc::default()).err().unwrap();
        assert!(format!("{error:#}").contains("63x48 is not a usable picture size"), "{error:#}");
        let error = options("none.mp4", true, 0.0).open(&Arc::default()).err().unwrap().to_string();
        assert!(error.contains("none.mp4: no such file"), "{error}");
    }

    #[test]
    fn the_password_comes_from_the_first_line_of_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "s@cret \nsecond\n").unwrap();
        let camera = CameraOptions {
            rtsp_transport: Transport::Udp,
            rtsp_user: Some("viewer".into()),
            rtsp_password_file: Some(file),
        };
        let config = camera.config(&"rtsp://a:b@cam/1".parse().unwrap()).unwrap();
        let credentials = config.address.credentials.clone().unwrap();
        assert_eq!((&*credentials.user, &*credentials.password), ("viewer", "s@cret "));
        assert!(!format!("{config:?} {camera:?}").contains("cret"));
        let none = CameraOptions { rtsp_password_file: Some(folder.path().join("none")), ..camera };
        let error = format!("{:#}", none.config(&"rtsp://cam/1".parse().unwrap()).unwrap_err());
        assert!(error.contains("cannot read") && error.contains("none"), "{error}");
    }

    #[test]
    fn a_masked_source_is_black_there() {
        let mask = vec!["32x48+0+0".parse().unwrap(), "8x8+56+40".parse().unwrap()];
        let options = Options { mask, ..options("test:64x48@30") };
        let mut source = options.open(&Arc::default()).unwrap();
        for _ in 0..3 {
            let frame = source.next_frame().unwrap().unwrap();
            let black = frame.image.y().iter().filter(|&&v| v == 16).count();
            assert!((32 * 48 + 8 * 8..64 * 48).contains(&black), "{black} pixels");
            assert!(frame.image.y().chunks(64).all(|row| row[..32].iter().all(|&v| v == 16)));
        }
    }

    #[test]
    fn the_rate_is_thinned() {
        let options = Options { fps: Some(10.0), ..options("test:64x48@30") };
        let mut source = options.open(&Arc::default()).unwrap();
        assert!((source.info().fps - 10.0).abs() < 1e-9);
        let times: Vec<i64> = (0..3).map(|_| source.next_frame().unwrap().unwrap().pts_us).collect();
        assert_eq!(times, [0, 100_000, 200_000]);
    }
}
