//! From words to instructions: names become slots, opcodes become operations.

mod arithmetic;
mod bits;
mod control;
mod data;
mod memory;
mod modifiers;
mod operands;
mod tensor;
pub(crate) mod windows;

use std::collections::HashMap;

use crate::error::{ParseError, ParseErrorKind, excerpt};
use crate::lex::Kind;
use crate::module::{Constant64, Kernel, Param, Reading, Special, Symbol, VARIABLE_BYTES_MAX};
use crate::op::{Address, Instruction, Op, Predicate, Slot};
use crate::text::{Cursor, Operand, Statement};
use crate::types::Type;

/// Most registers of a kernel. A real one has some thousands of virtual registers.
const REGISTERS_MAX: u32 = 1 << 16;

/// Most local memory of a thread: the device's limit (CUDA programming guide, technical specifications).
const LOCAL_BYTES_MAX: u64 = 512 << 10;

/// Deepest nesting of braces.
const DEPTH_MAX: usize = 64;

use modifiers::Modifiers;

type Result<T, E = ParseErrorKind> = std::result::Result<T, E>;

fn operand_error<T>(what: impl Into<String>) -> Result<T> {
    Err(ParseErrorKind::Operand(what.into()))
}

/// A register: its type and its slot.
#[derive(Clone, Copy, Debug)]
struct Register {
    ty: Type,
    slot: Slot,
}

/// Names of one pair of braces.
#[derive(Default)]
struct Scope<'a> {
    registers: HashMap<&'a str, Register>,
    /// `%r<10>`: stem to type, first slot and number.
    ranges: HashMap<&'a str, (Register, u32)>,
    labels: HashMap<&'a str, u32>,
    tables: HashMap<&'a str, Vec<&'a str>>,
    /// Variables in local memory: offset.
    locals: HashMap<&'a str, u32>,
    parent: usize,
}

/// The body of an entry while it is read.
pub(crate) struct Body<'a, 'r> {
    reading: &'r mut Reading<'a>,
    scopes: Vec<Scope<'a>>,
    scope: usize,
    params: Vec<Param>,
    shared: HashMap<&'a str, u32>,
    shared_bytes: u32,
    shared_align: u32,
    /// Constants that hold an address in dynamic shared memory: whether 64-bit, slot, offset.
    dynamic: Vec<(bool, Slot, i64)>,
    local_bytes: u32,
    code: Vec<Instruction>,
    places: Vec<(u32, String)>,
    /// Branches to names: instruction, name, scope, place.
    branches: Vec<(usize, &'a str, usize, (u32, usize))>,
    slots32: u32,
    slots64: u32,
    predicates: u32,
    constants32: HashMap<u32, Slot>,
    constants64: HashMap<Constant64, Slot>,
    constant_predicates: HashMap<bool, Slot>,
    specials: HashMap<Special, Slot>,
    wide_specials: HashMap<Special, Slot>,
    sinks: [Option<Slot>; 3],
    grain: u32,
    global_atomics: bool,
}

impl<'a, 'r> Body<'a, 'r> {
    /// Reads an entry, after `.entry`.
    pub(crate) fn read(cursor: &mut Cursor<'a>, reading: &'r mut Reading<'a>) -> Result<Kernel, ParseError> {
        let mut body = Body {
            reading,
            scopes: vec![Scope::default()],
            scope: 0,
            params: Vec::new(),
            shared: HashMap::new(),
            shared_bytes: 0,
            shared_align: 16,
            dynamic: Vec::new(),
            local_bytes: 0,
            code: Vec::new(),
            places: Vec::new(),
            branches: Vec::new(),
            slots32: 0,
            slots64: 0,
            predicates: 0,
            constants32: HashMap::new(),
            constants64: HashMap::new(),
            constant_predicates: HashMap::new(),
            specials: HashMap::new(),
            wide_specials: HashMap::new(),
            sinks: [None; 3],
            grain: 16,
            global_atomics: false,
        };
        let name = cursor.word("a kernel's name")?;
        if cursor.take('(') {
            body.params(cursor)?;
        }
        let threads_max = body.directives(cursor)?;
        cursor.expect('{', "the kernel's body")?;
        body.statements(cursor)?;
        body.push(Op::Exit, cursor.place(), cursor.source);
        body.link(cursor.source)?;
        Ok(body.finish(name, threads_max))
    }

