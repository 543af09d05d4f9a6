//! The weights that server and viewers agree on, bit for bit.

use sha2::{Digest, Sha256};

use crate::arch::Arch;
use crate::base::BaseModel;
use crate::rng::Rng;
use crate::weights::Weights;

/// Published weights are whole multiples of this. Powers of two, so that f32 holds them exactly.
pub const GRID_STEP: f32 = 1.0 / 4096.0;
/// Largest published weight, in magnitude: bounds what an update may claim.
pub const WEIGHT_MAX: f32 = 64.0;
/// [`WEIGHT_MAX`] on the grid.
pub(crate) const GRID_MAX: i32 = (WEIGHT_MAX / GRID_STEP) as i32;

/// What version 0 of a stream is: both ends construct it, so no snapshot has to carry it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Drawn from a seed below 2^63, with the last layer of the `live` family at zero.
    Seed(u64),
    /// A bundled base model, or what computes the same in a larger network.
    Base(BaseModel),
}

impl Origin {
    /// The best start there is for a network: its base model, or a draw.
    pub fn best(arch: Arch, seed: u64) -> Self {
        BaseModel::of(arch).map_or(Self::Seed(seed), Self::Base)
    }
}

/// One version of the weights, on an integer grid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    arch: Arch,
    version: u64,
    grid: Vec<i32>,
}

impl Published {
    /// Version 0.
    ///
    /// # Panics
    /// If the origin is a base model that does not suit the architecture.
    pub fn origin(arch: Arch, origin: Origin) -> Self {
        match origin {
            Origin::Seed(seed) => Self::draw(arch, seed),
            // The weights are on the grid already.
            Origin::Base(base) => Self { version: 0, ..Self::draw(arch, 0).next(&base.weights(arch)) },
        }
    }

    /// Uniform in ±1/sqrt(9·Cin), biases zero, as PyTorch draws a convolution.
    ///
    /// Integer arithmetic only, so that every machine draws the same.
    fn draw(arch: Arch, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mut grid = Vec::with_capacity(arch.params());
        for layer in arch.layers() {
            let steps = (1.0 / GRID_STEP) as usize;
            let bound = if layer.zero_init { 0 } else { (steps * steps / (9 * layer.cin)).isqrt() };
            grid.extend((0..layer.weights()).map(|_| rng.below(2 * bound + 1) as i32 - bound as i32));
            grid.extend(std::iter::repeat_n(0, layer.cout));
        }
        Self { arch, version: 0, grid }
    }

    /// `weights` rounded to the grid, as the version after this one.
    ///
    /// # Panics
    /// If the architectures differ.
    pub fn next(&self, weights: &Weights) -> Self {
        assert_eq!(self.arch, weights.arch(), "architecture of the next version");
        let grid = weights
            .params()
            .iter()
            // A weight that is not a number keeps what the viewers have.
            .zip(&self.grid)
            .map(|(w, &held)| {
                if w.is_finite() {
                    (w.clamp(-WEIGHT_MAX, WEIGHT_MAX) / GRID_STEP).round() as i32
                } else {
                    held
                }
            })
            .collect();
        Self { arch: self.arch, version: self.version + 1, grid }
    }

    /// The same weights under another version: where a stream goes on that had come so far before.
    pub fn at_version(self, version: u64) -> Self {
        Self { version, ..self }
    }

    pub(crate) fn from_grid(arch: Arch, version: u64, grid: Vec<i32>) -> Self {
        Self { arch, version, grid }
    }

    /// The architecture.
    pub fn arch(&self) -> Arch {
        self.arch
    }

    /// 0 for the origin, then counting up.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Multiples of [`GRID_STEP`], in the layout of [`Weights`].
    pub fn grid(&self) -> &[i32] {
        &self.grid
    }

    /// The same numbers in f32, exactly.
    pub fn weights(&self) -> Weights {
        Weights::from_params(self.arch, self.grid.iter().map(|&q| q as f32 * GRID_STEP).collect())
    }

    /// Names these weights: the first 16 bytes of SHA-256 over architecture and grid.
    pub fn hash(&self) -> [u8; 16] {
        let mut sha = Sha256::new();
        sha.update(self.arch.to_string());
        for q in &self.grid {
            sha.update(q.to_le_bytes());
        }
        let digest = sha.finalize();
        std::array::from_fn(|i| digest[i])
    }
}
