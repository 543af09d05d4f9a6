//! One block: its warps, its barriers, and which warp runs when.

use super::shared::Shared;
use super::warp::{Shape, State, Warp, lanes};
use super::{Options, Schedule, alu, collective, copy, float, memory, tensor};
use crate::error::FaultKind;
use crate::memory::View;
use crate::module::Kernel;
use crate::op::{Barrier, Op, Slot};

/// Barriers of a block.
const BARRIERS: usize = 16;

/// Something wrong, and the lane that did it.
pub(super) type Raised = Box<(u32, FaultKind)>;

/// What a lane did wrong.
#[cold]
pub(super) fn raise(lane: usize, kind: FaultKind) -> Raised {
    Box::new((lane as u32, kind))
}

/// A barrier on which warps wait.
#[derive(Clone, Debug, Default)]
struct Meeting {
    /// Threads wanted, 0 while nobody is there.
    count: u32,
    whole_block: bool,
    threads: u32,
    waiting: Vec<u32>,
    /// Warps and the time at which each arrived.
    arrived: Vec<(u32, u32)>,
    pc: u32,
    votes: Vec<bool>,
}

/// What the lanes of all warps of a block share.
pub(super) struct Block<'a> {
    pub kernel: &'a Kernel,
    pub view: &'a View,
    pub params: &'a [u8],
    pub shape: Shape,
    pub options: &'a Options,
    pub shared: Shared,
    /// Warp instructions of this block.
    pub executed: u64,
    pub mma: u64,
    pub macs: u64,
    pub chain_slots: Vec<(Slot, Vec<Slot>)>,
    meetings: [Meeting; BARRIERS],
    exited: u32,
}

/// Why a warp stopped.
enum Pause {
    Barrier,
    Exit,
    Turn,
}

impl<'a> Block<'a> {
    pub(super) fn new(
        kernel: &'a Kernel,
        view: &'a View,
        params: &'a [u8],
        shape: Shape,
        options: &'a Options,
    ) -> Self {
        let checks = options.checks;
        let lines = kernel.places.iter().map(|(line, _)| *line).collect();
        let shared = Shared::new(shape.shared, kernel.grain, checks.races, checks.uninitialised, lines);
        Self {
            kernel,
            view,
            params,
            shape,
            options,
            shared,
            executed: 0,
            mma: 0,
            macs: 0,
            chain_slots: tensor::chain_slots(kernel),
            meetings: Default::default(),
            exited: 0,
        }
    }

    /// Runs a block from its start to its end.
    #[inline(always)]
    pub(super) fn run(&mut self, warps: &mut [Warp], seed: u64) -> Result<(), (u32, Raised)> {
        self.shared.start();
        self.executed = 0;
        self.exited = 0;
        self.meetings.iter_mut().for_each(|meeting| *meeting = Meeting::default());
        let mut random = seed;
        let mut order: Vec<usize> = (0..warps.len()).collect();
        loop {
            match self.options.schedule {
                Schedule::RoundRobin => {}
                Schedule::Reverse => {
                    order.clear();
                    order.extend((0..warps.len()).rev());
                }
                Schedule::Random(_) => {
                    for i in (1..order.len()).rev() {
                        random = next_random(random);
                        order.swap(i, (random >> 33) as usize % (i + 1));
                    }
                }
            }
            let mut ran = false;
            for i in &order {
                let warp = &mut warps[*i];
                if warp.state != State::Ready {
                    continue;
                }
                ran = true;
                match self.run_warp(warp) {
                    Ok(Pause::Turn) => {}
                    Ok(Pause::Exit) => warp.state = State::Done,
                    Ok(Pause::Barrier) => self.meet(warps)?,
                    Err(raised) => return Err((*i as u32, raised)),
                }
            }
            if !ran {
                return self.standstill(warps);
            }
        }
    }

    /// No warp can run: the end, or a deadlock.
    #[cold]
    fn standstill(&mut self, warps: &[Warp]) -> Result<(), (u32, Raised)> {
        let waiting: Vec<&Warp> =
            warps.iter().filter(|warp| matches!(warp.state, State::Waiting { .. })).collect();
        let Some(first) = waiting.first() else { return Ok(()) };
        let State::Waiting { barrier } = first.state else { return Ok(()) };
        let meeting = &self.meetings[barrier as usize % BARRIERS];
        self.shared.pc = meeting.pc;
        let kind = if meeting.whole_block && self.exited > 0 {
            FaultKind::EarlyExit { exited: self.exited }
        } else {
            FaultKind::Deadlock { waiting: waiting.len() as u32 }
        };
        Err((first.index, raise(0, kind)))
    }

