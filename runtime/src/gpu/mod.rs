//! Inference on wgpu: one device, its pipelines, and the network as a list of prepared dispatches.
//!
//! The parts are public so that each operation can be held to the oracle by itself.

mod activation;
mod adapter;
mod choice;
mod device;
mod kept;
mod mapped;
mod network;
mod pass;
mod peak;
mod picture;
mod plan;
mod probe;
mod program;
mod timing;
mod unused;
mod weights;

pub use activation::{Activation, Size};
pub use adapter::{AdapterChoice, AdapterInfo, adapters, instance};
pub use device::Gpu;
pub use hone_wgsl::Precision;
pub use kept::Kept;
pub use network::Network;
pub use pass::{Conv3x3, Input, Kernel, Output, Pass};
pub use peak::Peak;
pub use picture::{Planes, Rgba};
pub use timing::PassTime;
pub use weights::{LayerLayout, WeightsBuffer, WeightsLayout};
