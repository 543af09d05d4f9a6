//! Decoded instructions: every operand is a slot of a register file.
//!
//! A warp has three files: 32-bit slots (all narrower registers too, zero above their width), 64-bit slots and
//! predicates, each slot with a value for each of 32 lanes. Immediates and special registers are slots as well, set
//! when a block starts, so that an instruction never asks what kind of operand it has.

use crate::types::Type;

/// A slot of the file that the instruction implies.
pub(crate) type Slot = u32;

/// An instruction with its guard.
#[derive(Clone, Debug)]
pub(crate) struct Instruction {
    pub op: Op,
    /// The predicate under which it executes, and whether that is negated.
    pub guard: Option<Predicate>,
}

/// A predicate as an operand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Predicate {
    pub slot: Slot,
    pub negated: bool,
}

/// A memory operand: a slot, of the 64-bit file if `wide`, and an offset.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Address {
    pub slot: Slot,
    pub wide: bool,
    pub offset: i64,
}

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

/// A comparison with all its parts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Comparison {
    pub compare: Compare,
    pub compared: Compared,
    pub ftz: bool,
    pub a: Slot,
    pub b: Slot,
    pub combine: Option<(Logic, Predicate)>,
}

/// Rounding of a conversion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rounding {
    Nearest,
    Zero,
    Down,
    Up,
}

/// Any conversion that has no fast form.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Convert {
    pub to: Type,
    pub from: Type,
    pub rounding: Option<Rounding>,
    pub to_integer: bool,
    pub saturate: bool,
    pub ftz: bool,
    pub relu: bool,
    /// Widths of the registers, which may be wider than the types.
    pub bytes_a: u32,
    pub bytes_d: u32,
    pub d: Slot,
    pub a: Slot,
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

/// One of the 16 barriers: its slots.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Barrier {
    pub id: Slot,
    /// Threads that take part, or all.
    pub count: Option<Slot>,
    /// Does not wait.
    pub arrive: bool,
    pub reduce: Option<(Reduce, Slot, Predicate)>,
}

/// `wgmma.mma_async`: 64 x n x 16, f16 operands, f32 accumulators.
#[derive(Clone, Debug)]
pub(crate) struct Wgmma {
    pub n: u32,
    pub d: Vec<Slot>,
    /// Four registers, or a descriptor.
    pub a: Result<Slot, [Slot; 4]>,
    pub b: Slot,
    pub scale_d: Predicate,
    pub negate_a: bool,
    pub negate_b: bool,
    /// M-major or N-major in memory instead of K-major.
    pub trans_a: bool,
    pub trans_b: bool,
}

/// A tile product of one warp: 16 x 8 x k.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mma {
    /// 8 or 16.
    pub k: u32,
    pub d: [Slot; 4],
    pub a: [Slot; 4],
    pub b: [Slot; 2],
    pub c: [Slot; 4],
}

/// What an instruction does.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Un32(Un32, Slot, Slot),
    Bin32(Bin32, Slot, Slot, Slot),
    Tern32(Tern32, Slot, Slot, Slot, Slot),
    Bfi {
        d: Slot,
        a: Slot,
        b: Slot,
        c: Slot,
        e: Slot,
    },
    Un64(Un64, Slot, Slot),
    Bin64(Bin64, Slot, Slot, Slot),
    Tern64(Tern64, Slot, Slot, Slot, Slot),
    /// 64-bit value, 32-bit count.
    Shift64 {
        left: bool,
        signed: bool,
        d: Slot,
        a: Slot,
        b: Slot,
    },
    /// 32 x 32 + 64 bits.
    Wide {
        signed: bool,
        d: Slot,
        a: Slot,
        b: Slot,
        c: Option<Slot>,
    },
    Float {
        f: Float,
        ftz: bool,
        sat: bool,
        d: Slot,
        a: Slot,
        b: Slot,
        c: Slot,
    },
    /// 64-bit bits counted into 32.
    Count64 {
        clz: bool,
        d: Slot,
        a: Slot,
    },
    Bitfield64 {
        signed: bool,
        d: Slot,
        a: Slot,
        b: Slot,
        c: Slot,
    },
    Setp {
        comparison: Comparison,
        d: Slot,
        q: Slot,
    },
    Set {
        comparison: Comparison,
        float: bool,
        d: Slot,
    },
    Setp2 {
        comparison: Comparison,
        d: Slot,
        q: Slot,
    },
    Selp32 {
        d: Slot,
        a: Slot,
        b: Slot,
        p: Predicate,
    },
    Selp64 {
        d: Slot,
        a: Slot,
        b: Slot,
        p: Predicate,
    },
    PredMov {
        d: Slot,
        a: Predicate,
    },
    PredLogic {
        f: Logic,
        d: Slot,
        a: Predicate,
        b: Predicate,
    },
    Extend64 {
        signed: bool,
        d: Slot,
        a: Slot,
    },
    Truncate64 {
        mask: u32,
        d: Slot,
        a: Slot,
    },
    Convert(Box<Convert>),
    Unpack16 {
        d: [Slot; 2],
        a: Slot,
    },
    Pack64 {
        d: Slot,
        a: [Slot; 2],
    },
    Unpack64 {
        d: [Slot; 2],
        a: Slot,
    },
    Pack64x4 {
        d: Slot,
        a: [Slot; 4],
    },
    Unpack64x4 {
        d: [Slot; 4],
        a: Slot,
    },
    /// `bytes` is the width of the registers.
    Load {
        target: Target,
        ty: Type,
        bytes: u8,
        count: u8,
        d: [Slot; 4],
        from: Address,
    },
    Store {
        target: Target,
        ty: Type,
        bytes: u8,
        count: u8,
        s: [Slot; 4],
        to: Address,
    },
    Atom {
        target: Target,
        atom: Atom,
        ty: Type,
        d: Slot,
        at: Address,
        b: Slot,
        c: Slot,
    },
    CpAsync {
        to: Address,
        from: Address,
        bytes: u32,
        size: Option<Slot>,
    },
    CpAsyncCommit,
    /// Waits until at most so many groups are in flight; `None` for all, committed or not.
    CpAsyncWait(Option<u32>),
    Ldmatrix {
        count: u8,
        trans: bool,
        d: [Slot; 4],
        from: Address,
    },
    Stmatrix {
        count: u8,
        trans: bool,
        s: [Slot; 4],
        to: Address,
    },
    Mma(Box<Mma>),
    Wgmma(Box<Wgmma>),
    WgmmaFence,
    WgmmaCommit,
    WgmmaWait(u32),
    Shfl {
        mode: Shuffle,
        d: Slot,
        p: Slot,
        a: Slot,
        b: Slot,
        c: Slot,
        members: Slot,
    },
    Vote {
        vote: Vote,
        d: Slot,
        a: Predicate,
        members: Slot,
    },
    Match {
        all: bool,
        d: Slot,
        p: Slot,
        a: Slot,
        wide: bool,
        members: Slot,
    },
    Redux {
        atom: Atom,
        signed: bool,
        d: Slot,
        a: Slot,
        members: Slot,
    },
    Elect {
        d: Slot,
        p: Slot,
        members: Slot,
    },
    Activemask {
        d: Slot,
    },
    Barrier(Barrier),
    WarpBarrier {
        members: Slot,
    },
    ProxyFence,
    Nop,
    Branch {
        to: u32,
    },
    BranchIndexed {
        targets: Box<[u32]>,
        index: Slot,
    },
    Exit,
    Trap,
}
