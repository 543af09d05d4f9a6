//! When to step, when to publish, when to pause.

use hone_model::backend::{Adam, BackendError, Loss, TrainBackend};
use hone_model::rng::Rng;
use hone_model::{Origin, Published, Weights, update};
use serde::Deserialize;

use crate::buffer::{Buffer, Pair, PairError};
use crate::gain::{Base, Comparison, error};

/// How a stream is learned.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Seed of everything random: batches here, the origin of the weights by the caller.
    pub seed: u64,
    /// Crops in a batch.
    pub batch: usize,
    /// LR side of a crop, pixels.
    pub crop: usize,
    /// Adam's step size at the start, from drawn weights.
    pub learning_rate: f32,
    /// Adam's step size at the start, from a base model.
    pub learning_rate_base: f32,
    /// Adam's step size in the end; in between it falls by half every `learning_rate_half_steps`.
    pub learning_rate_min: f32,
    /// See `learning_rate_min`.
    pub learning_rate_half_steps: f32,
    /// Where the Charbonnier loss turns from square to absolute, in RGB of 0..=1.
    pub loss_eps: f32,
    /// Published weights are an average over about this many steps: it damps the noise of single batches.
    pub average_steps: f32,
    /// Patches kept for training.
    pub patches_max: usize,
    /// Patches kept to judge by, never trained on. Few: the verdict must follow the scene.
    pub held_out_max: usize,
    /// No verdict with fewer held-out patches than this.
    pub held_out_min: usize,
    /// Steps between two verdicts.
    pub evaluate_every_steps: u64,
    /// A version is published when it gains this much over the one before, dB on held-out patches,
    pub publish_gain_db: f64,
    /// and when the mean difference is at least so many standard errors: few patches must not decide by chance.
    pub publish_certainty: f64,
    /// Verdicts in a row without such a gain after which training pauses.
    pub pause_after: u32,
    /// New patches after which a pause ends whatever they show.
    pub resume_after_patches: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            seed: 1,
            batch: 16,
            crop: 32,
            learning_rate: 2e-3,
            learning_rate_base: 5e-4,
            learning_rate_min: 3e-4,
            learning_rate_half_steps: 400.0,
            loss_eps: 0.01,
            average_steps: 60.0,
            patches_max: 256,
            held_out_max: 14,
            held_out_min: 4,
            evaluate_every_steps: 50,
            publish_gain_db: 0.05,
            publish_certainty: 1.5,
            pause_after: 20,
            resume_after_patches: 12,
        }
    }
}

/// What [`Trainer::step`] did.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Nothing to learn from yet, or nothing more to learn: wait for patches.
    Idle(State),
    /// One step of the optimiser.
    Stepped {
        /// Loss before the step.
        loss: f32,
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
    rng: Rng,
    base: Base,
    origin: Origin,
    published: Published,
    /// Base of the next snapshot.
    version_0: Published,
    /// Bytes of deltas since the last snapshot, and of that snapshot.
    delta_bytes: usize,
    snapshot_bytes: usize,
    /// Whether viewers are told to show the network.
    in_force: bool,
    average: Weights,
    /// Patches taken in to learn from.
    patches: u64,
    /// A held-out patch has come that no verdict has seen.
    unjudged: bool,
    steps: u64,
    state: State,
    verdicts_without_gain: u32,
    gain_at_pause_db: f64,
    patches_since_pause: u32,
    /// What is published against the base image, on the newest held-out patches.
    recent: Comparison,
}

