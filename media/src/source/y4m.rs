//! Uncompressed frames as other programs pipe them: YUV4MPEG2 ("y4m"), 8-bit 4:2:0.
//!
//! Such a stream says when its frames are shown only by their rate, and names no matrix: the usual one for the
//! size is assumed.
//!
//! Source: the format's description in mjpegtools, yuv4mpeg(5); ffmpeg's `XCOLORRANGE` extension.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use super::{Info, Item, Source};
use crate::frame::{Colour, Frame, I420, Range, SizeError};
use crate::limits::MAX_PIXELS;

/// Longest header line: ffmpeg's own bound is 128 bytes, mplayer's 256.
const LINE_BYTES_MAX: usize = 256;
/// Frame rates outside of these are taken for nonsense, in Hz.
const FPS: std::ops::RangeInclusive<f64> = 0.1..=1000.0;

/// Why a stream is no y4m, or not one of ours.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Reading failed.
    #[error("cannot be read ({0})")]
    Io(#[from] io::Error),
    /// Nothing came at all.
    #[error("nothing came; pipe y4m into it (ffmpeg -i INPUT -pix_fmt yuv420p -f yuv4mpegpipe - | ...)")]
    Nothing,
    /// It does not begin with the format's name.
    #[error("is not a y4m stream; ffmpeg makes one with -pix_fmt yuv420p -f yuv4mpegpipe")]
    NotY4m,
    /// A line without an end.
    #[error("is damaged: a header line is longer than {LINE_BYTES_MAX} bytes")]
    Line,
    /// A frame does not begin as one.
    #[error("is damaged: where frame {0} should begin there is something else")]
    Frame(u64),
    /// A field of the header makes no sense.
    #[error("is damaged: header field '{0}'")]
    Field(String),
    /// A field of the header is not there.
    #[error("has a header without {0}")]
    Without(&'static str),
    /// Another chroma format or depth.
    #[error("holds {0} samples where 8-bit 4:2:0 is needed (ffmpeg: -pix_fmt yuv420p)")]
    Chroma(String),
    /// Fields.
    #[error("is interlaced; deinterlace it first (ffmpeg: -vf yadif)")]
    Interlaced,
    /// The size is unusable.
    #[error(transparent)]
    Size(#[from] SizeError),
    /// The size is too large.
    #[error("holds {width}x{height} pictures; at most {MAX_PIXELS} pixels are supported")]
    TooLarge {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
}

/// What the first line says.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Header {
    width: u32,
    height: u32,
    /// Frame rate as a fraction of Hz.
    rate: (u32, u32),
    colour: Colour,
}

/// A y4m stream from a pipe or a file.
pub struct Y4mSource {
    name: String,
    input: BufReader<Box<dyn Read + Send>>,
    header: Header,
    frames: u64,
    ended: bool,
    info: Info,
}

impl Y4mSource {
    /// Reads the header from a pipe, such as standard input; blocks until it is there.
    ///
    /// # Errors
    /// [`super::Error::Y4m`].
    pub fn new(name: impl Into<String>, input: Box<dyn Read + Send>) -> Result<Self, super::Error> {
        let name = name.into();
        let mut input = BufReader::new(input);
        let header = line(&mut input)
            .and_then(|line| line.ok_or(Error::Nothing))
            .and_then(|line| Header::parse(&line))
            .map_err(|source| super::Error::Y4m { name: name.clone(), source })?;
        let info = Info {
            width: header.width,
            height: header.height,
            fps: f64::from(header.rate.0) / f64::from(header.rate.1),
            duration_us: None,
            colour: header.colour,
            live: false,
        };
        Ok(Self { name, input, header, frames: 0, ended: false, info })
    }

    /// Opens a file; its length tells the duration.
    ///
    /// # Errors
    /// [`super::Error::Missing`] or [`super::Error::Y4m`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, super::Error> {
        Self::open_at(path, 0)
    }

    /// Opens a file and leaves out the frames shown earlier than `start_us` microseconds; the next has time zero.
    ///
    /// # Errors
    /// As [`Y4mSource::open`], and [`super::Error::PastEnd`].
    pub fn open_at(path: impl AsRef<Path>, start_us: i64) -> Result<Self, super::Error> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let opened = File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
        let (bytes, file) = match opened {
            Ok(opened) => opened,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(super::Error::Missing { name });
            }
            Err(error) => return Err(super::Error::Y4m { name, source: error.into() }),
        };
        let mut source = Self::new(name, Box::new(file))?;
        // The header's own bytes are less than a frame.
        let frame_bytes = FRAME.len() as u64 + 1 + source.header.planes() as u64;
        let duration_us = source.header.time_us(bytes / frame_bytes);
        while start_us > source.header.time_us(source.frames) {
            if source.next_frame()?.is_none() {
                return Err(super::Error::PastEnd { name: source.name, start_us });
            }
        }
        if source.frames > 0 && source.header.time_us(source.frames) >= duration_us {
            return Err(super::Error::PastEnd { name: source.name, start_us });
        }
        source.info.duration_us = Some(duration_us - source.header.time_us(source.frames));
        source.frames = 0;
        Ok(source)
    }

    fn read_frame(&mut self) -> Result<Option<Frame>, Error> {
        let Some(line) = line(&mut self.input)? else { return Ok(None) };
        if !line.starts_with(FRAME) || line.get(FRAME.len()).is_some_and(|&byte| byte != b' ') {
            return Err(Error::Frame(self.frames));
        }
        let luma = self.header.planes() / 3 * 2;
        let planes = [luma, luma / 4, luma / 4].map(|bytes| {
            let mut plane = vec![0; bytes];
            self.input.read_exact(&mut plane).map(|()| plane)
        });
        let [y, u, v] = planes;
        let (y, u, v) = match (y, u, v) {
            (Ok(y), Ok(u), Ok(v)) => (y, u, v),
            (y, u, v) => {
                let error = [y, u, v].into_iter().find_map(Result::err);
                return match error {
                    Some(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error.into()),
                    _ => {
                        tracing::warn!(
                            name = self.name,
                            frame = self.frames,
                            "ends in the middle of a frame"
                        );
                        Ok(None)
                    }
                };
            }
        };
        let image = Arc::new(I420::from_planes(self.header.width, self.header.height, y, u, v)?);
        let pts_us = self.header.time_us(self.frames);
        self.frames += 1;
        Ok(Some(Frame { pts_us, image, colour: self.header.colour, quantiser: None }))
    }
}

