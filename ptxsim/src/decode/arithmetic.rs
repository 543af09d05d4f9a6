//! Arithmetic: `add`, `mul`, `fma` and the like, for integers and floats.

use super::operands::exactly;
use super::*;
use crate::op::{Bin32, Bin64, Float, Tern32, Tern64, Un32, Un64};
use crate::types::Type::*;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Lo,
    Hi,
    Wide,
}

impl<'a> Body<'a, '_> {
    pub(super) fn arithmetic(&mut self, opcode: &str, mut m: Modifiers<'a>, o: &[Operand<'a>]) -> Result<Op> {
        let ty = m.ty()?;
        match ty {
            F32 => self.float(opcode, m, o),
            F64 => self.double(opcode, m, o),
            F16 | F16x2 => self.half(opcode, ty, m, o),
            _ if ty.is_integer() => self.integer(opcode, ty, m, o),
            _ => Err(ParseErrorKind::Modifier(format!("{ty}"))),
        }
    }

    fn integer(&mut self, opcode: &str, ty: Type, mut m: Modifiers<'a>, o: &[Operand<'a>]) -> Result<Op> {
        let part = m.take_of(&[("lo", Part::Lo), ("hi", Part::Hi), ("wide", Part::Wide)]);
        m.finish()?;
        let signed = ty.is_signed();
        let no = || Err(ParseErrorKind::Modifier(format!("{ty}")));
        if (opcode == "mul" || opcode == "mad") != part.is_some() {
            return Err(ParseErrorKind::Modifier("lo|hi|wide".into()));
        }
        if part == Some(Part::Wide) {
            return self.wide(opcode, ty, o);
        }
        let hi = part == Some(Part::Hi);
        match (opcode, o.len()) {
            ("abs" | "neg", 2) => {
                let (d, a) = (self.destination(&o[0], ty)?, self.source(&o[1], ty)?);
                Ok(match (opcode, ty) {
                    ("abs", S16) => Op::Un32(Un32::Abs16, d, a),
                    ("abs", S32) => Op::Un32(Un32::Abs, d, a),
                    ("abs", S64) => Op::Un64(Un64::Abs, d, a),
                    ("neg", S16) => Op::Un32(Un32::Neg16, d, a),
                    ("neg", S32) => Op::Un32(Un32::Neg, d, a),
                    ("neg", S64) => Op::Un64(Un64::Neg, d, a),
                    _ => return no(),
                })
            }
            ("mad" | "sad", 4) => {
                let d = self.destination(&o[0], ty)?;
                let (a, b, c) = (self.source(&o[1], ty)?, self.source(&o[2], ty)?, self.source(&o[3], ty)?);
                Ok(match (opcode, ty.bytes(), hi) {
                    ("mad", 2, false) => Op::Tern32(Tern32::MadLo16, d, a, b, c),
                    ("mad", 4, false) => Op::Tern32(Tern32::MadLo, d, a, b, c),
                    ("mad", 4, true) if signed => Op::Tern32(Tern32::MadHiS, d, a, b, c),
                    ("mad", 4, true) => Op::Tern32(Tern32::MadHiU, d, a, b, c),
                    ("mad", 8, false) => Op::Tern64(Tern64::MadLo, d, a, b, c),
                    ("sad", 4, _) if ty == U32 => Op::Tern32(Tern32::Sad, d, a, b, c),
                    _ => return no(),
                })
            }
            ("add" | "sub" | "mul" | "div" | "rem" | "min" | "max", 3) => {
                let d = self.destination(&o[0], ty)?;
                let (a, b) = (self.source(&o[1], ty)?, self.source(&o[2], ty)?);
                Ok(match ty.bytes() {
                    2 => Op::Bin32(
                        match (opcode, signed, hi) {
                            ("add", ..) => Bin32::Add16,
                            ("sub", ..) => Bin32::Sub16,
                            ("mul", _, false) => Bin32::MulLo16,
                            ("mul", true, true) => Bin32::MulHiS16,
                            ("mul", false, true) => Bin32::MulHiU16,
                            ("div", true, _) => Bin32::DivS16,
                            ("div", false, _) => Bin32::DivU16,
                            ("rem", true, _) => Bin32::RemS16,
                            ("rem", false, _) => Bin32::RemU16,
                            ("min", true, _) => Bin32::MinS16,
                            ("max", true, _) => Bin32::MaxS16,
                            // The upper bits are zero, so that the wide comparison serves.
                            ("min", false, _) => Bin32::MinU,
                            _ => Bin32::MaxU,
                        },
                        d,
                        a,
                        b,
                    ),
                    4 => Op::Bin32(
                        match (opcode, signed, hi) {
                            ("add", ..) => Bin32::Add,
                            ("sub", ..) => Bin32::Sub,
                            ("mul", _, false) => Bin32::MulLo,
                            ("mul", true, true) => Bin32::MulHiS,
                            ("mul", false, true) => Bin32::MulHiU,
                            ("div", true, _) => Bin32::DivS,
                            ("div", false, _) => Bin32::DivU,
                            ("rem", true, _) => Bin32::RemS,
                            ("rem", false, _) => Bin32::RemU,
                            ("min", true, _) => Bin32::MinS,
                            ("min", false, _) => Bin32::MinU,
                            ("max", true, _) => Bin32::MaxS,
                            _ => Bin32::MaxU,
                        },
                        d,
                        a,
                        b,
                    ),
                    8 => Op::Bin64(
                        match (opcode, signed, hi) {
                            ("add", ..) => Bin64::Add,
                            ("sub", ..) => Bin64::Sub,
                            ("mul", _, false) => Bin64::MulLo,
                            ("mul", true, true) => Bin64::MulHiS,
                            ("mul", false, true) => Bin64::MulHiU,
                            ("div", true, _) => Bin64::DivS,
                            ("div", false, _) => Bin64::DivU,
                            ("rem", true, _) => Bin64::RemS,
                            ("rem", false, _) => Bin64::RemU,
                            ("min", true, _) => Bin64::MinS,
                            ("min", false, _) => Bin64::MinU,
                            ("max", true, _) => Bin64::MaxS,
                            _ => Bin64::MaxU,
                        },
                        d,
                        a,
                        b,
                    ),
                    _ => return no(),
                })
            }
            _ => operand_error(format!("{} for {opcode}{ty}", o.len())),
        }
    }

    fn wide(&mut self, opcode: &str, ty: Type, o: &[Operand<'a>]) -> Result<Op> {
        let result = match ty {
            S16 => S32,
            U16 => U32,
            S32 => S64,
            U32 => U64,
            _ => return Err(ParseErrorKind::Modifier(format!("{ty}"))),
        };
        if o.len() != if opcode == "mad" { 4 } else { 3 } {
            return operand_error(format!("{} for {opcode}.wide", o.len()));
        }
        let d = self.destination(&o[0], result)?;
        let (a, b) = (self.source(&o[1], ty)?, self.source(&o[2], ty)?);
        let c = o.get(3).map(|c| self.source(c, result)).transpose()?;
        let signed = ty.is_signed();
        Ok(match (ty.bytes(), c) {
            (4, c) => Op::Wide { signed, d, a, b, c },
            (_, None) if signed => Op::Bin32(Bin32::MulWideS16, d, a, b),
            (_, None) => Op::Bin32(Bin32::MulWideU16, d, a, b),
            (_, Some(c)) if signed => Op::Tern32(Tern32::MadWideS16, d, a, b, c),
            (_, Some(c)) => Op::Tern32(Tern32::MadWideU16, d, a, b, c),
        })
    }

    fn float(&mut self, opcode: &str, mut m: Modifiers<'a>, o: &[Operand<'a>]) -> Result<Op> {
        let rounded = m.take("rn");
        let (ftz, sat) = (m.take("ftz"), m.take("sat"));
        let approximate = m.take("approx") || m.take("full");
        let nan = m.take("NaN");
        m.finish()?;
        let (f, operands) = match opcode {
            "add" => (Float::Add, 2),
            "sub" => (Float::Sub, 2),
            "mul" => (Float::Mul, 2),
            "fma" | "mad" => (Float::Fma, 3),
            "min" => (if nan { Float::MinNan } else { Float::Min }, 2),
            "max" => (if nan { Float::MaxNan } else { Float::Max }, 2),
            "div" => (Float::Div, 2),
            "neg" => (Float::Neg, 1),
            "abs" => (Float::Abs, 1),
            "sqrt" => (Float::Sqrt, 1),
            "rcp" => (Float::Rcp, 1),
            "rsqrt" => (Float::Rsqrt, 1),
            "ex2" => (Float::Ex2, 1),
            "lg2" => (Float::Lg2, 1),
            "sin" => (Float::Sin, 1),
            "cos" => (Float::Cos, 1),
            "tanh" => (Float::Tanh, 1),
            _ => return Err(ParseErrorKind::Modifier("f32".into())),
        };
        // Some are defined only rounded, some only approximately, and these two need one of both.
        let fits = match opcode {
            "div" | "sqrt" | "rcp" => rounded != approximate,
            "rsqrt" | "ex2" | "lg2" | "sin" | "cos" | "tanh" => approximate && !rounded,
            "fma" | "mad" => rounded && !approximate,
            "add" | "sub" | "mul" => !approximate,
            _ => !rounded && !approximate && !sat,
        };
        let nan_fits = !nan || matches!(opcode, "min" | "max");
        if !fits || !nan_fits {
            return Err(ParseErrorKind::Modifier("rn|approx".into()));
        }
        if o.len() != operands + 1 {
            return operand_error(format!("{} for {opcode}.f32", o.len()));
        }
        let d = self.destination(&o[0], F32)?;
        let a = self.source(&o[1], F32)?;
        let b = o.get(2).map_or(Ok(a), |b| self.source(b, F32))?;
        let c = o.get(3).map_or(Ok(a), |c| self.source(c, F32))?;
        if !ftz && !sat {
            match f {
                Float::Add => return Ok(Op::Bin32(Bin32::AddF, d, a, b)),
                Float::Sub => return Ok(Op::Bin32(Bin32::SubF, d, a, b)),
                Float::Mul => return Ok(Op::Bin32(Bin32::MulF, d, a, b)),
                Float::Min => return Ok(Op::Bin32(Bin32::MinF, d, a, b)),
                Float::Max => return Ok(Op::Bin32(Bin32::MaxF, d, a, b)),
                Float::Fma => return Ok(Op::Tern32(Tern32::FmaF, d, a, b, c)),
                Float::Neg => return Ok(Op::Un32(Un32::NegF, d, a)),
                Float::Abs => return Ok(Op::Un32(Un32::AbsF, d, a)),
                _ => {}
            }
        }
        Ok(Op::Float { f, ftz, sat, d, a, b, c })
    }

    fn double(&mut self, opcode: &str, mut m: Modifiers<'a>, o: &[Operand<'a>]) -> Result<Op> {
        m.take("rn");
        m.finish()?;
        let no = || Err(ParseErrorKind::Modifier("f64".into()));
        let d = self.destination(o.first().unwrap_or(&Operand::Integer(0)), F64)?;
        match o.len() {
            2 => {
                let a = self.source(&o[1], F64)?;
                let f = match opcode {
                    "neg" => Un64::NegD,
                    "abs" => Un64::AbsD,
                    "sqrt" => Un64::SqrtD,
                    "rcp" => Un64::RcpD,
                    _ => return no(),
                };
                Ok(Op::Un64(f, d, a))
            }
            3 => {
                let (a, b) = (self.source(&o[1], F64)?, self.source(&o[2], F64)?);
                let f = match opcode {
                    "add" => Bin64::AddD,
                    "sub" => Bin64::SubD,
                    "mul" => Bin64::MulD,
                    "div" => Bin64::DivD,
                    "min" => Bin64::MinD,
                    "max" => Bin64::MaxD,
                    _ => return no(),
                };
                Ok(Op::Bin64(f, d, a, b))
            }
            4 if matches!(opcode, "fma" | "mad") => {
                let (a, b, c) =
                    (self.source(&o[1], F64)?, self.source(&o[2], F64)?, self.source(&o[3], F64)?);
                Ok(Op::Tern64(Tern64::FmaD, d, a, b, c))
            }
            _ => operand_error(format!("{} for {opcode}.f64", o.len())),
        }
    }

    fn half(&mut self, opcode: &str, ty: Type, mut m: Modifiers<'a>, o: &[Operand<'a>]) -> Result<Op> {
        if matches!(opcode, "add" | "sub" | "mul" | "fma") {
            let rounded = m.take("rn");
            if opcode == "fma" && !rounded {
                return Err(ParseErrorKind::Modifier("rn".into()));
            }
        }
        m.finish()?;
        let packed = ty == F16x2;
        match (opcode, o.len()) {
            ("abs" | "neg", 2) => {
                let (d, a) = (self.destination(&o[0], ty)?, self.source(&o[1], ty)?);
                let f = match (opcode, packed) {
                    ("abs", false) => Un32::AbsF16,
                    ("abs", true) => Un32::AbsF16x2,
                    (_, false) => Un32::NegF16,
                    (_, true) => Un32::NegF16x2,
                };
                Ok(Op::Un32(f, d, a))
            }
            ("add" | "sub" | "mul" | "min" | "max", 3) => {
                let [d, a, b] = exactly(o)?;
                let (d, a, b) = (self.destination(d, ty)?, self.source(a, ty)?, self.source(b, ty)?);
                let f = match (opcode, packed) {
                    ("add", false) => Bin32::AddF16,
                    ("add", true) => Bin32::AddF16x2,
                    ("sub", false) => Bin32::SubF16,
                    ("sub", true) => Bin32::SubF16x2,
                    ("mul", false) => Bin32::MulF16,
                    ("mul", true) => Bin32::MulF16x2,
                    ("min", false) => Bin32::MinF16,
                    ("min", true) => Bin32::MinF16x2,
                    (_, false) => Bin32::MaxF16,
                    (_, true) => Bin32::MaxF16x2,
                };
                Ok(Op::Bin32(f, d, a, b))
            }
            ("fma", 4) => {
                let d = self.destination(&o[0], ty)?;
                let (a, b, c) = (self.source(&o[1], ty)?, self.source(&o[2], ty)?, self.source(&o[3], ty)?);
                Ok(Op::Tern32(if packed { Tern32::FmaF16x2 } else { Tern32::FmaF16 }, d, a, b, c))
            }
            _ => operand_error(format!("{} for {opcode}{ty}", o.len())),
        }
    }
}
