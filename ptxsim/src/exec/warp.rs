//! A warp: its registers, where its lanes are, and what it has under way.

use crate::module::{Constant64, Kernel, Special};
use crate::op::{Address, Predicate, Slot, Wgmma};

/// Lanes of a warp.
pub(super) const LANES: usize = 32;

/// What registers hold before they are written: NaN, and an address that nobody has.
const POISON: u32 = u32::MAX;

/// A copy of `cp.async`, one per lane in `mask`, not landed yet.
pub(super) struct Copy {
    pub mask: u32,
    pub group: [u32; LANES],
    pub to: [u32; LANES],
    pub from: [u64; LANES],
    pub size: [u8; LANES],
    pub bytes: u32,
}

/// A `wgmma` that was issued and not waited for.
pub(super) struct PendingWgmma {
    pub op: Box<Wgmma>,
    pub pc: u32,
    pub group: u32,
    pub a: u64,
    pub a_registers: Option<[[u32; LANES]; 4]>,
    pub b: u64,
    pub keep: bool,
}

/// Why a warp does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Ready,
    Waiting { barrier: u32 },
    Done,
}

/// A warp of the block that runs.
pub(super) struct Warp {
    pub index: u32,
    pub r: Vec<[u32; LANES]>,
    pub d: Vec<[u64; LANES]>,
    pub p: Vec<u32>,
    /// Where each lane is, if they are not together.
    pub pc: [u32; LANES],
    /// Where all lanes are, if they are together.
    pub together_pc: u32,
    pub together: bool,
    /// Lanes that exist and have not exited.
    pub live: u32,
    /// Lanes that exist.
    pub lanes: u32,
    pub state: State,
    /// Groups of `cp.async` that were committed, per lane.
    pub groups: [u32; LANES],
    pub copies: Vec<Copy>,
    pub wgmmas: Vec<PendingWgmma>,
    pub wgmma_groups: u32,
    pub wgmma_fenced: bool,
    /// Accumulators under way: their first slot, and their values.
    pub chains: Vec<(Slot, Vec<[u32; LANES]>)>,
    /// Local memory of each lane, one after the other.
    pub local: Vec<u8>,
}

impl Warp {
    pub(super) fn new(kernel: &Kernel, index: u32, lanes: u32, shape: &Shape, globals: &[u64]) -> Self {
        let mut warp = Self {
            index,
            r: vec![[POISON; LANES]; kernel.slots32 as usize],
            d: vec![[u64::MAX; LANES]; kernel.slots64 as usize],
            p: vec![0; kernel.predicates as usize],
            pc: [0; LANES],
            together_pc: 0,
            together: true,
            live: lanes,
            lanes,
            state: State::Ready,
            groups: [0; LANES],
            copies: Vec::new(),
            wgmmas: Vec::new(),
            wgmma_groups: 0,
            wgmma_fenced: false,
            chains: Vec::new(),
            local: vec![0xff; kernel.local_bytes as usize * LANES],
        };
        // No instruction writes these slots, so that they hold for all blocks.
        for (slot, value) in &kernel.constants32 {
            warp.r[*slot as usize] = [*value; LANES];
        }
        for (slot, constant) in &kernel.constants64 {
            let value = match *constant {
                Constant64::Bits(bits) => bits,
                Constant64::Global { index, offset } => globals[index as usize].wrapping_add_signed(offset),
            };
            warp.d[*slot as usize] = [value; LANES];
        }
        for (slot, value) in &kernel.constant_predicates {
            warp.p[*slot as usize] = if *value { u32::MAX } else { 0 };
        }
        warp.set_specials(kernel, shape, [0; 3], |_| true);
        warp
    }

    /// Puts the warp at the start of a block. Registers keep what an earlier block left in them.
    pub(super) fn start(&mut self, kernel: &Kernel, shape: &Shape, ctaid: [u32; 3]) {
        self.together_pc = 0;
        self.together = true;
        self.live = self.lanes;
        self.state = State::Ready;
        self.groups = [0; LANES];
        self.copies.clear();
        self.wgmmas.clear();
        self.wgmma_groups = 0;
        self.wgmma_fenced = false;
        self.chains.clear();
        self.local.fill(0xff);
        self.set_specials(kernel, shape, ctaid, |special| matches!(special, Special::Ctaid(_)));
    }

    fn set_specials(
        &mut self,
        kernel: &Kernel,
        shape: &Shape,
        ctaid: [u32; 3],
        which: impl Fn(Special) -> bool,
    ) {
        for (slot, special) in kernel.specials.iter().filter(|(_, special)| which(*special)) {
            self.r[*slot as usize] = self.special(*special, shape, ctaid);
        }
        for (slot, special) in kernel.wide_specials.iter().filter(|(_, special)| which(*special)) {
            self.d[*slot as usize] = self.special(*special, shape, ctaid).map(u64::from);
        }
    }

