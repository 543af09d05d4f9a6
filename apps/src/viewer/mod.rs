//! Receives a stream and its weights, and hands upscaled frames to a sink.

mod feed;
mod log;
mod monitor;
mod outputs;
mod pace;
mod session;
mod show;
#[cfg(any(test, feature = "sound"))]
mod sound;
mod state;
mod stats;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::Result;
use hone_media::audio;
use hone_media::encode::Packet;
use hone_media::frame::{Colour, Frame};
use hone_model::Arch;
use hone_runtime::{Mode, wgpu};
use hone_transport::Message;

use crate::screen::{Screen, Target};

pub use log::Log;
pub use monitor::{Monitor, ShownFrame};
pub(crate) use outputs::RECORD_KBPS_PER_MEGAPIXEL;
pub use outputs::{Files, Outputs};
pub use pace::Playout;
pub use session::{Session, Until, run};
pub use state::{Facts, Link, State};
pub use stats::{Pass, Stats, latency};

/// How to view.
#[derive(Clone, Default)]
pub struct Options {
    /// The device.
    pub target: Target,
    /// Every frame in order, however late, and by the network, however slow: for measuring. Otherwise frames are
    /// shown at their media time, late ones are dropped, and a slow device steps down to bicubic.
    pub every_frame: bool,
    /// Whether each pass on a GPU is timed for the statistics, of about one frame a second: nothing waits for the times.
    pub time_passes: bool,
    /// Whether the CPU takes over from any device that fails, also from one that was asked for by name.
    pub fall_back: bool,
}

/// What is known of a stream before its first frame. Network and size may change while it runs, to show the same.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Media time from which it is so.
    pub from_us: i64,
    /// The network.
    pub arch: Arch,
    /// Columns and rows of the stream.
    pub lr: (u32, u32),
    /// Frames a second.
    pub fps: f64,
    /// Wall clock at media time 0, microseconds since 1970-01-01 UTC; 0 where nobody knows.
    pub start_unix_us: u64,
    /// The audio beside it, if there is any that we know.
    pub audio: Option<audio::Config>,
}

/// What a recording must know before its first packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Columns and rows.
    pub size: (u32, u32),
    /// Matrix and range.
    pub colour: Colour,
}

/// One frame as shown.
pub struct Shown<'a> {
    /// The decoded LR frame.
    pub frame: &'a Frame,
    /// Columns and rows, s times the frame's.
    pub size: (u32, u32),
    /// (s·h, s·w, 4) RGBA; empty where the picture stayed on the device.
    pub rgba: &'a [u8],
    /// The picture where it stayed on the device, until the second frame after it.
    pub texture: Option<wgpu::Texture>,
    /// How it was upscaled.
    pub mode: Mode,
}

/// In which form a frame is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wants {
    /// In host memory.
    Bytes,
    /// Where it was made, if that is a device that can draw.
    Anywhere,
    /// Not at all: it is not even upscaled.
    Nothing,
}

/// Takes what a viewer shows.
pub trait Sink: Send {
    /// The stream is known; called once, before anything else of it.
    ///
    /// # Errors
    /// Ends the viewer.
    fn start(&mut self, _stream: &Stream) -> Result<()> {
        Ok(())
    }

    /// One access unit that could be decoded, in the order of decoding, from a keyframe on.
    ///
    /// # Errors
    /// Ends the viewer.
    fn packet(&mut self, _packet: &Packet, _format: &Format) -> Result<()> {
        Ok(())
    }

    /// One packet of audio as it came, times growing; about when the pictures beside it come, and before they are shown.
    ///
    /// # Errors
    /// Ends the viewer.
    fn audio(&mut self, _packet: audio::Packet) -> Result<()> {
        Ok(())
    }

    /// One frame, in the order of showing. `screen` may be used to upscale it otherwise, for comparison.
    ///
    /// # Errors
    /// Ends the viewer.
    fn shown(&mut self, _shown: &Shown, _screen: &mut Screen) -> Result<()> {
        Ok(())
    }

    /// How long before it is heard a packet of audio is needed, so that the pictures wait for it; none where nobody
    /// listens.
    fn lead(&self) -> Option<Duration> {
        None
    }

    /// In which form the next frame is wanted.
    fn wants(&mut self) -> Wants {
        Wants::Bytes
    }

    /// Another device, if one was chosen since the last frame.
    fn target(&mut self) -> Option<Target> {
        None
    }

    /// The newest device that was chosen, for the next stream.
    fn newest_target(&mut self) -> Option<Target> {
        self.target()
    }

    /// The stream is over.
    ///
    /// # Errors
    /// Ends the viewer.
    fn end(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Lets streams be heard beside their pictures.
pub struct Heard {
    /// Takes the streams.
    pub sink: Box<dyn Sink>,
    /// Is told the media time of each picture when it was drawn.
    pub drawn: Box<dyn Fn(i64) + Send>,
}

/// Plays sound, but while `silent`; none in a build without it.
#[cfg(feature = "sound")]
pub fn heard(silent: &Arc<AtomicBool>) -> Option<Heard> {
    let player = sound::device::player(silent.clone());
    let tap = player.tap();
    Some(Heard { sink: Box::new(player), drawn: Box::new(move |pts_us| tap.drawn(pts_us)) })
}

/// Plays sound, but while `silent`; none in a build without it, as this is.
#[cfg(not(feature = "sound"))]
pub fn heard(_silent: &Arc<AtomicBool>) -> Option<Heard> {
    None
}

/// What was received.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Received {
    /// Frames shown.
    pub frames: u64,
    /// Frames of the stream that were never shown: too late, lost or damaged.
    pub dropped: u64,
    /// Bytes of video.
    pub video_bytes: u64,
    /// Bytes of audio.
    pub audio_bytes: u64,
    /// Model updates applied.
    pub updates: u64,
    /// Bytes of model updates.
    pub model_bytes: u64,
    /// Version in force at the end.
    pub version: u64,
    /// [`Published::hash`](hone_model::Published::hash) of the weights in force at the end.
    pub weights_hash: [u8; 16],
}

/// What the screen's thread takes in.
enum Input {
    /// What the stream will be.
    Stream(Box<Stream>),
    /// An access unit, and when it arrived.
    Video(Message, Instant),
    /// A packet of audio, and when it arrived.
    Audio(Message, Instant),
    /// A model update.
    Model(Message),
}