    /// A warp of the block arrived at a barrier: whoever waits goes on if all are there.
    fn meet(&mut self, warps: &mut [Warp]) -> Result<(), (u32, Raised)> {
        for barrier in 0..BARRIERS {
            let meeting = &mut self.meetings[barrier];
            if meeting.count == 0 || meeting.threads < meeting.count {
                continue;
            }
            let meeting = std::mem::take(meeting);
            if meeting.threads > meeting.count {
                self.shared.pc = meeting.pc;
                let kind = FaultKind::BadBarrier { barrier: barrier as u32, count: meeting.count };
                return Err((meeting.waiting.first().copied().unwrap_or(0), raise(0, kind)));
            }
            if meeting.whole_block {
                self.shared.full_barrier();
            } else {
                self.shared.partial_barrier(&meeting.waiting, &meeting.arrived);
            }
            for index in meeting.waiting {
                let warp = &mut warps[index as usize];
                warp.state = State::Ready;
                if let Op::Barrier(Barrier { reduce: Some((reduce, d, _)), .. }) =
                    self.kernel.code[meeting.pc as usize].op
                {
                    collective::reduce(warp, reduce, d, &meeting.votes);
                }
            }
        }
        Ok(())
    }

    /// Runs a warp until it waits, ends or its turn is over.
    #[inline(always)]
    fn run_warp(&mut self, w: &mut Warp) -> Result<Pause, Raised> {
        let code = &self.kernel.code[..];
        let turn = self.options.turn.map_or(u64::MAX, u64::from);
        let mut left = turn;
        loop {
            let (pc, active) = if w.together { (w.together_pc, w.live) } else { w.lowest() };
            self.shared.pc = pc;
            let instruction = &code[pc as usize];
            self.executed += 1;
            if self.executed > self.options.instructions_max {
                return Err(raise(0, FaultKind::InstructionLimit { limit: self.options.instructions_max }));
            }
            let mask = match instruction.guard {
                None => active,
                Some(guard) => active & w.predicate(guard),
            };
            let op = &instruction.op;
            let next = pc + 1;
            match op {
                Op::Branch { to } => {
                    if mask == active {
                        w.send(active, *to);
                    } else if mask == 0 {
                        w.send(active, next);
                    } else {
                        w.send(mask, *to);
                        w.send(active & !mask, next);
                    }
                }
                Op::Exit => {
                    w.send(active & !mask, next);
                    w.live &= !mask;
                    self.exited += mask.count_ones();
                    if w.live == 0 {
                        return Ok(Pause::Exit);
                    }
                }
                Op::Barrier(barrier) if mask != 0 => {
                    let waits = self.arrive(w, barrier, mask)?;
                    w.send(active, next);
                    if waits {
                        w.state = State::Waiting {
                            barrier: w.r[barrier.id as usize][mask.trailing_zeros() as usize],
                        };
                    }
                    return Ok(Pause::Barrier);
                }
                Op::BranchIndexed { targets, index } => {
                    let index = w.r[*index as usize];
                    w.send(active & !mask, next);
                    for lane in lanes(mask) {
                        let to =
                            targets.get(index[lane] as usize).ok_or_else(|| raise(lane, FaultKind::Trap))?;
                        w.send(1 << lane, *to);
                    }
                }
                _ => {
                    if mask != 0 {
                        self.execute(w, op, mask)?;
                    }
                    if w.together {
                        w.together_pc = next;
                    } else {
                        w.send(active, next);
                    }
                }
            }
            left -= 1;
            if left == 0 {
                return Ok(Pause::Turn);
            }
        }
    }

    #[inline(always)]
    fn execute(&mut self, w: &mut Warp, op: &Op, mask: u32) -> Result<(), Raised> {
        match op {
            Op::Mma(mma) => {
                whole(mask)?;
                self.mma += 1;
                self.macs += u64::from(mma.k) * 128;
                tensor::mma(w, mma);
                Ok(())
            }
            Op::Setp { comparison, d, q } => {
                float::setp(w, comparison, *d, *q, mask);
                Ok(())
            }
            Op::WgmmaWait(pending) => {
                whole(mask)?;
                tensor::wait(w, self, *pending)
            }
            op if alu::execute(w, op, mask) => Ok(()),
            op if memory::load_together(w, self, op, mask) => Ok(()),
            op => self.other(w, op, mask),
        }
    }

