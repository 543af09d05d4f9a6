//! Integer, logic and plain float operations, 32 lanes at a time.
//!
//! Everything here is inlined into one loop that is compiled for the vector width of the machine.

use super::lane::{bfe, each2, fma16, lop3, max, min, prmt, prmt_mode};
use super::warp::{LANES, Warp};
use crate::half::{f16_from_f32, f32_from_f16};
use crate::op::{Bin32, Bin64, Logic, Op, Tern32, Tern64, Un32, Un64};

macro_rules! un32 {
    ($w:expr, $m:expr, $d:expr, $a:expr, |$x:ident| $e:expr) => {{
        let mut out = [0u32; LANES];
        let a = &$w.r[*$a as usize];
        for lane in 0..LANES {
            let $x = a[lane];
            out[lane] = $e;
        }
        $w.set32(*$d, &out, $m);
    }};
}

macro_rules! bin32 {
    ($w:expr, $m:expr, $d:expr, $a:expr, $b:expr, |$x:ident, $y:ident| $e:expr) => {{
        let mut out = [0u32; LANES];
        let (a, b) = (&$w.r[*$a as usize], &$w.r[*$b as usize]);
        for lane in 0..LANES {
            let ($x, $y) = (a[lane], b[lane]);
            out[lane] = $e;
        }
        $w.set32(*$d, &out, $m);
    }};
}

macro_rules! tern32 {
    ($w:expr, $m:expr, $d:expr, $a:expr, $b:expr, $c:expr, |$x:ident, $y:ident, $z:ident| $e:expr) => {{
        let mut out = [0u32; LANES];
        let (a, b, c) = (&$w.r[*$a as usize], &$w.r[*$b as usize], &$w.r[*$c as usize]);
        for lane in 0..LANES {
            let ($x, $y, $z) = (a[lane], b[lane], c[lane]);
            out[lane] = $e;
        }
        $w.set32(*$d, &out, $m);
    }};
}

macro_rules! lanes64 {
    ($w:expr, $m:expr, $d:expr, |$lane:ident, $from:ident| $e:expr) => {{
        let mut out = [0u64; LANES];
        {
            let $from = &*$w;
            for $lane in 0..LANES {
                out[$lane] = $e;
            }
        }
        $w.set64(*$d, &out, $m);
    }};
}

#[inline(always)]
fn f(bits: u32) -> f32 {
    f32::from_bits(bits)
}

#[inline(always)]
fn d(bits: u64) -> f64 {
    f64::from_bits(bits)
}

/// The value of the lower 16 bits as a signed number.
#[inline(always)]
fn s16(bits: u32) -> i32 {
    i32::from(bits as u16 as i16)
}

#[inline(always)]
fn u16(value: i32) -> u32 {
    value as u32 & 0xffff
}

