//! The sender's end of a stream, through every connection that it is lost on.

use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use hone_transport::catalog::Catalog;
use hone_transport::{Delivery, Error, Message, Subscription, Track, TrackReader};
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::time::Instant;

/// A sender that was cut off is waited for so long. Its viewers stay, and what was learned does.
const LINGER: Duration = Duration::from_secs(60);

/// How long audio may take to end after the video.
const LAST_AUDIO: Duration = Duration::from_secs(1);

/// What a sender sends.
pub enum Input {
    /// An access unit.
    Video(Message),
    /// A packet of audio.
    Audio(Message),
    /// A training patch.
    Patch(Message),
}

/// One stream, over one connection of its sender after the other. It is the same stream as long as its catalog is the
/// same: that has the time of the sender's start in it.
pub struct Leg {
    subscription: Subscription,
    /// As it came.
    pub catalog: Bytes,
    video: TrackReader,
    /// As long as there is any that can be taken.
    audio: Option<TrackReader>,
    patches: TrackReader,
}

impl Leg {
    /// Reads the catalog and opens the tracks.
    ///
    /// # Errors
    /// What the connection says.
    pub async fn open(subscription: Subscription) -> Result<Self> {
        let mut catalog = subscription.track(Track::Catalog, Delivery::All).await?;
        let catalog = catalog.next().await?.context("it ended without a catalog")?.payload;
        let video = subscription.track(Track::Video, Delivery::All).await?;
        let audio = match Catalog::parse(&catalog)?.audio_rendition() {
            Some(_) => Some(subscription.track(Track::Audio, Delivery::All).await?),
            None => None,
        };
        let patches = subscription.track(Track::Patches, Delivery::All).await?;
        Ok(Self { subscription, catalog, video, audio, patches })
    }

    /// Hands all messages to `to` until the stream ends or nobody takes them any more. `returning` are broadcasts of the
    /// same name from later connections; one that is another stream is given back.
    ///
    /// # Errors
    /// What the stream was lost by, if the sender did not come back.
    pub async fn read(
        mut self,
        returning: &mut Receiver<Subscription>,
        to: Sender<Input>,
    ) -> Result<Option<Subscription>> {
        loop {
            let error = match self.hand_on(&to).await {
                Ok(()) => return Ok(None),
                Err(error) => error,
            };
            let stream = self.subscription.name().to_owned();
            if let Error::Lagged { .. } = error {
                tracing::warn!(stream, %error, "frames of the sender are lost");
                // From the newest keyframe on.
                self = Self::open(self.subscription).await?;
                continue;
            }
            tracing::warn!(stream, %error, "sender lost, waiting for it");
            let until = Instant::now() + LINGER;
            self = loop {
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

    async fn hand_on(&mut self, to: &Sender<Input>) -> Result<(), Error> {
        let mut patches_open = true;
        loop {
            let input = tokio::select! {
                // Video first: everything else may wait, audio for as long as a message takes.
                biased;
                message = self.video.next() => match message? {
                    Some(message) => Input::Video(message),
                    None => {
                        self.hand_on_last_audio(to).await;
                        return Ok(());
                    }
                },
                message = next(&mut self.audio) => match message {
                    Ok(Some(message)) => Input::Audio(message),
                    Ok(None) => { self.audio = None; continue }
                    Err(Error::Lagged { .. }) => {
                        self.audio = Some(self.subscription.track(Track::Audio, Delivery::All).await?);
                        continue
                    }
                    // The pictures are as good without it.
                    Err(error @ (Error::MessageTooLarge { .. } | Error::GroupTooLarge { .. })) => {
                        tracing::warn!(stream = self.subscription.name(), %error, "its audio is left out");
                        self.audio = None;
                        continue
                    }
                    Err(error) => return Err(error),
                },
                message = self.patches.next(), if patches_open => match message {
                    Ok(Some(message)) => Input::Patch(message),
                    Ok(None) => { patches_open = false; continue }
                    // Patches that are lost are no reason to stop the video.
                    Err(Error::Lagged { .. }) => {
                        self.patches = self.subscription.track(Track::Patches, Delivery::All).await?;
                        continue
                    }
                    Err(error) => return Err(error),
                },
                () = to.closed() => return Ok(()),
            };
            if to.send(input).await.is_err() {
                return Ok(());
            }
        }
    }

    /// What was sent beside the last picture, and is on its way.
    async fn hand_on_last_audio(&mut self, to: &Sender<Input>) {
        let Some(audio) = &mut self.audio else { return };
        let last = async {
            while let Ok(Some(message)) = audio.next().await {
                if to.send(Input::Audio(message)).await.is_err() {
                    break;
                }
            }
        };
        if tokio::time::timeout(LAST_AUDIO, last).await.is_err() {
            tracing::debug!("the audio did not end with the video");
        }
    }
}

/// The next message of a track that may not be there: then never.
pub(crate) async fn next(reader: &mut Option<TrackReader>) -> Result<Option<Message>, Error> {
    match reader {
        Some(reader) => reader.next().await,
        None => std::future::pending().await,
    }
}
