//! A stand-in for `libcuda.so.1`: the part of the CUDA driver API that cudarc's safe layer calls, with kernels run by
//! [`hone_ptxsim`] on the CPU. So the launchers, the PTX and the graphs that ship run where there is no GPU.
//!
//! As a dynamic library it exports the driver's functions under their names. As a Rust library it offers [`preload`],
//! after which whoever opens `libcuda.so.1` in this process gets the stand-in.
//!
//! Settings come from the environment; see the README of `ptxsim`.

mod api;
mod host;
mod preload;
mod report;
mod settings;
mod state;
mod status;

pub use preload::{PreloadError, preload, stats};
pub use report::at_exit;
