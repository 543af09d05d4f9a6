//! What a change of scene does to what is shown and learned.

use hone_model::backend::BackendError;
use hone_model::update;

use super::{Publication, State, Trainer};

impl Trainer {
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

    /// In a new scene nothing is known of what was learned before. Viewers show the base model, or the base image if
    /// there is none that is sure to help, until patches of the new scene say more.
    pub(super) fn begin_scene(&mut self) -> Result<Option<Publication>, BackendError> {
        self.held_out.clear();
        self.step_worth_db = None;
        if self.state == State::Paused {
            self.state = State::Training;
        }
        self.verdicts_without_gain = 0;
        self.untried = self.steps > self.steps_at_start;
        let learned = (self.in_force && !self.at_origin()).then(|| self.published().clone());
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

    /// Goes back to what was learned of a scene that looked like this one, if that helps here. Viewers have it, unless it
    /// was learned before the server began anew.
    pub(super) fn recall(&mut self) -> Result<Option<Publication>, BackendError> {
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
        if self.holding.kept(&learned.hash()).is_none() {
            return self.publish(weights, verdict.gain_db).map(Some);
        }
        let next = self.published().next(&weights);
        let update = update::encode_recall(self.origin, self.published(), &next, verdict.gain_db as f32);
        // Who joined too late to have it is helped by the next version, a snapshot.
        (self.snapshot_bytes, self.delta_bytes) = (0, 0);
        self.show(next, update, false, verdict.gain_db).map(Some)
    }
}
