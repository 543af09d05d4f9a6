//! Comparisons, the slower float operations, and conversions of every kind.
//!
//! The approximate operations of the device (`rcp.approx` and its like) are computed as well as f32 allows, by way of
//! f64: within the error that the ISA states for the device, not with its bits.

use super::lane;
use super::warp::{LANES, Warp};
use crate::half::{f16_from_f32, f32_from_f16};
use crate::op::{Compare, Compared, Comparison, Convert, Float, Logic, Op, Rounding};
use crate::types::Type;

fn flush(value: f32, ftz: bool) -> f32 {
    if ftz && value.is_subnormal() { 0.0f32.copysign(value) } else { value }
}

fn compute(f: Float, a: f32, b: f32, c: f32) -> f32 {
    let nan = f32::from_bits(lane::NAN);
    let wide = f64::from(a);
    match f {
        Float::Add => a + b,
        Float::Sub => a - b,
        Float::Mul => a * b,
        Float::Fma => a.mul_add(b, c),
        Float::Min => lane::min(a, b),
        Float::Max => lane::max(a, b),
        Float::MinNan | Float::MaxNan if a.is_nan() || b.is_nan() => nan,
        Float::MinNan => lane::min(a, b),
        Float::MaxNan => lane::max(a, b),
        Float::Div => a / b,
        Float::Neg => -a,
        Float::Abs => a.abs(),
        Float::Sqrt => a.sqrt(),
        Float::Rcp => a.recip(),
        Float::Rsqrt => wide.sqrt().recip() as f32,
        Float::Ex2 => wide.exp2() as f32,
        Float::Lg2 => wide.log2() as f32,
        Float::Sin => wide.sin() as f32,
        Float::Cos => wide.cos() as f32,
        Float::Tanh => wide.tanh() as f32,
    }
}

fn holds<T: PartialOrd>(compare: Compare, a: T, b: T) -> bool {
    let order = a.partial_cmp(&b);
    let less = order.is_some_and(|order| order.is_lt());
    let equal = order.is_some_and(|order| order.is_eq());
    let greater = order.is_some_and(|order| order.is_gt());
    let unordered = order.is_none();
    match compare {
        Compare::Eq => equal,
        Compare::Ne => less || greater,
        Compare::Lt => less,
        Compare::Le => less || equal,
        Compare::Gt => greater,
        Compare::Ge => greater || equal,
        Compare::Equ => equal || unordered,
        Compare::Neu => !equal,
        Compare::Ltu => less || unordered,
        Compare::Leu => !greater,
        Compare::Gtu => greater || unordered,
        Compare::Geu => !less,
        Compare::Num => !unordered,
        Compare::Nan => unordered,
    }
}

/// The lanes for which a comparison holds; packed halves by `shift`.
#[inline(always)]
fn compare(w: &Warp, c: &Comparison, shift: u32) -> u32 {
    let (a, b) = (c.a as usize, c.b as usize);
    macro_rules! lanes {
        (|$l:ident| $x:expr, $y:expr) => {{
            let mut out = 0u32;
            for $l in 0..LANES {
                out |= u32::from(holds(c.compare, $x, $y)) << $l;
            }
            out
        }};
    }
    macro_rules! integers {
        ($file:ident, $t:ty) => {{
            let (a, b) = (&w.$file[a], &w.$file[b]);
            macro_rules! with {
                ($op:tt) => {{
                    let mut out = 0u32;
                    for l in 0..LANES {
                        out |= u32::from((a[l] as $t) $op (b[l] as $t)) << l;
                    }
                    out
                }};
            }
            match c.compare {
                Compare::Eq => with!(==),
                Compare::Ne => with!(!=),
                Compare::Lt => with!(<),
                Compare::Le => with!(<=),
                Compare::Gt => with!(>),
                _ => with!(>=),
            }
        }};
    }
    match c.compared {
        Compared::U16 | Compared::U32 => integers!(r, u32),
        Compared::S32 => integers!(r, i32),
        Compared::S16 => lanes!(|l| w.r[a][l] as u16 as i16, w.r[b][l] as u16 as i16),
        Compared::U64 => integers!(d, u64),
        Compared::S64 => integers!(d, i64),
        Compared::F32 => {
            let value = |x: u32| flush(f32::from_bits(x), c.ftz);
            lanes!(|l| value(w.r[a][l]), value(w.r[b][l]))
        }
        Compared::F16 => lanes!(|l| f32_from_f16(w.r[a][l] >> shift), f32_from_f16(w.r[b][l] >> shift)),
        Compared::F64 => lanes!(|l| f64::from_bits(w.d[a][l]), f64::from_bits(w.d[b][l])),
    }
}

