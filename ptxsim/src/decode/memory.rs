//! Loads, stores, atomics and asynchronous copies.

use super::operands::exactly;
use super::*;
use crate::op::{Atom, Target};
use crate::types::Type::*;

const TARGETS: &[(&str, Target)] = &[
    ("global", Target::Global),
    ("const", Target::Global),
    ("shared", Target::Shared),
    ("shared::cta", Target::Shared),
    ("local", Target::Local),
    ("param", Target::Param),
];

/// Hints and orders that change nothing where one warp runs at a time.
const IGNORED: &[&str] = &[
    "ca",
    "cg",
    "cs",
    "lu",
    "cv",
    "wb",
    "wt",
    "nc",
    "volatile",
    "weak",
    "relaxed",
    "acquire",
    "release",
    "acq_rel",
    "cta",
    "gpu",
    "sys",
    "cluster",
    "L2::64B",
    "L2::128B",
    "L2::256B",
    "L1::evict_normal",
    "L1::evict_unchanged",
    "L1::evict_first",
    "L1::evict_last",
    "L1::no_allocate",
    "noftz",
];

impl<'a> Body<'a, '_> {
    pub(super) fn memory(&mut self, opcode: &str, mut m: Modifiers<'a>, o: &[Operand<'a>]) -> Result<Op> {
        match opcode {
            "prefetch" | "prefetchu" => return Ok(Op::Nop),
            "cp" => return self.copy(m, o),
            "atom" | "red" => return self.atomic(opcode, m, o),
            _ => {}
        }
        let ty = m.ty()?;
        let count = m.take_of(&[("v2", 2u8), ("v4", 4)]);
        let target = m.take_of(TARGETS).unwrap_or(Target::Generic);
        m.0.retain(|modifier| !IGNORED.contains(modifier));
        m.finish()?;
        if matches!(ty, Pred | F16x2) {
            return Err(ParseErrorKind::Modifier(format!("{ty}")));
        }
        let store = opcode == "st";
        if store && target == Target::Param {
            return Err(ParseErrorKind::Modifier("param".into()));
        }
        let [first, second] = exactly(o)?;
        let (address, values) = if store { (first, second) } else { (second, first) };
        let at = self.address(address)?;
        let items: Vec<&Operand<'a>> = match (values, count) {
            (Operand::Vector(items), count) => {
                if items.len() != usize::from(count.unwrap_or(1)) {
                    return operand_error(format!(
                        "a vector of {} for .v{}",
                        items.len(),
                        count.unwrap_or(1)
                    ));
                }
                items.iter().collect()
            }
            (single, None) => vec![single],
            _ => return operand_error("a vector is wanted"),
        };
        let bytes = ty.bytes() * items.len() as u32;
        if bytes > 16 {
            return Err(ParseErrorKind::Modifier("v4".into()));
        }
        if matches!(target, Target::Shared | Target::Generic) {
            self.grain = self.grain.min(bytes);
        }
        let mut slots = [0; 4];
        let mut width = None;
        for (slot, item) in slots.iter_mut().zip(&items) {
            let (found, bytes) =
                if store { self.wide_source(item, ty)? } else { self.wide_destination(item, ty)? };
            *slot = found;
            // Loads extend to the register's width, which must be one; stores cut off, and constants have no width.
            let other = *width.get_or_insert(bytes);
            if if store { (other == 8) != (bytes == 8) } else { other != bytes } {
                return operand_error("registers of one width are wanted");
            }
        }
        let (bytes, count) = (width.unwrap_or(4) as u8, items.len() as u8);
        Ok(if store {
            Op::Store { target, ty, bytes, count, s: slots, to: at }
        } else {
            Op::Load { target, ty, bytes, count, d: slots, from: at }
        })
    }

    fn atomic(&mut self, opcode: &str, mut m: Modifiers<'a>, o: &[Operand<'a>]) -> Result<Op> {
        let ty = m.ty()?;
        let target = m.take_of(TARGETS).unwrap_or(Target::Generic);
        let atom = m.need_of(&[
            ("add", Atom::Add),
            ("min", Atom::Min),
            ("max", Atom::Max),
            ("and", Atom::And),
            ("or", Atom::Or),
            ("xor", Atom::Xor),
            ("exch", Atom::Exch),
            ("cas", Atom::Cas),
            ("inc", Atom::Inc),
            ("dec", Atom::Dec),
        ])?;
        m.0.retain(|modifier| !IGNORED.contains(modifier));
        m.finish()?;
        let fits = match atom {
            Atom::Add => matches!(ty, U32 | S32 | U64 | F32 | F64 | F16x2),
            Atom::Min | Atom::Max => matches!(ty, U32 | S32 | U64 | S64),
            Atom::And | Atom::Or | Atom::Xor | Atom::Exch | Atom::Cas => matches!(ty, B32 | B64),
            Atom::Inc | Atom::Dec => ty == U32,
        };
        if !fits || matches!(target, Target::Local | Target::Param) {
            return Err(ParseErrorKind::Modifier(format!("{ty}")));
        }
        let result = opcode == "atom";
        if o.len() != 2 + usize::from(result) + usize::from(atom == Atom::Cas) {
            return operand_error(format!("{} for {opcode}", o.len()));
        }
        if target != Target::Shared {
            self.global_atomics = true;
        }
        if target != Target::Global {
            self.grain = self.grain.min(ty.bytes());
        }
        let d = self.destination(if result { &o[0] } else { &Operand::Name("_", 0) }, ty)?;
        let rest = &o[usize::from(result)..];
        let at = self.address(&rest[0])?;
        let b = self.source(&rest[1], ty)?;
        let c = rest.get(2).map_or(Ok(b), |c| self.source(c, ty))?;
        Ok(Op::Atom { target, atom, ty, d, at, b, c })
    }

    fn copy(&mut self, mut m: Modifiers<'a>, o: &[Operand<'a>]) -> Result<Op> {
        if !m.take("async") {
            return Err(ParseErrorKind::Modifier("async".into()));
        }
        if m.take("commit_group") {
            m.finish()?;
            exactly::<0>(o)?;
            return Ok(Op::CpAsyncCommit);
        }
        if m.take("wait_all") {
            m.finish()?;
            exactly::<0>(o)?;
            return Ok(Op::CpAsyncWait(None));
        }
        if m.take("wait_group") {
            m.finish()?;
            let [count] = exactly(o)?;
            let count = u32::try_from(self.immediate(count)?);
            return Ok(Op::CpAsyncWait(Some(count.or_else(|_| operand_error("a count is wanted"))?)));
        }
        let cached_global = m.need_of(&[("cg", true), ("ca", false)])?;
        if !m.take("shared") && !m.take("shared::cta") || !m.take("global") {
            return Err(ParseErrorKind::Modifier("shared.global".into()));
        }
        m.0.retain(|modifier| !IGNORED.contains(modifier));
        m.finish()?;
        if !(3..=4).contains(&o.len()) {
            return operand_error(format!("{} for cp.async", o.len()));
        }
        let (to, from) = (self.address(&o[0])?, self.address(&o[1])?);
        let bytes = match self.immediate(&o[2])? {
            bytes @ (4 | 8) if !cached_global => bytes as u32,
            16 => 16,
            other => return operand_error(format!("{other} bytes for cp.async")),
        };
        let size = o.get(3).map(|size| self.source(size, U32)).transpose()?;
        self.grain = self.grain.min(bytes);
        Ok(Op::CpAsync { to, from, bytes, size })
    }
}
