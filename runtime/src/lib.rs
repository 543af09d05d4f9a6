//! Inference for viewers: one [`Upscaler`] over wgpu and the CPU, and the [`Budget`] that keeps it in time.
//!
//! New weights take force between two frames. There is no kernel of ours for CUDA here, no clock and no thread:
//! the caller measures, decides and drives.
#![deny(unsafe_code)]

mod budget;
mod cpu;
mod error;
pub mod gpu;
mod options;
mod quiet;
mod upscaler;

pub use budget::{Budget, Rung};
pub use error::{Error, SIDE_MAX};
pub use options::{Mode, Options, Preference, UnknownVariant, Variant};
pub use quiet::quiet_mesa;
pub use upscaler::{Output, Upscaler};
/// The version that [`gpu`] speaks, for a window that shares its device.
pub use wgpu;