    fn params(&mut self, cursor: &mut Cursor<'a>) -> Result<(), ParseError> {
        let mut offset = 0u32;
        while !cursor.take(')') {
            if !self.params.is_empty() {
                cursor.expect(',', "a comma")?;
            }
            if !cursor.take_word(".param") {
                return Err(cursor.error("a parameter"));
            }
            let variable = cursor.variable()?;
            let bytes = variable.bytes();
            // The driver's limit for parameters before CUDA 12.1.
            if bytes > 4096 || variable.count.is_none() {
                return Err(cursor.error("at most 4096 bytes of parameters"));
            }
            offset = offset.next_multiple_of(variable.align);
            self.params.push(Param {
                name: variable.name.into(),
                ty: variable.ty,
                bytes: bytes as u32,
                offset,
            });
            offset += bytes as u32;
            if offset > 4096 {
                return Err(cursor.error("at most 4096 bytes of parameters"));
            }
        }
        Ok(())
    }

    fn directives(&mut self, cursor: &mut Cursor<'a>) -> Result<Option<u32>, ParseError> {
        let mut threads = None;
        while let Some(Kind::Word(word)) = cursor.peek() {
            cursor.next();
            let mut values = [1u64; 3];
            let names = [".maxntid", ".reqntid", ".minnctapersm", ".maxnreg", ".maxnctapersm"];
            if !names.contains(&word) {
                return Err(cursor.error("a directive of a kernel"));
            }
            for (i, value) in values.iter_mut().enumerate() {
                if i == 0 || cursor.take(',') {
                    *value = cursor.number("a number")?;
                }
            }
            if matches!(word, ".maxntid" | ".reqntid") {
                let product = values.iter().fold(1u64, |a, b| a.saturating_mul(*b));
                threads = Some(u32::try_from(product).unwrap_or(u32::MAX));
            }
        }
        Ok(threads)
    }

    fn statements(&mut self, cursor: &mut Cursor<'a>) -> Result<(), ParseError> {
        let mut depth = 1;
        while depth > 0 {
            let place = cursor.place();
            let source = cursor.source;
            let fail = |kind| ParseError::new(source, place.0, place.1, kind);
            match (cursor.peek(), cursor.peek_second()) {
                (None, _) => return Err(cursor.error("a closing brace")),
                (Some(Kind::Mark('{')), _) => {
                    cursor.next();
                    depth += 1;
                    if depth > DEPTH_MAX {
                        return Err(cursor.error("fewer braces in one another"));
                    }
                    self.scopes.push(Scope { parent: self.scope, ..Scope::default() });
                    self.scope = self.scopes.len() - 1;
                }
                (Some(Kind::Mark('}')), _) => {
                    cursor.next();
                    depth -= 1;
                    self.scope = self.scopes[self.scope].parent;
                }
                (Some(Kind::Mark(';')), _) => {
                    cursor.next();
                }
                (Some(Kind::Word(label)), Some(Kind::Mark(':'))) => {
                    cursor.next();
                    cursor.next();
                    if cursor.take_word(".branchtargets") {
                        let mut targets = vec![cursor.word("a label")?];
                        while cursor.take(',') {
                            targets.push(cursor.word("a label")?);
                        }
                        cursor.expect(';', "a semicolon")?;
                        self.scopes[self.scope].tables.insert(label, targets);
                        continue;
                    }
                    let here = self.code.len() as u32;
                    if self.scopes[self.scope].labels.insert(label, here).is_some() {
                        return Err(fail(ParseErrorKind::Twice(label.into())));
                    }
                }
                (Some(Kind::Word(word)), _) if word.starts_with('.') => {
                    cursor.next();
                    self.declaration(cursor, word, place)?;
                }
                _ => {
                    let statement = cursor.statement()?;
                    self.instruction(&statement, place, source).map_err(fail)?;
                }
            }
        }
        Ok(())
    }

