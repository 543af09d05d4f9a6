//! A V4L2 device as a source.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use v4l::buffer::Type;
use v4l::io::mmap::Stream;
use v4l::io::traits::CaptureStream;
use v4l::video::Capture;
use v4l::video::capture::Parameters;
use v4l::{Device, FourCC};

use super::{Error, Format};
use crate::frame::Frame;
use crate::source::{self, Info, Item, Source};

/// Pictures that the driver fills while we read one.
const BUFFERS: u32 = 4;
/// The longest silence of a webcam that is still there.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Damaged pictures in a row after which the webcam is given up: a loose cable, not a hiccup.
const DAMAGED_MAX: u32 = 100;

/// A webcam.
pub struct Webcam {
    name: String,
    stream: Stream<'static>,
    format: Format,
    stride: usize,
    info: Info,
    first_us: Option<i64>,
    last_us: i64,
}

impl Webcam {
    /// Opens a device, such as `/dev/video0`, at the size and rate nearest to those wished for.
    ///
    /// # Errors
    /// [`source::Error::Missing`] or [`source::Error::Webcam`].
    pub fn open(path: impl AsRef<Path>, size: (u32, u32), fps: u32) -> Result<Self, source::Error> {
        let path = path.as_ref();
        let name = path.display().to_string();
        if !path.exists() {
            return Err(source::Error::Missing { name });
        }
        Self::start(path, name.clone(), size, fps).map_err(|source| source::Error::Webcam { name, source })
    }

    fn start(path: &Path, name: String, (width, height): (u32, u32), fps: u32) -> Result<Self, Error> {
        let failed = |error: std::io::Error| Error::Device(error.to_string());
        let device = Device::with_path(path).map_err(failed)?;
        // Uncompressed video of more than VGA does not fit USB 2 at a usual rate.
        let wish = if width * height > 640 * 480 { *b"MJPG" } else { *b"YUYV" };
        let wish = v4l::Format::new(width, height, FourCC::new(&wish));
        let given = device.set_format(&wish).map_err(failed)?;
        let format = match &given.fourcc.repr {
            b"YUYV" => Format::Yuyv,
            b"MJPG" | b"JPEG" => Format::Mjpeg,
            other => return Err(Error::Format(other.escape_ascii().to_string())),
        };
        crate::frame::check_size(given.width, given.height)?;
        let interval = device.set_params(&Parameters::with_fps(fps)).map_err(failed)?.interval;
        let mut stream = Stream::with_buffers(&device, Type::VideoCapture, BUFFERS).map_err(failed)?;
        stream.set_timeout(SILENCE_MAX);
        let told = f64::from(interval.denominator) / f64::from(interval.numerator.max(1));
        let info = Info {
            width: given.width,
            height: given.height,
            fps: if (0.1..=240.0).contains(&told) { told } else { f64::from(fps) },
            duration_us: None,
            colour: format.colour(),
            live: true,
        };
        let stride = given.stride as usize;
        Ok(Self { name, stream, format, stride, info, first_us: None, last_us: i64::MIN })
    }

    fn read(&mut self) -> Result<Frame, Error> {
        let mut damaged = 0;
        loop {
            let (bytes, meta) = self.stream.next().map_err(|error| Error::Device(error.to_string()))?;
            let used = bytes.len().min(meta.bytesused as usize);
            let clock_us = meta.timestamp.sec.saturating_mul(1_000_000).saturating_add(meta.timestamp.usec);
            let pts_us = clock_us.saturating_sub(*self.first_us.get_or_insert(clock_us));
            let size = (self.info.width, self.info.height);
            match self.format.picture(&bytes[..used], size, self.stride) {
                Ok(image) if pts_us > self.last_us => {
                    self.last_us = pts_us;
                    let colour = self.info.colour;
                    return Ok(Frame { pts_us, image: Arc::new(image), colour, quantiser: None });
                }
                Ok(_) => tracing::debug!(pts_us, "frame out of order left out"),
                Err(error) if damaged == DAMAGED_MAX => return Err(error),
                Err(error) => {
                    tracing::debug!(%error, "a picture is left out");
                    damaged += 1;
                }
            }
        }
    }
}

impl Source for Webcam {
    fn info(&self) -> &Info {
        &self.info
    }

    fn next(&mut self) -> Result<Option<Item>, source::Error> {
        let frame = self.read();
        frame
            .map(|frame| Some(Item::Frame(frame)))
            .map_err(|source| source::Error::Webcam { name: self.name.clone(), source })
    }
}
