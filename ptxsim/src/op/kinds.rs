//! Which operation of its group an instruction is.

/// Where a load or store goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Generic,
    Global,
    Shared,
    Local,
    Param,
}

/// Operations of one 32-bit operand; narrower types in the same file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Un32 {
    Mov,
    Not,
    Not16,
    Neg,
    Neg16,
    Abs,
    Abs16,
    Popc,
    Clz,
    Brev,
    NegF,
    AbsF,
    NegF16,
    AbsF16,
    NegF16x2,
    AbsF16x2,
    // Conversions inside the file.
    Zext8,
    Sext8To16,
    Sext8To32,
    Zext16,
    Sext16,
    F32FromF16,
    F16FromF32,
    F32FromS32,
    F32FromU32,
    S32FromF32Trunc,
    U32FromF32Trunc,
    S32FromF32Nearest,
    S32FromF32Floor,
    RoundF32Nearest,
    RoundF32Floor,
    RoundF32Ceil,
    RoundF32Trunc,
}

/// Operations of two 32-bit operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bin32 {
    Add,
    Sub,
    MulLo,
    MulHiS,
    MulHiU,
    DivS,
    DivU,
    RemS,
    RemU,
    MinS,
    MinU,
    MaxS,
    MaxU,
    And,
    Or,
    Xor,
    Shl,
    ShrS,
    ShrU,
    Add16,
    Sub16,
    MulLo16,
    MulHiS16,
    MulHiU16,
    MulWideS16,
    MulWideU16,
    DivS16,
    DivU16,
    RemS16,
    RemU16,
    MinS16,
    MaxS16,
    Shl16,
    ShrS16,
    ShrU16,
    AddF,
    SubF,
    MulF,
    AddF16,
    SubF16,
    MulF16,
    MinF16,
    MaxF16,
    AddF16x2,
    SubF16x2,
    MulF16x2,
    MinF16x2,
    MaxF16x2,
    MinF,
    MaxF,
    /// Two f32 rounded into one word, the first above.
    PackF16,
    /// Two 16-bit halves into one word, the first below.
    Pack16,
}

/// Operations of three 32-bit operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tern32 {
    MadLo,
    MadLo16,
    MadHiS,
    MadHiU,
    MadWideS16,
    MadWideU16,
    FmaF,
    FmaF16,
    FmaF16x2,
    BfeU,
    BfeS,
    Lop3(u8),
    ShfLWrap,
    ShfLClamp,
    ShfRWrap,
    ShfRClamp,
    Prmt,
    PrmtMode(u8),
    Sad,
}

/// Operations of one 64-bit operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Un64 {
    Mov,
    Not,
    Neg,
    Abs,
    Brev,
    NegD,
    AbsD,
    SqrtD,
    RcpD,
    /// Adds a constant, modulo 2^64: a change of state space.
    Offset(u64),
}

/// Operations of two 64-bit operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bin64 {
    Add,
    Sub,
    MulLo,
    MulHiS,
    MulHiU,
    DivS,
    DivU,
    RemS,
    RemU,
    MinS,
    MinU,
    MaxS,
    MaxU,
    And,
    Or,
    Xor,
    AddD,
    SubD,
    MulD,
    DivD,
    MinD,
    MaxD,
}

/// Operations of three 64-bit operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tern64 {
    MadLo,
    FmaD,
}

/// f32 operations that are slower or need their modifiers: `.ftz`, `.sat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Float {
    Add,
    Sub,
    Mul,
    Fma,
    Min,
    Max,
    MinNan,
    MaxNan,
    Div,
    Neg,
    Abs,
    Sqrt,
    Rcp,
    Rsqrt,
    Ex2,
    Lg2,
    Sin,
    Cos,
    Tanh,
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compare {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    // Floats only: true if unordered.
    Equ,
    Neu,
    Ltu,
    Leu,
    Gtu,
    Geu,
    Num,
    Nan,
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compared {
    S16,
    U16,
    S32,
    U32,
    S64,
    U64,
    F16,
    F32,
    F64,
}

/// How two predicates are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Logic {
    And,
    Or,
    Xor,
}

/// Rounding of a conversion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rounding {
    Nearest,
    Zero,
    Down,
    Up,
}

/// A read-modify-write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Atom {
    Add,
    Min,
    Max,
    And,
    Or,
    Xor,
    Exch,
    Cas,
    Inc,
    Dec,
}

/// A vote of a warp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vote {
    All,
    Any,
    Uni,
    Ballot,
}

/// A shuffle of a warp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shuffle {
    Up,
    Down,
    Bfly,
    Idx,
}

/// What a barrier gives back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reduce {
    Popc,
    And,
    Or,
}