    fn declaration(
        &mut self,
        cursor: &mut Cursor<'a>,
        word: &str,
        place: (u32, usize),
    ) -> Result<(), ParseError> {
        let source = cursor.source;
        let fail = |kind| ParseError::new(source, place.0, place.1, kind);
        match word {
            ".reg" => {
                let ty = cursor.word("a type")?;
                let ty = ty.strip_prefix('.').and_then(Type::from_name);
                let ty = ty.ok_or_else(|| cursor.error("a type"))?;
                loop {
                    let name = cursor.word("a register")?;
                    let count = if cursor.take('<') {
                        let count = cursor.number("a number of registers")?;
                        cursor.expect('>', "a bracket")?;
                        Some(count)
                    } else {
                        None
                    };
                    self.registers(name, ty, count).map_err(fail)?;
                    if !cursor.take(',') {
                        break;
                    }
                }
                cursor.expect(';', "a semicolon")
            }
            ".shared" | ".local" => {
                let variable = cursor.variable()?;
                cursor.expect(';', "a semicolon")?;
                let (total, limit) = if word == ".shared" {
                    (&mut self.shared_bytes, VARIABLE_BYTES_MAX)
                } else {
                    (&mut self.local_bytes, LOCAL_BYTES_MAX)
                };
                let offset = total.next_multiple_of(variable.align.max(1));
                let end = u64::from(offset) + variable.bytes();
                if end > limit {
                    return Err(fail(ParseErrorKind::Limit { what: "bytes", limit }));
                }
                *total = end as u32;
                if word == ".shared" {
                    self.shared.insert(variable.name, offset);
                } else {
                    self.scopes[self.scope].locals.insert(variable.name, offset);
                }
                Ok(())
            }
            ".pragma" => {
                cursor.next();
                cursor.expect(';', "a semicolon")
            }
            ".loc" => {
                cursor.skip_line();
                Ok(())
            }
            _ => Err(fail(ParseErrorKind::Opcode(word.into()))),
        }
    }

    fn registers(&mut self, name: &'a str, ty: Type, count: Option<u64>) -> Result<()> {
        let limit = ParseErrorKind::Limit { what: "registers", limit: u64::from(REGISTERS_MAX) };
        let number = u32::try_from(count.unwrap_or(1)).map_err(|_| limit.clone())?;
        let file = match ty {
            Type::Pred => &mut self.predicates,
            _ if ty.bytes() == 8 => &mut self.slots64,
            _ => &mut self.slots32,
        };
        let slot = *file;
        *file = slot.checked_add(number).filter(|total| *total <= REGISTERS_MAX).ok_or(limit)?;
        let register = Register { ty, slot };
        let scope = &mut self.scopes[self.scope];
        let twice = match count {
            Some(_) => scope.ranges.insert(name, (register, number)).is_some(),
            None => scope.registers.insert(name, register).is_some(),
        };
        if twice { Err(ParseErrorKind::Twice(name.into())) } else { Ok(()) }
    }

    fn push(&mut self, op: Op, place: (u32, usize), source: &str) {
        self.code.push(Instruction { op, guard: None });
        self.places.push((place.0, excerpt(source, place.1)));
    }

    fn instruction(&mut self, statement: &Statement<'a>, place: (u32, usize), source: &str) -> Result<()> {
        let guard = match statement.guard {
            Some((name, negated)) => {
                let register = self.register(name)?;
                if register.ty != Type::Pred {
                    return operand_error(format!("{name} is no predicate"));
                }
                Some(Predicate { slot: register.slot, negated })
            }
            None => None,
        };
        let op = self.decode(statement, place)?;
        self.code.push(Instruction { op, guard });
        self.places.push((place.0, excerpt(source, place.1)));
        Ok(())
    }