/// Executes `op` for the lanes of `mask` if it is one of those of this file.
#[inline(always)]
pub(super) fn execute(w: &mut Warp, op: &Op, mask: u32) -> bool {
    match op {
        Op::Un32(f, d, a) => unary32(w, mask, *f, d, a),
        Op::Bin32(f, d, a, b) => binary32(w, mask, *f, d, a, b),
        Op::Tern32(f, d, a, b, c) => ternary32(w, mask, *f, d, a, b, c),
        Op::Bfi { d, a, b, c, e } => {
            let (start, length) = (w.r[*c as usize], w.r[*e as usize]);
            let mut out = [0u32; LANES];
            let (from, into) = (&w.r[*a as usize], &w.r[*b as usize]);
            for lane in 0..LANES {
                let (start, length) = (start[lane] & 0xff, length[lane] & 0xff);
                let field = ((1u64 << length.min(32)) - 1) as u32;
                let field = field.checked_shl(start).unwrap_or(0);
                out[lane] = into[lane] & !field | from[lane].checked_shl(start).unwrap_or(0) & field;
            }
            w.set32(*d, &out, mask);
        }
        Op::Un64(f, d, a) => unary64(w, mask, *f, d, a),
        Op::Bin64(f, d, a, b) => binary64(w, mask, *f, d, a, b),
        Op::Tern64(f, to, a, b, c) => match f {
            Tern64::MadLo => lanes64!(w, mask, to, |l, w| {
                w.d[*a as usize][l].wrapping_mul(w.d[*b as usize][l]).wrapping_add(w.d[*c as usize][l])
            }),
            Tern64::FmaD => lanes64!(w, mask, to, |l, w| {
                d(w.d[*a as usize][l]).mul_add(d(w.d[*b as usize][l]), d(w.d[*c as usize][l])).to_bits()
            }),
        },
        Op::Shift64 { left, signed, d, a, b } => lanes64!(w, mask, d, |l, w| {
            let (value, count) = (w.d[*a as usize][l], w.r[*b as usize][l]);
            match (left, signed) {
                (true, _) => value.checked_shl(count).unwrap_or(0),
                (false, false) => value.checked_shr(count).unwrap_or(0),
                (false, true) => (value as i64 >> count.min(63)) as u64,
            }
        }),
        Op::Wide { signed, d, a, b, c } => {
            let mut out = [0u64; LANES];
            let (x, y) = (&w.r[*a as usize], &w.r[*b as usize]);
            if *signed {
                for lane in 0..LANES {
                    out[lane] = (i64::from(x[lane] as i32) * i64::from(y[lane] as i32)) as u64;
                }
            } else {
                for lane in 0..LANES {
                    out[lane] = u64::from(x[lane]) * u64::from(y[lane]);
                }
            }
            if let Some(c) = c {
                let c = &w.d[*c as usize];
                for lane in 0..LANES {
                    out[lane] = out[lane].wrapping_add(c[lane]);
                }
            }
            w.set64(*d, &out, mask);
        }
        Op::Selp32 { d, a, b, p } => {
            let p = w.predicate(*p);
            let mut out = [0u32; LANES];
            let (a, b) = (&w.r[*a as usize], &w.r[*b as usize]);
            for lane in 0..LANES {
                out[lane] = if p >> lane & 1 == 1 { a[lane] } else { b[lane] };
            }
            w.set32(*d, &out, mask);
        }
        Op::Selp64 { d, a, b, p } => {
            let p = w.predicate(*p);
            lanes64!(w, mask, d, |l, w| if p >> l & 1 == 1 {
                w.d[*a as usize][l]
            } else {
                w.d[*b as usize][l]
            });
        }
        Op::PredMov { d, a } => {
            let value = w.predicate(*a);
            w.set_predicate(*d, value, mask);
        }
        Op::PredLogic { f, d, a, b } => {
            let (a, b) = (w.predicate(*a), w.predicate(*b));
            let value = match f {
                Logic::And => a & b,
                Logic::Or => a | b,
                Logic::Xor => a ^ b,
            };
            w.set_predicate(*d, value, mask);
        }
        Op::Extend64 { signed, d, a } => {
            let mut out = [0u64; LANES];
            let a = &w.r[*a as usize];
            if *signed {
                for lane in 0..LANES {
                    out[lane] = i64::from(a[lane] as i32) as u64;
                }
            } else {
                for lane in 0..LANES {
                    out[lane] = u64::from(a[lane]);
                }
            }
            w.set64(*d, &out, mask);
        }
        Op::Truncate64 { mask: bits, d, a } => {
            let mut out = [0u32; LANES];
            let a = &w.d[*a as usize];
            for lane in 0..LANES {
                out[lane] = a[lane] as u32 & bits;
            }
            w.set32(*d, &out, mask);
        }
        Op::Unpack16 { d, a } => {
            let value = w.r[*a as usize];
            w.set32(d[0], &value.map(|value| value & 0xffff), mask);
            w.set32(d[1], &value.map(|value| value >> 16), mask);
        }
        Op::Pack64 { d, a } => lanes64!(w, mask, d, |l, w| {
            u64::from(w.r[a[0] as usize][l]) | u64::from(w.r[a[1] as usize][l]) << 32
        }),
        Op::Unpack64 { d, a } => {
            let value = w.d[*a as usize];
            w.set32(d[0], &value.map(|value| value as u32), mask);
            w.set32(d[1], &value.map(|value| (value >> 32) as u32), mask);
        }
        Op::Pack64x4 { d, a } => lanes64!(w, mask, d, |l, w| {
            (0..4).map(|i| u64::from(w.r[a[i] as usize][l] & 0xffff) << (16 * i)).sum()
        }),
        Op::Unpack64x4 { d, a } => {
            let value = w.d[*a as usize];
            for (i, d) in d.iter().enumerate() {
                w.set32(*d, &value.map(|value| (value >> (16 * i)) as u32 & 0xffff), mask);
            }
        }
        Op::Count64 { clz, d, a } => {
            let value = w.d[*a as usize];
            let count = value.map(|value| if *clz { value.leading_zeros() } else { value.count_ones() });
            w.set32(*d, &count, mask);
        }
        Op::Bitfield64 { signed, d, a, b, c } => lanes64!(w, mask, d, |l, w| {
            bfe(w.d[*a as usize][l], w.r[*b as usize][l], w.r[*c as usize][l], 64, *signed)
        }),
        _ => return false,
    }
    true
}

