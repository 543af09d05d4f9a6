//! What one lane computes, where that takes more than an operator.

use crate::half::{f16_from_f32, f32_from_f16};

/// The NaN that the device makes.
pub(super) const NAN: u32 = 0x7fff_ffff;

/// `min.f32`: a NaN gives way to a number, and -0 is below +0.
#[inline(always)]
pub(super) fn min(a: f32, b: f32) -> f32 {
    let smaller = if a == b {
        f32::from_bits(a.to_bits() | b.to_bits())
    } else if a < b {
        a
    } else {
        b
    };
    let number = if b.is_nan() { a } else { smaller };
    if a.is_nan() { if b.is_nan() { f32::from_bits(NAN) } else { b } } else { number }
}

/// `max.f32`: a NaN gives way to a number, and +0 is above -0.
#[inline(always)]
pub(super) fn max(a: f32, b: f32) -> f32 {
    let larger = if a == b {
        f32::from_bits(a.to_bits() & b.to_bits())
    } else if a > b {
        a
    } else {
        b
    };
    let number = if b.is_nan() { a } else { larger };
    if a.is_nan() { if b.is_nan() { f32::from_bits(NAN) } else { b } } else { number }
}

/// Applies `op` to both halves of packed words.
#[inline(always)]
pub(super) fn each2(a: u32, b: u32, op: impl Fn(f32, f32) -> f32) -> u32 {
    let low = f16_from_f32(op(f32_from_f16(a), f32_from_f16(b)));
    let high = f16_from_f32(op(f32_from_f16(a >> 16), f32_from_f16(b >> 16)));
    low | high << 16
}

/// `a * b + c` of binary16, rounded once.
#[inline(always)]
pub(super) fn fma16(a: u32, b: u32, c: u32) -> u32 {
    // The product of two 11-bit mantissas is exact in f32. The sum is rounded to odd, which keeps what the second
    // rounding must know: if it is not exact and even, it moves by one unit towards the error of the sum.
    let product = f32_from_f16(a) * f32_from_f16(b);
    let addend = f32_from_f16(c);
    let sum = product + addend;
    let back = sum - product;
    let error = (product - (sum - back)) + (addend - back);
    let bits = sum.to_bits();
    let inexact = error != 0.0 && sum.is_finite() && bits & 1 == 0;
    let outwards = (error > 0.0) == (sum > 0.0);
    let odd = if outwards { bits | 1 } else { bits.wrapping_sub(1) };
    f16_from_f32(f32::from_bits(if inexact { odd } else { bits }))
}

#[inline(always)]
pub(super) fn bfe(value: u64, start: u32, length: u32, bits: u32, signed: bool) -> u64 {
    let (start, length) = (start & 0xff, length & 0xff);
    if length == 0 {
        return 0;
    }
    let top = start.saturating_add(length).min(bits) - 1;
    let sign = if signed { value >> top.min(bits - 1) & 1 } else { 0 };
    let mut out = 0;
    for bit in 0..bits {
        let from = start + bit;
        let set = if bit < length && from < bits { value >> from & 1 } else { sign };
        out |= set << bit;
    }
    out
}

#[inline(always)]
pub(super) fn prmt(a: u32, b: u32, selectors: u32) -> u32 {
    let bytes = u64::from(b) << 32 | u64::from(a);
    let mut out = 0;
    for i in 0..4 {
        let selector = selectors >> (i * 4);
        let byte = (bytes >> ((selector & 7) * 8)) as u32 & 0xff;
        let replicated = if byte & 0x80 != 0 { 0xff } else { 0 };
        out |= (if selector & 8 != 0 { replicated } else { byte }) << (i * 8);
    }
    out
}

/// `prmt` with a mode: the bytes that two bits of the selector choose (PTX ISA, table of `prmt`).
#[inline(always)]
pub(super) fn prmt_mode(mode: u8, a: u32, b: u32, selector: u32) -> u32 {
    let s = selector & 3;
    let selectors = match mode {
        0 => [0x3210, 0x4321, 0x5432, 0x6543],
        1 => [0x5670, 0x6701, 0x7012, 0x0123],
        2 => [0x0000, 0x1111, 0x2222, 0x3333],
        3 => [0x3210, 0x3211, 0x3222, 0x3333],
        4 => [0x0000, 0x1110, 0x2210, 0x3210],
        _ => [0x1010, 0x3232, 0x1010, 0x3232],
    };
    prmt(a, b, selectors[s as usize])
}

#[inline(always)]
pub(super) fn lop3(table: u8, a: u32, b: u32, c: u32) -> u32 {
    let mut out = 0;
    for entry in 0..8u32 {
        if table >> entry & 1 == 1 {
            let pick = |value: u32, bit: u32| if entry >> bit & 1 == 1 { value } else { !value };
            out |= pick(a, 2) & pick(b, 1) & pick(c, 0);
        }
    }
    out
}
