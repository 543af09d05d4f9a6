//! What held-out patches say, and what becomes of it on the wire.

use hone_model::backend::BackendError;
use hone_model::{Published, Weights, update};

use super::{Publication, State, Trainer};
use crate::gain::Comparison;

/// What is shown is doubted only for a loss of so much, dB on held-out patches,
const HARM_DB: f64 = 0.1;
/// at so many standard errors from zero,
const DOUBT_CERTAINTY: f64 = 2.5;
/// and on so many patches: few must not decide by chance.
const DOUBT_PATCHES: usize = 8;
/// What was learned is given up, if it is worse than the base model by so many standard errors.
const UNLEARN_CERTAINTY: f64 = 1.0;
/// The standard error of n patches is itself uncertain: a verdict must be surer by this over n².
const FEW_PATCHES: f64 = 12.0;

/// What held-out patches say of weights.
pub(super) struct Verdict {
    /// Over the base image, dB.
    pub(super) gain_db: f64,
    /// Over what is shown, dB,
    pub(super) more_db: f64,
    /// in standard errors.
    certainty: f64,
    /// Whether that is enough.
    pub(super) publishes: bool,
    over_published: Comparison,
}

impl Trainer {
    /// Whether viewers should show something else, by the newest patches.
    pub(super) fn doubt(&mut self) -> Result<Option<Publication>, BackendError> {
        if self.held_out.len() < DOUBT_PATCHES.min(self.config.held_out_max) {
            return Ok(None);
        }
        let harms = |c: &Comparison| c.gain_db() <= -HARM_DB && c.certainty() <= -DOUBT_CERTAINTY;
        let network = self.held_out.published_over_base_image();
        if !self.in_force {
            let helps = network.gain_db() >= HARM_DB && network.certainty() >= DOUBT_CERTAINTY;
            if !helps || (self.published().version() == 0 && !self.has_base()) {
                return Ok(None);
            }
            self.in_force = true;
            return self.publish(self.published().weights(), network.gain_db()).map(Some);
        }
        if self.has_base() && harms(&self.held_out.published_over_origin()) {
            self.unlearn()?;
            return self.show_origin(self.held_out.origin_over_base_image().gain_db()).map(Some);
        }
        if harms(&network) { self.switch_off(network.gain_db()).map(Some) } else { Ok(None) }
    }

    /// Goes back to version 0, on the wire a few bytes; what has been learned waits for a verdict.
    pub(super) fn show_origin(&mut self, gain_db: f64) -> Result<Publication, BackendError> {
        self.in_force = gain_db > 0.0;
        self.publish(self.version_0.weights(), gain_db)
    }

    /// Learns from version 0 again.
    fn unlearn(&mut self) -> Result<(), BackendError> {
        tracing::debug!(steps = self.steps, "begins again");
        self.backend.reset(&self.version_0.weights())?;
        self.steps_at_start = self.steps;
        self.untried = false;
        self.verdicts_without_gain = 0;
        Ok(())
    }

    /// Has viewers show the base image; the weights stay, they may help again.
    pub(super) fn switch_off(&mut self, gain_db: f64) -> Result<Publication, BackendError> {
        self.in_force = false;
        self.publish(self.published().weights(), gain_db.min(0.0))
    }

    /// Gain over the base image of what has been learned so far, dB on held-out patches.
    ///
    /// # Errors
    /// [`BackendError`].
    pub fn gain_db(&mut self) -> Result<f64, BackendError> {
        let candidate = self.candidate()?;
        Ok(self.judge(&candidate)?.gain_db)
    }

    /// The average, as viewers would see it: on the grid.
    fn candidate(&mut self) -> Result<Weights, BackendError> {
        Ok(self.holding.published().next(&self.backend.average()?).weights())
    }

    /// Publishes the average if it beats what is published on patches that neither has seen.
    pub(super) fn verdict(&mut self) -> Result<Option<Publication>, BackendError> {
        let candidate = self.candidate()?;
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
        Ok(None)
    }

    /// Notes a round of training that brought nothing to publish. After some in a row training pauses.
    pub(super) fn no_gain(&mut self) -> Result<Option<Publication>, BackendError> {
        self.verdicts_without_gain += 1;
        if self.verdicts_without_gain < self.config.pause_after {
            return Ok(None);
        }
        let gain_db = self.held_out.published_over_base_image().gain_db();
        tracing::info!(steps = self.steps, gain_db, "training pauses: no gain any more");
        self.state = State::Paused;
        self.gain_at_pause_db = gain_db;
        self.patches_since_pause = 0;
        if self.in_force && self.snapshot_bytes == 0 {
            // Recalled and nothing better since: who has joined after that scene still lacks it.
            let told_db = self.holding.gain_db().into();
            return self.publish(self.published().weights(), told_db).map(Some);
        }
        Ok(None)
    }

    /// What the held-out patches say of `candidate`.
    pub(super) fn judge(&mut self, candidate: &Weights) -> Result<Verdict, BackendError> {
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
    pub(super) fn take_over(&mut self, more_db: f64) {
        self.in_force = true;
        self.untried = false;
        self.verdicts_without_gain = 0;
        self.learned_db += more_db;
    }

    /// Makes `weights` the next version. The group rolls when its deltas outweigh a snapshot, and where a snapshot
    /// says nothing: back at version 0.
    pub(super) fn publish(&mut self, weights: Weights, gain_db: f64) -> Result<Publication, BackendError> {
        let next = self.published().next(&weights);
        let delta = update::encode(self.origin, self.published(), &next, gain_db as f32);
        let snapshot = self.published().version() == 0
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
    pub(super) fn show(
        &mut self,
        next: Published,
        update: Vec<u8>,
        snapshot: bool,
        gain_db: f64,
    ) -> Result<Publication, BackendError> {
        self.held_out.publish(self.backend.as_mut(), &next.weights())?;
        let version = next.version();
        self.holding.take(next, &update::header(&update).expect("it was just encoded"));
        self.steps_at_publication = self.steps;
        Ok(Publication { update, snapshot, version, gain_db })
    }
}
