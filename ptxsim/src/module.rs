//! A PTX file: its target, its variables, its entries.

use std::collections::HashMap;
use std::sync::Arc;

use crate::decode::Body;
use crate::error::{ParseError, ParseErrorKind};
use crate::lex::Kind;
use crate::memory::{Memory, MemoryError};
use crate::op::Instruction;
use crate::text::Cursor;
use crate::types::Type;

/// Most bytes that a variable, or all static shared memory of a kernel, may declare: far above any device's.
pub(crate) const VARIABLE_BYTES_MAX: u64 = 1 << 30;

/// A parameter of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param {
    /// Its name.
    pub name: String,
    /// Type, of the elements if it is an array.
    pub ty: Type,
    /// Bytes.
    pub bytes: u32,
    /// Place in the block of parameters, in bytes.
    pub offset: u32,
}

/// A variable of the module in global or constant memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Global {
    /// Its name.
    pub name: String,
    /// Bytes.
    pub bytes: u64,
    /// Its first bytes; the others are zero.
    pub initial: Vec<u8>,
    /// Whether an instruction names it.
    pub used: bool,
}

/// A value of a slot that is the same for all lanes or known when a block starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Special {
    Tid(u8),
    Ntid(u8),
    Ctaid(u8),
    Nctaid(u8),
    Laneid,
    Warpid,
    Nwarpid,
    LanemaskEq,
    LanemaskLe,
    LanemaskLt,
    LanemaskGe,
    LanemaskGt,
    DynamicShared,
    TotalShared,
    /// Not told apart here: one multiprocessor, one grid.
    Zero,
    One,
}

/// A 64-bit constant: bits, or an address that is known once the module is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Constant64 {
    Bits(u64),
    Global { index: u32, offset: i64 },
}

/// An entry, decoded.
#[derive(Debug)]
pub struct Kernel {
    /// Its name.
    pub name: String,
    /// Its parameters in order.
    pub params: Vec<Param>,
    /// `.maxntid` or `.reqntid` multiplied out.
    pub threads_max: Option<u32>,
    /// Static shared memory in bytes.
    pub shared_bytes: u32,
    /// Alignment of dynamic shared memory in bytes.
    pub shared_align: u32,
    pub(crate) local_bytes: u32,
    pub(crate) code: Vec<Instruction>,
    /// Line and statement of each instruction, for reports.
    pub(crate) places: Vec<(u32, String)>,
    pub(crate) slots32: u32,
    pub(crate) slots64: u32,
    pub(crate) predicates: u32,
    pub(crate) constants32: Vec<(u32, u32)>,
    pub(crate) constants64: Vec<(u32, Constant64)>,
    pub(crate) constant_predicates: Vec<(u32, bool)>,
    pub(crate) specials: Vec<(u32, Special)>,
    pub(crate) wide_specials: Vec<(u32, Special)>,
    /// Smallest width of an access to shared memory: the grain in which races are told apart.
    pub(crate) grain: u32,
    /// Whether blocks may meet in atomics on global memory; they then run one after the other.
    pub(crate) global_atomics: bool,
}

impl Kernel {
    /// Bytes of all parameters together.
    pub fn param_bytes(&self) -> u32 {
        self.params.last().map_or(0, |last| last.offset + last.bytes)
    }

    /// Number of instructions.
    pub fn instructions(&self) -> usize {
        self.code.len()
    }
}

/// A PTX file.
#[derive(Debug)]
pub struct Module {
    /// `.version`, as (8, 0).
    pub version: (u32, u32),
    /// `.target`, as `sm_80`.
    pub target: String,
    /// Variables in global and constant memory.
    pub globals: Vec<Global>,
    kernels: Vec<Arc<Kernel>>,
}

/// Symbols of the module that instructions may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Symbol {
    /// A variable in global or constant memory, by number.
    Global(u32),
    /// Static shared memory of the module: bytes, alignment.
    Shared { bytes: u32, align: u32 },
    /// Dynamic shared memory: alignment.
    DynamicShared { align: u32 },
}

/// What has been read of a module.
pub(crate) struct Reading<'a> {
    pub symbols: HashMap<&'a str, Symbol>,
    pub globals: Vec<Global>,
}