#[inline(always)]
fn combine(w: &Warp, c: &Comparison, value: u32) -> u32 {
    match c.combine {
        None => value,
        Some((Logic::And, p)) => value & w.predicate(p),
        Some((Logic::Or, p)) => value | w.predicate(p),
        Some((Logic::Xor, p)) => value ^ w.predicate(p),
    }
}

/// `setp`, the most frequent of this file.
#[inline(always)]
pub(super) fn setp(w: &mut Warp, comparison: &Comparison, d: u32, q: u32, mask: u32) {
    let value = compare(w, comparison, 0);
    let (first, second) = (combine(w, comparison, value), combine(w, comparison, !value));
    w.set_predicate(q, second, mask);
    w.set_predicate(d, first, mask);
}

/// Executes `op` for the lanes of `mask` if it is one of those of this file.
#[inline(never)]
pub(super) fn execute(w: &mut Warp, op: &Op, mask: u32) -> bool {
    match op {
        Op::Float { f, ftz, sat, d, a, b, c } => {
            let mut out = [0u32; LANES];
            for (lane, out) in out.iter_mut().enumerate() {
                let value = |slot: &u32| flush(f32::from_bits(w.r[*slot as usize][lane]), *ftz);
                let mut result = flush(compute(*f, value(a), value(b), value(c)), *ftz);
                if *sat {
                    // NaN saturates to +0.
                    result = if result > 0.0 { result.min(1.0) } else { 0.0 };
                }
                *out = result.to_bits();
            }
            w.set32(*d, &out, mask);
        }
        Op::Set { comparison, float, d } => {
            let value = compare(w, comparison, 0);
            let value = combine(w, comparison, value);
            let yes = if *float { 1.0f32.to_bits() } else { u32::MAX };
            w.set32(*d, &std::array::from_fn(|lane| if value >> lane & 1 == 1 { yes } else { 0 }), mask);
        }
        Op::Setp2 { comparison, d, q } => {
            let (low, high) = (compare(w, comparison, 0), compare(w, comparison, 16));
            let (low, high) = (combine(w, comparison, low), combine(w, comparison, high));
            w.set_predicate(*d, low, mask);
            w.set_predicate(*q, high, mask);
        }
        Op::Convert(c) => {
            let mut wide = [0u64; LANES];
            for (lane, wide) in wide.iter_mut().enumerate() {
                let bits =
                    if c.bytes_a == 8 { w.d[c.a as usize][lane] } else { u64::from(w.r[c.a as usize][lane]) };
                *wide = convert(c, bits);
            }
            if c.bytes_d == 8 {
                w.set64(c.d, &wide, mask);
            } else {
                w.set32(c.d, &wide.map(|bits| bits as u32), mask);
            }
        }
        _ => return false,
    }
    true
}

/// A number on its way from one type to another.
enum Number {
    Integer(i128),
    Float(f64),
}

fn to_integer(value: f64, rounding: Option<Rounding>) -> f64 {
    match rounding {
        Some(Rounding::Nearest) => value.round_ties_even(),
        Some(Rounding::Down) => value.floor(),
        Some(Rounding::Up) => value.ceil(),
        Some(Rounding::Zero) | None => value.trunc(),
    }
}

/// The neighbour of `nearest`, given as magnitude bits, that the rounding wants for `exact`.
fn directed(
    nearest: f64,
    exact: f64,
    rounding: Rounding,
    up: impl Fn() -> f64,
    down: impl Fn() -> f64,
) -> f64 {
    let too_high = nearest > exact;
    let too_low = nearest < exact;
    match rounding {
        Rounding::Nearest => nearest,
        Rounding::Down if too_high => down(),
        Rounding::Up if too_low => up(),
        Rounding::Zero if exact > 0.0 && too_high => down(),
        Rounding::Zero if exact < 0.0 && too_low => up(),
        _ => nearest,
    }
}

