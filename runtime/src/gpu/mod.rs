//! Inference on wgpu: one device, its pipelines, and the network as a list of prepared dispatches.
//!
//! The parts are public so that each operation can be held to the oracle by itself.

mod activation;
mod adapter;
mod device;
mod network;
mod pass;
mod picture;
mod plan;
mod weights;

pub use activation::{Activation, Size};
pub use adapter::{AdapterChoice, AdapterInfo, adapters, instance};
pub use device::Gpu;
pub use network::Network;
pub use pass::{Conv3x3, Pass};
pub use picture::{Planes, Rgba};
pub use weights::{LayerLayout, WeightsBuffer, WeightsLayout};
