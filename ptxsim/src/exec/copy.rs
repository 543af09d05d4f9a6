//! `cp.async`: copies that land when they are waited for.

use super::block::{Block, Raised, raise};
use super::memory::Finder;
use super::warp::{Copy, LANES, Warp, lanes};
use crate::error::{FaultKind, Space};
use crate::op::Op;

/// Issues a copy: what it will write is poison until it is waited for.
pub(super) fn issue(w: &mut Warp, block: &mut Block<'_>, op: &Op, mask: u32) -> Result<(), Raised> {
    let Op::CpAsync { to, from, bytes, size } = op else { return Ok(()) };
    let (to, from) = (w.addresses(*to), w.addresses(*from));
    let mut copy = Copy { mask, group: w.groups, to: [0; LANES], from, size: [0; LANES], bytes: *bytes };
    let mut finder = Finder::new(block);
    for lane in lanes(mask) {
        let check = |kind| raise(lane, kind);
        let size = size.map_or(*bytes, |slot| w.r[slot as usize][lane]);
        if size > *bytes {
            return Err(check(FaultKind::Value(format!("cp.async of {size} bytes into {bytes}"))));
        }
        let offset = block.shared.offset(to[lane], *bytes).map_err(check)?;
        if size > 0 {
            finder.global(from[lane] & !(u64::from(*bytes) - 1), size.next_power_of_two()).map_err(check)?;
        }
        if from[lane] % u64::from(*bytes) != 0 {
            let kind = FaultKind::Misaligned { space: Space::Global, address: from[lane], bytes: *bytes };
            return Err(check(kind));
        }
        block.shared.depart(w.index, offset, *bytes).map_err(check)?;
        block.shared.bytes[offset..offset + *bytes as usize].fill(0xff);
        copy.to[lane] = offset as u32;
        copy.size[lane] = size as u8;
    }
    block.shared.count_banks(&to, mask, *bytes);
    w.copies.push(copy);
    Ok(())
}

/// Lets land what the lanes of `mask` wait for: all but the last `pending` groups, or all.
pub(super) fn wait(
    w: &mut Warp,
    block: &mut Block<'_>,
    pending: Option<u32>,
    mask: u32,
) -> Result<(), Raised> {
    let mut copies = std::mem::take(&mut w.copies);
    let mut finder = Finder::new(block);
    for copy in &mut copies {
        for lane in lanes(copy.mask & mask) {
            let lands = pending.is_none_or(|pending| copy.group[lane] + pending < w.groups[lane]);
            if !lands {
                continue;
            }
            copy.mask &= !(1 << lane);
            let check = |kind| raise(lane, kind);
            let (offset, size) = (copy.to[lane] as usize, usize::from(copy.size[lane]));
            block.shared.land(w.index, offset, copy.bytes).map_err(check)?;
            let mut data = [0u8; 16];
            if size > 0 {
                let (allocation, from) =
                    finder.global(copy.from[lane], (size as u32).next_power_of_two()).map_err(check)?;
                for (i, word) in
                    data[..size.next_multiple_of(4)].as_chunks_mut::<4>().0.iter_mut().enumerate()
                {
                    *word = allocation.load(from + i * 4).to_le_bytes();
                }
                data[size..].fill(0);
            }
            let bytes = copy.bytes as usize;
            block.shared.bytes[offset..offset + bytes].copy_from_slice(&data[..bytes]);
        }
    }
    copies.retain(|copy| copy.mask != 0);
    w.copies = copies;
    Ok(())
}