#[inline(always)]
fn unary32(w: &mut Warp, m: u32, op: Un32, d: &u32, a: &u32) {
    match op {
        Un32::Mov => un32!(w, m, d, a, |x| x),
        Un32::Not => un32!(w, m, d, a, |x| !x),
        Un32::Not16 => un32!(w, m, d, a, |x| !x & 0xffff),
        Un32::Neg => un32!(w, m, d, a, |x| x.wrapping_neg()),
        Un32::Neg16 => un32!(w, m, d, a, |x| x.wrapping_neg() & 0xffff),
        Un32::Abs => un32!(w, m, d, a, |x| (x as i32).wrapping_abs() as u32),
        Un32::Abs16 => un32!(w, m, d, a, |x| u16(s16(x).abs())),
        Un32::Popc => un32!(w, m, d, a, |x| x.count_ones()),
        Un32::Clz => un32!(w, m, d, a, |x| x.leading_zeros()),
        Un32::Brev => un32!(w, m, d, a, |x| x.reverse_bits()),
        Un32::NegF => un32!(w, m, d, a, |x| x ^ 0x8000_0000),
        Un32::AbsF => un32!(w, m, d, a, |x| x & 0x7fff_ffff),
        Un32::NegF16 => un32!(w, m, d, a, |x| x ^ 0x8000),
        Un32::AbsF16 => un32!(w, m, d, a, |x| x & 0x7fff),
        Un32::NegF16x2 => un32!(w, m, d, a, |x| x ^ 0x8000_8000),
        Un32::AbsF16x2 => un32!(w, m, d, a, |x| x & 0x7fff_7fff),
        Un32::Zext8 => un32!(w, m, d, a, |x| x & 0xff),
        Un32::Sext8To16 => un32!(w, m, d, a, |x| u16(i32::from(x as u8 as i8))),
        Un32::Sext8To32 => un32!(w, m, d, a, |x| i32::from(x as u8 as i8) as u32),
        Un32::Zext16 => un32!(w, m, d, a, |x| x & 0xffff),
        Un32::Sext16 => un32!(w, m, d, a, |x| s16(x) as u32),
        Un32::F32FromF16 => un32!(w, m, d, a, |x| f32_from_f16(x).to_bits()),
        Un32::F16FromF32 => un32!(w, m, d, a, |x| f16_from_f32(f(x))),
        Un32::F32FromS32 => un32!(w, m, d, a, |x| (x as i32 as f32).to_bits()),
        Un32::F32FromU32 => un32!(w, m, d, a, |x| (x as f32).to_bits()),
        // `as` saturates and makes zero of NaN, as the device does.
        Un32::S32FromF32Trunc => un32!(w, m, d, a, |x| f(x) as i32 as u32),
        Un32::U32FromF32Trunc => un32!(w, m, d, a, |x| f(x) as u32),
        Un32::S32FromF32Nearest => un32!(w, m, d, a, |x| f(x).round_ties_even() as i32 as u32),
        Un32::S32FromF32Floor => un32!(w, m, d, a, |x| f(x).floor() as i32 as u32),
        Un32::RoundF32Nearest => un32!(w, m, d, a, |x| f(x).round_ties_even().to_bits()),
        Un32::RoundF32Floor => un32!(w, m, d, a, |x| f(x).floor().to_bits()),
        Un32::RoundF32Ceil => un32!(w, m, d, a, |x| f(x).ceil().to_bits()),
        Un32::RoundF32Trunc => un32!(w, m, d, a, |x| f(x).trunc().to_bits()),
    }
}

