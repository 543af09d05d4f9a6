//! `ldmatrix`, `stmatrix`, `mma` and `wgmma`.
//!
//! Products of f16 are exact in f32; sums run over k in order, each step rounded to f32. The device sums in blocks and
//! truncates, so that results agree within a few units of f32 and not bit for bit.

use super::block::{Block, Raised, raise};
use super::shared::Touch;
use super::warp::{LANES, PendingWgmma, Warp};
use crate::error::FaultKind;
use crate::half::f32_from_f16;
use crate::op::{Address, Mma, Op, Slot, Wgmma};

/// The lower and upper halves of a register as f32.
#[inline(always)]
fn split(register: &[u32; LANES]) -> ([f32; LANES], [f32; LANES]) {
    let (mut low, mut high) = ([0f32; LANES], [0f32; LANES]);
    for (low, word) in low.iter_mut().zip(register) {
        *low = f32_from_f16(word & 0xffff);
    }
    for (high, word) in high.iter_mut().zip(register) {
        *high = f32_from_f16(word >> 16);
    }
    (low, high)
}

/// `d = a * b + c` for tiles of 16 x k and k x 8 (PTX ISA, fragments of `mma.m16n8k16`).
///
/// Lane l = 4 g + t holds row g of a (columns 2t, 2t+1), column g of b (rows 2t, 2t+1) and row g of c (columns 2t,
/// 2t+1); further registers hold row g + 8 and columns + 8.
#[inline(always)]
pub(super) fn mma(w: &mut Warp, m: &Mma) {
    let halves = m.k as usize / 8;
    // Columns are kept in the order 0 2 4 6 1 3 5 7, in which the registers of c hold them.
    let mut b = [[0f32; 8]; 16];
    for half in 0..halves {
        let (low, high) = split(&w.r[m.b[half] as usize]);
        for n in 0..8 {
            let column = n / 2 + n % 2 * 4;
            for t in 0..4 {
                b[half * 8 + 2 * t][column] = low[n * 4 + t];
                b[half * 8 + 2 * t + 1][column] = high[n * 4 + t];
            }
        }
    }
    let mut result = [[0u32; LANES]; 4];
    for rows in 0..2 {
        let mut a = [[0f32; LANES]; 4];
        for half in 0..halves {
            (a[half * 2], a[half * 2 + 1]) = split(&w.r[m.a[half * 2 + rows] as usize]);
        }
        let mut sums = [[0f32; 8]; 8];
        let (even, odd) = (&w.r[m.c[rows * 2] as usize], &w.r[m.c[rows * 2 + 1] as usize]);
        for (g, sum) in sums.iter_mut().enumerate() {
            for t in 0..4 {
                sum[t] = f32::from_bits(even[g * 4 + t]);
                sum[4 + t] = f32::from_bits(odd[g * 4 + t]);
            }
        }
        for half in 0..halves {
            for t in 0..4 {
                for parity in 0..2 {
                    let row = &b[half * 8 + 2 * t + parity];
                    let column = &a[half * 2 + parity];
                    for g in 0..8 {
                        for n in 0..8 {
                            sums[g][n] = column[g * 4 + t].mul_add(row[n], sums[g][n]);
                        }
                    }
                }
            }
        }
        for (g, sum) in sums.iter().enumerate() {
            for t in 0..4 {
                result[rows * 2][g * 4 + t] = sum[t].to_bits();
                result[rows * 2 + 1][g * 4 + t] = sum[4 + t].to_bits();
            }
        }
    }
    // Written only now: a destination may be a source of the other rows.
    for (slot, value) in m.d.iter().zip(result) {
        w.r[*slot as usize] = value;
    }
}

/// `ldmatrix`: each lane names a row of 16 bytes; lane 4 r + c receives the words c of row r.
pub(super) fn ldmatrix(
    w: &mut Warp,
    block: &mut Block<'_>,
    (count, trans): (u8, bool),
    d: &[Slot; 4],
    from: Address,
) -> Result<(), Raised> {
    let addresses = w.addresses(from);
    for (matrix, slot) in d.iter().enumerate().take(count.into()) {
        let mut rows = [[0u8; 16]; 8];
        for (row, bytes) in rows.iter_mut().enumerate() {
            let lane = matrix * 8 + row;
            let check = |kind| raise(lane, kind);
            let offset = block.shared.offset(addresses[lane], 16).map_err(check)?;
            block.shared.touch(w.index, offset, 16, Touch::Read).map_err(check)?;
            bytes.copy_from_slice(&block.shared.bytes[offset..offset + 16]);
        }
        let mut words = [0u32; LANES];
        for (row, bytes) in rows.iter().enumerate() {
            for (column, word) in bytes.as_chunks::<4>().0.iter().enumerate() {
                words[row * 4 + column] = u32::from_le_bytes(*word);
            }
        }
        if trans {
            let half = |row: usize, column: usize| words[row * 4 + column / 2] >> (column % 2 * 16) & 0xffff;
            let mut turned = [0u32; LANES];
            for (lane, word) in turned.iter_mut().enumerate() {
                let (column, row) = (lane / 4, lane % 4 * 2);
                *word = half(row, column) | half(row + 1, column) << 16;
            }
            words = turned;
        }
        w.r[*slot as usize] = words;
    }
    let mask = ((1u64 << (8 * count)) - 1) as u32;
    block.shared.count_banks(&addresses, mask, 16);
    Ok(())
}

