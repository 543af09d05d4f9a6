//! Inference for viewers: one [`Upscaler`] over wgpu and the CPU, and the [`Budget`] that keeps it in time.
//!
//! New weights take force between two frames. There is no kernel of ours for CUDA here, no clock and no thread:
//! the caller measures, decides and drives.
#![forbid(unsafe_code)]

mod budget;
mod error;
pub mod gpu;
mod upscaler;

pub use budget::Budget;
pub use error::{Error, SIDE_MAX};
pub use upscaler::{Mode, Preference, Upscaler};