#[inline(always)]
fn binary32(w: &mut Warp, m: u32, op: Bin32, d: &u32, a: &u32, b: &u32) {
    match op {
        Bin32::Add => bin32!(w, m, d, a, b, |x, y| x.wrapping_add(y)),
        Bin32::Sub => bin32!(w, m, d, a, b, |x, y| x.wrapping_sub(y)),
        Bin32::MulLo => bin32!(w, m, d, a, b, |x, y| x.wrapping_mul(y)),
        Bin32::MulHiS => {
            bin32!(w, m, d, a, b, |x, y| ((i64::from(x as i32) * i64::from(y as i32)) >> 32) as u32);
        }
        Bin32::MulHiU => bin32!(w, m, d, a, b, |x, y| ((u64::from(x) * u64::from(y)) >> 32) as u32),
        // Division by zero gives all ones on the device; the ISA leaves it open.
        Bin32::DivS => bin32!(w, m, d, a, b, |x, y| {
            if y == 0 { u32::MAX } else { (x as i32).wrapping_div(y as i32) as u32 }
        }),
        Bin32::DivU => bin32!(w, m, d, a, b, |x, y| x.checked_div(y).unwrap_or(u32::MAX)),
        Bin32::RemS => bin32!(w, m, d, a, b, |x, y| {
            if y == 0 { x } else { (x as i32).wrapping_rem(y as i32) as u32 }
        }),
        Bin32::RemU => bin32!(w, m, d, a, b, |x, y| x.checked_rem(y).unwrap_or(x)),
        Bin32::MinS => bin32!(w, m, d, a, b, |x, y| (x as i32).min(y as i32) as u32),
        Bin32::MinU => bin32!(w, m, d, a, b, |x, y| x.min(y)),
        Bin32::MaxS => bin32!(w, m, d, a, b, |x, y| (x as i32).max(y as i32) as u32),
        Bin32::MaxU => bin32!(w, m, d, a, b, |x, y| x.max(y)),
        Bin32::And => bin32!(w, m, d, a, b, |x, y| x & y),
        Bin32::Or => bin32!(w, m, d, a, b, |x, y| x | y),
        Bin32::Xor => bin32!(w, m, d, a, b, |x, y| x ^ y),
        // Counts above the width give zero, or the sign.
        Bin32::Shl => bin32!(w, m, d, a, b, |x, y| if y > 31 { 0 } else { x << (y & 31) }),
        Bin32::ShrU => bin32!(w, m, d, a, b, |x, y| if y > 31 { 0 } else { x >> (y & 31) }),
        Bin32::ShrS => bin32!(w, m, d, a, b, |x, y| (x as i32 >> y.min(31)) as u32),
        Bin32::Add16 => bin32!(w, m, d, a, b, |x, y| x.wrapping_add(y) & 0xffff),
        Bin32::Sub16 => bin32!(w, m, d, a, b, |x, y| x.wrapping_sub(y) & 0xffff),
        Bin32::MulLo16 => bin32!(w, m, d, a, b, |x, y| x.wrapping_mul(y) & 0xffff),
        Bin32::MulHiS16 => bin32!(w, m, d, a, b, |x, y| u16((s16(x) * s16(y)) >> 16)),
        Bin32::MulHiU16 => bin32!(w, m, d, a, b, |x, y| ((x & 0xffff) * (y & 0xffff)) >> 16),
        Bin32::MulWideS16 => bin32!(w, m, d, a, b, |x, y| (s16(x) * s16(y)) as u32),
        Bin32::MulWideU16 => bin32!(w, m, d, a, b, |x, y| (x & 0xffff) * (y & 0xffff)),
        Bin32::DivS16 => bin32!(w, m, d, a, b, |x, y| if y == 0 { 0xffff } else { u16(s16(x) / s16(y)) }),
        Bin32::DivU16 => bin32!(w, m, d, a, b, |x, y| x.checked_div(y).unwrap_or(0xffff)),
        Bin32::RemS16 => bin32!(w, m, d, a, b, |x, y| if y == 0 { x } else { u16(s16(x) % s16(y)) }),
        Bin32::RemU16 => bin32!(w, m, d, a, b, |x, y| x.checked_rem(y).unwrap_or(x)),
        Bin32::MinS16 => bin32!(w, m, d, a, b, |x, y| u16(s16(x).min(s16(y)))),
        Bin32::MaxS16 => bin32!(w, m, d, a, b, |x, y| u16(s16(x).max(s16(y)))),
        Bin32::Shl16 => bin32!(w, m, d, a, b, |x, y| if y > 15 { 0 } else { x << (y & 15) & 0xffff }),
        Bin32::ShrU16 => bin32!(w, m, d, a, b, |x, y| if y > 15 { 0 } else { x >> (y & 15) }),
        Bin32::ShrS16 => bin32!(w, m, d, a, b, |x, y| u16(s16(x) >> y.min(15))),
        Bin32::AddF => bin32!(w, m, d, a, b, |x, y| (f(x) + f(y)).to_bits()),
        Bin32::SubF => bin32!(w, m, d, a, b, |x, y| (f(x) - f(y)).to_bits()),
        Bin32::MulF => bin32!(w, m, d, a, b, |x, y| (f(x) * f(y)).to_bits()),
        Bin32::MinF => bin32!(w, m, d, a, b, |x, y| min(f(x), f(y)).to_bits()),
        Bin32::MaxF => bin32!(w, m, d, a, b, |x, y| max(f(x), f(y)).to_bits()),
        // One operation of binary16 rounded to f32 and then to binary16 is rounded right: 24 bits are 2 * 11 + 2.
        Bin32::AddF16 => bin32!(w, m, d, a, b, |x, y| f16_from_f32(f32_from_f16(x) + f32_from_f16(y))),
        Bin32::SubF16 => bin32!(w, m, d, a, b, |x, y| f16_from_f32(f32_from_f16(x) - f32_from_f16(y))),
        Bin32::MulF16 => bin32!(w, m, d, a, b, |x, y| f16_from_f32(f32_from_f16(x) * f32_from_f16(y))),
        Bin32::MinF16 => bin32!(w, m, d, a, b, |x, y| f16_from_f32(min(f32_from_f16(x), f32_from_f16(y)))),
        Bin32::MaxF16 => bin32!(w, m, d, a, b, |x, y| f16_from_f32(max(f32_from_f16(x), f32_from_f16(y)))),
        Bin32::AddF16x2 => bin32!(w, m, d, a, b, |x, y| each2(x, y, |x, y| x + y)),
        Bin32::SubF16x2 => bin32!(w, m, d, a, b, |x, y| each2(x, y, |x, y| x - y)),
        Bin32::MulF16x2 => bin32!(w, m, d, a, b, |x, y| each2(x, y, |x, y| x * y)),
        Bin32::MinF16x2 => bin32!(w, m, d, a, b, |x, y| each2(x, y, min)),
        Bin32::MaxF16x2 => bin32!(w, m, d, a, b, |x, y| each2(x, y, max)),
        Bin32::PackF16 => bin32!(w, m, d, a, b, |x, y| f16_from_f32(f(x)) << 16 | f16_from_f32(f(y))),
        Bin32::Pack16 => bin32!(w, m, d, a, b, |x, y| x & 0xffff | y << 16),
    }
}

