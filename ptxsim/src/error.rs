//! What can be wrong: with a text, with a launch, and with what a kernel does.

use std::fmt;

/// A PTX text that cannot be read or holds something that is not known here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("PTX line {line}: {kind}: `{text}`")]
pub struct ParseError {
    /// Line, from 1.
    pub line: u32,
    /// The statement, shortened.
    pub text: String,
    /// What is wrong.
    pub kind: ParseErrorKind,
}

/// Longest piece of PTX that an error repeats.
const TEXT_MAX: usize = 120;

impl ParseError {
    pub(crate) fn new(source: &str, line: u32, at: usize, kind: ParseErrorKind) -> Self {
        Self { line, text: excerpt(source, at), kind }
    }
}

/// The statement that begins at `at`, on one line and shortened.
pub(crate) fn excerpt(source: &str, at: usize) -> String {
    let rest = source.get(at..).unwrap_or_default();
    let end = rest.find([';', '\n']).unwrap_or(rest.len());
    rest[..end].split_whitespace().collect::<Vec<_>>().join(" ").chars().take(TEXT_MAX).collect()
}

/// What is wrong with a text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseErrorKind {
    /// Something else was expected here.
    #[error("expected {expected}")]
    Syntax {
        /// What was expected.
        expected: &'static str,
    },
    /// An instruction that is not known here.
    #[error("unknown opcode {0}")]
    Opcode(String),
    /// A modifier that the instruction does not have, or has and is not known here.
    #[error("unknown or missing modifier {0:?}")]
    Modifier(String),
    /// An operand of the wrong kind, number or type.
    #[error("operand: {0}")]
    Operand(String),
    /// A name that nothing declares.
    #[error("{0} is not declared")]
    Name(String),
    /// A name declared twice in one scope.
    #[error("{0} is declared twice")]
    Twice(String),
    /// A limit of this interpreter.
    #[error("more than {limit} {what}")]
    Limit {
        /// Of what.
        what: &'static str,
        /// How many are allowed.
        limit: u64,
    },
}

/// A launch that the driver would refuse, or that went wrong while it ran.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// The module has no entry of that name.
    #[error("no kernel {0}")]
    NoKernel(String),
    /// The number of arguments is not that of the parameters.
    #[error("{kernel} takes {wanted} arguments, given {given}")]
    ArgumentCount {
        /// The kernel.
        kernel: String,
        /// Parameters that it has.
        wanted: usize,
        /// Arguments that were given.
        given: usize,
    },
    /// An argument has another size than its parameter.
    #[error("{kernel}: argument {index} has {given} bytes, its parameter {wanted}")]
    ArgumentSize {
        /// The kernel.
        kernel: String,
        /// Which, from 0.
        index: usize,
        /// Bytes of the parameter.
        wanted: usize,
        /// Bytes of the argument.
        given: usize,
    },
    /// A grid or block with a zero, or larger than any device takes.
    #[error("{kernel}: grid {grid:?} of blocks {block:?} is out of bounds")]
    Dimensions {
        /// The kernel.
        kernel: String,
        /// Blocks.
        grid: [u32; 3],
        /// Threads of a block.
        block: [u32; 3],
    },
    /// More threads a block than the kernel was compiled for.
    #[error("{kernel}: {given} threads a block, compiled for at most {limit}")]
    BlockSize {
        /// The kernel.
        kernel: String,
        /// Threads of a block.
        given: u32,
        /// Its `.maxntid` or `.reqntid`.
        limit: u32,
    },
    /// More shared memory than allowed.
    #[error("{kernel}: {given} bytes of shared memory, allowed are {limit}")]
    SharedSize {
        /// The kernel.
        kernel: String,
        /// Bytes asked for, static ones included.
        given: u64,
        /// The limit of this launch.
        limit: u64,
    },
    /// A symbol of the module whose memory was not allocated.
    #[error("the module was not loaded into this memory")]
    NotLoaded,
    /// The kernel did something wrong.
    #[error(transparent)]
    Fault(#[from] Box<Fault>),
}

/// Something wrong that a kernel did, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The kernel.
    pub kernel: String,
    /// PTX line, from 1.
    pub line: u32,
    /// The instruction.
    pub text: String,
    /// `%ctaid`.
    pub block: [u32; 3],
    /// `%tid` of the thread, or of the first thread of the warp.
    pub thread: [u32; 3],
    /// What it did.
    pub kind: FaultKind,
}