/// A declared variable.
pub(crate) struct Variable<'a> {
    pub name: &'a str,
    pub ty: Type,
    pub align: u32,
    /// `None` for an array without a length.
    pub count: Option<u64>,
}

impl Variable<'_> {
    pub(crate) fn bytes(&self) -> u64 {
        self.count.unwrap_or(0).saturating_mul(u64::from(self.ty.bytes()))
    }
}

impl Module {
    /// Reads a PTX file and decodes all its entries.
    ///
    /// # Errors
    /// [`ParseError`] with the line: at anything that is not PTX, and at every instruction, modifier or operand that is
    /// not known here.
    pub fn parse(source: &str) -> Result<Self, ParseError> {
        let mut cursor = Cursor::new(source)?;
        let mut module =
            Self { version: (0, 0), target: String::new(), globals: Vec::new(), kernels: Vec::new() };
        let mut reading = Reading { symbols: HashMap::new(), globals: Vec::new() };
        while let Some(kind) = cursor.peek() {
            let (line, at) = cursor.place();
            let fail = |kind| ParseError::new(source, line, at, kind);
            let Kind::Word(word) = kind else { return Err(cursor.error("a directive")) };
            cursor.next();
            match word {
                ".version" => {
                    let Some(Kind::Number(number)) = cursor.next() else {
                        return Err(fail(ParseErrorKind::Syntax { expected: "a version" }));
                    };
                    let parts =
                        number.split_once('.').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
                    module.version =
                        parts.ok_or_else(|| fail(ParseErrorKind::Syntax { expected: "a version" }))?;
                }
                ".target" => {
                    module.target = cursor.word("a target")?.to_owned();
                    while cursor.take(',') {
                        cursor.word("a target")?;
                    }
                }
                ".address_size" => {
                    if cursor.number("64")? != 64 {
                        return Err(fail(ParseErrorKind::Syntax { expected: ".address_size 64" }));
                    }
                }
                ".file" | ".loc" => cursor.skip_line(),
                ".section" => {
                    while !cursor.take('{') {
                        cursor.next().ok_or_else(|| cursor.error("a section"))?;
                    }
                    cursor.skip_braces()?;
                }
                ".visible" | ".extern" | ".weak" | ".common" => {}
                ".global" | ".const" => {
                    let variable = cursor.variable()?;
                    let bytes = variable.bytes();
                    let initial = if cursor.take('=') { cursor.initial(variable.ty)? } else { Vec::new() };
                    cursor.expect(';', "a semicolon")?;
                    if initial.len() as u64 > bytes {
                        return Err(fail(ParseErrorKind::Operand("more values than elements".into())));
                    }
                    let index = reading.globals.len() as u32;
                    if reading.symbols.insert(variable.name, Symbol::Global(index)).is_some() {
                        return Err(fail(ParseErrorKind::Twice(variable.name.into())));
                    }
                    reading.globals.push(Global { name: variable.name.into(), bytes, initial, used: false });
                }
                ".shared" => {
                    let variable = cursor.variable()?;
                    cursor.expect(';', "a semicolon")?;
                    let symbol = match variable.count {
                        Some(_) => Symbol::Shared { bytes: variable.bytes() as u32, align: variable.align },
                        None => Symbol::DynamicShared { align: variable.align },
                    };
                    if reading.symbols.insert(variable.name, symbol).is_some() {
                        return Err(fail(ParseErrorKind::Twice(variable.name.into())));
                    }
                }
                ".entry" => {
                    let kernel = Body::read(&mut cursor, &mut reading)?;
                    if module.kernels.iter().any(|other| other.name == kernel.name) {
                        return Err(fail(ParseErrorKind::Twice(kernel.name)));
                    }
                    module.kernels.push(Arc::new(kernel));
                }
                ".func" => {
                    // Not callable here: a call is an unknown opcode.
                    loop {
                        match cursor.next() {
                            Some(Kind::Mark(';')) => break,
                            Some(Kind::Mark('{')) => {
                                cursor.skip_braces()?;
                                break;
                            }
                            Some(_) => {}
                            None => return Err(cursor.error("the end of a function")),
                        }
                    }
                }
                _ => return Err(fail(ParseErrorKind::Syntax { expected: "a directive" })),
            }
        }
        if module.target.is_empty() || module.version == (0, 0) {
            return Err(cursor.error(".version and .target"));
        }
        module.globals = reading.globals;
        Ok(module)
    }

