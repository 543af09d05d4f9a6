//! What a caller may choose.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Which device to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preference {
    /// A real GPU if there is one, else the CPU; the CPU too if the GPU fails later.
    #[default]
    Auto,
    /// A GPU or an error.
    Gpu {
        /// Whether a software adapter will do.
        allow_software: bool,
    },
    /// The CPU.
    Cpu,
}

/// How to upscale one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// By the network; by bicubic as long as there are no weights.
    Network,
    /// By bicubic interpolation with the detail of the network's last frame where the picture stands still; by the
    /// network if no such frame is [kept](crate::Upscaler::keep).
    Reuse,
    /// By bicubic interpolation: the floor that always keeps up.
    Bicubic,
}

/// How the GPU holds activations and adds up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Variant {
    /// 32 bits throughout.
    F32,
    /// Activations in 16 bits, sums in 32.
    F16Storage,
    /// Activations in 16 bits, sums of 12 products in 16, the sum of these in 32: where shaders have 16-bit arithmetic.
    F16,
    /// Activations in 16 bits, products of cooperative matrices of 8x8: where the adapter has them, with sums in 32 bits.
    Coop8,
    /// The same of 16x16.
    Coop16,
}

impl Variant {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::F32, Self::F16Storage, Self::F16, Self::Coop8, Self::Coop16];
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16Storage => "f16-storage",
            Self::F16 => "f16",
            Self::Coop8 => "coop8",
            Self::Coop16 => "coop16",
        })
    }
}

/// No [`Variant`] has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no shader variant: expected f32, f16-storage, f16, coop8 or coop16")]
pub struct UnknownVariant(pub String);

impl FromStr for Variant {
    type Err = UnknownVariant;

    fn from_str(s: &str) -> Result<Self, UnknownVariant> {
        let named = |v: &Self| v.to_string() == s;
        Self::ALL.into_iter().find(named).ok_or_else(|| UnknownVariant(s.chars().take(32).collect()))
    }
}

/// How to make an upscaler.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The kind of device.
    pub device: Preference,
    /// The adapter: its index in [`crate::gpu::adapters`], or a part of its name in any case. One that is named may be a
    /// software adapter whatever `device` says.
    pub adapter: Option<String>,
    /// The variant; by default the fastest of those that this adapter computes rightly.
    pub variant: Option<Variant>,
    /// A file of the caller's that keeps what was the fastest on each adapter and driver; none to measure each time.
    pub cache: Option<PathBuf>,
}

impl From<Preference> for Options {
    fn from(device: Preference) -> Self {
        Self { device, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_variants_round_trip() {
        for variant in Variant::ALL {
            assert_eq!(variant.to_string().parse(), Ok(variant));
        }
        assert_eq!("F32".parse::<Variant>(), Err(UnknownVariant("F32".into())));
    }
}
