//! Loads, stores and atomics.

use super::block::{Block, Raised, raise};
use super::float;
use super::shared::Touch;
use super::warp::{LANES, Warp, lanes};
use crate::decode::windows::{LOCAL_WINDOW, SHARED_WINDOW, WINDOW_BYTES};
use crate::error::{FaultKind, Space};
use crate::memory::Allocation;
use crate::op::{Atom, Op, Target};
use crate::types::Type;

/// Where one lane's access goes.
enum Place<'m> {
    Global(&'m Allocation, usize),
    Shared(usize),
    Local(usize),
    Param(usize),
}

/// Finds what lanes name; remembers the allocation, since lanes mostly share it.
pub(super) struct Finder<'m> {
    view: &'m crate::memory::View,
    last: Option<&'m Allocation>,
}

impl<'m> Finder<'m> {
    pub(super) fn new(block: &Block<'m>) -> Self {
        Self { view: block.view, last: None }
    }

    /// `bytes` is a power of two.
    #[inline(always)]
    pub(super) fn global(&mut self, address: u64, bytes: u32) -> Result<(&'m Allocation, usize), FaultKind> {
        if address & (u64::from(bytes) - 1) != 0 {
            return Err(FaultKind::Misaligned { space: Space::Global, address, bytes });
        }
        if let Some(last) = self.last
            && let Some(offset) = last.offset(address, bytes)
        {
            return Ok((last, offset));
        }
        self.last = self.view.find(address);
        let found = self.last.and_then(|allocation| Some((allocation, allocation.offset(address, bytes)?)));
        found.ok_or_else(|| FaultKind::OutOfBounds {
            space: Space::Global,
            address,
            bytes,
            nearest: self.view.nearest(address),
        })
    }
}

/// A plain array of bytes: local memory of a lane, parameters.
fn plain(space: Space, size: usize, address: u64, bytes: u32) -> Result<usize, FaultKind> {
    if address & (u64::from(bytes) - 1) != 0 {
        return Err(FaultKind::Misaligned { space, address, bytes });
    }
    if address >= size as u64 || u64::from(bytes) > size as u64 - address {
        let nearest = format!("there are {size} bytes");
        return Err(FaultKind::OutOfBounds { space, address, bytes, nearest });
    }
    Ok(address as usize)
}

fn place<'m>(
    block: &Block<'m>,
    finder: &mut Finder<'m>,
    target: Target,
    lane: usize,
    address: u64,
    bytes: u32,
) -> Result<Place<'m>, FaultKind> {
    let local = |address| {
        let size = block.kernel.local_bytes as usize;
        plain(Space::Local, size, address, bytes).map(|offset| Place::Local(lane * size + offset))
    };
    match target {
        Target::Shared => block.shared.offset(address, bytes).map(Place::Shared),
        Target::Global => finder.global(address, bytes).map(|(a, offset)| Place::Global(a, offset)),
        Target::Local => local(address),
        Target::Param => plain(Space::Param, block.params.len(), address, bytes).map(Place::Param),
        Target::Generic => {
            if address.wrapping_sub(SHARED_WINDOW) < WINDOW_BYTES {
                block.shared.offset(address - SHARED_WINDOW, bytes).map(Place::Shared)
            } else if address.wrapping_sub(LOCAL_WINDOW) < WINDOW_BYTES {
                local(address - LOCAL_WINDOW)
            } else {
                finder.global(address, bytes).map(|(a, offset)| Place::Global(a, offset))
            }
        }
    }
}

/// `bytes` of an array as a number, the lowest first.
fn get(from: &[u8], offset: usize, bytes: usize) -> u64 {
    let mut value = [0; 8];
    value[..bytes].copy_from_slice(&from[offset..offset + bytes]);
    u64::from_le_bytes(value)
}