    fn special(&self, special: Special, shape: &Shape, ctaid: [u32; 3]) -> [u32; LANES] {
        let each = |f: &dyn Fn(u32) -> u32| std::array::from_fn(|lane| f(lane as u32));
        match special {
            Special::Tid(axis) => each(&|lane| shape.thread(self.index, lane)[axis as usize]),
            Special::Ntid(axis) => [shape.block[axis as usize]; LANES],
            Special::Ctaid(axis) => [ctaid[axis as usize]; LANES],
            Special::Nctaid(axis) => [shape.grid[axis as usize]; LANES],
            Special::Laneid => each(&|lane| lane),
            Special::Warpid => [self.index; LANES],
            Special::Nwarpid => [shape.warps(); LANES],
            Special::LanemaskEq => each(&|lane| 1 << lane),
            Special::LanemaskLt => each(&|lane| (1 << lane) - 1),
            Special::LanemaskLe => each(&|lane| ((1 << lane) - 1) | 1 << lane),
            Special::LanemaskGe => each(&|lane| !((1 << lane) - 1)),
            Special::LanemaskGt => each(&|lane| !(((1 << lane) - 1) | 1 << lane)),
            Special::DynamicShared => [shape.dynamic_shared; LANES],
            Special::TotalShared => [shape.shared; LANES],
            Special::Zero => [0; LANES],
            Special::One => [1; LANES],
        }
    }

    /// Where to go on: the lowest place, so that lanes that went apart meet again, and the lanes that are there.
    pub(super) fn lowest(&mut self) -> (u32, u32) {
        let mut lowest = u32::MAX;
        for lane in lanes(self.live) {
            lowest = lowest.min(self.pc[lane]);
        }
        let mut mask = 0;
        for lane in lanes(self.live) {
            mask |= u32::from(self.pc[lane] == lowest) << lane;
        }
        if mask == self.live {
            self.together = true;
            self.together_pc = lowest;
        }
        (lowest, mask)
    }

    /// Sends the lanes of `mask` to `pc`.
    pub(super) fn send(&mut self, mask: u32, pc: u32) {
        if self.together && mask == self.live {
            self.together_pc = pc;
            return;
        }
        if self.together {
            self.together = false;
            self.pc = [self.together_pc; LANES];
        }
        for lane in lanes(mask) {
            self.pc[lane] = pc;
        }
    }

    #[inline(always)]
    pub(super) fn predicate(&self, predicate: Predicate) -> u32 {
        let value = self.p[predicate.slot as usize];
        if predicate.negated { !value } else { value }
    }

    #[inline(always)]
    pub(super) fn set_predicate(&mut self, slot: Slot, value: u32, mask: u32) {
        let old = &mut self.p[slot as usize];
        *old = *old & !mask | value & mask;
    }

    #[inline(always)]
    pub(super) fn set32(&mut self, slot: Slot, value: &[u32; LANES], mask: u32) {
        let old = &mut self.r[slot as usize];
        if mask == u32::MAX {
            *old = *value;
        } else {
            for lane in 0..LANES {
                old[lane] = if mask >> lane & 1 == 1 { value[lane] } else { old[lane] };
            }
        }
    }

    #[inline(always)]
    pub(super) fn set64(&mut self, slot: Slot, value: &[u64; LANES], mask: u32) {
        let old = &mut self.d[slot as usize];
        if mask == u32::MAX {
            *old = *value;
        } else {
            for lane in 0..LANES {
                old[lane] = if mask >> lane & 1 == 1 { value[lane] } else { old[lane] };
            }
        }
    }

    /// The address of each lane.
    #[inline(always)]
    pub(super) fn addresses(&self, address: Address) -> [u64; LANES] {
        let mut out = [0; LANES];
        if address.wide {
            let base = &self.d[address.slot as usize];
            for lane in 0..LANES {
                out[lane] = base[lane].wrapping_add_signed(address.offset);
            }
        } else {
            let base = &self.r[address.slot as usize];
            for lane in 0..LANES {
                out[lane] = u64::from(base[lane].wrapping_add(address.offset as u32));
            }
        }
        out
    }
}

/// Sizes of a launch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub dynamic_shared: u32,
    /// Static and dynamic shared memory together.
    pub shared: u32,
}

impl Shape {
    pub(super) fn threads(&self) -> u32 {
        self.block.iter().product()
    }

    pub(super) fn warps(&self) -> u32 {
        self.threads().div_ceil(LANES as u32)
    }

    /// `%tid` of a lane.
    pub(super) fn thread(&self, warp: u32, lane: u32) -> [u32; 3] {
        let thread = warp * LANES as u32 + lane;
        let [x, y, _] = self.block;
        [thread % x, thread / x % y, thread / (x * y)]
    }
}

/// The lanes of a mask, from the lowest.
pub(super) fn lanes(mask: u32) -> impl Iterator<Item = usize> {
    let mut left = mask;
    std::iter::from_fn(move || {
        if left == 0 {
            return None;
        }
        let lane = left.trailing_zeros() as usize;
        left &= left - 1;
        Some(lane)
    })
}
