//! The network as WGSL compute shaders: plain files, one per operation, under the stems of the oracle.
//!
//! Each opens with its shapes, launch, limits and cost. Sizes that are fixed per network are `override`
//! constants, the picture's size is a uniform. They use no extension, so that a browser takes them as
//! they are. There is no wgpu here: the runtime and the browser page launch them.
//!
//! Activations are planar groups of four channels with a border of zeros, see `conv3x3.wgsl`.
#![forbid(unsafe_code)]

/// One shader. Its entry point is `main`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shader {
    /// The operation, which is the stem of its file.
    pub name: &'static str,
    /// WGSL.
    pub source: &'static str,
}

macro_rules! shader {
    ($name:literal) => {
        Shader { name: $name, source: include_str!(concat!("shaders/", $name, ".wgsl")) }
    };
}

/// 3x3 convolution with bias, ReLU, scale and residual add.
pub const CONV3X3: Shader = shader!("conv3x3");
/// Decoded planes to RGB.
pub const YUV_RGB: Shader = shader!("yuv_rgb");
/// Channels into space.
pub const PIXEL_SHUFFLE: Shader = shader!("pixel_shuffle");
/// The bicubic base, the shuffled residual on top, and 8 bits: the end of every frame.
pub const BICUBIC: Shader = shader!("bicubic");

/// Multiply-adds in registers: what an adapter does at most.
pub const PEAK_MULTIPLY_ADD: Shader = shader!("peak_multiply_add");
/// A copy: what an adapter moves at most.
pub const PEAK_COPY: Shader = shader!("peak_copy");

/// All of them.
pub const SHADERS: &[Shader] = &[CONV3X3, YUV_RGB, PIXEL_SHUFFLE, BICUBIC, PEAK_MULTIPLY_ADD, PEAK_COPY];

/// Rows and columns of pixels that one workgroup of [`CONV3X3`] computes.
pub const CONV3X3_TILE: usize = 16;
/// Most groups of four output channels that one thread of [`CONV3X3`] computes.
pub const CONV3X3_OUT_GROUPS_MAX: usize = 4;
/// Bytes of weights that [`CONV3X3`] can take from uniform memory; WebGPU's guaranteed binding size.
pub const CONV3X3_UNIFORM_BYTES: usize = 65_536;
/// Rows and columns of pixels that one workgroup of the other shaders computes.
pub const PIXEL_TILE: usize = 8;