fn get_global(allocation: &Allocation, offset: usize, bytes: usize) -> u64 {
    match bytes {
        8 => u64::from(allocation.load(offset)) | u64::from(allocation.load(offset + 4)) << 32,
        4 => u64::from(allocation.load(offset)),
        _ => {
            let word = allocation.load(offset & !3) >> (offset % 4 * 8);
            u64::from(if bytes == 2 { word & 0xffff } else { word & 0xff })
        }
    }
}

fn put_global(allocation: &Allocation, offset: usize, bytes: usize, value: u64) {
    match bytes {
        8 => {
            allocation.store(offset, value as u32);
            allocation.store(offset + 4, (value >> 32) as u32);
        }
        4 => allocation.store(offset, value as u32),
        _ => allocation.store_part(offset, bytes as u32, value as u32),
    }
}

/// A loaded value in a register of `register` bytes.
fn extend(value: u64, ty: Type, register: u8) -> u64 {
    if !ty.is_signed() {
        return value;
    }
    let shift = 64 - ty.bytes() * 8;
    let register = 64 - u32::from(register) * 8;
    ((value << shift) as i64 >> shift) as u64 & u64::MAX >> register
}

/// The allocation in which the accesses of all lanes lie, aligned, and their offsets; none if they are not that simple.
#[inline(always)]
fn together<'m>(
    block: &Block<'m>,
    addresses: &[u64; LANES],
    mask: u32,
    bytes: u32,
) -> Option<(&'m Allocation, [u64; LANES])> {
    let first = addresses[mask.trailing_zeros() as usize % LANES];
    let allocation = block.view.find(first)?;
    let last = allocation.bytes.checked_sub(u64::from(bytes))?;
    let (base, low_bits) = (allocation.base, u64::from(bytes) - 1);
    let mut offsets = [0; LANES];
    let mut outside = 0;
    for lane in 0..LANES {
        // Lanes that do not take part read the first word, to no effect.
        let takes_part = u64::from(mask >> lane & 1).wrapping_neg();
        let offset = addresses[lane].wrapping_sub(base) & takes_part;
        // Both lie below 2^63, or the difference has that bit.
        outside |= last.wrapping_sub(offset) >> 63 | offset >> 63 | offset & low_bits;
        offsets[lane] = offset;
    }
    (outside == 0).then_some((allocation, offsets))
}

/// Loads from one allocation in global memory, the most frequent kind; whether it was one.
#[inline(always)]
pub(super) fn load_together(w: &mut Warp, block: &Block<'_>, op: &Op, mask: u32) -> bool {
    let Op::Load { target: Target::Global, ty, bytes: register, count, d, from } = op else { return false };
    let width = ty.bytes() as usize;
    if width == 1 || *register == 8 && width != 8 {
        return false;
    }
    let addresses = w.addresses(*from);
    let total = ty.bytes() * u32::from(*count);
    let Some((allocation, offsets)) = together(block, &addresses, mask, total) else { return false };
    for (i, slot) in d[..usize::from(*count)].iter().enumerate() {
        let mut values = [0u32; LANES];
        match width {
            8 => {
                let at = |lane: usize| get_global(allocation, offsets[lane] as usize + i * 8, 8);
                w.set64(*slot, &std::array::from_fn(at), mask);
                continue;
            }
            4 => {
                for (value, offset) in values.iter_mut().zip(&offsets) {
                    *value = allocation.load(*offset as usize + i * 4);
                }
            }
            _ => {
                for (value, offset) in values.iter_mut().zip(&offsets) {
                    let bits = get_global(allocation, *offset as usize + i * 2, 2);
                    *value = extend(bits, *ty, *register) as u32;
                }
            }
        }
        w.set32(*slot, &values, mask);
    }
    true
}

