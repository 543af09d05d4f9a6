//! Receives a stream and its weights, and hands upscaled frames to a sink.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hone_media::encode::Packet;
use hone_media::frame::Frame;
use hone_model::Arch;
use hone_runtime::{Budget, Mode, Preference};
use hone_transport::catalog::Catalog;
use hone_transport::{Client, Delivery, Message, Track};

use crate::screen::Screen;
use crate::server::{UPDATE_FORMAT, stopped};

/// Messages that wait for the screen; beyond, reading stops and the transport decides what is stale.
const SCREEN_QUEUE: usize = 8;

/// How to view.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The device.
    pub device: Preference,
    /// Every frame in order, however late, and by the network, however slow: for measuring. Otherwise late
    /// groups are skipped and a slow device steps down to bicubic.
    pub every_frame: bool,
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
}

/// One frame as shown.
pub struct Shown<'a> {
    /// The decoded LR frame.
    pub frame: &'a Frame,
    /// (s·h, s·w, 4) RGBA.
    pub rgba: &'a [u8],
    /// How it was upscaled.
    pub mode: Mode,
}

/// Takes what a viewer shows.
pub trait Sink: Send {
    /// The stream is known; called once, before anything else.
    ///
    /// # Errors
    /// Ends the viewer.
    fn start(&mut self, _stream: &Stream) -> Result<()> {
        Ok(())
    }

    /// One access unit as it came, in the order of decoding.
    ///
    /// # Errors
    /// Ends the viewer.
    fn packet(&mut self, _packet: &Packet) -> Result<()> {
        Ok(())
    }