#[inline(always)]
fn ternary32(w: &mut Warp, m: u32, op: Tern32, d: &u32, a: &u32, b: &u32, c: &u32) {
    let funnel = |x: u32, y: u32| u64::from(y) << 32 | u64::from(x);
    match op {
        Tern32::MadLo => tern32!(w, m, d, a, b, c, |x, y, z| x.wrapping_mul(y).wrapping_add(z)),
        Tern32::MadLo16 => tern32!(w, m, d, a, b, c, |x, y, z| x.wrapping_mul(y).wrapping_add(z) & 0xffff),
        Tern32::MadHiS => tern32!(w, m, d, a, b, c, |x, y, z| {
            (((i64::from(x as i32) * i64::from(y as i32)) >> 32) as u32).wrapping_add(z)
        }),
        Tern32::MadHiU => tern32!(w, m, d, a, b, c, |x, y, z| {
            (((u64::from(x) * u64::from(y)) >> 32) as u32).wrapping_add(z)
        }),
        Tern32::MadWideS16 => {
            tern32!(w, m, d, a, b, c, |x, y, z| ((s16(x) * s16(y)) as u32).wrapping_add(z));
        }
        Tern32::MadWideU16 => {
            tern32!(w, m, d, a, b, c, |x, y, z| ((x & 0xffff) * (y & 0xffff)).wrapping_add(z));
        }
        Tern32::FmaF => tern32!(w, m, d, a, b, c, |x, y, z| f(x).mul_add(f(y), f(z)).to_bits()),
        Tern32::FmaF16 => tern32!(w, m, d, a, b, c, |x, y, z| fma16(x, y, z)),
        Tern32::FmaF16x2 => {
            tern32!(w, m, d, a, b, c, |x, y, z| fma16(x, y, z) | fma16(x >> 16, y >> 16, z >> 16) << 16);
        }
        Tern32::BfeU => tern32!(w, m, d, a, b, c, |x, y, z| bfe(u64::from(x), y, z, 32, false) as u32),
        Tern32::BfeS => tern32!(w, m, d, a, b, c, |x, y, z| bfe(u64::from(x), y, z, 32, true) as u32),
        Tern32::Lop3(table) => tern32!(w, m, d, a, b, c, |x, y, z| lop3(table, x, y, z)),
        Tern32::ShfLWrap => tern32!(w, m, d, a, b, c, |x, y, z| (funnel(x, y) << (z & 31) >> 32) as u32),
        Tern32::ShfLClamp => tern32!(w, m, d, a, b, c, |x, y, z| (funnel(x, y) << z.min(32) >> 32) as u32),
        Tern32::ShfRWrap => tern32!(w, m, d, a, b, c, |x, y, z| (funnel(x, y) >> (z & 31)) as u32),
        Tern32::ShfRClamp => tern32!(w, m, d, a, b, c, |x, y, z| (funnel(x, y) >> z.min(32)) as u32),
        Tern32::Prmt => tern32!(w, m, d, a, b, c, |x, y, z| prmt(x, y, z)),
        Tern32::PrmtMode(mode) => tern32!(w, m, d, a, b, c, |x, y, z| prmt_mode(mode, x, y, z)),
        Tern32::Sad => tern32!(w, m, d, a, b, c, |x, y, z| x.abs_diff(y).wrapping_add(z)),
    }
}

