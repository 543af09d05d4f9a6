//! The network on the CPU: SIMD, all cores, forward and backward.
//!
//! The default where there is no GPU, for servers ([`CpuTrainer`]) and viewers ([`Network`]).
//! f32 activations in groups of 16 channels, convolved directly or by minimal filtering: no im2col, no copies; the
//! register tiles are written over `pulp`'s portable vectors, so one source serves AVX-512, AVX2 and NEON.
#![forbid(unsafe_code)]

mod bicubic;
mod conv3x3;
mod conv3x3_grad_weights;
mod map;
mod network;
pub mod peak;
mod pixel_shuffle;
mod program;
mod reuse;
mod simd;
mod stillness;
mod trainer;
mod winograd;
mod yuv_rgb;

pub use bicubic::{Bicubic, bicubic};
pub use network::Network;
pub use reuse::Reuse;
pub use simd::{code_value, simd};
pub use stillness::stillness;
pub use trainer::CpuTrainer;
pub use yuv_rgb::{rgb8_from_yuv, yuv_rgb};