impl std::error::Error for Fault {}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kernel, line, text, block, thread, kind } = self;
        write!(f, "{kernel}, PTX line {line}, block {block:?}, thread {thread:?}: {kind}: `{text}`")
    }
}

/// What a kernel did wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FaultKind {
    /// An address that is not a multiple of the access's width.
    #[error("misaligned {space} access of {bytes} bytes at {address:#x}")]
    Misaligned {
        /// State space.
        space: Space,
        /// The address.
        address: u64,
        /// Width of the whole access.
        bytes: u32,
    },
    /// Memory that does not belong to the kernel.
    #[error("{space} access of {bytes} bytes at {address:#x} is out of bounds: {nearest}")]
    OutOfBounds {
        /// State space.
        space: Space,
        /// The address.
        address: u64,
        /// Width of the whole access.
        bytes: u32,
        /// What is allocated nearby, in words.
        nearest: String,
    },
    /// Two warps touched the same shared memory, one of them to write, and no barrier stands between.
    #[error(
        "race: {access} of shared {address:#x} by warp {warp} after a {other_access} by warp {other_warp} \
         in line {other_line}, no barrier between"
    )]
    Race {
        /// Shared address.
        address: u64,
        /// This warp.
        warp: u32,
        /// What it does: read or write.
        access: &'static str,
        /// The other warp.
        other_warp: u32,
        /// What that did.
        other_access: &'static str,
        /// The PTX line where it did.
        other_line: u32,
    },
    /// Shared memory into which an asynchronous copy was issued and not yet waited for.
    #[error(
        "{access} of shared {address:#x} under the asynchronous copy of line {copy_line}, which was not waited for"
    )]
    InFlight {
        /// Shared address.
        address: u64,
        /// What touches it: read or write.
        access: &'static str,
        /// The PTX line of the copy.
        copy_line: u32,
    },
    /// Shared memory that nothing wrote.
    #[error("read of shared {address:#x}, which nothing wrote")]
    Uninitialised {
        /// Shared address.
        address: u64,
    },
    /// Accumulators or operands of `wgmma` without their fence, wait or alike descriptors.
    #[error("wgmma: {0}")]
    Wgmma(&'static str),
    /// A warp-wide instruction that not all its threads execute.
    #[error("executed by lanes {mask:#010x} of the warp, needed are {needed:#010x}")]
    Divergent {
        /// Lanes that execute it.
        mask: u32,
        /// Lanes that must.
        needed: u32,
    },
    /// Threads that left before a barrier at which others wait.
    #[error("{exited} threads of the block have exited before this barrier")]
    EarlyExit {
        /// How many threads left.
        exited: u32,
    },
    /// Warps of a block that meet in one barrier from different instructions.
    #[error("the block meets in barrier {barrier} from here and from PTX line {other_line}")]
    MixedBarrier {
        /// Barrier.
        barrier: u32,
        /// The other line.
        other_line: u32,
    },
    /// A barrier's number or thread count that is not allowed.
    #[error("barrier {barrier} for {count} threads is not allowed here")]
    BadBarrier {
        /// Barrier.
        barrier: u32,
        /// Threads.
        count: u32,
    },
    /// All warps wait and none can go on.
    #[error("deadlock: {waiting} warps wait at barriers, warp 0 of them here")]
    Deadlock {
        /// Warps that wait.
        waiting: u32,
    },
    /// The limit of instructions, so that a kernel that never ends is an error.
    #[error("more than {limit} warp instructions in one block")]
    InstructionLimit {
        /// [`crate::Options::instructions_max`].
        limit: u64,
    },
    /// `trap`, or a branch outside its list of targets.
    #[error("trap")]
    Trap,
    /// A value that the instruction does not take, as an odd lane or descriptor.
    #[error("{0}")]
    Value(String),
}

/// A state space, for reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is named as in PTX")]
pub enum Space {
    Global,
    Shared,
    Local,
    Param,
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Global => "global",
            Self::Shared => "shared",
            Self::Local => "local",
            Self::Param => "param",
        })
    }
}
