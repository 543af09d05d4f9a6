//! Tensor cores: `ldmatrix`, `mma`, `wgmma`.

use super::operands::exactly;
use super::*;
use crate::op::{Mma, Wgmma};
use crate::types::Type::*;

impl<'a> Body<'a, '_> {
    pub(super) fn tensor(&mut self, opcode: &str, mut m: Modifiers<'a>, o: &[Operand<'a>]) -> Result<Op> {
        match opcode {
            "ldmatrix" | "stmatrix" => {
                for need in ["sync", "aligned", "m8n8"] {
                    m.need_of(&[(need, ())])?;
                }
                let count = m.need_of(&[("x1", 1u8), ("x2", 2), ("x4", 4)])?;
                let trans = m.take("trans");
                m.need_of(&[("shared", ()), ("shared::cta", ())])?;
                m.need_of(&[("b16", ())])?;
                m.finish()?;
                let [first, second] = exactly(o)?;
                let load = opcode == "ldmatrix";
                let (address, values) = if load { (second, first) } else { (first, second) };
                let single = [values];
                let items: Vec<&Operand<'a>> = match values {
                    Operand::Vector(items) => items.iter().collect(),
                    _ => single.to_vec(),
                };
                if items.len() != usize::from(count) {
                    return operand_error(format!("{} registers for .x{count}", items.len()));
                }
                let mut slots = [0; 4];
                for (slot, item) in slots.iter_mut().zip(&items) {
                    *slot = if load { self.destination(item, B32)? } else { self.source(item, B32)? };
                }
                let at = self.address(address)?;
                Ok(if load {
                    Op::Ldmatrix { count, trans, d: slots, from: at }
                } else {
                    Op::Stmatrix { count, trans, s: slots, to: at }
                })
            }
            "mma" => {
                for need in ["sync", "aligned"] {
                    m.need_of(&[(need, ())])?;
                }
                let k = m.need_of(&[("m16n8k16", 16), ("m16n8k8", 8)])?;
                if m.0 != ["row", "col", "f32", "f16", "f16", "f32"] {
                    return Err(ParseErrorKind::Modifier(m.0.join(".")));
                }
                let [d, a, b, c] = exactly(o)?;
                let mut mma = Mma { k, d: [0; 4], a: [0; 4], b: [0; 2], c: [0; 4] };
                for (slot, item) in mma.d.iter_mut().zip(self.vector::<4>(d)?) {
                    *slot = self.destination(item, F32)?;
                }
                for (slot, item) in mma.c.iter_mut().zip(self.vector::<4>(c)?) {
                    *slot = self.source(item, F32)?;
                }
                if k == 16 {
                    for (slot, item) in mma.a.iter_mut().zip(self.vector::<4>(a)?) {
                        *slot = self.source(item, B32)?;
                    }
                    for (slot, item) in mma.b.iter_mut().zip(self.vector::<2>(b)?) {
                        *slot = self.source(item, B32)?;
                    }
                } else {
                    for (slot, item) in mma.a.iter_mut().zip(self.vector::<2>(a)?) {
                        *slot = self.source(item, B32)?;
                    }
                    mma.b[0] = match b {
                        Operand::Vector(_) => {
                            let [b] = self.vector::<1>(b)?;
                            self.source(b, B32)?
                        }
                        b => self.source(b, B32)?,
                    };
                }
                Ok(Op::Mma(Box::new(mma)))
            }
            _ => self.wgmma(m, o),
        }
    }

    fn wgmma(&mut self, mut m: Modifiers<'a>, o: &[Operand<'a>]) -> Result<Op> {
        let what = m.need_of(&[("fence", 0), ("commit_group", 1), ("wait_group", 2), ("mma_async", 3)])?;
        for need in ["sync", "aligned"] {
            m.need_of(&[(need, ())])?;
        }
        match what {
            0 => {
                m.finish()?;
                exactly::<0>(o)?;
                return Ok(Op::WgmmaFence);
            }
            1 => {
                m.finish()?;
                exactly::<0>(o)?;
                return Ok(Op::WgmmaCommit);
            }
            2 => {
                m.finish()?;
                let [count] = exactly(o)?;
                let count = u32::try_from(self.immediate(count)?);
                return Ok(Op::WgmmaWait(count.or_else(|_| operand_error("a count is wanted"))?));
            }
            _ => {}
        }
        let shape = m.0.first().copied().unwrap_or_default();
        let n = shape.strip_prefix("m64n").and_then(|rest| rest.strip_suffix("k16"));
        let n: Option<u32> = n.and_then(|n| n.parse().ok()).filter(|n| n % 8 == 0 && (8..=256).contains(n));
        let (Some(n), Some(["f32", "f16", "f16"])) = (n, m.0.get(1..)) else {
            return Err(ParseErrorKind::Modifier(m.0.join(".")));
        };
        let Some((Operand::Vector(items), rest)) = o.split_first() else {
            return operand_error("a vector of accumulators is wanted");
        };
        if items.len() != n as usize / 2 {
            return operand_error(format!("{} accumulators are wanted, not {}", n / 2, items.len()));
        }
        let mut d = Vec::with_capacity(items.len());
        for item in items {
            d.push(self.destination(item, F32)?);
        }
        let Some((a, rest)) = rest.split_first() else { return operand_error("operand a is missing") };
        let in_registers = matches!(a, Operand::Vector(_));
        let a = if in_registers {
            let mut slots = [0; 4];
            for (slot, item) in slots.iter_mut().zip(self.vector::<4>(a)?) {
                *slot = self.source(item, B32)?;
            }
            Err(slots)
        } else {
            Ok(self.source(a, B64)?)
        };
        // b, scale-d, then the signs of a and b, then which are transposed: a only if it lies in memory.
        if rest.len() != if in_registers { 5 } else { 6 } {
            return operand_error(format!("{} behind the accumulators", rest.len() + 1));
        }
        let b = self.source(&rest[0], B64)?;
        let scale_d = self.predicate(&rest[1])?;
        let sign = |value: i64| match value {
            1 => Ok(false),
            -1 => Ok(true),
            other => operand_error(format!("{other} as a sign")),
        };
        let negate_a = sign(self.immediate(&rest[2])?)?;
        let negate_b = sign(self.immediate(&rest[3])?)?;
        let flag = |value: i64| match value {
            0 => Ok(false),
            1 => Ok(true),
            other => operand_error(format!("{other} as a flag")),
        };
        let trans_a = if in_registers { false } else { flag(self.immediate(&rest[4])?)? };
        let trans_b = flag(self.immediate(&rest[rest.len() - 1])?)?;
        Ok(Op::Wgmma(Box::new(Wgmma { n, d, a, b, scale_d, negate_a, negate_b, trans_a, trans_b })))
    }
}