/// A parameter at one place for all lanes, which is how kernels read theirs; whether it was that.
fn load_param(w: &mut Warp, block: &Block<'_>, op: &Op, mask: u32) -> bool {
    let Op::Load { target: Target::Param, ty, bytes: register, count: 1, d, from } = op else { return false };
    let addresses = w.addresses(*from);
    if addresses.iter().any(|address| *address != addresses[0]) {
        return false;
    }
    let Ok(offset) = plain(Space::Param, block.params.len(), addresses[0], ty.bytes()) else { return false };
    let value = extend(get(block.params, offset, ty.bytes() as usize), *ty, *register);
    if *register == 8 {
        w.set64(d[0], &[value; LANES], mask);
    } else {
        w.set32(d[0], &[value as u32; LANES], mask);
    }
    true
}

pub(super) fn load(w: &mut Warp, block: &mut Block<'_>, op: &Op, mask: u32) -> Result<(), Raised> {
    if load_param(w, block, op, mask) {
        return Ok(());
    }
    let Op::Load { target, ty, bytes: register, count, d, from } = op else { return Ok(()) };
    let addresses = w.addresses(*from);
    let width = ty.bytes() as usize;
    let total = ty.bytes() * u32::from(*count);
    let mut finder = Finder::new(block);
    let mut shared = 0;
    for lane in lanes(mask) {
        let check = |kind| raise(lane, kind);
        let place = place(block, &mut finder, *target, lane, addresses[lane], total).map_err(check)?;
        if let Place::Shared(offset) = place {
            block.shared.touch(w.index, offset, total, Touch::Read).map_err(check)?;
            shared |= 1 << lane;
        }
        for (i, slot) in d[..usize::from(*count)].iter().enumerate() {
            let value = match place {
                Place::Global(allocation, offset) => get_global(allocation, offset + i * width, width),
                Place::Shared(offset) => get(&block.shared.bytes, offset + i * width, width),
                Place::Local(offset) => get(&w.local, offset + i * width, width),
                Place::Param(offset) => get(block.params, offset + i * width, width),
            };
            let value = extend(value, *ty, *register);
            if *register == 8 {
                w.d[*slot as usize][lane] = value;
            } else {
                w.r[*slot as usize][lane] = value as u32;
            }
        }
    }
    if shared != 0 {
        block.shared.count_banks(&addresses, shared, total);
    }
    Ok(())
}

pub(super) fn store(w: &mut Warp, block: &mut Block<'_>, op: &Op, mask: u32) -> Result<(), Raised> {
    let Op::Store { target, ty, bytes: register, count, s, to } = op else { return Ok(()) };
    let addresses = w.addresses(*to);
    let width = ty.bytes() as usize;
    let total = ty.bytes() * u32::from(*count);
    if *target == Target::Global
        && width == 4
        && *register == 4
        && let Some((allocation, offsets)) = together(block, &addresses, mask, total)
    {
        for (i, slot) in s[..usize::from(*count)].iter().enumerate() {
            let values = &w.r[*slot as usize];
            for lane in lanes(mask) {
                allocation.store(offsets[lane] as usize + i * 4, values[lane]);
            }
        }
        return Ok(());
    }
    let mut finder = Finder::new(block);
    let mut shared = 0;
    for lane in lanes(mask) {
        let check = |kind| raise(lane, kind);
        let place = place(block, &mut finder, *target, lane, addresses[lane], total).map_err(check)?;
        if let Place::Shared(offset) = place {
            block.shared.touch(w.index, offset, total, Touch::Write).map_err(check)?;
            shared |= 1 << lane;
        }
        for (i, slot) in s[..usize::from(*count)].iter().enumerate() {
            let value =
                if *register == 8 { w.d[*slot as usize][lane] } else { u64::from(w.r[*slot as usize][lane]) };
            let bytes = &value.to_le_bytes()[..width];
            match place {
                Place::Global(allocation, offset) => put_global(allocation, offset + i * width, width, value),
                Place::Shared(offset) => {
                    let at = offset + i * width;
                    block.shared.bytes[at..at + width].copy_from_slice(bytes);
                }
                Place::Local(offset) => {
                    let at = offset + i * width;
                    w.local[at..at + width].copy_from_slice(bytes);
                }
                // Refused where it was decoded.
                Place::Param(_) => {}
            }
        }
    }
    if shared != 0 {
        block.shared.count_banks(&addresses, shared, total);
    }
    Ok(())
}

