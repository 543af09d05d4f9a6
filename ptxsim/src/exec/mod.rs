//! Runs a launch: blocks over the cores, 32 lanes per instruction.

mod alu;
mod bank;
mod block;
mod collective;
mod copy;
mod float;
mod lane;
mod memory;
mod shared;
mod tensor;
mod warp;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use self::block::{Block, Raised, next_random};
use self::warp::{Shape, Warp};
use crate::error::{Fault, LaunchError};
use crate::memory::{Memory, View};
use crate::module::{Kernel, Loaded};
use crate::stats::Stats;

/// Most threads of a block on any device.
const THREADS_MAX: u32 = 1024;

/// Shared memory of a block without opting in to more, and the most that an sm_90 gives: CUDA programming guide.
pub const SHARED_BYTES_DEFAULT: u32 = 48 * 1024;

/// The most shared memory a block of an sm_90 can have.
pub const SHARED_BYTES_MAX: u32 = 227 * 1024;

/// In which order the warps of a block run. No order may change what a correct kernel computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Schedule {
    /// From the first to the last.
    #[default]
    RoundRobin,
    /// From the last to the first.
    Reverse,
    /// In a new order each turn, from a seed.
    Random(u64),
}

/// What is checked beyond bounds, alignment, divergence and barriers, which always are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checks {
    /// Two warps at the same shared memory with no barrier between.
    pub races: bool,
    /// Reads of shared memory that nothing wrote.
    pub uninitialised: bool,
}

impl Default for Checks {
    fn default() -> Self {
        Self { races: true, uninitialised: true }
    }
}

/// How a launch is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Order of warps.
    pub schedule: Schedule,
    /// Instructions after which the next warp runs; `None` for as far as the next barrier.
    pub turn: Option<u32>,
    /// What is checked.
    pub checks: Checks,
    /// Most warp instructions of one block, so that a kernel that never ends is an error.
    pub instructions_max: u64,
    /// Most shared memory of a block in bytes.
    pub shared_bytes_max: u32,
    /// Blocks at the same time on several cores, if the kernel has no atomics on global memory.
    pub parallel: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            schedule: Schedule::RoundRobin,
            turn: None,
            checks: Checks::default(),
            // A hundred times the longest block of a convolution, and about a minute.
            instructions_max: 1_000_000_000,
            shared_bytes_max: SHARED_BYTES_MAX,
            parallel: true,
        }
    }
}

/// How large a launch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Blocks along x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block along x, y, z.
    pub block: [u32; 3],
    /// Dynamic shared memory in bytes.
    pub dynamic_shared: u32,
}

/// An argument: the bytes of one parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arg(Vec<u8>);

macro_rules! arg_from {
    ($($t:ty),*) => {$(
        impl From<$t> for Arg {
            fn from(value: $t) -> Self {
                Self(value.to_le_bytes().to_vec())
            }
        }
    )*};
}
arg_from!(u8, i8, u16, i16, u32, i32, f32, u64, i64, f64);

impl Arg {
    /// An argument of these bytes, as a struct.
    pub fn bytes(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl Loaded {
    /// Runs a kernel to its end.
    ///
    /// `args` are the parameters in order, device addresses as u64.
    ///
    /// # Errors
    /// [`LaunchError`] if the launch is refused, or at the first fault: that of the block with the lowest number. Memory
    /// then holds whatever blocks wrote so far.
    pub fn launch(
        &self,
        kernel: &str,
        memory: &Memory,
        launch: &Launch,
        args: &[Arg],
        options: &Options,
    ) -> Result<Stats, LaunchError> {
        let kernel = self.module.kernel(kernel).ok_or_else(|| LaunchError::NoKernel(kernel.into()))?;
        let shape = shape(kernel, launch, options)?;
        let params = pack(kernel, args)?;
        if self.addresses.len() != self.module.globals.len() {
            return Err(LaunchError::NotLoaded);
        }
        let view = memory.view();
        let run = Run { kernel, view: &view, params: &params, globals: &self.addresses, shape, options };
        run.all()
    }
}

fn shape(kernel: &Kernel, launch: &Launch, options: &Options) -> Result<Shape, LaunchError> {
    let name = || kernel.name.clone();
    let Launch { grid, block, dynamic_shared } = *launch;
    let product = |sizes: [u32; 3]| sizes.iter().map(|size| u64::from(*size)).product::<u64>();
    let fits = grid.iter().chain(&block).all(|size| *size > 0)
        && grid[0] <= i32::MAX as u32
        && grid[1].max(grid[2]) <= 65535
        && block[2] <= 64
        && block.iter().all(|size| *size <= THREADS_MAX)
        && product(block) <= u64::from(THREADS_MAX);
    if !fits {
        return Err(LaunchError::Dimensions { kernel: name(), grid, block });
    }
    let threads = product(block) as u32;
    if let Some(limit) = kernel.threads_max.filter(|limit| threads > *limit) {
        return Err(LaunchError::BlockSize { kernel: name(), given: threads, limit });
    }
    let shared = u64::from(kernel.shared_bytes) + u64::from(dynamic_shared);
    if shared > u64::from(options.shared_bytes_max) {
        let limit = u64::from(options.shared_bytes_max);
        return Err(LaunchError::SharedSize { kernel: name(), given: shared, limit });
    }
    Ok(Shape { grid, block, dynamic_shared, shared: shared as u32 })
}

fn pack(kernel: &Kernel, args: &[Arg]) -> Result<Vec<u8>, LaunchError> {
    let name = || kernel.name.clone();
    if args.len() != kernel.params.len() {
        return Err(LaunchError::ArgumentCount {
            kernel: name(),
            wanted: kernel.params.len(),
            given: args.len(),
        });
    }
    let mut bytes = vec![0; kernel.param_bytes() as usize];
    for (index, (param, arg)) in kernel.params.iter().zip(args).enumerate() {
        let (wanted, given) = (param.bytes as usize, arg.0.len());
        if wanted != given {
            return Err(LaunchError::ArgumentSize { kernel: name(), index, wanted, given });
        }
        bytes[param.offset as usize..][..wanted].copy_from_slice(&arg.0);
    }
    Ok(bytes)
}

/// A launch that was found to be in order.
struct Run<'a> {
    kernel: &'a Kernel,
    view: &'a View,
    params: &'a [u8],
    globals: &'a [u64],
    shape: Shape,
    options: &'a Options,
}

/// What one thread of the host needs to run blocks one after the other.
struct Worker<'a> {
    block: Block<'a>,
    warps: Vec<Warp>,
    stats: Stats,
}

