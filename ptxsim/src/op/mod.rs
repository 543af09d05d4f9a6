//! Decoded instructions: every operand is a slot of a register file.
//!
//! A warp has three files: 32-bit slots (all narrower registers too, zero above their width), 64-bit slots and
//! predicates, each slot with a value for each of 32 lanes. Immediates and special registers are slots as well, set
//! when a block starts, so that an instruction never asks what kind of operand it has.

mod kinds;

pub(crate) use kinds::*;

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