    /// One frame, in the order of showing. `screen` may be used to upscale it otherwise, for comparison.
    ///
    /// # Errors
    /// Ends the viewer.
    fn shown(&mut self, _shown: &Shown, _screen: &mut Screen) -> Result<()> {
        Ok(())
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
    /// Frames of the stream that were never shown: skipped as late, or damaged.
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

/// Views broadcast `name` until it ends or `stop` is set; waits for it to begin.
///
/// # Errors
/// What the connection, the device or the sink say.
pub async fn run<S: Sink + 'static>(
    client: &Client,
    name: &str,
    options: Options,
    sink: S,
    stop: Arc<AtomicBool>,
) -> Result<(Received, S)> {
    let subscription = tokio::select! {
        subscription = client.subscribe(name) => subscription?,
        () = stopped(&stop) => bail!("stopped before stream `{name}` began"),
    };
    let tracks = async {
        let mut catalog = subscription.track(Track::Catalog, Delivery::All).await?;
        let catalog = catalog.next().await?.context("the stream ended without a catalog")?;
        let stream = read(&Catalog::parse(&catalog.payload)?)?;
        let delivery =
            if options.every_frame { Delivery::All } else { Delivery::Latest { max_age: LATE_MAX } };
        let video = subscription.track(Track::Video, delivery).await?;
        // Old versions are of no use: a group opens with a snapshot of everything before it.
        let model = subscription.track(Track::Model, Delivery::Latest { max_age: Duration::ZERO }).await?;
        anyhow::Ok((stream, video, model))
    };
    let (stream, mut video, mut model) = tokio::select! {
        tracks = tracks => tracks?,
        () = stopped(&stop) => bail!("stopped before stream `{name}` began"),
    };

    let (to_screen, inbox) = tokio::sync::mpsc::channel(SCREEN_QUEUE);
    let screen_stop = stop.clone();
    let showing = tokio::task::spawn_blocking(move || {
        let mut show = Show { inbox, options, sink, received: Received::default(), stop: screen_stop };
        show.run(&stream).map(|()| (show.received, show.sink))
    });
    let reading = async {
        let mut model_open = true;
        loop {
            let input = tokio::select! {
                biased;
                message = model.next(), if model_open => match message? {
                    Some(message) => Input::Model(message),
                    None => { model_open = false; continue }
                },
                message = video.next() => match message? {
                    Some(message) => Input::Video(message),
                    None => break,
                },
                () = stopped(&stop) => return Ok(()),
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
        anyhow::Ok(())
    };
    let read = reading.await;
    // What has come is shown, and the sink closed, also when the connection was lost.
    drop(to_screen);
    let shown = showing.await??;
    read.map(|()| shown)
}

fn read(catalog: &Catalog) -> Result<Stream> {
    let (rendition, hone) =
        catalog.rendition().zip(catalog.hone.as_ref()).context("no video of ours in its catalog")?;
    if hone.update_format != UPDATE_FORMAT {
        bail!("the server's model updates are `{}`, this viewer reads `{UPDATE_FORMAT}`", hone.update_format);
    }
    Ok(Stream {
        arch: hone.arch.parse()?,
        lr: (rendition.coded_width, rendition.coded_height),
        fps: rendition.framerate.unwrap_or(30.0),
    })
}

enum Input {
    Video(Message),
    Model(Message),
}

/// The screen's thread.
struct Show<S> {
    inbox: tokio::sync::mpsc::Receiver<Input>,
    options: Options,
    sink: S,
    received: Received,
    stop: Arc<AtomicBool>,
}

impl<S: Sink> Show<S> {
    fn run(&mut self, stream: &Stream) -> Result<()> {
        let mut screen = Screen::new(stream.arch, self.options.device)?;
        tracing::info!(arch = %stream.arch, backend = screen.backend(), "stream found");
        self.sink.start(stream)?;
        let mut budget = Budget::new(Duration::from_secs_f64(1.0 / stream.fps.clamp(1.0, 240.0)));
        let mut rgba = vec![];
        let mut last: Option<(u64, u64)> = None;
        while let Some(input) = self.inbox.blocking_recv() {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            match input {
                Input::Model(message) => self.update(&mut screen, &message),
                Input::Video(message) => {
                    // A hole in the group or before it: frames that were skipped.
                    if let Some((group, index)) = last.replace((message.group, message.index))
                        && message.group == group
                    {
                        self.received.dropped += message.index.saturating_sub(index + 1);
                    }
                    self.received.video_bytes += message.payload.len() as u64;
                    let keyframe = message.index == 0;
                    let packet = Packet { data: message.payload.into(), pts_us: message.pts_us, keyframe };
                    self.sink.packet(&packet)?;
                    match screen.decode(&packet.data, packet.pts_us) {
                        Ok(frames) => self.show(&mut screen, &mut budget, &frames, &mut rgba)?,
                        Err(error) => {
                            self.received.dropped += 1;
                            tracing::debug!(%error, "frame dropped");
                        }
                    }
                }
            }
        }
        let frames = screen.flush().unwrap_or_default();
        self.show(&mut screen, &mut budget, &frames, &mut rgba)?;
        self.received.version = screen.held().version();
        self.received.weights_hash = screen.held().hash();
        self.sink.end()
    }

    fn update(&mut self, screen: &mut Screen, message: &Message) {
        self.received.model_bytes += message.payload.len() as u64;
        match screen.update(&message.payload) {
            Ok(header) => {
                self.received.updates += 1;
                tracing::info!(version = header.version, gain_db = header.gain_db, "weights in force");
            }
            Err(error) => tracing::warn!(%error, "model update refused, the weights in force stay"),
        }
    }

    fn show(
        &mut self,
        screen: &mut Screen,
        budget: &mut Budget,
        frames: &[Frame],
        rgba: &mut Vec<u8>,
    ) -> Result<()> {
        for frame in frames {
            let mode = match screen.mode() {
                Mode::Network if !self.options.every_frame => budget.mode(),
                mode => mode,
            };
            let start = Instant::now();
            screen.upscale(frame, mode, rgba)?;
            budget.record(start.elapsed());
            self.received.frames += 1;
            self.sink.shown(&Shown { frame, rgba, mode }, screen)?;
        }
        Ok(())
    }
}
