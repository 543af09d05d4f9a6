//! Shared memory of a block, with a shadow that knows who touched what since which barrier.
//!
//! Time counts completed barriers. A cell of the shadow covers the narrowest access that the kernel makes, so that no
//! two accesses share a cell without sharing a byte. For each pair of warps, `before` holds the time up to which the
//! accesses of the one are ordered before what the other does now; a full barrier sets it for all pairs, a barrier of
//! some warps for those. An access that meets a later one of another warp, one of them a write, is a race, in whatever
//! order the warps ran here.

use super::bank;
use crate::error::{FaultKind, Space};

/// Most warps of a block.
const WARPS: usize = 32;

/// Who touched a piece of shared memory.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    /// Time of the last write.
    write: u32,
    /// Time of the last reads.
    read: u32,
    /// Warps that read at that time.
    readers: u32,
    /// Instructions of both.
    write_pc: u32,
    read_pc: u32,
    writer: u8,
    /// Asynchronous copies on their way here.
    in_flight: u8,
    /// The last write was atomic.
    atomic: bool,
    /// The last write was not seen by the asynchronous proxy yet.
    unfenced: bool,
}

/// How memory is touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Touch {
    Read,
    Write,
    Atomic,
}

impl Touch {
    fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Atomic => "atomic",
        }
    }
}

/// Shared memory of the block that runs.
pub(super) struct Shared {
    pub bytes: Vec<u8>,
    cells: Vec<Cell>,
    grain_shift: u32,
    now: u32,
    /// Time at which the block began.
    base: u32,
    before: Vec<[u32; WARPS]>,
    /// The least of each row of `before`.
    floor: [u32; WARPS],
    /// Whether there are asynchronous copies in flight.
    flying: u32,
    races: bool,
    uninitialised: bool,
    /// The instruction that runs.
    pub pc: u32,
    /// PTX line of each instruction.
    lines: Vec<u32>,
    /// Bank cycles: needed at least, and used, per instruction.
    pub banks: Vec<(u64, u64)>,
}

impl Shared {
    pub(super) fn new(bytes: u32, grain: u32, races: bool, uninitialised: bool, lines: Vec<u32>) -> Self {
        let grain_shift = grain.max(1).trailing_zeros();
        let cells = (bytes as usize).div_ceil(1 << grain_shift);
        Self {
            bytes: vec![0xff; bytes as usize],
            cells: vec![Cell::default(); cells],
            grain_shift,
            now: 1,
            base: 1,
            before: vec![[1; WARPS]; WARPS],
            floor: [1; WARPS],
            flying: 0,
            races,
            uninitialised,
            pc: 0,
            banks: vec![(0, 0); lines.len()],
            lines,
        }
    }

    /// Poisons everything for the next block.
    pub(super) fn start(&mut self) {
        self.bytes.fill(0xff);
        // Times of earlier blocks lie below the base, which is as good as never; they wrap after billions of barriers.
        if self.now > u32::MAX / 2 {
            self.cells.fill(Cell::default());
            self.now = 1;
        }
        if self.flying > 0 {
            self.cells.iter_mut().for_each(|cell| cell.in_flight = 0);
            self.flying = 0;
        }
        self.now += 1;
        self.base = self.now;
        self.before.fill([self.now; WARPS]);
        self.floor = [self.now; WARPS];
    }

    /// A barrier of all warps.
    pub(super) fn full_barrier(&mut self) {
        self.now += 1;
        self.before.fill([self.now; WARPS]);
        self.floor = [self.now; WARPS];
    }

    /// A warp arrives at a barrier: the time before which all that it did so far lies. If it does not wait, what it
    /// does next must lie behind that.
    pub(super) fn arrival(&mut self, goes_on: bool) -> u32 {
        self.now += u32::from(goes_on);
        self.now + u32::from(!goes_on)
    }

    /// A barrier at which `waiting` warps learn what the `arrived` ones, each with its time, did before.
    pub(super) fn partial_barrier(&mut self, waiting: &[u32], arrived: &[(u32, u32)]) {
        self.now += 1;
        let mut row = [u32::MAX; WARPS];
        for (warp, _) in arrived {
            for (all, own) in row.iter_mut().zip(&self.before[*warp as usize]) {
                *all = if *all == u32::MAX { *own } else { (*all).max(*own) };
            }
        }
        for (warp, time) in arrived {
            row[*warp as usize] = row[*warp as usize].max(*time);
        }
        for warp in waiting {
            let warp = *warp as usize;
            for (own, all) in self.before[warp].iter_mut().zip(&row) {
                *own = (*own).max(*all);
            }
            self.floor[warp] = self.before[warp].iter().copied().min().unwrap_or(0);
        }
    }

    /// The offset of an access, if it is aligned and inside.
    #[inline(always)]
    pub(super) fn offset(&self, address: u64, bytes: u32) -> Result<usize, FaultKind> {
        let offset = address as usize;
        if address & (u64::from(bytes) - 1) != 0 {
            return Err(FaultKind::Misaligned { space: Space::Shared, address, bytes });
        }
        if address >= self.bytes.len() as u64 || self.bytes.len() - offset < bytes as usize {
            let nearest = format!("the block has {} bytes", self.bytes.len());
            return Err(FaultKind::OutOfBounds { space: Space::Shared, address, bytes, nearest });
        }
        Ok(offset)
    }

