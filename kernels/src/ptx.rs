//! The compiled kernels, as they lie in `ptx/`: part of this library, so that a binary needs no other file.

/// The PTX of a kernel file.
///
/// # Panics
/// If there is no such file.
pub fn of(stem: &str) -> &'static str {
    match stem {
        "adam" => include_str!("../../ptx/compute_80/adam.ptx"),
        "add" => include_str!("../../ptx/compute_80/add.ptx"),
        "conv3x3" => include_str!("../../ptx/compute_80/conv3x3.ptx"),
        "conv3x3_grad_weights" => include_str!("../../ptx/compute_80/conv3x3_grad_weights.ptx"),
        "conv3x3_grad_weights_wgmma" => include_str!("../../ptx/compute_90a/conv3x3_grad_weights_wgmma.ptx"),
        "conv3x3_wgmma" => include_str!("../../ptx/compute_90a/conv3x3_wgmma.ptx"),
        "gather" => include_str!("../../ptx/compute_80/gather.ptx"),
        "loss" => include_str!("../../ptx/compute_80/loss.ptx"),
        "pixel_shuffle" => include_str!("../../ptx/compute_80/pixel_shuffle.ptx"),
        "reduce_grads" => include_str!("../../ptx/compute_80/reduce_grads.ptx"),
        "resblock" => include_str!("../../ptx/compute_80/resblock.ptx"),
        _ => panic!("no kernel file is called {stem}"),
    }
}
