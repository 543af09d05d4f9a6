//! The types of PTX: what an instruction's suffix means for width and class.

use std::fmt;

/// A fundamental type of PTX (PTX ISA, section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is named as in PTX")]
pub enum Type {
    Pred,
    B8,
    U8,
    S8,
    B16,
    U16,
    S16,
    F16,
    B32,
    U32,
    S32,
    F32,
    F16x2,
    B64,
    U64,
    S64,
    F64,
}

impl Type {
    /// The type of a suffix without its dot, as `u32`.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "pred" => Self::Pred,
            "b8" => Self::B8,
            "u8" => Self::U8,
            "s8" => Self::S8,
            "b16" => Self::B16,
            "u16" => Self::U16,
            "s16" => Self::S16,
            "f16" => Self::F16,
            "b32" => Self::B32,
            "u32" => Self::U32,
            "s32" => Self::S32,
            "f32" => Self::F32,
            "f16x2" => Self::F16x2,
            "b64" => Self::B64,
            "u64" => Self::U64,
            "s64" => Self::S64,
            "f64" => Self::F64,
            _ => return None,
        })
    }

    /// Width in bytes; 0 for a predicate, which has no address.
    pub fn bytes(self) -> u32 {
        match self {
            Self::Pred => 0,
            Self::B8 | Self::U8 | Self::S8 => 1,
            Self::B16 | Self::U16 | Self::S16 | Self::F16 => 2,
            Self::B32 | Self::U32 | Self::S32 | Self::F32 | Self::F16x2 => 4,
            Self::B64 | Self::U64 | Self::S64 | Self::F64 => 8,
        }
    }

    /// Whether it is a signed integer.
    pub fn is_signed(self) -> bool {
        matches!(self, Self::S8 | Self::S16 | Self::S32 | Self::S64)
    }

    /// Whether it is an integer with a sign or without.
    pub fn is_integer(self) -> bool {
        self.is_signed() || matches!(self, Self::U8 | Self::U16 | Self::U32 | Self::U64)
    }

    /// Whether it is a floating-point number, packed or not.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::F32 | Self::F16x2 | Self::F64)
    }

    /// Whether it is bare bits, which go with every type of their width.
    pub fn is_bits(self) -> bool {
        matches!(self, Self::B8 | Self::B16 | Self::B32 | Self::B64)
    }

    /// Whether a register of this type may stand where an instruction wants `wanted` (PTX ISA, table "operand type
    /// checking"): the widths agree, and float and integer meet only over bare bits.
    pub fn agrees(self, wanted: Self) -> bool {
        self.bytes() == wanted.bytes()
            && (self == Self::Pred) == (wanted == Self::Pred)
            && (self.is_bits() || wanted.is_bits() || self.is_float() == wanted.is_float())
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, ".{}", format!("{self:?}").to_lowercase())
    }
}
