//! The network, once: what it is ([`Arch`], [`Op`]), its numbers ([`Weights`], [`Published`]),
//! how they travel ([`update`]) and what every backend must compute ([`reference`]).
//!
//! No room of ours is used here and nothing is unsafe: everything else answers to this crate.
#![forbid(unsafe_code)]

pub mod arch;
pub mod backend;
mod base;
pub mod colour;
pub mod file;
pub mod gather;
mod holding;
pub mod onnx;
mod published;
mod range_coder;
pub mod reference;
pub mod rng;
pub mod update;
mod weights;

pub use arch::{Arch, ArchError, Base, Family, Layer, Op};
pub use base::BaseModel;
pub use colour::{Colour, Yuv420};
pub use holding::{Holding, scenes_max};
pub use published::{GRID_STEP, Origin, Published, WEIGHT_MAX};
pub use weights::Weights;