    fn decode(&mut self, s: &Statement<'a>, place: (u32, usize)) -> Result<Op> {
        let modifiers = Modifiers(s.modifiers.clone());
        let o = &s.operands;
        match s.opcode {
            "add" | "sub" | "mul" | "mad" | "div" | "rem" | "min" | "max" | "abs" | "neg" | "fma" | "sad"
            | "sqrt" | "rcp" | "rsqrt" | "ex2" | "lg2" | "sin" | "cos" | "tanh" => {
                self.arithmetic(s.opcode, modifiers, o)
            }
            "and" | "or" | "xor" | "not" | "shl" | "shr" | "shf" | "lop3" | "bfe" | "bfi" | "brev"
            | "popc" | "clz" | "prmt" => self.bits(s.opcode, modifiers, o),
            "mov" | "setp" | "set" | "selp" | "cvt" | "cvta" => self.data(s.opcode, modifiers, o),
            "ld" | "ldu" | "st" | "atom" | "red" | "cp" | "prefetch" | "prefetchu" => {
                self.memory(s.opcode, modifiers, o)
            }
            "bra" | "brx" | "ret" | "exit" | "trap" | "bar" | "barrier" | "membar" | "fence"
            | "nanosleep" | "shfl" | "vote" | "match" | "redux" | "elect" | "activemask" => {
                self.control(s.opcode, modifiers, o, place)
            }
            "ldmatrix" | "stmatrix" | "mma" | "wgmma" => self.tensor(s.opcode, modifiers, o),
            other => Err(ParseErrorKind::Opcode(other.into())),
        }
    }

    fn link(&mut self, source: &str) -> Result<(), ParseError> {
        for (at, name, scope, place) in std::mem::take(&mut self.branches) {
            let fail = |kind| ParseError::new(source, place.0, place.1, kind);
            let unknown = |name: &str| fail(ParseErrorKind::Name(name.into()));
            let target = |name: &str| self.find(scope, |scope| scope.labels.get(name).copied());
            let op = match &self.code[at].op {
                Op::BranchIndexed { index, .. } => {
                    let table = self.find(scope, |scope| scope.tables.get(name).cloned());
                    let table = table.ok_or_else(|| unknown(name))?;
                    let targets: Option<Box<[u32]>> = table.iter().map(|name| target(name)).collect();
                    Op::BranchIndexed { targets: targets.ok_or_else(|| unknown(name))?, index: *index }
                }
                _ => Op::Branch { to: target(name).ok_or_else(|| unknown(name))? },
            };
            self.code[at].op = op;
        }
        Ok(())
    }

    fn finish(self, name: &str, threads_max: Option<u32>) -> Kernel {
        // Dynamic shared memory begins behind the static part.
        let base = self.shared_bytes.next_multiple_of(self.shared_align);
        let mut constants32: Vec<(u32, u32)> = self.constants32.iter().map(|(v, s)| (*s, *v)).collect();
        let mut constants64: Vec<(u32, Constant64)> =
            self.constants64.iter().map(|(v, s)| (*s, *v)).collect();
        for (wide, slot, offset) in self.dynamic {
            let address = u64::from(base).wrapping_add_signed(offset);
            if wide {
                constants64.push((slot, Constant64::Bits(address)));
            } else {
                constants32.push((slot, address as u32));
            }
        }
        Kernel {
            name: name.into(),
            params: self.params,
            threads_max,
            shared_bytes: base,
            shared_align: self.shared_align,
            local_bytes: self.local_bytes.next_multiple_of(16),
            code: self.code,
            places: self.places,
            slots32: self.slots32,
            slots64: self.slots64,
            predicates: self.predicates,
            constants32,
            constants64,
            constant_predicates: self.constant_predicates.into_iter().map(|(v, s)| (s, v)).collect(),
            specials: self.specials.into_iter().map(|(v, s)| (s, v)).collect(),
            wide_specials: self.wide_specials.into_iter().map(|(v, s)| (s, v)).collect(),
            grain: self.grain,
            global_atomics: self.global_atomics,
        }
    }
}
