//! The sender's end of a stream, through every connection that it is lost on.

use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use hone_transport::catalog::Catalog;
use hone_transport::{Delivery, Error, Message, Subscription, Track, TrackReader};
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::sync::watch;
use tokio::time::Instant;

/// A sender that was cut off is waited for so long. Its viewers stay, and what was learned does.
const LINGER: Duration = Duration::from_secs(60);

/// How long audio and model updates may take to end after the video.
const LAST_BESIDE: Duration = Duration::from_secs(1);

/// What a sender sends.
pub enum Input {
    /// Another catalog, which holds from its media time on.
    Catalog(Message),
    /// An access unit.
    Video(Message),
    /// A packet of audio.
    Audio(Message),
    /// A training patch.
    Patch(Message),
    /// A model update, from a sender that learns.
    Model(Message),
}

impl Input {
    /// Payload, bytes.
    pub(super) fn bytes(&self) -> i64 {
        let (Self::Catalog(message)
        | Self::Video(message)
        | Self::Audio(message)
        | Self::Patch(message)
        | Self::Model(message)) = self;
        i64::try_from(message.payload.len()).unwrap_or(i64::MAX)
    }
}

/// One stream, over one connection of its sender after the other. It is the same stream as long as its newest catalog is the
/// same: that has the time of the sender's start in it.
pub struct Leg {
    subscription: Subscription,
    /// As it came, the newest.
    pub catalog: Bytes,
    /// Media time from which it holds.
    pub from_us: i64,
    /// Where another catalog comes, as long as one may: a change of scale is never missed, though nobody watches.
    catalogs: Option<TrackReader>,
    has: Has,
    /// None while nobody wants the stream: then the sender codes nothing.
    tracks: Option<Tracks>,
    /// Of the newest access unit. What a sender still keeps of before a pause was handed on before it.
    last_us: Option<i64>,
}

/// What a sender sends beside video.
#[derive(Clone, Copy)]
struct Has {
    audio: bool,
    /// Model updates in place of patches.
    model: bool,
}

struct Tracks {
    video: TrackReader,
    /// Until the first keyframe that is new: a group that an earlier reader began has lost its continuation.
    stale: bool,
    /// As long as there is any that can be taken.
    audio: Option<TrackReader>,
    /// As long as there are any.
    patches: Option<TrackReader>,
    /// Whether the sender is asked for them.
    patches_asked: bool,
    /// From a sender that learns.
    model: Option<TrackReader>,
}

impl Tracks {
    async fn open(subscription: &Subscription, has: Has) -> Result<Self, Error> {
        let open = async |track, has: bool| match has {
            true => subscription.track(track, Delivery::All).await.map(Some),
            false => Ok(None),
        };
        Ok(Self {
            video: subscription.track(Track::Video, Delivery::All).await?,
            stale: true,
            audio: open(Track::Audio, has.audio).await?,
            patches: open(Track::Patches, !has.model).await?,
            patches_asked: true,
            model: open(Track::Model, has.model).await?,
        })
    }
}

impl Leg {
    /// Reads the catalog and opens the tracks.
    ///
    /// # Errors
    /// What the connection says.
    pub async fn open(subscription: Subscription) -> Result<Self> {
        let mut catalogs = subscription.track(Track::Catalog, Delivery::All).await?;
        let first = catalogs.next().await?.context("it ended without a catalog")?;
        let (catalog, from_us) = (first.payload, first.pts_us);
        let parsed = Catalog::parse(&catalog)?;
        let has = Has { audio: parsed.audio_rendition().is_some(), model: learned_at_sender(&parsed) };
        let tracks = Some(Tracks::open(&subscription, has).await?);
        Ok(Self { subscription, catalog, from_us, catalogs: Some(catalogs), has, tracks, last_us: None })
    }

    /// Hands all messages to `to` until the stream ends or nobody takes them any more; none while it is not `wanted`.
    /// `patches_asked` is passed on to the sender. `returning` are broadcasts of the same name from later connections; one
    /// that is another stream is given back.
    ///
    /// # Errors
    /// What the stream was lost by, if the sender did not come back, or another server has it now; or why it cannot go on.
    pub async fn read(
        &mut self,
        returning: &mut Receiver<Subscription>,
        to: Sender<Input>,
        mut wanted: watch::Receiver<bool>,
        mut patches_asked: watch::Receiver<bool>,
    ) -> Result<Option<Subscription>> {
        loop {
            let error = match self.hand_on(&to, &mut wanted, &mut patches_asked).await {
                Ok(()) => return Ok(None),
                Err(error) => error,
            };
            let stream = self.subscription.name().to_owned();
            match error {
                Error::Lagged { .. } => {
                    tracing::warn!(stream, %error, "frames of the sender are lost");
                    // From the newest keyframe on; a catalog in between is handed on like any.
                    if let Ok(tracks) = Tracks::open(&self.subscription, self.has).await {
                        self.tracks = Some(tracks);
                        continue;
                    }
                }
                // It is there, and would send the same again.
                Error::MessageTooLarge { .. } | Error::GroupTooLarge { .. } | Error::Reassigned => {
                    return Err(error.into());
                }
                _ => {}
            }
            tracing::warn!(stream, %error, "sender lost, waiting for it");
            let until = Instant::now() + LINGER;
            *self = loop {
                let back = tokio::select! {
                    back = tokio::time::timeout_at(until, returning.recv()) => back,
                    () = to.closed() => return Ok(None),
                };
                let Ok(Some(back)) = back else { return Err(error.into()) };
                let instance = back.instance();
                match Self::open(back).await {
                    Ok(leg) if leg.catalog == self.catalog => break leg,
                    Ok(leg) => return Ok(Some(leg.subscription)),
                    Err(error) => tracing::debug!(stream, instance, %error, "lost again"),
                }
            };
            tracing::info!(stream, "the sender is back");
        }
    }

