//! Logic, shifts and bit fields.

use super::operands::exactly;
use super::*;
use crate::op::{Bin32, Bin64, Logic, Tern32, Un32, Un64};
use crate::types::Type::*;

impl<'a> Body<'a, '_> {
    /// Logic, shifts and bit fields.
    pub(super) fn bits(&mut self, opcode: &str, mut m: Modifiers<'a>, o: &[Operand<'a>]) -> Result<Op> {
        let ty = m.ty()?;
        let wide = ty.bytes() == 8;
        let no = || Err(ParseErrorKind::Modifier(format!("{ty}")));
        if o.len() < 2 {
            return operand_error(format!("{} for {opcode}{ty}", o.len()));
        }
        match opcode {
            "and" | "or" | "xor" if ty == Pred => {
                m.finish()?;
                let [Operand::Name(d, 0), a, b] = exactly(o)? else { return operand_error("no predicate") };
                let (d, a, b) = (self.predicate_destination(d)?, self.predicate(a)?, self.predicate(b)?);
                let f = match opcode {
                    "and" => Logic::And,
                    "or" => Logic::Or,
                    _ => Logic::Xor,
                };
                Ok(Op::PredLogic { f, d, a, b })
            }
            "and" | "or" | "xor" if ty.is_bits() && ty != B8 => {
                m.finish()?;
                let [d, a, b] = exactly(o)?;
                let (d, a, b) = (self.destination(d, ty)?, self.source(a, ty)?, self.source(b, ty)?);
                Ok(match (opcode, wide) {
                    ("and", false) => Op::Bin32(Bin32::And, d, a, b),
                    ("or", false) => Op::Bin32(Bin32::Or, d, a, b),
                    ("xor", false) => Op::Bin32(Bin32::Xor, d, a, b),
                    ("and", true) => Op::Bin64(Bin64::And, d, a, b),
                    ("or", true) => Op::Bin64(Bin64::Or, d, a, b),
                    _ => Op::Bin64(Bin64::Xor, d, a, b),
                })
            }
            "not" if ty == Pred => {
                m.finish()?;
                let [Operand::Name(d, 0), a] = exactly(o)? else { return operand_error("no predicate") };
                let (d, mut a) = (self.predicate_destination(d)?, self.predicate(a)?);
                a.negated = !a.negated;
                Ok(Op::PredMov { d, a })
            }
            "not" | "brev" | "popc" | "clz" => {
                m.finish()?;
                let [d, a] = exactly(o)?;
                let counts = matches!(opcode, "popc" | "clz");
                let d = self.destination(d, if counts { B32 } else { ty })?;
                let a = self.source(a, ty)?;
                Ok(match (opcode, ty) {
                    ("not", B16) => Op::Un32(Un32::Not16, d, a),
                    ("not", B32) => Op::Un32(Un32::Not, d, a),
                    ("not", B64) => Op::Un64(Un64::Not, d, a),
                    ("brev", B32) => Op::Un32(Un32::Brev, d, a),
                    ("brev", B64) => Op::Un64(Un64::Brev, d, a),
                    ("popc", B32) => Op::Un32(Un32::Popc, d, a),
                    ("clz", B32) => Op::Un32(Un32::Clz, d, a),
                    ("popc" | "clz", B64) => Op::Count64 { clz: opcode == "clz", d, a },
                    _ => return no(),
                })
            }
            "shl" | "shr" => {
                m.finish()?;
                let [d, a, b] = exactly(o)?;
                let (d, a, b) = (self.destination(d, ty)?, self.source(a, ty)?, self.source(b, U32)?);
                let left = opcode == "shl";
                if left && !ty.is_bits() || ty.is_float() {
                    return no();
                }
                let f = match (ty.bytes(), left, ty.is_signed()) {
                    (2, true, _) => Bin32::Shl16,
                    (2, false, true) => Bin32::ShrS16,
                    (2, false, false) => Bin32::ShrU16,
                    (4, true, _) => Bin32::Shl,
                    (4, false, true) => Bin32::ShrS,
                    (4, false, false) => Bin32::ShrU,
                    (8, left, signed) => return Ok(Op::Shift64 { left, signed, d, a, b }),
                    _ => return no(),
                };
                Ok(Op::Bin32(f, d, a, b))
            }
            "shf" if ty == B32 => {
                let left = m.need_of(&[("l", true), ("r", false)])?;
                let wrap = m.need_of(&[("wrap", true), ("clamp", false)])?;
                m.finish()?;
                let f = match (left, wrap) {
                    (true, true) => Tern32::ShfLWrap,
                    (true, false) => Tern32::ShfLClamp,
                    (false, true) => Tern32::ShfRWrap,
                    (false, false) => Tern32::ShfRClamp,
                };
                self.three(f, B32, o)
            }
            "lop3" if ty == B32 => {
                m.finish()?;
                let table = self.immediate(o.get(4).unwrap_or(&o[0]))?;
                let table = u8::try_from(table).or_else(|_| operand_error("a table of 8 bits is wanted"))?;
                self.three(Tern32::Lop3(table), B32, &o[..o.len() - 1])
            }
            "bfe" if ty.is_integer() && ty.bytes() >= 4 => {
                m.finish()?;
                let [d, a, b, c] = exactly(o)?;
                let (d, a) = (self.destination(d, ty)?, self.source(a, ty)?);
                let (b, c) = (self.source(b, U32)?, self.source(c, U32)?);
                let signed = ty.is_signed();
                Ok(match (wide, signed) {
                    (true, signed) => Op::Bitfield64 { signed, d, a, b, c },
                    (false, true) => Op::Tern32(Tern32::BfeS, d, a, b, c),
                    (false, false) => Op::Tern32(Tern32::BfeU, d, a, b, c),
                })
            }
            "bfi" if ty == B32 => {
                m.finish()?;
                let [d, a, b, c, e] = exactly(o)?;
                let d = self.destination(d, B32)?;
                let (a, b) = (self.source(a, B32)?, self.source(b, B32)?);
                let (c, e) = (self.source(c, U32)?, self.source(e, U32)?);
                Ok(Op::Bfi { d, a, b, c, e })
            }
            "prmt" if ty == B32 => {
                let modes = [("f4e", 0u8), ("b4e", 1), ("rc8", 2), ("ecl", 3), ("ecr", 4), ("rc16", 5)];
                let mode = m.take_of(&modes);
                m.finish()?;
                self.three(mode.map_or(Tern32::Prmt, Tern32::PrmtMode), B32, o)
            }
            _ => no(),
        }
    }

    fn three(&mut self, f: Tern32, ty: Type, o: &[Operand<'a>]) -> Result<Op> {
        let [d, a, b, c] = exactly(o)?;
        let d = self.destination(d, ty)?;
        Ok(Op::Tern32(f, d, self.source(a, ty)?, self.source(b, ty)?, self.source(c, U32)?))
    }
}
