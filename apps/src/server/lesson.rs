//! A stream's learner: a thread that takes what the relay hands on, and trains.

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use hone_media::decode;
use hone_model::Published;
use hone_trainer::{Event, Publication, Trainer};
use hone_transport::seldom::Seldom;
use tokio::sync::{mpsc as channel, watch as latest};

use super::leg::Input;
use super::metrics::{Shown, Stream};
use super::models::Models;
use super::{Options, Sizes, Watch};
use crate::learner::{self, Learner};
use crate::turns::Turns;

/// How long an idle learner sleeps when no message wakes it.
const IDLE: Duration = Duration::from_millis(100);
/// A learned model is written to disk at most this often, and at the end of its stream.
const SAVE_EVERY: Duration = Duration::from_secs(10);

/// Which stream a learner learns, and who wants to know.
pub(super) struct Lesson {
    pub(super) name: String,
    pub(super) trainer: Options,
    pub(super) shown: Shown,
    pub(super) models: Option<Models>,
    pub(super) watch: Arc<dyn Watch>,
    /// Whether the stream is worth learning now.
    pub(super) wanted: latest::Receiver<bool>,
    /// Whether patches are worth their bits.
    pub(super) patches_asked: latest::Sender<bool>,
    /// What its pictures are, or will be.
    pub(super) resized: latest::Receiver<Sizes>,
}

impl Lesson {
    /// Who learns pictures of these sizes; it goes on from what was saved of such.
    ///
    /// # Errors
    /// If there is no such network, or the codec cannot be opened.
    pub(super) fn learner(&self, sizes: &Sizes) -> Result<Learner> {
        let mut learner = Learner::with_limits(self.trainer.trainer(sizes.arch)?, sizes.decoder)?;
        if let Some(saved) = self.models.as_ref().and_then(|models| models.load(&self.name, sizes.arch)) {
            let version = saved.newest().map(Published::version);
            tracing::info!(stream = self.name, version, "goes on from its saved model");
            learner.trainer.resume(saved)?;
        }
        Ok(learner)
    }

    /// Decodes, trains and publishes until the stream ends.
    ///
    /// # Errors
    /// If the stream is not what its catalog says.
    pub(super) fn learn(
        &self,
        mut learner: Learner,
        turns: &Turns,
        inbox: &mpsc::Receiver<Input>,
        publications: &channel::Sender<Publication>,
    ) -> Result<()> {
        let Self { name: stream, shown, watch, .. } = self;
        let figures = &shown.stream;
        let mut saver = Saver { lesson: self, unsaved: false, saved: Instant::now() };
        let place = turns.join();
        let mut idle = true;
        // Media time from which its sizes hold, and the newest ones.
        let mut from_us = self.resized.borrow().from_us;
        let mut resized = self.resized.clone();
        let mut complaints = Complaints::new(stream, figures);
        loop {
            // Everything that has come, then one step; with nothing to do, wait for a message.
            loop {
                let input = match idle {
                    true => inbox.recv_timeout(IDLE).map_err(|e| e == mpsc::RecvTimeoutError::Disconnected),
                    false => inbox.try_recv().map_err(|e| e == mpsc::TryRecvError::Disconnected),
                };
                if let Ok(input) = &input {
                    figures.learner_queue.add(-1);
                    figures.learner_bytes.add(-input.bytes());
                }
                match input {
                    Ok(Input::Video(message)) => {
                        let due = |sizes: &Sizes| sizes.from_us > from_us && message.pts_us >= sizes.from_us;
                        if due(&resized.borrow_and_update()) {
                            let sizes = resized.borrow().clone();
                            saver.save(&learner.trainer);
                            learner = self.learner(&sizes)?;
                            from_us = sizes.from_us;
                        }
                        if message.pts_us < from_us {
                            continue;
                        }
                        let looked_at = match begins_a_unit(&message.payload) {
                            true => learner.video(&message.payload, message.pts_us),
                            false => Err(decode::Error::Codec("it is no H.264 in Annex B".into())),
                        };
                        match looked_at {
                            Ok(()) => figures.learned_pts_us.set(message.pts_us),
                            Err(decode::Error::Unsupported(lie @ decode::Unsupported::Size { .. })) => {
                                bail!("its pictures are not what its catalog says: {lie}");
                            }
                            Err(error) => complaints.picture(&error),
                        }
                        learner.refused().iter().for_each(|error| complaints.patch(error));
                    }
                    Ok(Input::Patch(message)) => {
                        idle = false;
                        if let Err(error) = learner.patch(message.pts_us, message.payload.into()) {
                            complaints.patch(&error);
                        }
                    }
                    // Nothing is learned from them: the relay keeps them to itself.
                    Ok(Input::Catalog(_) | Input::Audio(_) | Input::Model(_)) => {}
                    Err(true) => {
                        saver.save(&learner.trainer);
                        return Ok(());
                    }
                    Err(false) => break,
                }
            }
            let asks = learner.asks_for_patches();
            if self.patches_asked.send_if_modified(|asked| std::mem::replace(asked, asks) != asks) {
                tracing::info!(stream, asks, "training patches");
            }
            if !*self.wanted.borrow() {
                idle = true;
                continue;
            }
            let event = place.step(|| {
                let begun = Instant::now();
                let event = learner.trainer.step();
                figures.training_us.add(u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX));
                (event, learner.trainer.step_worth_db())
            });
            match event {
                Ok(Event::Idle(_)) => idle = true,
                Ok(Event::Stepped { .. }) => {
                    idle = false;
                    figures.steps.add(1);
                }
                Ok(Event::Published(publication)) => {
                    idle = false;
                    let Publication { version, gain_db, ref update, snapshot } = publication;
                    tracing::info!(stream, version, gain_db, bytes = update.len(), snapshot, "model update");
                    figures.version.set(i64::try_from(version).unwrap_or(i64::MAX));
                    figures.gain_mdb.set((gain_db * 1e3).round() as i64);
                    saver.unsaved = true;
                    watch.published(stream, &publication);
                    figures.update_queue.add(1);
                    if publications.blocking_send(publication).is_err() {
                        saver.save(&learner.trainer);
                        return Ok(());
                    }
                }
                Err(error) => {
                    tracing::error!(stream, %error, "training step failed");
                    idle = true;
                }
            }
            if saver.saved.elapsed() >= SAVE_EVERY {
                saver.save(&learner.trainer);
            }
            figures.set_state(learner.trainer.state());
            watch.training(stream, learner.trainer.state(), learner.trainer.steps());
        }
    }
}

