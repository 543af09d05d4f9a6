//! When to step, when to publish, when to pause.

mod saved;
mod scenes;
mod verdict;

use hone_model::backend::{Adam, BackendError, Loss, TrainBackend};
use hone_model::rng::Rng;
use hone_model::{Holding, Origin, Published, Weights};

use crate::buffer::{Buffer, Pair, PairError};
use crate::config::Config;
use crate::held_out::HeldOut;
use crate::library::Library;

/// What [`Trainer::step`] did.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Nothing to learn from yet, or nothing more to learn: wait for patches.
    Idle(State),
    /// One step of the optimiser.
    Stepped {
        /// The newest loss that the device has told, if any yet.
        loss: Option<f32>,
    },
    /// A new version for the viewers.
    Published(Publication),
}

/// Why the trainer works or waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No patch to train on, or none held out to judge by.
    Starved,
    /// Stepping.
    Training,
    /// The gain has saturated.
    Paused,
}

/// One update, ready for the wire.
#[derive(Clone, Debug, PartialEq)]
pub struct Publication {
    /// Encoded by [`hone_model::update`].
    pub update: Vec<u8>,
    /// Whether it stands alone, so that a group may open with it.
    pub snapshot: bool,
    /// The version that results.
    pub version: u64,
    /// Gain over the base image on held-out patches; not above zero tells viewers to show the base image.
    pub gain_db: f64,
}

/// Learns one stream.
pub struct Trainer {
    config: Config,
    backend: Box<dyn TrainBackend>,
    buffer: Buffer,
    held_out: HeldOut,
    rng: Rng,
    origin: Origin,
    /// What viewers have.
    holding: Holding,
    /// Base of the next snapshot.
    version_0: Published,
    /// Bytes of deltas since the last snapshot, and of that snapshot.
    delta_bytes: usize,
    snapshot_bytes: usize,
    /// Whether viewers are told to show the network.
    in_force: bool,
    library: Library,
    /// Patches taken in to learn from.
    patches: u64,
    /// What [`Self::new_scene`] and [`Self::known`] said, until the next step acts on it.
    new_scene: bool,
    known: bool,
    /// What [`Self::new_scene_unknown`] said of the newest scene.
    unknown: bool,
    /// What [`Self::looks_like`] said of it.
    view: Option<Vec<f32>>,
    /// What was learned before a cut has not yet been judged in the new scene.
    untried: bool,
    /// It goes on from saved weights.
    resumed: bool,
    /// A held-out patch has come since what is shown was last doubted.
    undoubted: bool,
    steps: u64,
    /// Steps taken when training last began anew.
    steps_at_start: u64,
    /// Steps taken when viewers last got something new.
    steps_at_publication: u64,
    /// What all verdicts so far have published, each over what was shown before it.
    learned_db: f64,
    /// What each step since then has brought, by the last verdict.
    step_worth_db: Option<f64>,
    state: State,
    verdicts_without_gain: u32,
    gain_at_pause_db: f64,
    patches_since_pause: u32,
}

/// Steps that one patch is worth while a base model is tuned: a few patches of a dark first second must not undo it.
const STEPS_PER_PATCH: u64 = 40;
/// A fall of the recent gain by this much below the held-out one ends a pause, dB.
const CHANGE_DB: f64 = 0.3;

impl Trainer {
    /// Starts a stream at version 0, which `origin` names.
    ///
    /// # Errors
    /// [`BackendError`] if the device refuses the weights.
    pub fn new(
        mut backend: Box<dyn TrainBackend>,
        origin: Origin,
        config: Config,
    ) -> Result<Self, BackendError> {
        let arch = backend.arch();
        let published = Published::origin(arch, origin);
        backend.reset(&published.weights())?;
        Ok(Self {
            buffer: Buffer::new(arch.scale(), config.crop, config.patches_max),
            held_out: HeldOut::new(published.weights(), config.held_out_max),
            rng: Rng::new(config.seed),
            origin,
            version_0: published.clone(),
            holding: Holding::new(published),
            delta_bytes: 0,
            snapshot_bytes: 0,
            in_force: false,
            library: Library::default(),
            patches: 0,
            new_scene: false,
            known: false,
            unknown: false,
            view: None,
            untried: false,
            resumed: false,
            undoubted: false,
            steps: 0,
            steps_at_start: 0,
            steps_at_publication: 0,
            learned_db: 0.0,
            step_worth_db: None,
            state: State::Starved,
            verdicts_without_gain: 0,
            gain_at_pause_db: 0.0,
            patches_since_pause: 0,
            config,
            backend,
        })
    }

    /// Goes on from other weights than those of version 0, as if they had been learned here.
    ///
    /// # Errors
    /// [`BackendError`] if the device refuses them.
    ///
    /// # Panics
    /// If they are of another architecture.
    pub fn start_from(&mut self, weights: &Weights) -> Result<(), BackendError> {
        self.backend.reset(weights)
    }

    /// What viewers hold.
    pub fn published(&self) -> &Published {
        self.holding.published()
    }

    /// Steps taken so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Why it works or waits.
    pub fn state(&self) -> State {
        self.state
    }

    /// What one more step is worth, dB: what the last ones were, by the last verdict; none before one of this scene.
    pub fn step_worth_db(&self) -> Option<f64> {
        self.step_worth_db
    }

    /// Sum of what each version so far gained over what viewers were shown before it, dB on held-out patches.
    pub fn learned_db(&self) -> f64 {
        self.learned_db
    }

