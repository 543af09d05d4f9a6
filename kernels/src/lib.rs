//! CUDA: the kernels, one safe launcher each, and the training backend made of them.
//!
//! Begin with [`Device::open`], which says why there is none, and [`CudaTrainer`]. A step is made in three layers: [`plan`]
//! turns an architecture into launches and counts the memory, without a device; [`program`] gives a plan its memory and
//! queues it; the trainer captures that once as a graph and replays it. Layouts are in this folder's README.

pub mod adam;
pub mod add;
pub mod conv3x3;
pub mod conv3x3_grad_weights;
pub mod cost;
mod device;
pub mod gather;
mod graph;
mod launch;
pub mod loss;
pub mod memory;
pub mod pixel_shuffle;
pub mod plan;
pub mod pool;
pub mod program;
pub mod ptx;
pub mod reduce_grads;
pub mod resblock;
mod trainer;
pub mod weights;

pub use adam::Status;
pub use device::{Device, Error, Stream, Unavailable};
pub use trainer::{CudaTrainer, Options};
