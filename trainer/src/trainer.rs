//! When to step, when to publish, when to pause.

mod saved;

use hone_model::backend::{Adam, BackendError, Loss, TrainBackend};
use hone_model::rng::Rng;
use hone_model::{Origin, Published, Weights, update};

use crate::buffer::{Buffer, Pair, PairError};
use crate::config::Config;
use crate::gain::Comparison;
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
    published: Published,
    /// Base of the next snapshot.
    version_0: Published,
    /// Bytes of deltas since the last snapshot, and of that snapshot.
    delta_bytes: usize,
    snapshot_bytes: usize,
    /// Whether viewers are told to show the network.
    in_force: bool,
    /// The gain that they were told, as an update rounds it.
    told_gain_db: f32,
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

/// What is shown is doubted only for a loss of so much, dB on held-out patches,
const HARM_DB: f64 = 0.1;
/// at so many standard errors from zero,
const DOUBT_CERTAINTY: f64 = 2.5;
/// and on so many patches: few must not decide by chance.
const DOUBT_PATCHES: usize = 8;
/// What was learned is given up, if it is worse than the base model by so many standard errors.
const UNLEARN_CERTAINTY: f64 = 1.0;
/// Steps that one patch is worth while a base model is tuned: a few patches of a dark first second must not undo it.
const STEPS_PER_PATCH: u64 = 40;
/// The standard error of n patches is itself uncertain: a verdict must be surer by this over n².
const FEW_PATCHES: f64 = 12.0;
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
            published,
            delta_bytes: 0,
            snapshot_bytes: 0,
            in_force: false,
            told_gain_db: 0.0,
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

    /// The picture has come to show something else: what was learned and judged before no longer counts.
    pub fn new_scene(&mut self) {
        self.new_scene = self.config.follow_scenes;
        (self.unknown, self.view) = (false, None);
    }

    /// The scene has settled and looks like `view`, mean luma in code values cell by cell: what was learned of one that
    /// looked the same is tried on its patches.
    pub fn looks_like(&mut self, view: &[f32]) {
        self.view = self.config.follow_scenes.then(|| view.to_vec());
    }

    /// The picture has slowly come to show something else: there may be more to learn. What was learned is likely to hold, and
    /// the newest patches soon tell.
    pub fn drifted(&mut self) {
        if self.config.follow_scenes && self.state == State::Paused {
            self.state = State::Training;
            self.verdicts_without_gain = 0;
        }
    }

    /// As [`Trainer::new_scene`], and it is of a kind that base models are not known to help: dark, or one scene chases the
    /// other.
    pub fn new_scene_unknown(&mut self) {
        self.new_scene();
        self.unknown = self.new_scene;
    }

    /// The picture is of a kind that base models know: no fade from black, no scenes that chase each other.
    pub fn known(&mut self) {
        self.known = true;
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
        self.held_out.add(self.backend.as_mut(), pair, &self.published.weights())?;
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
        if self.steps.is_multiple_of(self.config.evaluate_every_steps)
            && let Some(publication) = self.verdict()?
        {
            return Ok(Event::Published(publication));
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
            self.library.enter(view);
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

    /// In a new scene nothing is known of what was learned before. Viewers show the base model, or the base image if
    /// there is none that is sure to help, until patches of the new scene say more.
    fn begin_scene(&mut self) -> Result<Option<Publication>, BackendError> {
        self.held_out.clear();
        self.step_worth_db = None;
        if self.state == State::Paused {
            self.state = State::Training;
        }
        self.verdicts_without_gain = 0;
        self.untried = self.steps > self.steps_at_start;
        let learned = (self.in_force && !self.at_origin()).then(|| self.published.hash());
        let publication = match (self.base_is_sure() && !self.unknown, self.in_force) {
            (true, in_force) if !(in_force && self.at_origin()) => {
                Some(self.show_origin(self.base_gain_db())?)
            }
            (false, true) => Some(self.switch_off(0.0)?),
            _ => None,
        };
        self.library.leave(learned);
        Ok(publication)
    }

    /// Goes back to what was learned of a scene that looked like this one, if that helps here. Viewers have it.
    fn recall(&mut self) -> Result<Option<Publication>, BackendError> {
        let Some(learned) = self.library.like_here() else { return Ok(None) };
        let weights = learned.weights();
        let verdict = self.judge(&weights)?;
        if !verdict.publishes {
            return Ok(None);
        }
        tracing::info!(gain_db = verdict.gain_db, more_db = verdict.more_db, "a scene has returned");
        self.backend.reset(&weights)?;
        (self.steps_at_start, self.resumed) = (self.steps, true);
        self.library.recalled();
        self.take_over(verdict.more_db);
        let next = self.published.next(&weights);
        let update = update::encode_recall(self.origin, &self.published, &next, verdict.gain_db as f32);
        // Who joined too late to have it is helped by the next version, a snapshot.
        (self.snapshot_bytes, self.delta_bytes) = (0, 0);
        self.show(next, update, false, verdict.gain_db).map(Some)
    }

    fn at_origin(&self) -> bool {
        self.published.grid() == self.version_0.grid()
    }

    /// Whether viewers should show something else, by the newest patches.
    fn doubt(&mut self) -> Result<Option<Publication>, BackendError> {
        if self.held_out.len() < DOUBT_PATCHES.min(self.config.held_out_max) {
            return Ok(None);
        }
        let harms = |c: &Comparison| c.gain_db() <= -HARM_DB && c.certainty() <= -DOUBT_CERTAINTY;
        let network = self.held_out.published_over_base_image();
        if !self.in_force {
            let helps = network.gain_db() >= HARM_DB && network.certainty() >= DOUBT_CERTAINTY;
            if !helps || (self.published.version() == 0 && !self.has_base()) {
                return Ok(None);
            }
            self.in_force = true;
            return self.publish(self.published.weights(), network.gain_db()).map(Some);
        }
        if self.has_base() && harms(&self.held_out.published_over_origin()) {
            self.unlearn()?;
            return self.show_origin(self.held_out.origin_over_base_image().gain_db()).map(Some);
        }
        if harms(&network) { self.switch_off(network.gain_db()).map(Some) } else { Ok(None) }
    }

    /// Goes back to version 0, on the wire a few bytes; what has been learned waits for a verdict.
    fn show_origin(&mut self, gain_db: f64) -> Result<Publication, BackendError> {
        self.in_force = gain_db > 0.0;
        self.publish(self.version_0.weights(), gain_db)
    }

    /// Learns from version 0 again.
    fn unlearn(&mut self) -> Result<(), BackendError> {
        tracing::debug!(steps = self.steps, "begins again");
        self.backend.reset(&self.version_0.weights())?;
        self.steps_at_start = self.steps;
        self.untried = false;
        Ok(())
    }

    /// Has viewers show the base image; the weights stay, they may help again.
    fn switch_off(&mut self, gain_db: f64) -> Result<Publication, BackendError> {
        self.in_force = false;
        self.publish(self.published.weights(), gain_db.min(0.0))
    }

    /// Publishes the average if it beats what is published on patches that neither has seen.
    fn verdict(&mut self) -> Result<Option<Publication>, BackendError> {
        // Judged as viewers will see it: on the grid.
        let candidate = self.published.next(&self.backend.average()?).weights();
        let verdict = self.judge(&candidate)?;
        if self.has_base() && self.at_origin() && verdict.over_published.certainty() <= -UNLEARN_CERTAINTY {
            // Worse than where it began: a new scene, or patches that say little of it.
            self.unlearn()?;
            return Ok(None);
        }
        let Verdict { gain_db, more_db, .. } = verdict;
        tracing::debug!(steps = self.steps, gain_db, more_db, certainty = verdict.certainty, "verdict");
        let steps = self.steps.saturating_sub(self.steps_at_publication).max(1);
        self.step_worth_db = Some(more_db.max(0.0) / steps as f64);
        if verdict.publishes {
            self.take_over(more_db);
            return self.publish(candidate, gain_db).map(Some);
        }
        self.verdicts_without_gain += 1;
        if self.verdicts_without_gain >= self.config.pause_after {
            tracing::info!(steps = self.steps, gain_db, "training pauses: no gain any more");
            self.state = State::Paused;
            self.gain_at_pause_db = gain_db;
            self.patches_since_pause = 0;
            if self.published.version() > 0 && self.snapshot_bytes == 0 {
                // Recalled and nothing better since: who has joined after that scene still lacks it.
                let told_db = self.told_gain_db.into();
                return self.publish(self.published.weights(), told_db).map(Some);
            }
        }
        Ok(None)
    }

    /// What the held-out patches say of `candidate`.
    fn judge(&mut self, candidate: &Weights) -> Result<Verdict, BackendError> {
        let (over_base_image, over_published) = self.held_out.candidate(self.backend.as_mut(), candidate)?;
        let over_shown = if self.in_force { &over_published } else { &over_base_image };
        let (gain_db, more_db, certainty) =
            (over_base_image.gain_db(), over_shown.gain_db(), over_shown.certainty());
        let few = 1.0 + FEW_PATCHES / (self.held_out.len() as f64).powi(2);
        let publishes = more_db >= self.config.publish_gain_db
            && certainty >= self.config.publish_certainty * few
            && gain_db > 0.0;
        Ok(Verdict { gain_db, more_db, certainty, publishes, over_published })
    }

    /// Viewers are to see what gained so much over what they saw.
    fn take_over(&mut self, more_db: f64) {
        self.in_force = true;
        self.untried = false;
        self.verdicts_without_gain = 0;
        self.learned_db += more_db;
    }

    /// Makes `weights` the next version. The group rolls when its deltas outweigh a snapshot, and where a snapshot
    /// says nothing: back at version 0.
    fn publish(&mut self, weights: Weights, gain_db: f64) -> Result<Publication, BackendError> {
        let next = self.published.next(&weights);
        let delta = update::encode(self.origin, &self.published, &next, gain_db as f32);
        let snapshot = self.published.version() == 0
            || next.grid() == self.version_0.grid()
            || self.delta_bytes + delta.len() > self.snapshot_bytes;
        let update = if snapshot {
            let update = update::encode(self.origin, &self.version_0, &next, gain_db as f32);
            (self.snapshot_bytes, self.delta_bytes) = (update.len(), 0);
            update
        } else {
            self.delta_bytes += delta.len();
            delta
        };
        self.show(next, update, snapshot, gain_db)
    }

    /// Notes what viewers will have once they have `update`.
    fn show(
        &mut self,
        next: Published,
        update: Vec<u8>,
        snapshot: bool,
        gain_db: f64,
    ) -> Result<Publication, BackendError> {
        self.held_out.publish(self.backend.as_mut(), &next.weights())?;
        if let Ok(header) = update::header(&update) {
            self.library.replace((&self.published, self.told_gain_db), (&next, &header));
            self.told_gain_db = header.gain_db;
        }
        let version = next.version();
        self.published = next;
        self.steps_at_publication = self.steps;
        Ok(Publication { update, snapshot, version, gain_db })
    }
}

/// What held-out patches say of weights.
struct Verdict {
    /// Over the base image, dB.
    gain_db: f64,
    /// Over what is shown, dB,
    more_db: f64,
    /// in standard errors.
    certainty: f64,
    /// Whether that is enough.
    publishes: bool,
    over_published: Comparison,
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
