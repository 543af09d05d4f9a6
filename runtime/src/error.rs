//! What can fail.

use hone_model::Arch;

use crate::Variant;

/// Longest side of an output picture, in pixels: the texture size that every WebGPU device guarantees, and above 8K.
pub const SIDE_MAX: usize = 8192;

/// Why an upscaler could not be made or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No graphics adapter is there, or only software ones and those were not allowed.
    #[error("no {} found: install the GPU's Vulkan driver or use the CPU", if *.software { "graphics adapter" } else { "GPU" })]
    NoAdapter {
        /// Whether software adapters would have been taken.
        software: bool,
    },
    /// No adapter has the name or index that was asked for, or it cannot draw on the window.
    #[error("no adapter `{name}`")]
    NoSuchAdapter {
        /// What was asked for.
        name: String,
    },
    /// The adapter computes wrongly by a shader variant that was asked for.
    #[error("{adapter} cannot be used with shader variant {variant}: {reason}")]
    Variant {
        /// Its name.
        adapter: String,
        /// What was asked for.
        variant: Variant,
        /// What is wrong.
        reason: String,
    },
    /// The adapter does not offer what the shaders need.
    #[error("{adapter}: cannot open: {reason}")]
    Open {
        /// Its name.
        adapter: String,
        /// What it said.
        reason: String,
    },
    /// The device was lost or failed; everything on it is gone.
    #[error("{adapter}: {reason}")]
    Lost {
        /// Its name.
        adapter: String,
        /// What it said.
        reason: String,
    },
    /// Weights of another architecture; those in force stay.
    #[error("weights of {got} for an upscaler of {have}")]
    Arch {
        /// The upscaler's.
        have: Arch,
        /// The weights'.
        got: Arch,
    },
    /// A side of the output would be longer than [`SIDE_MAX`].
    #[error("picture of {w}x{h}: its output has a side over {SIDE_MAX}")]
    Side {
        /// Columns of the input.
        w: usize,
        /// Rows of the input.
        h: usize,
    },
    /// The adapter cannot hold one of the buffers.
    #[error("{adapter}: a buffer of {bytes} bytes is over its limit of {limit}")]
    Buffer {
        /// The adapter's name.
        adapter: String,
        /// What was needed.
        bytes: u64,
        /// What it offers.
        limit: u64,
    },
    /// The adapter has no textures as long, wide or deep as one that is needed.
    #[error("{adapter}: a texture of {side} texels or layers is over its limit of {limit}")]
    Texture {
        /// The adapter's name.
        adapter: String,
        /// What was needed.
        side: usize,
        /// What it offers.
        limit: usize,
    },
    /// The adapter computes a known network wrongly, in every variant.
    #[error("{adapter} computes wrongly: update its driver or use the CPU")]
    Wrong {
        /// Its name.
        adapter: String,
    },
}
