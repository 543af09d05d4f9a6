//! What a device must offer so that the trainer can use it.

use crate::arch::QUANTISER_UNKNOWN;
use crate::gather::{Draw, Patch};
use crate::{Arch, Weights};

/// Images in one block: (N, H, W, 3), row-major f32 RGB, nominally 0..=1.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Images {
    /// Number of images.
    pub n: usize,
    /// Rows of each.
    pub h: usize,
    /// Columns of each.
    pub w: usize,
    /// `n * h * w * 3` values.
    pub rgb: Vec<f32>,
    /// Quantiser of each, 0 to 51; of no meaning in what comes out of a network.
    pub quantisers: Vec<u8>,
}

impl Images {
    /// `n` black images of unknown quantiser.
    pub fn zeros(n: usize, h: usize, w: usize) -> Self {
        Self { n, h, w, rgb: vec![0.0; n * h * w * 3], quantisers: vec![QUANTISER_UNKNOWN; n] }
    }
}

/// How far an output is from its target, averaged over all values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Loss {
    /// Mean of |d|.
    L1,
    /// Mean of sqrt(d² + eps²). Source: Lai et al. 2017 (LapSRN), arXiv:1704.03915, eq. 4.
    Charbonnier {
        /// Where it turns from square to absolute, in units of RGB 0..=1.
        eps: f32,
    },
}

/// One step of Adam. Source: Kingma and Ba 2015, arXiv:1412.6980, algorithm 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// Step size.
    pub learning_rate: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Share of the new weights in the running average of all; 1 makes the average the weights themselves.
    pub average_share: f32,
}

impl Default for Adam {
    fn default() -> Self {
        Self { learning_rate: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, average_share: 1.0 }
    }
}

/// A device failed.
#[derive(Debug, thiserror::Error)]
#[error("{backend} training backend: {reason}")]
pub struct BackendError {
    /// Which backend.
    pub backend: &'static str,
    /// What it said.
    pub reason: String,
}

/// A device that trains one network. It owns the patches, the weights in training, their running average and the
/// optimiser's moments.
pub trait TrainBackend: Send {
    /// A short name for reports, such as `cpu`.
    fn name(&self) -> &'static str;

    /// The network it trains.
    fn arch(&self) -> Arch;

    /// Keeps a copy of `patch`, in place of what `slot` held.
    ///
    /// # Errors
    /// [`BackendError`] if the device failed; the slot then holds what it held or nothing.
    fn keep(&mut self, slot: usize, patch: Patch<'_>) -> Result<(), BackendError>;

    /// Crops of `crop` x `crop` LR pixels from kept patches; forward, loss, backward, Adam, running average.
    ///
    /// Returns the newest loss that the device has told: of the weights before this step, or on a device that runs
    /// ahead of its caller, of some steps ago or none yet.
    ///
    /// # Errors
    /// [`BackendError`] if the device failed; the weights are then as before the step.
    ///
    /// # Panics
    /// If a draw reaches beyond a kept patch, or there is none.
    fn step(
        &mut self,
        crop: usize,
        draws: &[Draw],
        loss: Loss,
        adam: Adam,
    ) -> Result<Option<f32>, BackendError>;

    /// Runs the network with `weights` (not those in training): (N, H, W, 3) -> (N, s·H, s·W, 3), not clamped.
    ///
    /// # Errors
    /// [`BackendError`] if the device failed.
    fn forward(&mut self, weights: &Weights, lr: &Images) -> Result<Images, BackendError>;

    /// The weights in training, read back.
    ///
    /// # Errors
    /// [`BackendError`] if the device failed.
    fn weights(&mut self) -> Result<Weights, BackendError>;

    /// Their running average, read back.
    ///
    /// # Errors
    /// [`BackendError`] if the device failed.
    fn average(&mut self) -> Result<Weights, BackendError>;

    /// Replaces the weights in training and their average, and forgets the moments.
    ///
    /// # Errors
    /// [`BackendError`] if the device failed.
    fn reset(&mut self, weights: &Weights) -> Result<(), BackendError>;
}