impl Source for Y4mSource {
    fn info(&self) -> &Info {
        &self.info
    }

    fn next(&mut self) -> Result<Option<Item>, super::Error> {
        if self.ended {
            return Ok(None);
        }
        let frame = self.read_frame();
        self.ended = !matches!(frame, Ok(Some(_)));
        let failed = |source| super::Error::Y4m { name: self.name.clone(), source };
        Ok(frame.map_err(failed)?.map(Item::Frame))
    }
}

/// What each frame begins with.
const FRAME: &[u8] = b"FRAME";

/// A line without its end; None if the stream ends before it.
fn line(input: &mut impl Read) -> Result<Option<Vec<u8>>, Error> {
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        match input.read(&mut byte) {
            Ok(0) if line.is_empty() => return Ok(None),
            Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(_) if byte[0] == b'\n' => return Ok(Some(line)),
            Ok(_) if line.len() == LINE_BYTES_MAX => return Err(Error::Line),
            Ok(_) => line.push(byte[0]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

impl Header {
    fn parse(line: &[u8]) -> Result<Self, Error> {
        let text = line.strip_prefix(b"YUV4MPEG2").ok_or(Error::NotY4m)?;
        let text = std::str::from_utf8(text).map_err(|_| Error::NotY4m)?;
        let (mut width, mut height, mut rate, mut range) = (None, None, None, Range::Limited);
        for field in text.split(' ').filter(|field| !field.is_empty()) {
            let bad = || Error::Field(field.escape_default().to_string());
            let (kind, value) = field.split_at_checked(1).ok_or_else(bad)?;
            match kind {
                "W" => width = Some(value.parse().map_err(|_| bad())?),
                "H" => height = Some(value.parse().map_err(|_| bad())?),
                "F" => {
                    let (num, den) = value.split_once(':').ok_or_else(bad)?;
                    let parts: (u32, u32) =
                        (num.parse().map_err(|_| bad())?, den.parse().map_err(|_| bad())?);
                    if parts.1 == 0 || !FPS.contains(&(f64::from(parts.0) / f64::from(parts.1))) {
                        return Err(bad());
                    }
                    rate = Some(parts);
                }
                // Where the chroma samples sit differs by less than a pixel, and is not followed.
                "C" if ["420", "420jpeg", "420mpeg2", "420paldv"].contains(&value) => {}
                "C" => return Err(Error::Chroma(value.escape_default().to_string())),
                "I" if ["p", "?"].contains(&value) => {}
                "I" => return Err(Error::Interlaced),
                "X" if value == "COLORRANGE=FULL" => range = Range::Full,
                _ => {}
            }
        }
        let (width, height): (u32, u32) =
            (width.ok_or(Error::Without("a width"))?, height.ok_or(Error::Without("a height"))?);
        let rate = rate.ok_or(Error::Without("a frame rate"))?;
        crate::frame::check_size(width, height)?;
        if u64::from(width) * u64::from(height) > MAX_PIXELS {
            return Err(Error::TooLarge { width, height });
        }
        Ok(Self { width, height, rate, colour: Colour { range, ..Colour::guess(height) } })
    }

    /// Bytes of a frame's three planes.
    fn planes(&self) -> usize {
        self.width as usize * self.height as usize / 2 * 3
    }

    /// When frame `index` is shown, rounded to nearest.
    fn time_us(&self, index: u64) -> i64 {
        let (num, den) = (u128::from(self.rate.0), u128::from(self.rate.1));
        let time_us = (u128::from(index) * den * 1_000_000 + num / 2) / num;
        i64::try_from(time_us).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn open(bytes: impl AsRef<[u8]> + Send + 'static) -> Result<Y4mSource, super::super::Error> {
        Y4mSource::new("pipe", Box::new(io::Cursor::new(bytes)))
    }

    #[test]
    fn planes_times_and_tags_are_those_of_the_stream() {
        let mut stream =
            b"YUV4MPEG2 W4 H2 F30000:1001 Ip A1:1 C420mpeg2 XYSCSS=420MPEG2 XCOLORRANGE=FULL\n".to_vec();
        for frame in 0..3_u8 {
            stream.extend_from_slice(if frame == 1 { b"FRAME Ip\n" } else { b"FRAME\n" });
            stream.extend((0..12).map(|i| frame * 16 + i));
        }
        stream.truncate(stream.len() - 1);
        let mut source = open(stream).unwrap();
        assert_eq!((source.info().width, source.info().height), (4, 2));
        assert!((source.info().fps - 29.97).abs() < 1e-3);
        assert_eq!(source.info().colour, Colour { range: Range::Full, ..Colour::guess(2) });
        for (index, pts_us) in [(0, 0), (1, 33_367)] {
            let frame = source.next_frame().unwrap().unwrap();
            let first = index * 16;
            assert_eq!(frame.pts_us, pts_us);
            assert_eq!(frame.image.y(), (first..first + 8).collect::<Vec<u8>>());
            assert_eq!(
                (frame.image.u(), frame.image.v()),
                (&[first + 8, first + 9][..], &[first + 10, first + 11][..])
            );
        }
        // The third frame is cut: the stream ended.
        assert!(source.next_frame().unwrap().is_none());
        assert!(source.next_frame().unwrap().is_none());
    }

    #[test]
    fn what_cannot_be_used_is_said_in_one_line() {
        for (header, says) in [
            ("", "nothing came"),
            ("RIFF", "cannot be read"),
            ("RIFF\n", "not a y4m"),
            ("YUV4MPEG2 H2 F25:1\n", "without a width"),
            ("YUV4MPEG2 W4 F25:1\n", "without a height"),
            ("YUV4MPEG2 W4 H2\n", "without a frame rate"),
            ("YUV4MPEG2 W4 H2 F25:0\n", "field 'F25:0'"),
            ("YUV4MPEG2 W4 H2 F0:1\n", "field 'F0:1'"),
            ("YUV4MPEG2 W-4 H2 F25:1\n", "field 'W-4'"),
            ("YUV4MPEG2 W3 H2 F25:1\n", "3x2 is not a usable"),
            ("YUV4MPEG2 W4294967294 H4294967294 F25:1\n", "not a usable"),
            ("YUV4MPEG2 W8192 H8192 F25:1\n", "8192x8192"),
            ("YUV4MPEG2 W4 H2 F25:1 C422\n", "holds 422 samples"),
            ("YUV4MPEG2 W4 H2 F25:1 C420p10\n", "holds 420p10 samples"),
            ("YUV4MPEG2 W4 H2 F25:1 It\n", "interlaced"),
            ("YUV4MPEG2 W4 H2 F25:1 \u{e9}\n", "field"),
        ] {
            let error = open(header).err().unwrap().to_string();
            assert!(
                error.starts_with("pipe: ") && error.contains(says) && !error.contains('\n'),
                "{header}: {error}"
            );
        }
        let endless = open([b'Y'; 100_000]).err().unwrap().to_string();
        assert!(endless.contains("longer than 256"), "{endless}");
        let mut lost = open(*b"YUV4MPEG2 W4 H2 F25:1\nFRAMES\n0123456789ab").unwrap();
        assert!(lost.next_frame().unwrap_err().to_string().contains("frame 0"));
        assert!(lost.next_frame().unwrap().is_none(), "it is over");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(5_000) })]

        #[test]
        fn garbage_is_an_error_and_never_a_panic(at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
            let mut stream = b"YUV4MPEG2 W4 H2 F25:1 Ip A1:1 C420jpeg\nFRAME\n0123456789abFRAME\n0123456789ab".to_vec();
            let at = at.index(stream.len());
            stream[at] = byte;
            stream.truncate(cut.index(stream.len()) + 1);
            if let Ok(mut source) = open(stream) {
                let mut frames = 0;
                while let Ok(Some(frame)) = source.next_frame() {
                    frames += 1;
                    prop_assert!(frame.image.y().len() <= 90 * 90);
                }
                prop_assert!(frames <= 6);
            }
        }
    }
}