    /// The entries in order.
    pub fn kernels(&self) -> impl Iterator<Item = &Kernel> {
        self.kernels.iter().map(|kernel| &**kernel)
    }

    /// The entry of that name.
    pub fn kernel(&self, name: &str) -> Option<&Arc<Kernel>> {
        self.kernels.iter().find(|kernel| kernel.name == name)
    }

    /// Allocates and sets the variables that instructions name.
    ///
    /// # Errors
    /// [`MemoryError::Full`] if they do not fit.
    pub fn load(self: &Arc<Self>, memory: &mut Memory) -> Result<Loaded, MemoryError> {
        let mut addresses = Vec::new();
        for global in &self.globals {
            if !global.used {
                addresses.push(0);
                continue;
            }
            let address = memory.allocate(global.bytes)?;
            memory.fill(address, &[0], global.bytes)?;
            memory.write(address, &global.initial)?;
            addresses.push(address);
        }
        Ok(Loaded { module: Arc::clone(self), addresses })
    }
}

/// A module whose variables lie in device memory.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The module.
    pub module: Arc<Module>,
    pub(crate) addresses: Vec<u64>,
}

impl Loaded {
    /// Address and bytes of a variable that instructions name.
    pub fn global(&self, name: &str) -> Option<(u64, u64)> {
        let mut found = self.module.globals.iter().zip(&self.addresses);
        found.find(|(global, _)| global.name == name && global.used).map(|(g, a)| (*a, g.bytes))
    }

    /// Frees the variables.
    ///
    /// # Errors
    /// [`MemoryError::NotAllocated`] if they were freed before.
    pub fn unload(self, memory: &mut Memory) -> Result<(), MemoryError> {
        self.addresses.iter().filter(|address| **address != 0).try_for_each(|address| memory.free(*address))
    }
}

impl<'a> Cursor<'a> {
    /// `.align 16 .b8 name[8]`, after the state space.
    pub(crate) fn variable(&mut self) -> Result<Variable<'a>, ParseError> {
        let mut align = None;
        loop {
            let word = self.word("a type")?;
            let expected = "an alignment that is a power of two up to 2^16";
            match word {
                ".align" => {
                    let value = self.number("an alignment")?;
                    if !value.is_power_of_two() || value > 1 << 16 {
                        return Err(self.error(expected));
                    }
                    align = Some(value as u32);
                }
                ".ptr" | ".global" | ".const" | ".attribute" => {}
                _ => {
                    let ty = word.strip_prefix('.').and_then(Type::from_name);
                    let ty = ty.filter(|ty| *ty != Type::Pred).ok_or_else(|| self.error("a type"))?;
                    // A pointer's attributes stand behind its type.
                    if self.take_word(".ptr") {
                        while let Some(Kind::Word(".global" | ".const" | ".shared" | ".local")) = self.peek()
                        {
                            self.next();
                        }
                        if self.take_word(".align") {
                            self.number("an alignment")?;
                        }
                    }
                    let name = self.word("a name")?;
                    let mut count = Some(1u64);
                    while self.take('[') {
                        if self.take(']') {
                            count = None;
                            continue;
                        }
                        let length = self.number("a length")?;
                        count = count.map(|count| count.saturating_mul(length));
                        self.expect(']', "a bracket")?;
                    }
                    let variable = Variable { name, ty, align: align.unwrap_or(ty.bytes()), count };
                    if variable.bytes() > VARIABLE_BYTES_MAX {
                        return Err(self.error("a variable of at most 2^30 bytes"));
                    }
                    return Ok(variable);
                }
            }
        }
    }

    fn initial(&mut self, ty: Type) -> Result<Vec<u8>, ParseError> {
        let width = ty.bytes() as usize;
        let mut bytes = Vec::new();
        let many = self.take('{');
        loop {
            let value = self.signed("a value")?;
            bytes.extend_from_slice(&value.to_le_bytes()[..width]);
            if !many || !self.take(',') {
                break;
            }
        }
        if many {
            self.expect('}', "the end of the values")?;
        }
        Ok(bytes)
    }
}
