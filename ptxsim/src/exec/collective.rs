//! What the lanes of a warp do together: shuffles, votes, matches, reductions.

use super::block::{Raised, raise};
use super::memory;
use super::warp::{LANES, Warp, lanes};
use crate::error::FaultKind;
use crate::op::{Atom, Op, Reduce, Shuffle, Slot, Vote};
use crate::types::Type;

/// The members of a warp-wide instruction, all of which must execute it now, each naming itself.
fn members(w: &Warp, slot: Slot, mask: u32) -> Result<u32, Raised> {
    let named = w.r[slot as usize];
    let first = lanes(mask).next().unwrap_or(0);
    let members = named[first];
    for lane in lanes(mask) {
        // Lanes that exited need not come.
        if named[lane] != members || members >> lane & 1 == 0 || members & w.live != mask {
            return Err(raise(lane, FaultKind::Divergent { mask, needed: named[lane] }));
        }
    }
    Ok(members)
}

/// Executes a warp-wide instruction.
pub(super) fn execute(w: &mut Warp, op: &Op, mask: u32) -> Result<(), Raised> {
    match op {
        Op::Shfl { mode, d, p, a, b, c, members: m } => {
            members(w, *m, mask)?;
            let (value, by, clamp) = (w.r[*a as usize], w.r[*b as usize], w.r[*c as usize]);
            let (mut out, mut inside) = ([0; LANES], 0u32);
            for lane in lanes(mask) {
                let (from, valid) = shuffle_source(*mode, lane as u32, by[lane] & 31, clamp[lane]);
                if mask >> from & 1 == 0 {
                    let kind = FaultKind::Value(format!("shfl from lane {from}, which does not take part"));
                    return Err(raise(lane, kind));
                }
                out[lane] = value[from as usize];
                inside |= u32::from(valid) << lane;
            }
            w.set32(*d, &out, mask);
            w.set_predicate(*p, inside, mask);
        }
        Op::Vote { vote, d, a, members: m } => {
            members(w, *m, mask)?;
            let yes = w.predicate(*a) & mask;
            let all = |value: bool| if value { u32::MAX } else { 0 };
            match vote {
                Vote::All => w.set_predicate(*d, all(yes == mask), mask),
                Vote::Any => w.set_predicate(*d, all(yes != 0), mask),
                Vote::Uni => w.set_predicate(*d, all(yes == mask || yes == 0), mask),
                Vote::Ballot => w.set32(*d, &[yes; LANES], mask),
            }
        }
        Op::Match { all, d, p, a, wide, members: m } => {
            members(w, *m, mask)?;
            let value: [u64; LANES] = if *wide { w.d[*a as usize] } else { w.r[*a as usize].map(u64::from) };
            let mut out = [0u32; LANES];
            for lane in lanes(mask) {
                for other in lanes(mask) {
                    out[lane] |= u32::from(value[other] == value[lane]) << other;
                }
            }
            let same = lanes(mask).all(|lane| out[lane] == mask);
            if *all {
                out = [if same { mask } else { 0 }; LANES];
            }
            w.set32(*d, &out, mask);
            w.set_predicate(*p, if same { u32::MAX } else { 0 }, mask);
        }
        Op::Redux { atom, signed, d, a, members: m } => {
            members(w, *m, mask)?;
            let value = w.r[*a as usize];
            let ty = if *signed { Type::S32 } else { Type::U32 };
            let fold = |x: u32, y: u32| memory::combine(*atom, ty, u64::from(x), u64::from(y), 0) as u32;
            let result = lanes(mask).map(|lane| value[lane]).reduce(fold).unwrap_or(0);
            debug_assert!(!matches!(atom, Atom::Cas | Atom::Exch));
            w.set32(*d, &[result; LANES], mask);
        }
        Op::Elect { d, p, members: m } => {
            members(w, *m, mask)?;
            let leader = mask.trailing_zeros();
            w.set32(*d, &[leader; LANES], mask);
            w.set_predicate(*p, 1 << leader, mask);
        }
        Op::Activemask { d } => w.set32(*d, &[mask; LANES], mask),
        Op::WarpBarrier { members: m } => {
            members(w, *m, mask)?;
        }
        other => {
            // Every other operation was executed before it came here.
            return Err(raise(0, FaultKind::Value(format!("not executed: {other:?}"))));
        }
    }
    Ok(())
}

/// The lane to read from, and whether it lies in the segment (PTX ISA, pseudo code of `shfl.sync`).
fn shuffle_source(mode: Shuffle, lane: u32, by: u32, clamp: u32) -> (u32, bool) {
    let (segment, bound) = (clamp >> 8 & 31, clamp & 31);
    let highest = lane & segment | bound & !segment;
    let lowest = lane & segment;
    let (from, valid) = match mode {
        Shuffle::Up => (lane.wrapping_sub(by), lane >= by + highest),
        Shuffle::Down => (lane + by, lane + by <= highest),
        Shuffle::Bfly => (lane ^ by, (lane ^ by) <= highest),
        Shuffle::Idx => {
            let from = lowest | by & !segment;
            (from, from <= highest)
        }
    };
    if valid { (from, true) } else { (lane, false) }
}

/// Gives a warp what a barrier found.
pub(super) fn reduce(w: &mut Warp, reduce: Reduce, d: Slot, votes: &[bool]) {
    let yes = votes.iter().filter(|vote| **vote).count();
    let live = w.live;
    let all = |value: bool| if value { u32::MAX } else { 0 };
    match reduce {
        Reduce::Popc => w.set32(d, &[yes as u32; LANES], live),
        Reduce::And => w.set_predicate(d, all(yes == votes.len()), live),
        Reduce::Or => w.set_predicate(d, all(yes > 0), live),
    }
}
