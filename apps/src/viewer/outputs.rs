//! What a viewer writes: recordings and a pipe.

mod recording;
mod shown;

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use hone_media::audio;
use hone_media::encode::Packet;
use hone_media::frame::I420;

use self::recording::Recording;
use self::shown::ShownRecording;
use super::{Format, Shown, Sink, Stream};
use crate::picture;
use crate::screen::Screen;

/// Rate of the recording of what is shown, kbit/s a megapixel: well above where its losses would be seen.
pub(crate) const RECORD_KBPS_PER_MEGAPIXEL: f64 = 6000.0;

/// Where to write.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// What is shown, as MP4.
    pub record: Option<PathBuf>,
    /// The small stream as it comes, as MP4.
    pub record_raw: Option<PathBuf>,
    /// What is shown, as YUV4MPEG2; `-` is standard output.
    pub y4m: Option<PathBuf>,
}

/// Writes files and a pipe.
///
/// An MP4 file has one size and one colour: if the stream changes either, or another stream begins, the recording
/// goes on in a file of its own, `sr-2.mp4` after `sr.mp4`. A pipe cannot change: that is an error.
pub struct Outputs {
    record: Option<ShownRecording>,
    record_raw: Option<Recording>,
    y4m: Option<Y4m>,
    fps: f64,
}

impl Outputs {
    /// Opens the pipe. Recordings begin with the first frame.
    ///
    /// # Errors
    /// If the pipe's file cannot be made.
    pub fn open(files: Files) -> Result<Self> {
        let y4m = files.y4m.as_deref().map(Y4m::open).transpose()?;
        Ok(Self {
            record: files.record.map(ShownRecording::new),
            record_raw: files.record_raw.map(Recording::new),
            y4m,
            fps: 30.0,
        })
    }

    /// Whether frames shown are written anywhere.
    pub fn take_frames(&self) -> bool {
        self.record.is_some() || self.y4m.is_some()
    }
}

impl Sink for Outputs {
    fn start(&mut self, stream: &Stream) -> Result<()> {
        self.fps = stream.fps.clamp(1.0, 120.0);
        if let Some(recording) = &mut self.record_raw {
            recording.start(stream.audio.clone());
        }
        self.record.as_mut().map_or(Ok(()), |recording| recording.start(stream.audio.clone(), self.fps))
    }

    fn audio(&mut self, packet: audio::Packet) -> Result<()> {
        if let Some(recording) = &mut self.record_raw {
            recording.audio(packet.clone())?;
        }
        self.record.as_mut().map_or(Ok(()), |recording| recording.audio(packet))
    }

    fn packet(&mut self, packet: &Packet, format: &Format) -> Result<()> {
        let Some(recording) = &mut self.record_raw else { return Ok(()) };
        // A file can only begin with a keyframe.
        if recording.is_new(format) && !packet.keyframe {
            return Ok(());
        }
        recording.write(packet, *format, self.fps)
    }

    fn shown(&mut self, shown: &Shown, _screen: &mut Screen) -> Result<()> {
        if !self.take_frames() {
            return Ok(());
        }
        let format = Format { size: shown.size, colour: shown.frame.colour };
        let (width, height) = format.size;
        let image = picture::i420_from_rgba(shown.rgba, width, height, format.colour)?;
        // First, for somebody waits for it.
        if let Some(y4m) = &mut self.y4m {
            y4m.write(&image, format, self.fps)?;
        }
        self.record.as_mut().map_or(Ok(()), |recording| recording.frame(image, shown.frame.pts_us, format))
    }

    fn end(&mut self) -> Result<()> {
        // Both are finished, also if one of them fails.
        let raw = self.record_raw.as_mut().map_or(Ok(()), Recording::finish);
        let shown = self.record.as_mut().map_or(Ok(()), ShownRecording::finish);
        raw.and(shown)
    }
}

/// Uncompressed video for a player, one size and colour for all of it.
struct Y4m {
    to: Box<dyn Write + Send>,
    format: Option<Format>,
}

impl Y4m {
    fn open(path: &Path) -> Result<Self> {
        let to: Box<dyn Write + Send> = if path.as_os_str() == "-" {
            Box::new(BufWriter::new(std::io::stdout()))
        } else {
            let file =
                std::fs::File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
            Box::new(BufWriter::new(file))
        };
        Ok(Self { to, format: None })
    }

    fn write(&mut self, image: &I420, format: Format, fps: f64) -> Result<()> {
        let (width, height) = format.size;
        match self.format {
            None => {
                self.format = Some(format);
                let rate = (fps * 1000.0).round() as u64;
                let range = match format.colour.range {
                    hone_media::frame::Range::Limited => "LIMITED",
                    hone_media::frame::Range::Full => "FULL",
                };
                writeln!(
                    self.to,
                    "YUV4MPEG2 W{width} H{height} F{rate}:1000 Ip A1:1 C420mpeg2 XCOLORRANGE={range}"
                )?;
            }
            Some(have) if have != format => bail!(
                "the stream changed from {}x{} to {width}x{height}, or its colour: --y4m cannot go on, start again",
                have.size.0,
                have.size.1
            ),
            Some(_) => {}
        }
        writeln!(self.to, "FRAME")?;
        for plane in [image.y(), image.u(), image.v()] {
            self.to.write_all(plane)?;
        }
        Ok(self.to.flush()?)
    }
}
