//! Branches, barriers and what the lanes of a warp do together.

use super::operands::exactly;
use super::*;
use crate::op::{Atom, Barrier, Reduce, Shuffle, Vote};
use crate::types::Type::*;

impl<'a> Body<'a, '_> {
    pub(super) fn control(
        &mut self,
        opcode: &str,
        mut m: Modifiers<'a>,
        o: &[Operand<'a>],
        place: (u32, usize),
    ) -> Result<Op> {
        match opcode {
            "bra" => {
                m.take("uni");
                m.finish()?;
                let [Operand::Name(label, 0)] = exactly(o)? else {
                    return operand_error("a label is wanted");
                };
                self.branches.push((self.code.len(), label, self.scope, place));
                Ok(Op::Branch { to: 0 })
            }
            "brx" => {
                if !m.take("idx") {
                    return Err(ParseErrorKind::Modifier("idx".into()));
                }
                m.take("uni");
                m.finish()?;
                let [index, Operand::Name(table, 0)] = exactly(o)? else {
                    return operand_error("a list of labels is wanted");
                };
                let index = self.source(index, U32)?;
                self.branches.push((self.code.len(), table, self.scope, place));
                Ok(Op::BranchIndexed { targets: Box::default(), index })
            }
            "ret" | "exit" => {
                m.take("uni");
                m.finish()?;
                exactly::<0>(o)?;
                Ok(Op::Exit)
            }
            "trap" => {
                m.finish()?;
                Ok(Op::Trap)
            }
            "nanosleep" => Ok(Op::Nop),
            "membar" => {
                m.need_of(&[("cta", ()), ("gl", ()), ("sys", ())])?;
                m.finish()?;
                Ok(Op::Nop)
            }
            "fence" => self.fence(m),
            "bar" | "barrier" => self.barrier(opcode, m, o),
            "activemask" => {
                m.take("b32");
                m.finish()?;
                let [d] = exactly(o)?;
                Ok(Op::Activemask { d: self.destination(d, B32)? })
            }
            "shfl" => {
                if !m.take("sync") {
                    return Err(ParseErrorKind::Modifier("sync".into()));
                }
                let mode = m.need_of(&[
                    ("up", Shuffle::Up),
                    ("down", Shuffle::Down),
                    ("bfly", Shuffle::Bfly),
                    ("idx", Shuffle::Idx),
                ])?;
                m.need_of(&[("b32", ())])?;
                m.finish()?;
                let [d, a, b, c, members] = exactly(o)?;
                let (d, p) = self.pair(d)?;
                let d = self.destination(&d, B32)?;
                let p = self.predicate_destination(p.unwrap_or("_"))?;
                let (a, b) = (self.source(a, B32)?, self.source(b, U32)?);
                let (c, members) = (self.source(c, U32)?, self.source(members, U32)?);
                Ok(Op::Shfl { mode, d, p, a, b, c, members })
            }
            "vote" => {
                if !m.take("sync") {
                    return Err(ParseErrorKind::Modifier("sync".into()));
                }
                let vote = m.need_of(&[
                    ("all", Vote::All),
                    ("any", Vote::Any),
                    ("uni", Vote::Uni),
                    ("ballot", Vote::Ballot),
                ])?;
                m.need_of(&[(if vote == Vote::Ballot { "b32" } else { "pred" }, ())])?;
                m.finish()?;
                let [d, a, members] = exactly(o)?;
                let d = match (vote, d) {
                    (Vote::Ballot, d) => self.destination(d, B32)?,
                    (_, Operand::Name(name, 0)) => self.predicate_destination(name)?,
                    _ => return operand_error("a predicate is wanted"),
                };
                Ok(Op::Vote { vote, d, a: self.predicate(a)?, members: self.source(members, U32)? })
            }
            "match" => {
                let all = m.need_of(&[("any", false), ("all", true)])?;
                if !m.take("sync") {
                    return Err(ParseErrorKind::Modifier("sync".into()));
                }
                let ty = m.ty()?;
                m.finish()?;
                if !matches!(ty, B32 | B64) {
                    return Err(ParseErrorKind::Modifier(format!("{ty}")));
                }
                let [d, a, members] = exactly(o)?;
                let (d, p) = self.pair(d)?;
                let d = self.destination(&d, B32)?;
                let p = self.predicate_destination(p.unwrap_or("_"))?;
                let wide = ty == B64;
                Ok(Op::Match { all, d, p, a: self.source(a, ty)?, wide, members: self.source(members, U32)? })
            }
            "redux" => {
                if !m.take("sync") {
                    return Err(ParseErrorKind::Modifier("sync".into()));
                }
                let atom = m.need_of(&[
                    ("add", Atom::Add),
                    ("min", Atom::Min),
                    ("max", Atom::Max),
                    ("and", Atom::And),
                    ("or", Atom::Or),
                    ("xor", Atom::Xor),
                ])?;
                let ty = m.ty()?;
                m.finish()?;
                let bitwise = matches!(atom, Atom::And | Atom::Or | Atom::Xor);
                if bitwise != (ty == B32) || !bitwise && !matches!(ty, U32 | S32) {
                    return Err(ParseErrorKind::Modifier(format!("{ty}")));
                }
                let [d, a, members] = exactly(o)?;
                let (d, a) = (self.destination(d, ty)?, self.source(a, ty)?);
                Ok(Op::Redux { atom, signed: ty == S32, d, a, members: self.source(members, U32)? })
            }
            _ => {
                if !m.take("sync") {
                    return Err(ParseErrorKind::Modifier("sync".into()));
                }
                m.finish()?;
                let [d, members] = exactly(o)?;
                let (d, p) = self.pair(d)?;
                let d = self.destination(&d, B32)?;
                let p = self.predicate_destination(p.unwrap_or("_"))?;
                Ok(Op::Elect { d, p, members: self.source(members, U32)? })
            }
        }
    }

    fn fence(&mut self, mut m: Modifiers<'a>) -> Result<Op> {
        let proxy = m.take("proxy");
        let known: &[&str] = if proxy {
            &[
                "async",
                "async.global",
                "async.shared::cta",
                "global",
                "shared::cta",
                "shared::cluster",
                "alias",
            ]
        } else {
            &["sc", "acq_rel", "acquire", "release", "cta", "gpu", "sys", "cluster", "mbarrier_init"]
        };
        m.0.retain(|modifier| !known.contains(modifier));
        m.finish()?;
        Ok(if proxy { Op::ProxyFence } else { Op::Nop })
    }

    fn barrier(&mut self, opcode: &str, mut m: Modifiers<'a>, o: &[Operand<'a>]) -> Result<Op> {
        m.take("cta");
        if m.take("warp") {
            m.need_of(&[("sync", ())])?;
            m.finish()?;
            let [members] = exactly(o)?;
            return Ok(Op::WarpBarrier { members: self.source(members, U32)? });
        }
        // Without `.aligned` the lanes of a warp may come apart; here they must come together in any case.
        m.take("aligned");
        let kind = m.need_of(&[("sync", 0), ("arrive", 1), ("red", 2)])?;
        if kind < 2 {
            m.finish()?;
            if o.is_empty() || o.len() > 2 || kind == 1 && o.len() != 2 {
                return operand_error(format!("{} for {opcode}", o.len()));
            }
            let id = self.source(&o[0], U32)?;
            let count = o.get(1).map(|count| self.source(count, U32)).transpose()?;
            return Ok(Op::Barrier(Barrier { id, count, arrive: kind == 1, reduce: None }));
        }
        let reduce = m.need_of(&[("popc", Reduce::Popc), ("and", Reduce::And), ("or", Reduce::Or)])?;
        m.need_of(&[(if reduce == Reduce::Popc { "u32" } else { "pred" }, ())])?;
        m.finish()?;
        if !(3..=4).contains(&o.len()) {
            return operand_error(format!("{} for {opcode}", o.len()));
        }
        let d = match (reduce, &o[0]) {
            (Reduce::Popc, d) => self.destination(d, U32)?,
            (_, Operand::Name(name, 0)) => self.predicate_destination(name)?,
            _ => return operand_error("a predicate is wanted"),
        };
        let id = self.source(&o[1], U32)?;
        let count = if o.len() == 4 { Some(self.source(&o[2], U32)?) } else { None };
        let p = self.predicate(&o[o.len() - 1])?;
        Ok(Op::Barrier(Barrier { id, count, arrive: false, reduce: Some((reduce, d, p)) }))
    }
}