/// Whether a message begins as an access unit does: what has no start code at all the codec takes for nothing, and says so to
/// nobody.
fn begins_a_unit(message: &[u8]) -> bool {
    let zeros = message.iter().take_while(|byte| **byte == 0).count();
    zeros >= 2 && message.get(zeros) == Some(&1)
}

/// What is wrong with a stream that goes on, counted and seldom said.
struct Complaints<'a> {
    stream: &'a str,
    figures: &'a Stream,
    begun: Instant,
    pictures: Seldom,
    patches: Seldom,
}

impl<'a> Complaints<'a> {
    fn new(stream: &'a str, figures: &'a Stream) -> Self {
        let (pictures, patches) = (Seldom::default(), Seldom::default());
        Self { stream, figures, begun: Instant::now(), pictures, patches }
    }

    fn picture(&mut self, error: &decode::Error) {
        self.figures.pictures_missing.add(1);
        if let Some(times) = self.pictures.say(self.begun.elapsed()) {
            tracing::warn!(stream = self.stream, %error, times, "a picture is missing for training");
        }
    }

    fn patch(&mut self, error: &learner::Error) {
        self.figures.patches_refused.add(1);
        if let Some(times) = self.patches.say(self.begun.elapsed()) {
            tracing::warn!(stream = self.stream, %error, times, "training patch refused");
        }
    }
}

/// Keeps a stream's model on disk.
struct Saver<'a> {
    lesson: &'a Lesson,
    /// Whether anything was published since the last time.
    unsaved: bool,
    saved: Instant,
}

impl Saver<'_> {
    fn save(&mut self, trainer: &Trainer) {
        self.saved = Instant::now();
        let Lesson { name: stream, shown, models, .. } = self.lesson;
        let (Some(models), true) = (models, std::mem::take(&mut self.unsaved)) else { return };
        let Some(learned) = trainer.learned() else { return };
        match models.save(stream, trainer.published().arch(), &learned) {
            Ok(()) => {
                shown.saved();
                tracing::debug!(stream, version = trainer.published().version(), "model saved");
            }
            // Tried again with the next version.
            Err(error) => tracing::warn!(stream, error = format!("{error:#}"), "model not saved"),
        }
    }
}