fn f32_rounded(exact: f64, rounding: Rounding) -> f32 {
    let nearest = exact as f32;
    directed(f64::from(nearest), exact, rounding, || nearest.next_up().into(), || nearest.next_down().into())
        as f32
}

fn f16_rounded(exact: f64, rounding: Rounding) -> u16 {
    let nearest = half::f16::from_f64(exact);
    // Neighbours by their bits: one further from zero, or one closer.
    let step = |outwards: bool| {
        let bits = nearest.to_bits();
        half::f16::from_bits(if outwards { bits + 1 } else { bits - 1 }).to_f64()
    };
    let positive = nearest.to_f64() > 0.0;
    let value = directed(nearest.to_f64(), exact, rounding, || step(positive), || step(!positive));
    if value.is_nan() { 0x7fff } else { half::f16::from_f64(value).to_bits() }
}

fn convert(c: &Convert, bits: u64) -> u64 {
    let number = match c.from {
        Type::F16 => Number::Float(f64::from(f32_from_f16(bits as u32))),
        Type::F32 => Number::Float(f64::from(flush(f32::from_bits(bits as u32), c.ftz))),
        Type::F64 => Number::Float(f64::from_bits(bits)),
        from => {
            let shift = 64 - from.bytes() * 8;
            Number::Integer(if from.is_signed() {
                i128::from((bits << shift) as i64 >> shift)
            } else {
                i128::from(bits << shift >> shift)
            })
        }
    };
    if c.to.is_integer() {
        let width = c.to.bytes() * 8;
        let (low, high) = if c.to.is_signed() {
            (-(1i128 << (width - 1)), (1i128 << (width - 1)) - 1)
        } else {
            (0, (1i128 << width) - 1)
        };
        let value = match number {
            // A float that does not fit saturates, NaN becomes zero.
            Number::Float(value) => (to_integer(value, c.rounding) as i128).clamp(low, high),
            Number::Integer(value) if c.saturate => value.clamp(low, high),
            Number::Integer(value) => value,
        };
        // Into a wider register the value is extended by its own sign.
        let shift = 64 - width;
        let register = 64 - c.bytes_d * 8;
        let bits = (value as u64) << shift;
        let extended = if c.to.is_signed() { (bits as i64 >> shift) as u64 } else { bits >> shift };
        return extended << register >> register;
    }
    let rounding = if c.to_integer { Rounding::Nearest } else { c.rounding.unwrap_or(Rounding::Nearest) };
    let mut value = match number {
        // An i64 has more bits than an f64: rounded once, straight to f32 or f64.
        Number::Integer(value) if c.to == Type::F32 && rounding == Rounding::Nearest => {
            return u64::from(saturated(value as f32, c).to_bits());
        }
        Number::Integer(value) => value as f64,
        Number::Float(value) if c.to_integer => to_integer(value, c.rounding),
        Number::Float(value) => value,
    };
    if c.saturate {
        value = if value > 0.0 { value.min(1.0) } else { 0.0 };
    }
    if c.relu && value <= 0.0 {
        value = 0.0;
    }
    match c.to {
        Type::F16 => u64::from(f16_rounded(value, rounding)),
        Type::F32 => u64::from(flush(f32_rounded(value, rounding), c.ftz).to_bits()),
        _ => value.to_bits(),
    }
}

fn saturated(value: f32, c: &Convert) -> f32 {
    if c.saturate { if value > 0.0 { value.min(1.0) } else { 0.0 } } else { value }
}

/// Both halves of a packed word, added each: for atomics.
pub(super) fn add_f16x2(a: u32, b: u32) -> u32 {
    let low = f16_from_f32(f32_from_f16(a) + f32_from_f16(b));
    let high = f16_from_f32(f32_from_f16(a >> 16) + f32_from_f16(b >> 16));
    low | high << 16
}