    /// Reads no more. Gives back the newest connection of its sender.
    pub fn close(self) -> Subscription {
        self.subscription
    }

    async fn hand_on(
        &mut self,
        to: &Sender<Input>,
        wanted: &mut watch::Receiver<bool>,
        patches_asked: &mut watch::Receiver<bool>,
    ) -> Result<(), Error> {
        loop {
            let (stream, resumed) = (self.subscription.name(), self.tracks.is_none());
            if !*wanted.borrow_and_update() {
                tracing::info!(stream, "nobody watches");
                self.tracks = None;
                tokio::select! {
                    // Without its sender there is nothing to want.
                    changed = wanted.changed() => if changed.is_err() { return Ok(()) },
                    () = self.subscription.closed() => return Err(Error::Disconnected("it ended unwatched".into())),
                    () = to.closed() => return Ok(()),
                }
                continue;
            }
            let tracks = match &mut self.tracks {
                Some(tracks) => tracks,
                none => none.insert(Tracks::open(&self.subscription, self.has).await?),
            };
            if resumed {
                tracing::info!(stream, "somebody watches");
            }
            tracks.ask_for_patches(*patches_asked.borrow_and_update());
            loop {
                let message = tokio::select! {
                    message = tracks.next(&self.subscription, &mut self.catalogs) => message?,
                    changed = wanted.changed() => { if changed.is_err() { return Ok(()) }; break }
                    Ok(()) = patches_asked.changed() => {
                        tracks.ask_for_patches(*patches_asked.borrow_and_update());
                        continue;
                    }
                    () = to.closed() => return Ok(()),
                };
                let Some(input) = message else {
                    tracks.hand_on_last(to).await;
                    return Ok(());
                };
                if let Input::Catalog(message) = &input {
                    if message.payload == self.catalog {
                        continue;
                    }
                    (self.catalog, self.from_us) = (message.payload.clone(), message.pts_us);
                }
                if let Input::Video(message) = &input {
                    tracks.stale &=
                        !(message.index == 0 && self.last_us.is_none_or(|last| message.pts_us > last));
                    if tracks.stale {
                        continue;
                    }
                    self.last_us = self.last_us.max(Some(message.pts_us));
                }
                if to.send(input).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
}

impl Tracks {
    /// Tells the sender whether patches are worth their bits.
    fn ask_for_patches(&mut self, more: bool) {
        self.patches_asked = more;
        if let Some(patches) = &mut self.patches
            && let Err(error) = patches.ask(more)
        {
            tracing::debug!(%error, "patches have ended");
        }
    }

    /// The next message; none once the video has ended.
    async fn next(
        &mut self,
        subscription: &Subscription,
        catalogs: &mut Option<TrackReader>,
    ) -> Result<Option<Input>, Error> {
        loop {
            let (track, message, input): (_, _, fn(Message) -> Input) = tokio::select! {
                // What pictures are, then they: everything else may wait, audio for as long as a message takes.
                biased;
                message = next(catalogs) => (Track::Catalog, message, Input::Catalog),
                message = self.video.next() => return Ok(message?.map(Input::Video)),
                message = next(&mut self.audio) => (Track::Audio, message, Input::Audio),
                message = next(&mut self.model) => (Track::Model, message, Input::Model),
                message = next(&mut self.patches) => (Track::Patches, message, Input::Patch),
            };
            let reader = match message {
                Ok(Some(message)) => return Ok(Some(input(message))),
                Ok(None) => None,
                // What is lost beside the video is no reason to stop that.
                Err(Error::Lagged { .. }) => Some(subscription.track(track, Delivery::All).await?),
                Err(error @ (Error::MessageTooLarge { .. } | Error::GroupTooLarge { .. })) => {
                    tracing::warn!(stream = subscription.name(), %error, "track left out");
                    None
                }
                // If the sender is lost, the video says so.
                Err(error) => {
                    tracing::debug!(stream = subscription.name(), %track, %error, "track broke off");
                    None
                }
            };
            match track {
                Track::Catalog => *catalogs = reader,
                Track::Audio => self.audio = reader,
                Track::Model => self.model = reader,
                _ => self.patches = reader,
            }
            self.ask_for_patches(self.patches_asked);
        }
    }

    /// What was sent beside the last picture, and is on its way.
    async fn hand_on_last(&mut self, to: &Sender<Input>) {
        let rest = async |reader: &mut Option<TrackReader>, input: fn(Message) -> Input| {
            let Some(reader) = reader else { return };
            while let Ok(Some(message)) = reader.next().await {
                if to.send(input(message)).await.is_err() {
                    break;
                }
            }
        };
        let last =
            async { tokio::join!(rest(&mut self.audio, Input::Audio), rest(&mut self.model, Input::Model)) };
        if tokio::time::timeout(LAST_BESIDE, last).await.is_err() {
            tracing::debug!("the other tracks did not end with the video");
        }
    }
}

/// Whether the sender learns the stream itself: then it has named its network and the updates that it sends.
pub(super) fn learned_at_sender(catalog: &Catalog) -> bool {
    catalog.hone.as_ref().is_some_and(|hone| !hone.update_format.is_empty())
}

/// The next message of a track that may not be there: then never.
pub(crate) async fn next(reader: &mut Option<TrackReader>) -> Result<Option<Message>, Error> {
    match reader {
        Some(reader) => reader.next().await,
        None => std::future::pending().await,
    }
}
