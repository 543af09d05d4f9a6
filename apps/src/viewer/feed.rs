//! From the network to the screen's thread.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use hone_transport::catalog::Catalog;
use hone_transport::{Client, Delivery, Error, Message, Subscription, Track, TrackReader};
use tokio::sync::mpsc::{self, Sender};

use super::{Input, Link, Monitor, Options, Received, Sink, Stream, show};
use crate::dial::Dialer;
use crate::server::{UPDATE_FORMAT, next, stopped};
use crate::sound;

/// Messages that wait for the screen; beyond, reading stops and the transport decides what is stale. As many as
/// come while a slow device upscales one frame, two of audio for each of video.
const SCREEN_QUEUE: usize = 48;
/// How far a group may fall behind before it is skipped.
const LATE_MAX: Duration = Duration::from_secs(2);
/// How long after the last frame an update or audio may come that was sent before it: every viewer of a stream ends
/// with the same weights.
const LAST_UPDATE: Duration = Duration::from_secs(1);

/// A stream that has begun, over a connection that may break.
pub struct Feed {
    client: Client,
    name: String,
    delivery: Delivery,
    /// Names this life of the stream, by its newest catalog: after a broken connection it may be the same, or another.
    life: (u64, Bytes),
    stream: Stream,
    tracks: Tracks,
}

/// The tracks of one connection.
struct Tracks {
    /// As long as there may be another.
    catalogs: Option<TrackReader>,
    video: TrackReader,
    /// As long as there is any that can be taken.
    audio: Option<TrackReader>,
    model: TrackReader,
}

impl Feed {
    /// Waits for broadcast `name` and reads its catalog.
    ///
    /// # Errors
    /// What the connection says, a catalog that cannot be used, or that `stop` was set.
    pub async fn begin(
        client: Client,
        name: &str,
        options: &Options,
        monitor: &Monitor,
        stop: &AtomicBool,
    ) -> Result<Self> {
        monitor.link(Link::Waiting);
        let delivery =
            if options.every_frame { Delivery::All } else { Delivery::Latest { max_age: LATE_MAX } };
        let begun = async {
            let subscription = client.subscribe(name).await?;
            let (catalogs, first) = catalogs(&subscription).await?;
            let (stream, catalog) = (stream_of(&first)?, first.payload);
            let tracks = Tracks::open(&subscription, catalogs, delivery, &stream).await?;
            Ok::<_, anyhow::Error>(((subscription.instance(), catalog), stream, tracks))
        };
        let (life, stream, tracks) = tokio::select! {
            begun = begun => begun?,
            () = stopped(stop) => bail!("stopped before stream `{name}` began"),
        };
        Ok(Self { client, name: name.to_owned(), delivery, life, stream, tracks })
    }

    /// Shows the stream until it ends, or goes on as another one, or `stop` is set. Whether it has ended, and the sink
    /// back.
    ///
    /// With a `dialer`, a broken connection is made again, and the picture and the weights stay meanwhile.
    ///
    /// # Errors
    /// What the connection, the device or the sink say.
    pub async fn show<S: Sink + 'static>(
        mut self,
        options: Options,
        mut sink: S,
        dialer: Option<&Dialer>,
        monitor: &Arc<Monitor>,
        stop: &Arc<AtomicBool>,
    ) -> (Result<(Received, End)>, S) {
        monitor.link(Link::Streaming);
        let (to_screen, inbox) = mpsc::channel(SCREEN_QUEUE);
        let stream = self.stream.clone();
        let showing = tokio::task::spawn_blocking({
            let (monitor, stop) = (monitor.clone(), stop.clone());
            move || {
                let shown = show::run(&stream, options, inbox, &mut sink, &monitor, &stop);
                (shown, sink)
            }
        });
        let fed = self.feed(&to_screen, dialer, monitor, stop).await;
        // What has come is shown, and the sink closed, also when the connection was lost.
        drop(to_screen);
        let (shown, sink) = match showing.await {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        self.client.close().await;
        (shown.and_then(|received| fed.map(|end| (received, end))), sink)
    }

    async fn feed(
        &mut self,
        to_screen: &Sender<Input>,
        dialer: Option<&Dialer>,
        monitor: &Monitor,
        stop: &AtomicBool,
    ) -> Result<End> {
        loop {
            let error = match self.tracks.read(to_screen, &mut self.life.1, stop).await {
                Ok(()) => return Ok(End::Ended),
                Err(error) => error,
            };
            let Some(dialer) = dialer else { return Err(error.into()) };
            tracing::warn!(%error, "stream lost, looking for it");
            monitor.lost(error.to_string());
            let found = tokio::select! {
                found = self.resume(dialer, monitor) => found?,
                () = stopped(stop) => return Ok(End::Ended),
            };
            if !found {
                return Ok(End::Another);
            }
            tracing::info!(stream = self.name, "stream found again");
            monitor.link(Link::Streaming);
        }
    }

    /// Connects again and finds the stream. False if its name now is another stream's.
    async fn resume(&mut self, dialer: &Dialer, monitor: &Monitor) -> Result<bool> {
        loop {
            self.client = dialer.reconnect().await?;
            monitor.link(Link::Waiting);
            let tried = async {
                let subscription = self.client.subscribe(&self.name).await?;
                let (catalogs, newest) = catalogs(&subscription).await?;
                let same = (subscription.instance(), newest.payload) == self.life;
                let tracks = Tracks::open(&subscription, catalogs, self.delivery, &self.stream).await?;
                Ok::<_, anyhow::Error>((same, tracks))
            };
            match tried.await {
                Ok((true, tracks)) => {
                    self.tracks = tracks;
                    return Ok(true);
                }
                Ok((false, _)) => return Ok(false),
                // Lost again: `reconnect` takes its time.
                Err(error) if error.downcast_ref::<Error>().is_some() => monitor.lost(format!("{error:#}")),
                Err(_) => return Ok(false),
            }
        }
    }
}

