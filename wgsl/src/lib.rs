//! The network as WGSL compute shaders: plain files, one per operation, under the stems of the oracle.
//!
//! Each opens with its shapes, launch, limits and cost. Sizes that are fixed per network are `override`
//! constants, the picture's size is a uniform. As they are they use no extension, so that a browser takes them;
//! [`Shader::of`] derives those of less precision. There is no wgpu here: the runtime and the browser page launch them.
//!
//! Activations are layers of four channels with a border of zeros, see `conv3x3.wgsl`.
#![forbid(unsafe_code)]

use std::borrow::Cow;

/// How activations are held and added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Precision {
    /// 32 bits: the files as they are.
    F32,
    /// Activations in 16 bits, sums in 32. No extension either.
    F16Storage,
    /// Activations in 16 bits, sums of 12 products in 16, the sum of these in 32. WGSL's extension `f16`.
    F16,
    /// Activations in 16 bits, tiles of 8x8 multiplied by the subgroup and added up in 32. WGSL's extension `f16`, and wgpu's
    /// `wgpu_cooperative_matrix`, which no browser has.
    Coop8,
    /// The same with tiles of 16x16.
    Coop16,
}

impl Precision {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::F32, Self::F16Storage, Self::F16, Self::Coop8, Self::Coop16];

    /// Whether activations have 16 bits.
    pub fn stores_f16(self) -> bool {
        self != Self::F32
    }

    /// Rows and columns of the tiles that subgroups multiply; none where threads multiply by themselves.
    pub fn tile_side(self) -> Option<usize> {
        match self {
            Self::F32 | Self::F16Storage | Self::F16 => None,
            Self::Coop8 => Some(8),
            Self::Coop16 => Some(16),
        }
    }
}

/// One shader. Its entry point is `main`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shader {
    /// The operation, which is the stem of its file.
    pub name: &'static str,
    /// WGSL at [`Precision::F32`].
    pub source: &'static str,
}

impl Shader {
    /// WGSL at another precision: of the storage textures, activations alone are arrays.
    pub fn of(&self, precision: Precision) -> Cow<'static, str> {
        let products = match precision {
            Precision::F32 => return self.source.into(),
            Precision::F16Storage => return halved(self.source).into(),
            _ if !self.source.contains(SUMS) => return halved(self.source).into(),
            Precision::F16 => return with_f16(self.source).into(),
            Precision::Coop8 => include_str!("shaders/conv3x3.coop8.wgsl"),
            Precision::Coop16 => include_str!("shaders/conv3x3.coop16.wgsl"),
        };
        let around = include_str!("shaders/conv3x3.coop.wgsl");
        let tiled = with_part(&with_f16(self.source), "convolution", &[around, products].concat());
        format!("enable wgpu_cooperative_matrix;\n{tiled}").into()
    }

    /// As [`Shader::of`], where tiles are multiplied by plain arithmetic: what the shaders of [`Precision::tile_side`] are
    /// tested with where no adapter multiplies tiles. WGSL's extension `f16` is all it takes.
    pub fn emulated(&self, precision: Precision) -> Cow<'static, str> {
        let source = self.of(precision);
        let (Some(side), true) = (precision.tile_side(), self.source.contains(SUMS)) else { return source };
        let matrix = |of| format!("coop_mat{side}x{side}<{of}>");
        let alias = format!("alias Products = {};\n", matrix("f32, C"));
        let mut emulated = source
            .replace("enable wgpu_cooperative_matrix;\n", "")
            .replace(&alias, include_str!("shaders/conv3x3.emulated.wgsl"))
            .replace(&matrix("f16, A"), "Tile")
            .replace(&matrix("f16, B"), "Tile")
            .replace("coopLoadT<Weights>(&weight_tiles[", "Tile(")
            .replace("coopLoadT<Pixels>(&pixels[", "Tile(")
            .replace("coopMultiplyAdd(", "multiplied_and_added(index, ")
            .replace("coopStoreT(", "put(index, ")
            .replace(", &sums[", ", ")
            .replace(&format!("], {side}u);"), &format!(", {side}u);"))
            .replace("], 16u);", ", 16u);");
        // Each declaration of sums is a place in `products`.
        for place in 0.. {
            let begun = format!(" = zeros(index, {}u);", place * side * side);
            let next = emulated.replacen(": Products;", &begun, 1);
            if next == emulated {
                break;
            }
            emulated = next;
        }
        emulated.into()
    }
}

/// With sums in 16 bits as well.
fn with_f16(source: &str) -> String {
    let sums = include_str!("shaders/conv3x3.f16.wgsl");
    format!("enable f16;\n{}", with_part(&halved(source), "sums", sums))
}

/// With another part between the lines `// [name]` and `// [name end]`.
///
/// # Panics
/// If there is no such part.
fn with_part(source: &str, name: &str, part: &str) -> String {
    let split = source.split_once(&format!("// [{name}]")).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(&format!("// [{name} end]"))?;
        Some([before, part, after].concat())
    });
    split.expect("the part is marked")
}

/// Begins the part of a shader that adds up; one without it computes nothing in less than 32 bits.
const SUMS: &str = "// [sums]";

/// With activations in 16 bits: of the storage textures, they alone are arrays.
fn halved(source: &str) -> String {
    source.replace("storage_2d_array<rgba32float", "storage_2d_array<rgba16float")
}

macro_rules! shader {
    ($name:literal) => {
        Shader { name: $name, source: include_str!(concat!("shaders/", $name, ".wgsl")) }
    };
}

/// 3x3 convolution with bias, ReLU, scale, residual add and pixel shuffle; head and tail of a network too.
pub const CONV3X3: Shader = shader!("conv3x3");
/// Decoded planes to RGB.
pub const YUV_RGB: Shader = shader!("yuv_rgb");
/// The bicubic base alone, and 8 bits.
pub const BICUBIC: Shader = shader!("bicubic");
/// Where a picture stands still.
pub const STILLNESS: Shader = shader!("stillness");
/// The bicubic base with the detail of the network's last frame, and 8 bits.
pub const REUSE: Shader = shader!("reuse");

/// Multiply-adds in registers: what an adapter does at most.
pub const PEAK_MULTIPLY_ADD: Shader = shader!("peak_multiply_add");
/// A copy: what an adapter moves at most.
pub const PEAK_COPY: Shader = shader!("peak_copy");

/// All of them.
pub const SHADERS: &[Shader] = &[CONV3X3, YUV_RGB, BICUBIC, STILLNESS, REUSE, PEAK_MULTIPLY_ADD, PEAK_COPY];

/// Columns of pixels that one workgroup of [`CONV3X3`] computes; rows too if it goes through workgroup memory.
pub const CONV3X3_TILE: usize = 16;
/// Rows of a thread of [`CONV3X3`], and of one that is tall.
pub const CONV3X3_ROWS: [usize; 2] = [4, 8];
/// Most groups of four output channels that one thread of [`CONV3X3`] computes.
pub const CONV3X3_OUT_GROUPS_MAX: usize = 4;
/// Bytes of weights that [`CONV3X3`] can take from uniform memory; WebGPU's guaranteed binding size.
pub const CONV3X3_UNIFORM_BYTES: usize = 65_536;
/// Rows and columns of pixels that one workgroup of the other shaders computes.
pub const PIXEL_TILE: usize = 8;
