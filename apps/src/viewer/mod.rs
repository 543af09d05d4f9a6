//! Receives a stream and its weights, and hands upscaled frames to a sink.

mod log;
mod monitor;
mod outputs;
mod pace;
mod show;
mod state;
mod stats;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hone_media::encode::Packet;
use hone_media::frame::{Colour, Frame};
use hone_model::Arch;
use hone_runtime::{Mode, wgpu};
use hone_transport::catalog::Catalog;
use hone_transport::{Client, Delivery, Message, Track, TrackReader};

use crate::screen::{Screen, Target};
use crate::server::{UPDATE_FORMAT, stopped};

pub use log::Log;
pub use monitor::{Monitor, ShownFrame};
pub use outputs::{Files, Outputs};
pub use pace::Playout;
pub use state::{Facts, Link, State};
pub use stats::{Pass, Stats, latency};

/// Messages that wait for the screen; beyond, reading stops and the transport decides what is stale. As many as
/// come while a slow device upscales one frame.
const SCREEN_QUEUE: usize = 16;

/// How to view.
#[derive(Clone, Default)]
pub struct Options {
    /// The device.
    pub target: Target,
    /// Every frame in order, however late, and by the network, however slow: for measuring. Otherwise frames are
    /// shown at their media time, late ones are dropped, and a slow device steps down to bicubic.
    pub every_frame: bool,
    /// Whether each pass on a GPU is timed, for the statistics: costs a little.
    pub time_passes: bool,
    /// Whether the CPU takes over from any device that fails, also from one that was asked for by name.
    pub fall_back: bool,
}

/// How far a group may fall behind before it is skipped.
const LATE_MAX: Duration = Duration::from_secs(2);

/// How long after the last frame an update may come that was sent before it: every viewer of a stream ends with
/// the same weights.
const LAST_UPDATE: Duration = Duration::from_secs(1);

/// What is known of a stream before its first frame.
#[derive(Clone, Debug)]
pub struct Stream {
    /// The network.
    pub arch: Arch,
    /// Columns and rows of the stream.
    pub lr: (u32, u32),
    /// Frames a second.
    pub fps: f64,
    /// Wall clock at media time 0, microseconds since 1970-01-01 UTC; 0 where nobody knows.
    pub start_unix_us: u64,
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

    /// One frame, in the order of showing. `screen` may be used to upscale it otherwise, for comparison.
    ///
    /// # Errors
    /// Ends the viewer.
    fn shown(&mut self, _shown: &Shown, _screen: &mut Screen) -> Result<()> {
        Ok(())
    }

    /// In which form the next frame is wanted.
    fn wants(&mut self) -> Wants {
        Wants::Bytes
    }

    /// Another device, if one was chosen since the last frame.
    fn target(&mut self) -> Option<Target> {
        None
    }

    /// The stream is over.
    ///
    /// # Errors
    /// Ends the viewer.
    fn end(&mut self) -> Result<()> {
        Ok(())
    }
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
    /// Model updates applied.
    pub updates: u64,
    /// Bytes of model updates.
    pub model_bytes: u64,
    /// Version in force at the end.
    pub version: u64,
    /// [`Published::hash`](hone_model::Published::hash) of the weights in force at the end.
    pub weights_hash: [u8; 16],
}

/// Views broadcast `name` until it ends or `stop` is set; waits for it to begin. Gives the sink back.
///
/// # Errors
/// What the connection, the device or the sink say.
pub async fn run<S: Sink + 'static>(
    client: &Client,
    name: &str,
    options: Options,
    sink: S,
    monitor: &Arc<Monitor>,
    stop: &Arc<AtomicBool>,
) -> (Result<Received>, S) {
    match begin(client, name, &options, monitor, stop).await {
        Ok(begun) => begun.show(options, sink, monitor, stop).await,
        Err(error) => (Err(error), sink),
    }
}

/// A stream that has begun.
pub struct Begun {
    stream: Stream,
    video: TrackReader,
    model: TrackReader,
}