/// `stmatrix`, the inverse of [`ldmatrix`].
pub(super) fn stmatrix(
    w: &mut Warp,
    block: &mut Block<'_>,
    (count, trans): (u8, bool),
    s: &[Slot; 4],
    to: Address,
) -> Result<(), Raised> {
    let addresses = w.addresses(to);
    for (matrix, slot) in s.iter().enumerate().take(count.into()) {
        let register = w.r[*slot as usize];
        for row in 0..8 {
            let lane = matrix * 8 + row;
            let check = |kind| raise(lane, kind);
            let offset = block.shared.offset(addresses[lane], 16).map_err(check)?;
            block.shared.touch(w.index, offset, 16, Touch::Write).map_err(check)?;
            for column in 0..8 {
                let half = if trans {
                    register[column * 4 + row / 2] >> (row % 2 * 16)
                } else {
                    register[row * 4 + column / 2] >> (column % 2 * 16)
                };
                let at = offset + column * 2;
                block.shared.bytes[at..at + 2].copy_from_slice(&(half as u16).to_le_bytes());
            }
        }
    }
    let mask = ((1u64 << (8 * count)) - 1) as u32;
    block.shared.count_banks(&addresses, mask, 16);
    Ok(())
}

/// Issues a `wgmma`: its accumulators are poison until it is waited for, and memory is read only then.
pub(super) fn issue(w: &mut Warp, block: &Block<'_>, op: &Wgmma) -> Result<(), Raised> {
    if !w.wgmma_fenced {
        return Err(raise(0, FaultKind::Wgmma("issued without wgmma.fence since the last wait")));
    }
    let uniform = |slot: Slot| {
        let values = &w.d[slot as usize];
        let differ = || raise(0, FaultKind::Wgmma("descriptors differ between lanes"));
        if values.iter().all(|value| *value == values[0]) { Ok(values[0]) } else { Err(differ()) }
    };
    let (a, a_registers) = match op.a {
        Ok(slot) => (uniform(slot)?, None),
        Err(slots) => (0, Some(slots.map(|slot| w.r[slot as usize]))),
    };
    let b = uniform(op.b)?;
    let keep = match w.predicate(op.scale_d) {
        0 => false,
        u32::MAX => true,
        _ => return Err(raise(0, FaultKind::Wgmma("scale-d differs between lanes"))),
    };
    if !w.chains.iter().any(|(first, _)| *first == op.d[0]) {
        let values = op.d.iter().map(|slot| w.r[*slot as usize]).collect();
        w.chains.push((op.d[0], values));
        for slot in &op.d {
            w.r[*slot as usize] = [u32::MAX; LANES];
        }
    }
    let op = Box::new(op.clone());
    let group = w.wgmma_groups;
    w.wgmmas.push(PendingWgmma { op, pc: block.shared.pc, group, a, a_registers, b, keep });
    Ok(())
}

/// Waits until at most `pending` groups of `wgmma` are under way.
#[inline(always)]
pub(super) fn wait(w: &mut Warp, block: &mut Block<'_>, pending: u32) -> Result<(), Raised> {
    let done = w.wgmma_groups.saturating_sub(pending);
    let place = block.shared.pc;
    for pending in std::mem::take(&mut w.wgmmas) {
        if pending.group >= done {
            w.wgmmas.push(pending);
            continue;
        }
        block.shared.pc = pending.pc;
        multiply(w, block, &pending)?;
    }
    block.shared.pc = place;
    for (first, values) in std::mem::take(&mut w.chains) {
        let op = w.wgmmas.iter().find(|pending| pending.op.d[0] == first);
        if op.is_some() {
            w.chains.push((first, values));
            continue;
        }
        // Registers of a chain are those of its products, in order.
        let Some((_, slots)) = block.chain_slots.iter().find(|(slot, _)| *slot == first) else { continue };
        for (slot, value) in slots.iter().zip(values) {
            w.r[*slot as usize] = value;
        }
    }
    w.wgmma_fenced = false;
    Ok(())
}

/// Where element (row, k) of an operand lies, by its descriptor (PTX ISA, matrix descriptors and canonical layouts).
struct Layout {
    base: u64,
    leading: u64,
    stride: u64,
    /// log2 of the 16-byte chunks that a swizzled row has; 0 for none.
    swizzle: u32,
    /// Rows lie next to each other, instead of k.
    row_major: bool,
}

impl Layout {
    fn new(descriptor: u64, row_major: bool) -> Result<Self, Raised> {
        let field = |shift: u32| (descriptor >> shift & 0x3fff) << 4;
        let swizzle = match descriptor >> 62 {
            0 => 0,
            1 => 3,
            2 => 2,
            _ => 1,
        };
        if descriptor >> 49 & 7 != 0 {
            return Err(raise(0, FaultKind::Wgmma("a base offset in a descriptor is not known here")));
        }
        Ok(Self { base: field(0), leading: field(16), stride: field(32), swizzle, row_major })
    }

