//! The numbers of online training.

use serde::Deserialize;

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
    /// Share of a batch that is drawn from the newest quarter of the patches.
    pub newest_share: f64,
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
    /// With few patches it must be more.
    pub publish_certainty: f64,
    /// Verdicts in a row without such a gain after which training pauses.
    pub pause_after: u32,
    /// New patches after which a pause ends whatever they show.
    pub resume_after_patches: u32,
    /// Whether a cut makes void what was learned and judged before it.
    pub follow_scenes: bool,
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
            newest_share: 0.5,
            patches_max: 256,
            held_out_max: 14,
            held_out_min: 4,
            evaluate_every_steps: 50,
            publish_gain_db: 0.05,
            publish_certainty: 1.5,
            pause_after: 20,
            resume_after_patches: 12,
            follow_scenes: true,
        }
    }
}