#[inline(always)]
fn unary64(w: &mut Warp, m: u32, op: Un64, to: &u32, a: &u32) {
    let a = *a as usize;
    match op {
        Un64::Mov => lanes64!(w, m, to, |l, w| w.d[a][l]),
        Un64::Not => lanes64!(w, m, to, |l, w| !w.d[a][l]),
        Un64::Neg => lanes64!(w, m, to, |l, w| w.d[a][l].wrapping_neg()),
        Un64::Abs => lanes64!(w, m, to, |l, w| (w.d[a][l] as i64).wrapping_abs() as u64),
        Un64::Brev => lanes64!(w, m, to, |l, w| w.d[a][l].reverse_bits()),
        Un64::NegD => lanes64!(w, m, to, |l, w| w.d[a][l] ^ 1 << 63),
        Un64::AbsD => lanes64!(w, m, to, |l, w| w.d[a][l] & !(1 << 63)),
        Un64::SqrtD => lanes64!(w, m, to, |l, w| d(w.d[a][l]).sqrt().to_bits()),
        Un64::RcpD => lanes64!(w, m, to, |l, w| d(w.d[a][l]).recip().to_bits()),
        Un64::Offset(by) => lanes64!(w, m, to, |l, w| w.d[a][l].wrapping_add(by)),
    }
}

