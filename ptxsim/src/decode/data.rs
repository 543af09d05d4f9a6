//! Moves, comparisons, selections and conversions.

use super::operands::exactly;
use super::windows::{LOCAL_WINDOW, SHARED_WINDOW};
use super::*;
use crate::op::{Bin32, Compare, Compared, Comparison, Convert, Logic, Rounding, Un32, Un64};
use crate::types::Type::*;

impl<'a> Body<'a, '_> {
    pub(super) fn data(&mut self, opcode: &str, mut m: Modifiers<'a>, o: &[Operand<'a>]) -> Result<Op> {
        match opcode {
            "mov" => {
                let ty = m.ty()?;
                m.finish()?;
                let [d, a] = exactly(o)?;
                self.mov(ty, d, a)
            }
            "setp" | "set" => self.compare(opcode, m, o),
            "selp" => {
                let ty = m.ty()?;
                m.finish()?;
                let [d, a, b, p] = exactly(o)?;
                let (d, a, b) = (self.destination(d, ty)?, self.source(a, ty)?, self.source(b, ty)?);
                let p = self.predicate(p)?;
                match ty.bytes() {
                    8 => Ok(Op::Selp64 { d, a, b, p }),
                    2 | 4 => Ok(Op::Selp32 { d, a, b, p }),
                    _ => Err(ParseErrorKind::Modifier(format!("{ty}"))),
                }
            }
            "cvta" => {
                let ty = m.ty()?;
                let to = m.take("to");
                let space = m.need_of(&[
                    ("global", 0),
                    ("const", 0),
                    ("param", 0),
                    ("shared", SHARED_WINDOW),
                    ("shared::cta", SHARED_WINDOW),
                    ("local", LOCAL_WINDOW),
                ])?;
                m.finish()?;
                let [d, a] = exactly(o)?;
                if ty != U64 {
                    return Err(ParseErrorKind::Modifier(format!("{ty}")));
                }
                let (d, a) = (self.destination(d, ty)?, self.source(a, ty)?);
                Ok(Op::Un64(Un64::Offset(if to { space.wrapping_neg() } else { space }), d, a))
            }
            _ => self.convert(m, o),
        }
    }

    fn mov(&mut self, ty: Type, d: &Operand<'a>, a: &Operand<'a>) -> Result<Op> {
        const PIECES: &str = "a vector whose pieces make up the type is wanted";
        match (d, a) {
            (Operand::Vector(items), _) => match (ty, items.len()) {
                (B32, 2) => Ok(Op::Unpack16 {
                    d: [self.destination(&items[0], B16)?, self.destination(&items[1], B16)?],
                    a: self.source(a, B32)?,
                }),
                (B64, 2) => Ok(Op::Unpack64 {
                    d: [self.destination(&items[0], B32)?, self.destination(&items[1], B32)?],
                    a: self.source(a, B64)?,
                }),
                (B64, 4) => {
                    let mut slots = [0; 4];
                    for (slot, item) in slots.iter_mut().zip(items) {
                        *slot = self.destination(item, B16)?;
                    }
                    Ok(Op::Unpack64x4 { d: slots, a: self.source(a, B64)? })
                }
                _ => operand_error(PIECES),
            },
            (_, Operand::Vector(items)) => match (ty, items.len()) {
                (B32, 2) => {
                    let d = self.destination(d, B32)?;
                    Ok(Op::Bin32(
                        Bin32::Pack16,
                        d,
                        self.source(&items[0], B16)?,
                        self.source(&items[1], B16)?,
                    ))
                }
                (B64, 2) => Ok(Op::Pack64 {
                    d: self.destination(d, B64)?,
                    a: [self.source(&items[0], B32)?, self.source(&items[1], B32)?],
                }),
                (B64, 4) => {
                    let mut slots = [0; 4];
                    for (slot, item) in slots.iter_mut().zip(items) {
                        *slot = self.source(item, B16)?;
                    }
                    Ok(Op::Pack64x4 { d: self.destination(d, B64)?, a: slots })
                }
                _ => operand_error(PIECES),
            },
            _ if ty == Pred => {
                let Operand::Name(name, 0) = d else { return operand_error("a predicate is wanted") };
                Ok(Op::PredMov { d: self.predicate_destination(name)?, a: self.predicate(a)? })
            }
            _ => {
                let (d, a) = (self.destination(d, ty)?, self.source(a, ty)?);
                match ty.bytes() {
                    8 => Ok(Op::Un64(Un64::Mov, d, a)),
                    2 | 4 => Ok(Op::Un32(Un32::Mov, d, a)),
                    _ => Err(ParseErrorKind::Modifier(format!("{ty}"))),
                }
            }
        }
    }

    fn compare(&mut self, opcode: &str, mut m: Modifiers<'a>, o: &[Operand<'a>]) -> Result<Op> {
        let ty = m.ty()?;
        let result = if opcode == "set" { Some(m.ty()?) } else { None };
        let compare = m.need_of(&[
            ("eq", Compare::Eq),
            ("ne", Compare::Ne),
            ("lt", Compare::Lt),
            ("le", Compare::Le),
            ("gt", Compare::Gt),
            ("ge", Compare::Ge),
            ("lo", Compare::Lt),
            ("ls", Compare::Le),
            ("hi", Compare::Gt),
            ("hs", Compare::Ge),
            ("equ", Compare::Equ),
            ("neu", Compare::Neu),
            ("ltu", Compare::Ltu),
            ("leu", Compare::Leu),
            ("gtu", Compare::Gtu),
            ("geu", Compare::Geu),
            ("num", Compare::Num),
            ("nan", Compare::Nan),
        ])?;
        let logic = m.take_of(&[("and", Logic::And), ("or", Logic::Or), ("xor", Logic::Xor)]);
        let ftz = m.take("ftz");
        m.finish()?;
        let compared = match ty {
            S16 => Compared::S16,
            U16 | B16 => Compared::U16,
            S32 => Compared::S32,
            U32 | B32 => Compared::U32,
            S64 => Compared::S64,
            U64 | B64 => Compared::U64,
            F16 => Compared::F16,
            F32 => Compared::F32,
            F64 => Compared::F64,
            F16x2 if opcode == "setp" => Compared::F16,
            _ => return Err(ParseErrorKind::Modifier(format!("{ty}"))),
        };
        let unordered = !matches!(
            compare,
            Compare::Eq | Compare::Ne | Compare::Lt | Compare::Le | Compare::Gt | Compare::Ge
        );
        let only_equal = ty.is_bits() && !matches!(compare, Compare::Eq | Compare::Ne);
        if unordered && !ty.is_float() || only_equal {
            return Err(ParseErrorKind::Modifier(format!("{compare:?}").to_lowercase()));
        }
        if o.len() != if logic.is_some() { 4 } else { 3 } {
            return operand_error(format!("{} for {opcode}", o.len()));
        }
        let (a, b) = (self.source(&o[1], ty)?, self.source(&o[2], ty)?);
        let combine = match logic {
            Some(logic) => Some((logic, self.predicate(&o[3])?)),
            None => None,
        };
        let comparison = Comparison { compare, compared, ftz, a, b, combine };
        match result {
            Some(result) => {
                let d = self.destination(&o[0], result)?;
                if !matches!(result, B32 | U32 | S32 | F32) {
                    return Err(ParseErrorKind::Modifier(format!("{result}")));
                }
                Ok(Op::Set { comparison, float: result == F32, d })
            }
            None => {
                let (d, q) = self.pair(&o[0])?;
                let Operand::Name(d, _) = d else { return operand_error("a predicate is wanted") };
                let d = self.predicate_destination(d)?;
                let q = self.predicate_destination(q.unwrap_or("_"))?;
                Ok(if ty == F16x2 { Op::Setp2 { comparison, d, q } } else { Op::Setp { comparison, d, q } })
            }
        }
    }

    fn convert(&mut self, mut m: Modifiers<'a>, o: &[Operand<'a>]) -> Result<Op> {
        let from = m.ty()?;
        let to = m.ty()?;
        let rounding = m.take_of(&[
            ("rn", Rounding::Nearest),
            ("rz", Rounding::Zero),
            ("rm", Rounding::Down),
            ("rp", Rounding::Up),
        ]);
        let integer = m.take_of(&[
            ("rni", Rounding::Nearest),
            ("rzi", Rounding::Zero),
            ("rmi", Rounding::Down),
            ("rpi", Rounding::Up),
        ]);
        let (ftz, saturate, relu) = (m.take("ftz"), m.take("sat"), m.take("relu"));
        m.finish()?;
        let modifier = |what: &str| Err(ParseErrorKind::Modifier(what.into()));
        if from == Pred || to == Pred || from.is_bits() || to.is_bits() {
            return modifier("a number's type");
        }
        if to == F16x2 {
            if from != F32 || rounding != Some(Rounding::Nearest) || ftz || saturate {
                return modifier("rn");
            }
            let [d, a, b] = exactly(o)?;
            let (d, a, b) = (self.destination(d, B32)?, self.source(a, F32)?, self.source(b, F32)?);
            if relu {
                return modifier("relu");
            }
            return Ok(Op::Bin32(Bin32::PackF16, d, a, b));
        }
        if from == F16x2 || relu && to != F16 {
            return modifier("f16x2");
        }
        let [d, a] = exactly(o)?;
        // A float that gets narrower, or comes from an integer, must say how it is rounded; one that becomes an
        // integer must say so in integers.
        let narrows = to.is_float() && (!from.is_float() || to.bytes() < from.bytes());
        let becomes_integer = from.is_float() && to.is_integer();
        let same = from.is_float() && to == from;
        if narrows != rounding.is_some() && !(same && rounding.is_none())
            || becomes_integer && integer.is_none()
            || integer.is_some() && !becomes_integer && !same
        {
            return modifier("a rounding");
        }
        let (a, bytes_a) = self.wide_source(a, from)?;
        let (d, bytes_d) = self.wide_destination(d, to)?;
        let rounding = rounding.or(integer);
        let plain = !ftz && !saturate && !relu;
        let fast = match (from, to, rounding) {
            _ if !plain || bytes_a != from.bytes().max(2) && bytes_a != from.bytes() => None,
            _ if bytes_d != to.bytes() && !(to == U8 && bytes_d == 2) => None,
            (U32 | S32, U64 | S64, None) => {
                return Ok(Op::Extend64 { signed: from == S32, d, a });
            }
            (U64 | S64, U32 | S32, None) => return Ok(Op::Truncate64 { mask: u32::MAX, d, a }),
            (U64 | S64, U16, None) => return Ok(Op::Truncate64 { mask: 0xffff, d, a }),
            (U64 | S64, U8, None) => return Ok(Op::Truncate64 { mask: 0xff, d, a }),
            (U32 | S32 | U16 | S16, U8, None) | (U8, U16 | S16 | U32 | S32, None) => Some(Un32::Zext8),
            (S8, S16 | U16, None) => Some(Un32::Sext8To16),
            (S8, S32 | U32, None) => Some(Un32::Sext8To32),
            (U32 | S32, U16 | S16, None) | (U16, U32 | S32, None) => Some(Un32::Zext16),
            (S16, U32 | S32, None) => Some(Un32::Sext16),
            (U32 | S32, U32 | S32, None) | (U16 | S16, U16 | S16, None) => Some(Un32::Mov),
            (F16, F32, None) => Some(Un32::F32FromF16),
            (F32, F16, Some(Rounding::Nearest)) => Some(Un32::F16FromF32),
            (S32, F32, Some(Rounding::Nearest)) => Some(Un32::F32FromS32),
            (U32, F32, Some(Rounding::Nearest)) => Some(Un32::F32FromU32),
            (F32, S32, Some(Rounding::Zero)) => Some(Un32::S32FromF32Trunc),
            (F32, U32, Some(Rounding::Zero)) => Some(Un32::U32FromF32Trunc),
            (F32, S32, Some(Rounding::Nearest)) => Some(Un32::S32FromF32Nearest),
            (F32, S32, Some(Rounding::Down)) => Some(Un32::S32FromF32Floor),
            (F32, F32, Some(Rounding::Nearest)) if integer.is_some() => Some(Un32::RoundF32Nearest),
            (F32, F32, Some(Rounding::Down)) if integer.is_some() => Some(Un32::RoundF32Floor),
            (F32, F32, Some(Rounding::Up)) if integer.is_some() => Some(Un32::RoundF32Ceil),
            (F32, F32, Some(Rounding::Zero)) if integer.is_some() => Some(Un32::RoundF32Trunc),
            _ => None,
        };
        if let Some(f) = fast {
            return Ok(Op::Un32(f, d, a));
        }
        Ok(Op::Convert(Box::new(Convert {
            to,
            from,
            rounding,
            to_integer: integer.is_some(),
            saturate,
            ftz,
            relu,
            bytes_a,
            bytes_d,
            d,
            a,
        })))
    }
}