/// How a stream was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It has ended, or was stopped.
    Ended,
    /// Its name is another stream's now, or will be.
    Another,
}

/// The newest catalog, and where others come.
async fn catalogs(subscription: &Subscription) -> Result<(TrackReader, Message)> {
    let mut catalogs = subscription.track(Track::Catalog, Delivery::All).await?;
    let newest = catalogs.next().await?.context("the stream ended without a catalog")?;
    Ok((catalogs, newest))
}

fn stream_of(message: &Message) -> Result<Stream> {
    let catalog = &Catalog::parse(&message.payload)?;
    let (rendition, hone) =
        catalog.rendition().zip(catalog.hone.as_ref()).context("no video of ours in its catalog")?;
    if hone.update_format != UPDATE_FORMAT {
        bail!("the server's model updates are `{}`, this viewer reads `{UPDATE_FORMAT}`", hone.update_format);
    }
    Ok(Stream {
        from_us: message.pts_us,
        arch: hone.arch.parse()?,
        lr: (rendition.coded_width, rendition.coded_height),
        fps: rendition.framerate.unwrap_or(30.0),
        start_unix_us: hone.start_unix_us,
        audio: sound::config(catalog),
    })
}

impl Tracks {
    async fn open(
        subscription: &Subscription,
        catalogs: TrackReader,
        delivery: Delivery,
        stream: &Stream,
    ) -> Result<Self, Error> {
        let video = subscription.track(Track::Video, delivery).await?;
        let audio = match &stream.audio {
            Some(_) => Some(subscription.track(Track::Audio, delivery).await?),
            None => None,
        };
        // Old versions are of no use: a group opens with a snapshot of everything before it.
        let model = subscription.track(Track::Model, Delivery::Latest { max_age: Duration::ZERO }).await?;
        Ok(Self { catalogs: Some(catalogs), video, audio, model })
    }

    /// Moves messages from the network to the screen's thread until the video ends. `newest` is the newest catalog.
    async fn read(
        &mut self,
        to_screen: &Sender<Input>,
        newest: &mut Bytes,
        stop: &AtomicBool,
    ) -> Result<(), Error> {
        let mut model_open = true;
        loop {
            let input = tokio::select! {
                biased;
                message = next(&mut self.catalogs) => match message {
                    Ok(Some(message)) if message.payload == *newest => continue,
                    Ok(Some(message)) => match stream_of(&message) {
                        Ok(stream) => {
                            *newest = message.payload;
                            Input::Stream(Box::new(stream))
                        }
                        Err(error) => {
                            tracing::warn!(%error, "a change of the stream is not understood");
                            continue
                        }
                    },
                    // If the stream is lost, or ends, the video says so.
                    Ok(None) | Err(_) => { self.catalogs = None; continue }
                },
                message = self.model.next(), if model_open => match message? {
                    Some(message) => Input::Model(message),
                    None => { model_open = false; continue }
                },
                message = next(&mut self.audio) => match message {
                    Ok(Some(message)) => Input::Audio(message, Instant::now()),
                    Ok(None) => { self.audio = None; continue }
                    // The pictures are as good without it.
                    Err(error @ (Error::MessageTooLarge { .. } | Error::GroupTooLarge { .. })) => {
                        tracing::warn!(%error, "the stream's audio is left out from here on");
                        self.audio = None;
                        continue
                    }
                    Err(Error::Lagged { .. }) => { self.audio = None; continue }
                    Err(error) => return Err(error),
                },
                message = self.video.next() => match message? {
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
        let Self { audio, model, .. } = self;
        let last_updates = async {
            while let Ok(Some(message)) = model.next().await {
                if to_screen.send(Input::Model(message)).await.is_err() {
                    break;
                }
            }
        };
        let last_audio = async {
            let Some(audio) = audio else { return };
            while let Ok(Some(message)) = audio.next().await {
                if to_screen.send(Input::Audio(message, Instant::now())).await.is_err() {
                    break;
                }
            }
        };
        let rest = async { tokio::join!(last_audio, last_updates) };
        if tokio::time::timeout(LAST_UPDATE, rest).await.is_err() {
            tracing::debug!("the other tracks did not end with the video");
        }
        Ok(())
    }
}