    /// Checks and notes an access of `warp`.
    #[inline(always)]
    pub(super) fn touch(
        &mut self,
        warp: u32,
        offset: usize,
        bytes: u32,
        touch: Touch,
    ) -> Result<(), FaultKind> {
        let first = offset >> self.grain_shift;
        let last = (offset + bytes as usize - 1) >> self.grain_shift;
        let w = warp as usize % WARPS;
        let (now, base, floor) = (self.now, self.base, self.floor[w]);
        for at in first..=last {
            let cell = &mut self.cells[at];
            let unwritten = cell.write < base;
            let suspicious = cell.in_flight != 0
                || touch != Touch::Write && unwritten && self.uninitialised
                || cell.writer != warp as u8 && cell.write >= floor
                || touch != Touch::Read && cell.read >= floor && cell.readers & !(1 << w) != 0;
            if suspicious {
                self.examine(warp, at, touch)?;
            }
            let cell = &mut self.cells[at];
            if touch == Touch::Read {
                cell.readers = if cell.read == now { cell.readers | 1 << w } else { 1 << w };
                cell.read = now;
                cell.read_pc = self.pc;
            } else {
                cell.write = now;
                cell.write_pc = self.pc;
                cell.writer = warp as u8;
                cell.atomic = touch == Touch::Atomic;
                cell.unfenced = true;
            }
        }
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn examine(&self, warp: u32, at: usize, touch: Touch) -> Result<(), FaultKind> {
        let cell = &self.cells[at];
        let address = (at as u64) << self.grain_shift;
        let before = &self.before[warp as usize % WARPS];
        let line = |pc: u32| self.lines.get(pc as usize).copied().unwrap_or(0);
        let race = |other_warp: u32, other: Touch, other_pc: u32| FaultKind::Race {
            address,
            warp,
            access: touch.name(),
            other_warp,
            other_access: other.name(),
            other_line: line(other_pc),
        };
        if cell.in_flight != 0 {
            return Err(FaultKind::InFlight {
                address,
                access: touch.name(),
                copy_line: line(cell.write_pc),
            });
        }
        if cell.write < self.base {
            if touch != Touch::Write && self.uninitialised {
                return Err(FaultKind::Uninitialised { address });
            }
        } else if self.races && u32::from(cell.writer) != warp {
            let both_atomic = cell.atomic && touch == Touch::Atomic;
            if cell.write >= before[usize::from(cell.writer) % WARPS] && !both_atomic {
                let other = if cell.atomic { Touch::Atomic } else { Touch::Write };
                return Err(race(u32::from(cell.writer), other, cell.write_pc));
            }
        }
        if self.races && touch != Touch::Read && cell.read >= self.base {
            for reader in
                (0..WARPS as u32).filter(|reader| cell.readers >> reader & 1 == 1 && *reader != warp)
            {
                if cell.read >= before[reader as usize] {
                    return Err(race(reader, Touch::Read, cell.read_pc));
                }
            }
        }
        Ok(())
    }

    /// Checks and notes a read of two bytes by `wgmma`, which reads through the asynchronous proxy.
    pub(super) fn touch_async(&mut self, warp: u32, offset: usize) -> Result<(), FaultKind> {
        self.touch(warp, offset, 2, Touch::Read)?;
        if self.races && self.cells[offset >> self.grain_shift].unfenced {
            return Err(FaultKind::Wgmma("reads what was written without fence.proxy.async since"));
        }
        Ok(())
    }

    /// `fence.proxy.async`: what `warp` wrote, or knows of, is seen by `wgmma` from now on.
    pub(super) fn fence_proxy(&mut self, warp: u32) {
        let before = self.before[warp as usize % WARPS];
        for cell in self.cells.iter_mut().filter(|cell| cell.write >= self.base) {
            let own = u32::from(cell.writer) == warp;
            if own || cell.write < before[usize::from(cell.writer) % WARPS] {
                cell.unfenced = false;
            }
        }
    }

    /// Marks what an asynchronous copy of `warp` will write.
    pub(super) fn depart(&mut self, warp: u32, offset: usize, bytes: u32) -> Result<(), FaultKind> {
        self.touch(warp, offset, bytes, Touch::Write)?;
        for at in offset >> self.grain_shift..=(offset + bytes as usize - 1) >> self.grain_shift {
            self.cells[at].in_flight = 1;
            self.flying += 1;
        }
        Ok(())
    }

    /// The asynchronous copy is there.
    pub(super) fn land(&mut self, warp: u32, offset: usize, bytes: u32) -> Result<(), FaultKind> {
        for at in offset >> self.grain_shift..=(offset + bytes as usize - 1) >> self.grain_shift {
            self.cells[at].in_flight = 0;
            self.flying = self.flying.saturating_sub(1);
        }
        self.touch(warp, offset, bytes, Touch::Write)
    }

    /// Counts the cycles of an access by the lanes of `mask`.
    #[inline(always)]
    pub(super) fn count_banks(&mut self, addresses: &[u64; 32], mask: u32, bytes: u32) {
        let (ideal, cycles) = bank::cycles(addresses, mask, bytes);
        let counts = &mut self.banks[self.pc as usize];
        counts.0 += u64::from(ideal);
        counts.1 += u64::from(cycles);
    }
}