/// Newest held-out patches that decide whether what is published still helps.
const RECENT: usize = 6;
/// How many standard errors below zero their gain must lie to have viewers show the base image.
const SWITCH_OFF_CERTAINTY: f64 = 1.0;
/// Steps that one patch is worth while a base model is tuned: a few patches of a dark first second must not undo it.
const STEPS_PER_PATCH: u64 = 20;
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
            buffer: Buffer::new(arch.scale(), config.crop, config.patches_max, config.held_out_max),
            rng: Rng::new(config.seed),
            base: Base::new(&published),
            origin,
            average: published.weights(),
            version_0: published.clone(),
            published,
            delta_bytes: 0,
            snapshot_bytes: 0,
            in_force: false,
            patches: 0,
            unjudged: false,
            steps: 0,
            state: State::Starved,
            verdicts_without_gain: 0,
            gain_at_pause_db: 0.0,
            patches_since_pause: 0,
            recent: Comparison::default(),
            config,
            backend,
        })
    }

    /// What viewers hold.
    pub fn published(&self) -> &Published {
        &self.published
    }

    /// Steps taken so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Why it works or waits.
    pub fn state(&self) -> State {
        self.state
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
        let held_out = pair.held_out;
        if held_out {
            let network = error(self.backend.as_mut(), &self.published.weights(), &pair)?;
            let base = self.base.error(self.backend.as_mut(), &pair)?;
            self.recent.push(network, base, RECENT);
            self.unjudged = true;
        } else {
            self.patches += 1;
        }
        self.buffer.add(pair);
        if self.state == State::Paused && held_out {
            self.patches_since_pause += 1;
            let changed = self.recent.gain_db() + CHANGE_DB < self.gain_at_pause_db;
            if changed || self.patches_since_pause >= self.config.resume_after_patches {
                tracing::info!(changed, "training resumes");
                self.state = State::Training;
                self.verdicts_without_gain = 0;
            }
        }
        Ok(())
    }

    /// `new` against `old` on the held-out patches; against the base image if there is no `old`.
    fn compare(&mut self, new: &Weights, old: Option<&Weights>) -> Result<Comparison, BackendError> {
        let mut comparison = Comparison::default();
        for pair in self.buffer.held_out() {
            let new = error(self.backend.as_mut(), new, pair)?;
            let old = match old {
                Some(old) => error(self.backend.as_mut(), old, pair)?,
                None => self.base.error(self.backend.as_mut(), pair)?,
            };
            comparison.push(new, old, usize::MAX);
        }
        Ok(comparison)
    }

    /// Does one piece of work: a step of the optimiser, or a verdict.
    ///
    /// # Errors
    /// [`BackendError`]; the trainer stays as it was and may be asked again.
    pub fn step(&mut self) -> Result<Event, BackendError> {
        let harms = self.recent.gain_db() < 0.0 && self.recent.certainty() <= -SWITCH_OFF_CERTAINTY;
        if self.in_force && self.recent.len() == RECENT && harms {
            // The scene has changed and what viewers hold makes it worse: have them show the base image.
            self.in_force = false;
            let gain = self.recent.gain_db();
            self.recent.clear();
            return Ok(Event::Published(self.publish(self.published.weights(), gain)));
        }
        // A base model may help from the very first patches on: ask at each, until it does.
        let from_base = matches!(self.origin, Origin::Base(_)) && !self.in_force;
        let judges = self.buffer.held_out().len() >= self.config.held_out_min;
        if from_base
            && self.unjudged
            && judges
            && let Some(publication) = self.verdict()?
        {
            return Ok(Event::Published(publication));
        }
        let spent = matches!(self.origin, Origin::Base(_)) && self.steps >= STEPS_PER_PATCH * self.patches;
        if self.buffer.trainable() == 0 || !judges || spent {
            self.state = State::Starved;
            return Ok(Event::Idle(self.state));
        }
        if self.state == State::Paused {
            return Ok(Event::Idle(self.state));
        }
        self.state = State::Training;
        let (lr, hr) = self.buffer.batch(self.config.batch, &mut self.rng);
        let adam = Adam { learning_rate: self.learning_rate(), ..Adam::default() };
        let loss = Loss::Charbonnier { eps: self.config.loss_eps };
        let loss = self.backend.step(&lr, &hr, loss, adam)?;
        self.steps += 1;
        self.update_average()?;
        if self.steps.is_multiple_of(self.config.evaluate_every_steps)
            && let Some(publication) = self.verdict()?
        {
            return Ok(Event::Published(publication));
        }
        Ok(Event::Stepped { loss })
    }

    fn learning_rate(&self) -> f32 {
        let halvings = self.steps as f32 / self.config.learning_rate_half_steps;
        let start = match self.origin {
            Origin::Seed(_) => self.config.learning_rate,
            Origin::Base(_) => self.config.learning_rate_base,
        };
        (start * 0.5f32.powf(halvings)).max(self.config.learning_rate_min)
    }

    fn update_average(&mut self) -> Result<(), BackendError> {
        // While young it is the plain mean of all steps.
        let share = (1.0 / self.config.average_steps).max(2.0 / (self.steps + 1) as f32);
        let weights = self.backend.weights()?;
        for (average, w) in self.average.params_mut().iter_mut().zip(weights.params()) {
            *average += share * (w - *average);
        }
        Ok(())
    }

    /// Publishes the average if it beats what is published on patches that neither has seen.
    fn verdict(&mut self) -> Result<Option<Publication>, BackendError> {
        self.unjudged = false;
        // Judged as viewers will see it: on the grid.
        let candidate = self.published.next(&self.average).weights();
        let over_base = self.compare(&candidate, None)?;
        let published = self.published.weights();
        let over_published =
            if self.in_force { self.compare(&candidate, Some(&published))? } else { over_base.clone() };
        let (gain_db, more_db) = (over_base.gain_db(), over_published.gain_db());
        let certainty = over_published.certainty();
        tracing::debug!(steps = self.steps, gain_db, more_db, certainty, "verdict");
        if more_db >= self.config.publish_gain_db
            && certainty >= self.config.publish_certainty
            && gain_db > 0.0
        {
            self.in_force = true;
            self.verdicts_without_gain = 0;
            self.recent.clear();
            return Ok(Some(self.publish(candidate, gain_db)));
        }
        self.verdicts_without_gain += u32::from(self.steps > 0);
        if self.verdicts_without_gain >= self.config.pause_after {
            tracing::info!(steps = self.steps, gain_db, "training pauses: no gain any more");
            self.state = State::Paused;
            self.gain_at_pause_db = gain_db;
            self.patches_since_pause = 0;
        }
        Ok(None)
    }

    /// Makes `weights` the next version. The group rolls when its deltas outweigh a snapshot.
    fn publish(&mut self, weights: Weights, gain_db: f64) -> Publication {
        let next = self.published.next(&weights);
        let version = next.version();
        let delta = update::encode(self.origin, &self.published, &next, gain_db as f32);
        let snapshot = self.published.version() == 0 || self.delta_bytes + delta.len() > self.snapshot_bytes;
        let update = if snapshot {
            let update = update::encode(self.origin, &self.version_0, &next, gain_db as f32);
            (self.snapshot_bytes, self.delta_bytes) = (update.len(), 0);
            update
        } else {
            self.delta_bytes += delta.len();
            delta
        };
        self.published = next;
        Publication { update, snapshot, version, gain_db }
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