    /// Byte address of the element.
    fn address(&self, row: u64, k: u64) -> u64 {
        let chunk_rows = 8u64 << self.swizzle;
        let address = match (self.row_major, self.swizzle) {
            (false, 0) => self.base + row / 8 * self.stride + k / 8 * self.leading + row % 8 * 16 + k % 8 * 2,
            (false, swizzle) => self.base + row / 8 * self.stride + row % 8 * (16 << swizzle) + k * 2,
            (true, 0) => self.base + row / 8 * self.stride + k / 8 * self.leading + k % 8 * 16 + row % 8 * 2,
            (true, swizzle) => {
                self.base
                    + row / chunk_rows * self.leading
                    + k / 8 * self.stride
                    + k % 8 * (16 << swizzle)
                    + row % chunk_rows * 2
            }
        };
        let mask = (1u64 << self.swizzle) - 1;
        address ^ (address >> 7 & mask) << 4
    }
}

impl Block<'_> {
    /// Reads an operand of `rows` x 16 as f32, k by k.
    fn operand(
        &mut self,
        warp: u32,
        layout: &Layout,
        rows: std::ops::Range<u64>,
    ) -> Result<Vec<f32>, Raised> {
        let mut out = Vec::with_capacity(16 * (rows.end - rows.start) as usize);
        for k in 0..16 {
            for row in rows.clone() {
                let check = |kind| raise(0, kind);
                let offset = self.shared.offset(layout.address(row, k), 2).map_err(check)?;
                self.shared.touch_async(warp, offset).map_err(check)?;
                let bits = [self.shared.bytes[offset], self.shared.bytes[offset + 1]];
                out.push(f32_from_f16(u32::from(u16::from_le_bytes(bits))));
            }
        }
        Ok(out)
    }
}

/// The part of a warp: rows 16 w to 16 w + 15 of the 64, w its number in the warpgroup.
#[inline(always)]
fn multiply(w: &mut Warp, block: &mut Block<'_>, pending: &PendingWgmma) -> Result<(), Raised> {
    let op = &*pending.op;
    let n = op.n as usize;
    let first = u64::from(w.index % 4 * 16);
    let mut a = match &pending.a_registers {
        None => block.operand(w.index, &Layout::new(pending.a, op.trans_a)?, first..first + 16)?,
        Some(registers) => {
            let mut a = vec![0.0; 256];
            for (q, register) in registers.iter().enumerate() {
                for (lane, word) in register.iter().enumerate() {
                    let (row, k) = (lane / 4 + q % 2 * 8, lane % 4 * 2 + q / 2 * 8);
                    a[k * 16 + row] = f32_from_f16(word & 0xffff);
                    a[(k + 1) * 16 + row] = f32_from_f16(word >> 16);
                }
            }
            a
        }
    };
    let b = block.operand(w.index, &Layout::new(pending.b, op.trans_b)?, 0..u64::from(op.n))?;
    if op.negate_a != op.negate_b {
        a.iter_mut().for_each(|value| *value = -*value);
    }
    let Some((_, chain)) = w.chains.iter_mut().find(|(slot, _)| *slot == op.d[0]) else {
        return Err(raise(0, FaultKind::Wgmma("accumulators overlap those of another")));
    };
    let mut sums = vec![0f32; 16 * n];
    // Register q of lane 4 g + t holds row g + 8 (q / 2 % 2), column 8 (q / 4) + 2 t + q % 2.
    let place = |q: usize, lane: usize| (lane / 4 + q / 2 % 2 * 8, q / 4 * 8 + lane % 4 * 2 + q % 2);
    if pending.keep {
        for (q, register) in chain.iter().enumerate() {
            for (lane, bits) in register.iter().enumerate() {
                let (row, column) = place(q, lane);
                sums[row * n + column] = f32::from_bits(*bits);
            }
        }
    }
    for (row, sum) in sums.chunks_exact_mut(n).enumerate() {
        for (k, b) in b.chunks_exact(n).enumerate() {
            let x = a[k * 16 + row];
            for (sum, y) in sum.iter_mut().zip(b) {
                *sum = x.mul_add(*y, *sum);
            }
        }
    }
    for (q, register) in chain.iter_mut().enumerate() {
        for (lane, bits) in register.iter_mut().enumerate() {
            let (row, column) = place(q, lane);
            *bits = sums[row * n + column].to_bits();
        }
    }
    Ok(())
}

/// The accumulators of each chain of a kernel: all products that share the first register share the others.
pub(super) fn chain_slots(kernel: &crate::module::Kernel) -> Vec<(Slot, Vec<Slot>)> {
    let mut chains: Vec<(Slot, Vec<Slot>)> = Vec::new();
    for instruction in &kernel.code {
        if let Op::Wgmma(op) = &instruction.op
            && !chains.iter().any(|(first, slots)| *first == op.d[0] && slots.len() >= op.d.len())
        {
            chains.retain(|(first, _)| *first != op.d[0]);
            chains.push((op.d[0], op.d.clone()));
        }
    }
    chains
}
