//! Learning where the camera is: a thread that takes the stream and pairs, and gives model updates.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Result, anyhow};
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
    thread: Option<JoinHandle<Result<()>>>,
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
        if let Some(Err(TrySendError::Full(_))) = self.to.as_ref().map(|to| to.try_send(input)) {
            tracing::debug!("the learner is behind, a message is dropped");
        }
    }

    /// An update for the viewers, if there is one.
    ///
    /// # Errors
    /// Why it has ended.
    pub(super) fn update(&mut self) -> Result<Option<Publication>> {
        match self.updates.try_recv() {
            Ok(publication) => Ok(Some(publication)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => match self.thread.take().map(JoinHandle::join) {
                Some(Ok(ended)) => ended.map(|()| None),
                Some(Err(_)) => Err(anyhow!("the learner failed")),
                None => Ok(None),
            },
        }
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

fn learn(mut learner: Learner, inbox: &Receiver<Input>, publish: &SyncSender<Publication>) -> Result<()> {
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
                    learner.pair(pair)?;
                }
                Err(true) => return Ok(()),
                Err(false) => break,
            }
        }
        match learner.trainer.step()? {
            Event::Idle(_) => idle = true,
            Event::Stepped { .. } => idle = false,
            Event::Published(publication) => {
                idle = false;
                let Publication { version, gain_db, ref update, snapshot } = publication;
                tracing::info!(version, gain_db, bytes = update.len(), snapshot, "model update");
                if publish.send(publication).is_err() {
                    return Ok(());
                }
            }
        }
    }
}
