//! Where frames come from: files, pipes, cameras, a test pattern; and ways to repeat, thin out or read ahead of
//! any of them.

use crate::audio;
use crate::decode;
use crate::frame::{Colour, Frame};

mod ahead;
mod looped;
mod mp4;
mod pattern;
mod rtsp;
mod thinned;
pub mod y4m;

pub use crate::mp4::Error as Mp4Error;
pub use ahead::{Ahead, WhenFull};
pub use looped::Looped;
pub use mp4::Mp4Source;
pub use pattern::Pattern;
pub use rtsp::{RtspSource, track as camera_audio};
pub use thinned::Thinned;
pub use y4m::Y4mSource;

/// What is known of a source before its first frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Info {
    /// Width in pixels, even.
    pub width: u32,
    /// Height in pixels, even.
    pub height: u32,
    /// Mean frame rate in Hz.
    pub fps: f64,
    /// From the first frame to the end of the last one, in microseconds, if the source ends.
    pub duration_us: Option<i64>,
    /// How planes turn into R'G'B'.
    pub colour: Colour,
    /// Whether frames come when they are captured, and wait for nobody.
    pub live: bool,
}

/// Whether a decoded frame may be handed on: of the source's size, and later than the one before it. Two frames at one
/// time, or out of order, are a muxer's or a camera's fault; the later one is left out.
fn fits(name: &str, info: &Info, last_us: &mut i64, frame: &Frame) -> Result<bool, Error> {
    let (from, to) = ((info.width, info.height), (frame.image.width(), frame.image.height()));
    if from != to {
        return Err(Error::SizeChanged { name: name.to_owned(), from, to });
    }
    let later = frame.pts_us > *last_us;
    if later {
        *last_us = frame.pts_us;
    } else {
        tracing::debug!(pts_us = frame.pts_us, last_us, "frame out of order left out");
    }
    Ok(later)
}

/// Why a source gave no frame. Each is one line that begins with the name of the source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no such file.
    #[error("{name}: no such file; check the path")]
    Missing {
        /// Name of the source.
        name: String,
    },
    /// The file cannot be used.
    #[error("{name} {source}")]
    Mp4 {
        /// Name of the source.
        name: String,
        /// What is wrong with it.
        source: Mp4Error,
    },
    /// The y4m stream cannot be used.
    #[error("{name}: {source}")]
    Y4m {
        /// Name of the source.
        name: String,
        /// What is wrong with it.
        source: y4m::Error,
    },
    /// The camera gives no video.
    #[error("{name}: {source}")]
    Camera {
        /// Address of the camera.
        name: String,
        /// What is wrong with it.
        source: crate::rtsp::Error,
    },
    /// The webcam gives no pictures.
    #[error("{name} {source}")]
    Webcam {
        /// Path of the device.
        name: String,
        /// What is wrong with it.
        source: crate::webcam::Error,
    },
    /// Its video cannot be decoded.
    #[error("{name}: {source}")]
    Decode {
        /// Name of the source.
        name: String,
        /// What is wrong with it.
        source: decode::Error,
    },
    /// The picture size changes on the way.
    #[error("{name}: the picture size changes from {from:?} to {to:?}; re-encode it at one size")]
    SizeChanged {
        /// Name of the source.
        name: String,
        /// Width and height so far.
        from: (u32, u32),
        /// Width and height of the new frame.
        to: (u32, u32),
    },
    /// A start offset at or behind the last frame.
    #[error("{name}: nothing is left {start_us} us into it; start earlier")]
    PastEnd {
        /// Name of the source.
        name: String,
        /// Where to start, in microseconds.
        start_us: i64,
    },
    /// A loop over nothing.
    #[error("{name}: cannot repeat a source without frames or duration")]
    Nothing {
        /// Name of the source.
        name: String,
    },
}

/// What comes out of a source.
#[derive(Debug, Clone)]
pub enum Item {
    /// A picture.
    Frame(Frame),
    /// A packet of its audio.
    Audio(audio::Packet),
}

/// A stream of frames in presentation order; times grow strictly. Where there is audio its packets come between them,
/// each about as early as the picture that is seen while it is heard, and their times grow strictly, too.
pub trait Source: Send {
    /// What is known of the source.
    fn info(&self) -> &Info;

    /// What is known of its audio, if it has any that we carry.
    fn audio(&self) -> Option<&audio::Track> {
        None
    }

    /// The next frame or packet of audio; `None` once the source has ended.
    ///
    /// # Errors
    /// [`Error`]; the source is over then.
    fn next(&mut self) -> Result<Option<Item>, Error>;

    /// The next frame, for whoever wants no audio.
    ///
    /// # Errors
    /// As [`Source::next`].
    fn next_frame(&mut self) -> Result<Option<Frame>, Error> {
        loop {
            match self.next()? {
                Some(Item::Frame(frame)) => return Ok(Some(frame)),
                Some(Item::Audio(_)) => {}
                None => return Ok(None),
            }
        }
    }
}

impl<S: Source + ?Sized> Source for Box<S> {
    fn info(&self) -> &Info {
        (**self).info()
    }
    fn audio(&self) -> Option<&audio::Track> {
        (**self).audio()
    }
    fn next(&mut self) -> Result<Option<Item>, Error> {
        (**self).next()
    }
}
