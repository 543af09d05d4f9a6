//! Cameras over RTSP: H.264 access units and AAC with the camera's own times, through restarts and lost connections.
//!
//! The one part of this crate with sockets, a clock and tokio: each camera is a thread that hands on access units
//! through a bounded queue. Retina speaks the protocol and tolerates what cameras do to it; here is what a stream
//! needs besides: which errors end it and which are waited out, media time that goes on across connections, and the
//! camera's wall clock, by which two streams of one camera are matched.
//!
//! Source: RFC 2326 (RTSP), RFC 3550 clause 6.4.1 (sender reports), RFC 6184 (H.264 over RTP).

mod address;
mod backoff;
mod clock;
mod session;
mod sound;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

pub use address::{Address, AddressError, Credentials};

use crate::audio;
use crate::limits::MAX_ACCESS_UNIT_BYTES;

/// Access units and packets of audio that wait for their reader: two seconds at 30 Hz and 48 kHz. A reader that is
/// slower loses whole GOPs.
const UNITS_MAX: usize = 150;
/// The longest silence of a camera before it is asked anew. Slow cameras need seconds to make a first keyframe.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// How a camera's packets travel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Transport {
    /// In the RTSP connection: nothing is lost, and no firewall is in the way.
    #[default]
    Tcp,
    /// Beside it: no packet waits for a lost one; a loss costs the rest of the GOP.
    Udp,
}

/// A camera and how to reach it.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it is, and who we are there.
    pub address: Address,
    /// How its packets travel.
    pub transport: Transport,
    /// Whether its audio is wanted, too, where it is AAC.
    pub audio: bool,
    /// Seed of the jitter between attempts to connect; different for each sender, so that they do not come at once.
    pub seed: u64,
}

/// One coded picture, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessUnit {
    /// Annex B; parameter sets in front of each keyframe.
    pub data: Vec<u8>,
    /// When it is shown, in microseconds of media time: zero is the first picture ever, and a lost connection lasts
    /// as long as it lasted. Out of order where the camera codes B-frames.
    pub pts_us: i64,
    /// Whether decoding can start here.
    pub keyframe: bool,
    /// Whether it does not continue what came before: pictures between are missing. Always a keyframe.
    pub fresh: bool,
    /// The camera's wall clock at media time zero, in microseconds since 1970-01-01 UTC, once the camera has said it.
    pub zero_unix_us: Option<i64>,
}

/// What comes from a camera.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unit {
    /// A coded picture.
    Picture(AccessUnit),
    /// A packet of its audio, on the same clock.
    Audio(audio::Packet),
}

/// What a camera says of its streams before the first picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Video {
    /// Width and height in pixels, if told.
    pub size: Option<(u32, u32)>,
    /// Frame rate in Hz, if told; many cameras are wrong about it.
    pub fps: Option<f64>,
    /// How the audio beside it is coded, where it is wanted and can be taken.
    pub audio: Option<audio::Config>,
}

/// Why a camera gives no video. One line, without names or passwords.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No connection.
    #[error("the camera cannot be reached ({0})")]
    Unreachable(String),
    /// No answer, or no picture.
    #[error("the camera said nothing for {} s", SILENCE_MAX.as_secs())]
    Silent,
    /// Status 401 or 403.
    #[error("the camera refuses the user name or the password")]
    Credentials,
    /// Status 404 or 454.
    #[error("the camera has no stream of this path")]
    NoStream,
    /// Its streams are of other kinds.
    #[error("the camera sends no H.264{}; set it to H.264", found(.0))]
    NoH264(
        /// Encoding names of its video streams.
        Vec<String>,
    ),
    /// An access unit over the limit.
    #[error("the camera sends a picture of {0} bytes, over the limit of {MAX_ACCESS_UNIT_BYTES}")]
    TooLarge(usize),
    /// The connection ended, or broke the protocol.
    #[error("the connection to the camera is lost ({0})")]
    Lost(String),
    /// No thread or runtime to be had.
    #[error("no thread for the camera ({0})")]
    Thread(String),
}

impl Error {
    /// Whether another attempt would meet the same.
    fn is_final(&self) -> bool {
        matches!(self, Self::Credentials | Self::NoH264(_) | Self::Thread(_))
    }
}

fn found(codecs: &[String]) -> String {
    if codecs.is_empty() { String::new() } else { format!(" (but {})", codecs.join(", ")) }
}

/// A camera that is being read on a thread of its own, which ends when this is dropped.
pub struct Camera {
    video: Video,
    units: Receiver<Result<Unit, Error>>,
    ended: Arc<AtomicBool>,
}

impl Camera {
    /// Connects and starts the camera; blocks until it plays.
    ///
    /// Once it has played, a lost connection is made again after a pause that grows from half a second to half a
    /// minute, for as long as it takes.
    ///
    /// # Errors
    /// Whatever goes wrong with the first connection.
    pub fn connect(config: Config) -> Result<Self, Error> {
        let (to_us, units) = mpsc::sync_channel(UNITS_MAX);
        let (started, start) = mpsc::channel();
        let ended = Arc::new(AtomicBool::new(false));
        let theirs = ended.clone();
        let thread = std::thread::Builder::new().name("camera".into());
        let body = move || session::run(&config, &started, session::Queue::new(to_us), &theirs);
        thread.spawn(body).map_err(|error| Error::Thread(error.to_string()))?;
        let video = start.recv().map_err(|_| Error::Lost("its thread ended".into()))??;
        Ok(Self { video, units, ended })
    }

    /// What the camera said of its streams at first.
    #[must_use]
    pub fn video(&self) -> &Video {
        &self.video
    }

    /// The next access unit or packet of audio; None if none came within `timeout`.
    ///
    /// # Errors
    /// Those that no further attempt would heal; the camera is over then.
    pub fn next(&mut self, timeout: Duration) -> Result<Option<Unit>, Error> {
        match self.units.recv_timeout(timeout) {
            Ok(unit) => unit.map(Some),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(Error::Lost("its thread ended".into())),
        }
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}