    /// What gains nothing from vector code.
    #[inline(never)]
    fn other(&mut self, w: &mut Warp, op: &Op, mask: u32) -> Result<(), Raised> {
        match op {
            Op::Load { .. } => memory::load(w, self, op, mask),
            Op::Store { .. } => memory::store(w, self, op, mask),
            Op::Atom { .. } => memory::atom(w, self, op, mask),
            Op::CpAsync { .. } => copy::issue(w, self, op, mask),
            Op::CpAsyncCommit => {
                for lane in lanes(mask) {
                    w.groups[lane] += 1;
                }
                Ok(())
            }
            Op::CpAsyncWait(pending) => copy::wait(w, self, *pending, mask),
            Op::Ldmatrix { count, trans, d, from } => {
                whole(mask)?;
                tensor::ldmatrix(w, self, (*count, *trans), d, *from)
            }
            Op::Stmatrix { count, trans, s, to } => {
                whole(mask)?;
                tensor::stmatrix(w, self, (*count, *trans), s, *to)
            }
            Op::Wgmma(op) => {
                whole(mask)?;
                self.mma += 1;
                self.macs += u64::from(op.n) * 256;
                tensor::issue(w, self, op)
            }
            Op::WgmmaFence => {
                w.wgmma_fenced = true;
                whole(mask)
            }
            Op::WgmmaCommit => {
                w.wgmma_groups += 1;
                whole(mask)
            }
            Op::ProxyFence => {
                self.shared.fence_proxy(w.index);
                Ok(())
            }
            Op::Nop => Ok(()),
            Op::Trap => Err(raise(mask.trailing_zeros() as usize, FaultKind::Trap)),
            op if float::execute(w, op, mask) => Ok(()),
            op => collective::execute(w, op, mask),
        }
    }

    /// Enters a barrier; whether the warp must wait.
    #[inline(never)]
    fn arrive(&mut self, w: &mut Warp, barrier: &Barrier, mask: u32) -> Result<bool, Raised> {
        let lane = mask.trailing_zeros() as usize;
        if w.live != w.lanes && barrier.count.is_none() {
            return Err(raise(lane, FaultKind::EarlyExit { exited: self.exited }));
        }
        // Lanes could enter a barrier that is not aligned one by one; that is not known here and refused as well.
        if mask != w.live {
            return Err(raise(lane, FaultKind::Divergent { mask, needed: w.live }));
        }
        let id = w.r[barrier.id as usize][lane];
        let all = self.shape.warps() * 32;
        let count = barrier.count.map_or(all, |count| w.r[count as usize][lane]);
        let bad = raise(lane, FaultKind::BadBarrier { barrier: id, count });
        if id as usize >= BARRIERS || count == 0 || !count.is_multiple_of(32) || count > all {
            return Err(bad);
        }
        let pc = self.shared.pc;
        let meeting = &mut self.meetings[id as usize];
        if meeting.count == 0 {
            meeting.count = count;
            meeting.whole_block = barrier.count.is_none();
            meeting.pc = pc;
        }
        if meeting.count != count {
            return Err(bad);
        }
        if meeting.pc != pc && barrier.count.is_none() {
            let other_line = self.kernel.places[meeting.pc as usize].0;
            return Err(raise(lane, FaultKind::MixedBarrier { barrier: id, other_line }));
        }
        meeting.threads += 32;
        let time = self.shared.arrival(barrier.arrive);
        let meeting = &mut self.meetings[id as usize];
        meeting.arrived.push((w.index, time));
        if let Some((_, _, p)) = barrier.reduce {
            let votes = w.predicate(p);
            meeting.votes.extend(lanes(w.live).map(|lane| votes >> lane & 1 == 1));
        }
        if !barrier.arrive {
            meeting.waiting.push(w.index);
        }
        Ok(!barrier.arrive)
    }
}

/// Refuses a warp-wide instruction that only some lanes execute.
#[inline(always)]
fn whole(mask: u32) -> Result<(), Raised> {
    if mask == u32::MAX {
        return Ok(());
    }
    Err(raise(mask.trailing_zeros() as usize, FaultKind::Divergent { mask, needed: u32::MAX }))
}

/// The next of a sequence of pseudo-random numbers (PCG's multiplier); the upper bits are the good ones.
pub(super) fn next_random(state: u64) -> u64 {
    state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407)
}