/// The new value of a word.
pub(super) fn combine(atom: Atom, ty: Type, old: u64, b: u64, c: u64) -> u64 {
    let f32s = |value: u64| f32::from_bits(value as u32);
    let signed = |value: u64| if ty.bytes() == 4 { i64::from(value as u32 as i32) } else { value as i64 };
    match (atom, ty) {
        (Atom::Add, Type::F32) => u64::from((f32s(old) + f32s(b)).to_bits()),
        (Atom::Add, Type::F64) => (f64::from_bits(old) + f64::from_bits(b)).to_bits(),
        (Atom::Add, Type::F16x2) => u64::from(float::add_f16x2(old as u32, b as u32)),
        (Atom::Add, _) => old.wrapping_add(b),
        (Atom::Min, _) if ty.is_signed() => {
            if signed(b) < signed(old) {
                b
            } else {
                old
            }
        }
        (Atom::Max, _) if ty.is_signed() => {
            if signed(b) > signed(old) {
                b
            } else {
                old
            }
        }
        (Atom::Min, _) => old.min(b),
        (Atom::Max, _) => old.max(b),
        (Atom::And, _) => old & b,
        (Atom::Or, _) => old | b,
        (Atom::Xor, _) => old ^ b,
        (Atom::Exch, _) => b,
        (Atom::Cas, _) => {
            if old == b {
                c
            } else {
                old
            }
        }
        (Atom::Inc, _) => {
            if old >= b {
                0
            } else {
                old + 1
            }
        }
        (Atom::Dec, _) => {
            if old == 0 || old > b {
                b
            } else {
                old - 1
            }
        }
    }
}

/// Lanes go one after the other, from the lowest.
pub(super) fn atom(w: &mut Warp, block: &mut Block<'_>, op: &Op, mask: u32) -> Result<(), Raised> {
    let Op::Atom { target, atom, ty, d, at, b, c } = op else { return Ok(()) };
    let addresses = w.addresses(*at);
    let width = ty.bytes() as usize;
    let mut finder = Finder::new(block);
    let mut shared = 0;
    for lane in lanes(mask) {
        let check = |kind| raise(lane, kind);
        let value = |w: &Warp, slot: u32| {
            if width == 8 { w.d[slot as usize][lane] } else { u64::from(w.r[slot as usize][lane]) }
        };
        let (b, c) = (value(w, *b), value(w, *c));
        let old =
            match place(block, &mut finder, *target, lane, addresses[lane], ty.bytes()).map_err(check)? {
                Place::Global(allocation, offset) => {
                    let old = get_global(allocation, offset, width);
                    put_global(allocation, offset, width, combine(*atom, *ty, old, b, c));
                    old
                }
                Place::Shared(offset) => {
                    block.shared.touch(w.index, offset, ty.bytes(), Touch::Atomic).map_err(check)?;
                    shared |= 1 << lane;
                    let old = get(&block.shared.bytes, offset, width);
                    let new = combine(*atom, *ty, old, b, c).to_le_bytes();
                    block.shared.bytes[offset..offset + width].copy_from_slice(&new[..width]);
                    old
                }
                Place::Local(_) | Place::Param(_) => {
                    return Err(check(FaultKind::Value("an atomic on local memory".into())));
                }
            };
        if width == 8 {
            w.d[*d as usize][lane] = old;
        } else {
            w.r[*d as usize][lane] = old as u32;
        }
    }
    if shared != 0 {
        block.shared.count_banks(&addresses, shared, ty.bytes());
    }
    Ok(())
}
