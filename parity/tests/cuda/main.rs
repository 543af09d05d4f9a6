//! CUDA's column of the case table: every kernel, the gradient of whole networks and the trainer against the oracle.
//!
//! What a launcher covers runs `on_device`: on the stand-in driver, or with `HONE_CUDA_DRIVER=installed` on a card. The
//! kernels that stage through shared memory also run `on_ptxsim`, under several orders of warps, where every bank
//! conflict counts.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod batch;
mod compare;
mod on_device;
mod on_ptxsim;
mod stored;

mod adam;
mod add;
mod conv3x3;
mod conv3x3_grad_weights;
mod device;
mod gather;
mod loss;
mod network;
mod pixel_shuffle;
mod reduce_grads;
mod resblock;
mod training;
