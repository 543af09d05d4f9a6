//! One case table for every backend: does it compute what the oracle computes?
//!
//! Each module of [`cases`] holds one operation, or the whole network, to [`hone_model::reference`] on every
//! backend that exposes it. Inputs are seeded, ragged and never zero, outputs are poisoned first, and a
//! tolerance is derived where it is named. A backend that this machine lacks is counted as skipped.
#![forbid(unsafe_code)]

pub mod cases;
mod inputs;
mod report;

pub use inputs::{Picture, images, random, random_tensor, weights};
pub use report::Report;

use hone_runtime::gpu::{AdapterChoice, Gpu};

/// Half the distance from 1 to the next f32: the relative error of one rounded operation.
pub const ROUNDOFF: f64 = f32::EPSILON as f64 / 2.0;

/// The relative error of a store to f16: a whole step, for it may round up or down (lavapipe rounds towards zero).
pub const HALF_ROUNDOFF: f64 = 1.0 / 1024.0;

/// Why a case is skipped where there is no [`gpu`].
pub const NO_ADAPTER: &str = "no wgpu adapter";

/// Any graphics adapter, software ones too; none where there is no driver at all.
///
/// # Panics
/// If there is an adapter that cannot be opened.
pub fn gpu() -> Option<Gpu> {
    match Gpu::open(&AdapterChoice { allow_software: true, adapter: None }) {
        Ok(gpu) => Some(gpu),
        Err(hone_runtime::Error::NoAdapter { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}