/// Waits for broadcast `name` and reads its catalog.
///
/// # Errors
/// What the connection says, a catalog that cannot be used, or that `stop` was set.
pub async fn begin(
    client: &Client,
    name: &str,
    options: &Options,
    monitor: &Monitor,
    stop: &AtomicBool,
) -> Result<Begun> {
    monitor.link(Link::Waiting);
    let begun = async {
        let subscription = client.subscribe(name).await?;
        let mut catalog = subscription.track(Track::Catalog, Delivery::All).await?;
        let catalog = catalog.next().await?.context("the stream ended without a catalog")?;
        let stream = stream_of(&Catalog::parse(&catalog.payload)?)?;
        let delivery =
            if options.every_frame { Delivery::All } else { Delivery::Latest { max_age: LATE_MAX } };
        let video = subscription.track(Track::Video, delivery).await?;
        // Old versions are of no use: a group opens with a snapshot of everything before it.
        let model = subscription.track(Track::Model, Delivery::Latest { max_age: Duration::ZERO }).await?;
        Ok(Begun { stream, video, model })
    };
    tokio::select! {
        begun = begun => begun,
        () = stopped(stop) => bail!("stopped before stream `{name}` began"),
    }
}

impl Begun {
    /// Shows the stream until it ends or `stop` is set. Gives the sink back.
    ///
    /// # Errors
    /// What the connection, the device or the sink say.
    pub async fn show<S: Sink + 'static>(
        self,
        options: Options,
        mut sink: S,
        monitor: &Arc<Monitor>,
        stop: &Arc<AtomicBool>,
    ) -> (Result<Received>, S) {
        monitor.link(Link::Streaming);
        let (to_screen, inbox) = tokio::sync::mpsc::channel(SCREEN_QUEUE);
        let stream = self.stream;
        let showing = tokio::task::spawn_blocking({
            let (monitor, stop) = (monitor.clone(), stop.clone());
            move || {
                let shown = show::run(&stream, options, inbox, &mut sink, &monitor, &stop);
                (shown, sink)
            }
        });
        // What has come is shown, and the sink closed, also when the connection was lost.
        let read = read(self.video, self.model, to_screen, stop).await;
        let (shown, sink) = match showing.await {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        (shown.and_then(|received| read.map(|()| received)), sink)
    }
}

fn stream_of(catalog: &Catalog) -> Result<Stream> {
    let (rendition, hone) =
        catalog.rendition().zip(catalog.hone.as_ref()).context("no video of ours in its catalog")?;
    if hone.update_format != UPDATE_FORMAT {
        bail!("the server's model updates are `{}`, this viewer reads `{UPDATE_FORMAT}`", hone.update_format);
    }
    Ok(Stream {
        arch: hone.arch.parse()?,
        lr: (rendition.coded_width, rendition.coded_height),
        fps: rendition.framerate.unwrap_or(30.0),
        start_unix_us: hone.start_unix_us,
    })
}

/// What the screen's thread takes in.
enum Input {
    /// An access unit, and when it arrived.
    Video(Message, Instant),
    /// A model update.
    Model(Message),
}

/// Moves messages from the network to the screen's thread until the video ends.
async fn read(
    mut video: TrackReader,
    mut model: TrackReader,
    to_screen: tokio::sync::mpsc::Sender<Input>,
    stop: &AtomicBool,
) -> Result<()> {
    let mut model_open = true;
    loop {
        let input = tokio::select! {
            biased;
            message = model.next(), if model_open => match message? {
                Some(message) => Input::Model(message),
                None => { model_open = false; continue }
            },
            message = video.next() => match message? {
                Some(message) => Input::Video(message, Instant::now()),
                None => break,
            },
            () = stopped(stop) => return Ok(()),
            // The screen has failed: its own error says why.
            () = to_screen.closed() => return Ok(()),
        };
        if to_screen.send(input).await.is_err() {
            return Ok(());
        }
    }
    let last_updates = async {
        while let Ok(Some(message)) = model.next().await {
            if to_screen.send(Input::Model(message)).await.is_err() {
                break;
            }
        }
    };
    if model_open && tokio::time::timeout(LAST_UPDATE, last_updates).await.is_err() {
        tracing::debug!("the model track did not end with the video");
    }
    Ok(())
}
