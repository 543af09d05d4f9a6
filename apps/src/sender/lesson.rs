//! Learning where the camera is: a thread that takes the stream and pairs, and gives model updates.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;
use hone_media::encode::Packet;
use hone_trainer::{Event, Pair, Publication, Trainer};

use crate::learner::Learner;

/// Messages that wait for the learner: about ten seconds of video. The stream never waits for it.
const INBOX: usize = 300;
/// Updates that wait for the stream, which takes them between two frames.
const PUBLICATIONS_MAX: usize = 4;
/// How long an idle learner sleeps when nothing wakes it.
const IDLE: Duration = Duration::from_millis(100);

enum Input {
    Video(Vec<u8>, i64),
    Pair(Pair),
}

/// A learner at work. It ends when it is dropped.
pub struct Lesson {
    to: Option<SyncSender<Input>>,
    updates: Receiver<Publication>,
    thread: Option<JoinHandle<()>>,
}

impl Lesson {
    /// Begins with what `trainer` holds.
    ///
    /// # Errors
    /// If the codec or a thread cannot be opened.
    pub fn start(trainer: Trainer) -> Result<Self> {
        let learner = Learner::new(trainer)?;
        let (to, inbox) = sync_channel(INBOX);
        let (publish, updates) = sync_channel(PUBLICATIONS_MAX);
        let thread = std::thread::Builder::new()
            .name("learner".into())
            .spawn(move || learn(learner, &inbox, &publish))?;
        Ok(Self { to: Some(to), updates, thread: Some(thread) })
    }

    /// What viewers see next.
    pub(super) fn video(&self, packet: &Packet) {
        self.give(Input::Video(packet.data.clone(), packet.pts_us));
    }

    /// What it should have been, in one place.
    pub(super) fn pair(&self, pair: Pair) {
        self.give(Input::Pair(pair));
    }

    fn give(&self, input: Input) {
        if self.to.as_ref().is_some_and(|to| to.try_send(input).is_err()) {
            tracing::debug!("the learner is behind, a message is dropped");
        }
    }

    /// An update for the viewers, if there is one.
    pub(super) fn update(&self) -> Option<Publication> {
        self.updates.try_recv().ok()
    }
}

impl Drop for Lesson {
    fn drop(&mut self) {
        self.to = None;
        // One that waits to be taken would hold it up.
        while self.updates.recv().is_ok() {}
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn learn(mut learner: Learner, inbox: &Receiver<Input>, publish: &SyncSender<Publication>) {
    tracing::info!(backend = learner.trainer.backend(), "the sender learns");
    let mut idle = true;
    loop {
        // Everything that has come, then one step; with nothing to do, wait for a message.
        loop {
            let input = match idle {
                true => inbox.recv_timeout(IDLE).map_err(|e| e == RecvTimeoutError::Disconnected),
                false => inbox.try_recv().map_err(|e| e == TryRecvError::Disconnected),
            };
            match input {
                Ok(Input::Video(data, pts_us)) => {
                    if let Err(error) = learner.video(&data, pts_us) {
                        tracing::debug!(%error, "a picture is missing for training");
                    }
                }
                Ok(Input::Pair(pair)) => {
                    idle = false;
                    if let Err(error) = learner.pair(pair) {
                        tracing::warn!(%error, "training pair refused");
                    }
                }
                Err(true) => return,
                Err(false) => break,
            }
        }
        match learner.trainer.step() {
            Ok(Event::Idle(_)) => idle = true,
            Ok(Event::Stepped { .. }) => idle = false,
            // The video goes on.
            Err(error) => {
                tracing::error!(%error, "training step failed");
                idle = true;
            }
            Ok(Event::Published(publication)) => {
                idle = false;
                let Publication { version, gain_db, ref update, snapshot } = publication;
                tracing::info!(version, gain_db, bytes = update.len(), snapshot, "model update");
                if publish.send(publication).is_err() {
                    return;
                }
            }
        }
    }
}