    /// Name of the backend.
    pub fn backend(&self) -> &'static str {
        self.backend.name()
    }

    /// Takes a patch in; a held-out one judges what is published.
    ///
    /// # Errors
    /// [`PairError`] if its sizes do not fit, or [`BackendError`].
    pub fn add(&mut self, pair: Pair) -> Result<(), AddError> {
        self.buffer.check(&pair)?;
        if !pair.held_out {
            self.backend.keep(self.buffer.next_slot(), pair.patch())?;
            self.buffer.add(pair.h, pair.w);
            self.patches += 1;
            return Ok(());
        }
        self.held_out.add(self.backend.as_mut(), pair, &self.holding.published().weights())?;
        self.undoubted = true;
        if self.state == State::Paused {
            self.patches_since_pause += 1;
            let gain_db = self.held_out.published_over_base_image().gain_db();
            let changed = self.in_force && gain_db + CHANGE_DB < self.gain_at_pause_db;
            if changed || self.patches_since_pause >= self.config.resume_after_patches {
                tracing::info!(changed, "training resumes");
                self.state = State::Training;
                self.verdicts_without_gain = 0;
            }
        }
        Ok(())
    }

    /// Does one piece of work: a step of the optimiser, or a verdict.
    ///
    /// # Errors
    /// [`BackendError`]; what is published stays, and it may be asked again.
    pub fn step(&mut self) -> Result<Event, BackendError> {
        if let Some(publication) = self.attend()? {
            return Ok(Event::Published(publication));
        }
        let judges = self.judges();
        let spent = self.has_base() && self.steps >= STEPS_PER_PATCH * self.patches;
        if self.buffer.is_empty() || !judges || spent {
            self.state = State::Starved;
            return Ok(Event::Idle(self.state));
        }
        if self.state == State::Paused {
            return Ok(Event::Idle(self.state));
        }
        self.state = State::Training;
        let draws = self.buffer.draw(self.config.batch, self.config.newest_share, &mut self.rng);
        let adam = Adam {
            learning_rate: self.learning_rate(),
            average_share: self.average_share(),
            ..Adam::default()
        };
        let loss = Loss::Charbonnier { eps: self.config.loss_eps };
        let loss = self.backend.step(self.config.crop, &draws, loss, adam)?;
        self.steps += 1;
        if self.steps.is_multiple_of(self.config.evaluate_every_steps) {
            let verdict = self.verdict()?;
            if let Some(publication) = if verdict.is_some() { verdict } else { self.no_gain()? } {
                return Ok(Event::Published(publication));
            }
        }
        Ok(Event::Stepped { loss })
    }

    /// Acts on what was said and what has come in since the last step. A note is only struck off once that has worked.
    fn attend(&mut self) -> Result<Option<Publication>, BackendError> {
        if self.new_scene {
            let publication = self.begin_scene()?;
            self.new_scene = false;
            if publication.is_some() {
                return Ok(publication);
            }
        }
        if let Some(view) = self.view.take() {
            self.library.enter(&view);
        }
        if self.known {
            let shows = self.base_is_sure() && (self.at_origin() || self.unknown) && !self.in_force;
            // It was judged on scenes of many kinds: viewers show it until this stream's own patches say otherwise.
            let publication = if shows { Some(self.show_origin(self.base_gain_db())?) } else { None };
            (self.known, self.unknown) = (false, false);
            if publication.is_some() {
                return Ok(publication);
            }
        }
        if self.undoubted && self.judges() {
            if let Some(recalled) = self.recall()? {
                self.undoubted = false;
                return Ok(Some(recalled));
            }
            let doubted = self.doubt()?;
            let publication = if doubted.is_none() && self.untried { self.verdict()? } else { doubted };
            self.undoubted = false;
            return Ok(publication);
        }
        Ok(None)
    }

    /// Whether there are patches enough to judge by.
    fn judges(&self) -> bool {
        self.held_out.len() >= self.config.held_out_min
    }

    fn learning_rate(&self) -> f32 {
        let halvings = (self.steps - self.steps_at_start) as f32 / self.config.learning_rate_half_steps;
        let trained = self.has_base() || self.resumed;
        let start = if trained { self.config.learning_rate_base } else { self.config.learning_rate };
        (start * 0.5f32.powf(halvings)).max(self.config.learning_rate_min)
    }

    /// While young, the average is the plain mean of all steps.
    fn average_share(&self) -> f32 {
        let steps = self.steps + 1 - self.steps_at_start;
        (1.0 / self.config.average_steps).max(2.0 / (steps + 1) as f32)
    }

    fn has_base(&self) -> bool {
        matches!(self.origin, Origin::Base(_))
    }

    /// Gain of the base model where it was judged; 0 without one.
    fn base_gain_db(&self) -> f64 {
        match self.origin {
            Origin::Base(base) => base.gain_db(),
            Origin::Seed(_) => 0.0,
        }
    }

    /// Whether viewers may show the base model before a patch of the stream has spoken for it.
    fn base_is_sure(&self) -> bool {
        matches!(self.origin, Origin::Base(base) if base.is_sure())
    }

    fn at_origin(&self) -> bool {
        self.published().grid() == self.version_0.grid()
    }
}

/// Why [`Trainer::add`] refused a patch.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AddError {
    /// Its sizes do not fit.
    #[error(transparent)]
    Pair(#[from] PairError),
    /// The device failed while judging it.
    #[error(transparent)]
    Backend(#[from] BackendError),
}