#[inline(always)]
fn binary64(w: &mut Warp, m: u32, op: Bin64, to: &u32, a: &u32, b: &u32) {
    macro_rules! bin64 {
        (|$x:ident, $y:ident| $e:expr) => {
            lanes64!(w, m, to, |l, w| {
                let ($x, $y) = (w.d[*a as usize][l], w.d[*b as usize][l]);
                $e
            })
        };
    }
    match op {
        Bin64::Add => bin64!(|x, y| x.wrapping_add(y)),
        Bin64::Sub => bin64!(|x, y| x.wrapping_sub(y)),
        Bin64::MulLo => bin64!(|x, y| x.wrapping_mul(y)),
        Bin64::MulHiS => bin64!(|x, y| ((i128::from(x as i64) * i128::from(y as i64)) >> 64) as u64),
        Bin64::MulHiU => bin64!(|x, y| ((u128::from(x) * u128::from(y)) >> 64) as u64),
        Bin64::DivS => {
            bin64!(|x, y| if y == 0 { u64::MAX } else { (x as i64).wrapping_div(y as i64) as u64 })
        }
        Bin64::DivU => bin64!(|x, y| x.checked_div(y).unwrap_or(u64::MAX)),
        Bin64::RemS => bin64!(|x, y| if y == 0 { x } else { (x as i64).wrapping_rem(y as i64) as u64 }),
        Bin64::RemU => bin64!(|x, y| x.checked_rem(y).unwrap_or(x)),
        Bin64::MinS => bin64!(|x, y| (x as i64).min(y as i64) as u64),
        Bin64::MinU => bin64!(|x, y| x.min(y)),
        Bin64::MaxS => bin64!(|x, y| (x as i64).max(y as i64) as u64),
        Bin64::MaxU => bin64!(|x, y| x.max(y)),
        Bin64::And => bin64!(|x, y| x & y),
        Bin64::Or => bin64!(|x, y| x | y),
        Bin64::Xor => bin64!(|x, y| x ^ y),
        Bin64::AddD => bin64!(|x, y| (d(x) + d(y)).to_bits()),
        Bin64::SubD => bin64!(|x, y| (d(x) - d(y)).to_bits()),
        Bin64::MulD => bin64!(|x, y| (d(x) * d(y)).to_bits()),
        Bin64::DivD => bin64!(|x, y| (d(x) / d(y)).to_bits()),
        Bin64::MinD => bin64!(|x, y| d(x).min(d(y)).to_bits()),
        Bin64::MaxD => bin64!(|x, y| d(x).max(d(y)).to_bits()),
    }
}