impl<'a> Run<'a> {
    fn worker(&self) -> Worker<'a> {
        let (shape, kernel) = (self.shape, self.kernel);
        let warps = (0..shape.warps())
            .map(|index| {
                let left = shape.threads() - index * 32;
                let lanes = if left >= 32 { u32::MAX } else { (1 << left) - 1 };
                Warp::new(kernel, index, lanes, &shape, self.globals)
            })
            .collect();
        let block = Block::new(kernel, self.view, self.params, shape, self.options);
        Worker { block, warps, stats: Stats::default() }
    }

    fn all(&self) -> Result<Stats, LaunchError> {
        let [x, y, z] = self.shape.grid.map(u64::from);
        let blocks = x * y * z;
        let failed = AtomicU64::new(u64::MAX);
        let fault: Mutex<Option<(u64, Box<Fault>)>> = Mutex::new(None);
        let one = |worker: &mut Worker<'a>, number: u64| {
            // Blocks below the failed one still run, so that the report does not depend on the order of threads.
            if number > failed.load(Ordering::Relaxed) {
                return;
            }
            if let Err(found) = self.block(worker, number) {
                failed.fetch_min(number, Ordering::Relaxed);
                let mut fault = fault.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                if fault.as_ref().is_none_or(|(other, _)| number < *other) {
                    *fault = Some((number, found));
                }
            }
        };
        let finish = |mut worker: Worker<'a>| {
            worker.stats.add_banks(self.kernel, &worker.block.shared.banks);
            worker.stats
        };
        let mut stats = if self.options.parallel && !self.kernel.global_atomics && blocks > 1 {
            // A few chunks a core: a worker's registers are set up once for many blocks.
            let chunks = (rayon::current_num_threads() as u64 * 2).min(blocks);
            let chunk = |i: u64| {
                let mut worker = self.worker();
                (blocks * i / chunks..blocks * (i + 1) / chunks).for_each(|number| one(&mut worker, number));
                finish(worker)
            };
            (0..chunks).into_par_iter().map(chunk).reduce(Stats::default, Stats::merged)
        } else {
            let mut worker = self.worker();
            (0..blocks).for_each(|number| one(&mut worker, number));
            finish(worker)
        };
        stats.launches = 1;
        match fault.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
            None => Ok(stats),
            Some((_, fault)) => Err(LaunchError::Fault(fault)),
        }
    }

    fn block(&self, worker: &mut Worker<'a>, number: u64) -> Result<(), Box<Fault>> {
        let [x, y, _] = self.shape.grid.map(u64::from);
        let ctaid = [(number % x) as u32, (number / x % y) as u32, (number / (x * y)) as u32];
        for warp in &mut worker.warps {
            warp.start(self.kernel, &self.shape, ctaid);
        }
        let seed = match self.options.schedule {
            Schedule::Random(seed) => next_random(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            _ => 0,
        };
        let (before_mma, before_macs) = (worker.block.mma, worker.block.macs);
        let ran = Arch::new().dispatch(RunBlock { block: &mut worker.block, warps: &mut worker.warps, seed });
        worker.stats.blocks += 1;
        worker.stats.instructions += worker.block.executed;
        worker.stats.mma += worker.block.mma - before_mma;
        worker.stats.macs += worker.block.macs - before_macs;
        ran.map_err(|(warp, raised)| {
            let (lane, kind) = *raised;
            let (line, text) = self.kernel.places[worker.block.shared.pc as usize].clone();
            let thread = self.shape.thread(warp, lane);
            Box::new(Fault { kernel: self.kernel.name.clone(), line, text, block: ctaid, thread, kind })
        })
    }
}

/// The hot loop, compiled once for each kind of vector unit.
struct RunBlock<'b, 'a> {
    block: &'b mut Block<'a>,
    warps: &'b mut [Warp],
    seed: u64,
}

impl WithSimd for RunBlock<'_, '_> {
    type Output = Result<(), (u32, Raised)>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Self::Output {
        self.block.run(self.warps, self.seed)
    }
}
