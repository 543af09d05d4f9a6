//! Statements of PTX: opcode, modifiers and operands as words, before anything is known of what they mean.

use crate::error::{ParseError, ParseErrorKind};
use crate::lex::{Kind, Token, number};

/// An operand as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Operand<'a> {
    /// A register, special register, symbol or label, perhaps with an offset.
    Name(&'a str, i64),
    /// `!p`
    Not(&'a str),
    /// An integer.
    Integer(i64),
    /// The bits of an f32.
    Float32(u32),
    /// The bits of an f64.
    Float64(u64),
    /// `a|b`
    Pair(&'a str, &'a str),
    /// `[name+offset]`, or `[offset]` without a name.
    Address(Option<&'a str>, i64),
    /// `{a, b}`
    Vector(Vec<Operand<'a>>),
}

/// An instruction as it is written.
#[derive(Clone, Debug)]
pub(crate) struct Statement<'a> {
    pub opcode: &'a str,
    pub modifiers: Vec<&'a str>,
    pub operands: Vec<Operand<'a>>,
    /// Predicate and whether it is negated.
    pub guard: Option<(&'a str, bool)>,
}

/// Reads tokens one after the other.
pub(crate) struct Cursor<'a> {
    pub source: &'a str,
    tokens: Vec<Token<'a>>,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(source: &'a str) -> Result<Self, ParseError> {
        Ok(Self { source, tokens: crate::lex::tokens(source)?, at: 0 })
    }

    pub(crate) fn peek(&self) -> Option<Kind<'a>> {
        self.tokens.get(self.at).map(|token| token.kind)
    }

    pub(crate) fn peek_second(&self) -> Option<Kind<'a>> {
        self.tokens.get(self.at + 1).map(|token| token.kind)
    }

    /// Line and place of the next token, or of the end.
    pub(crate) fn place(&self) -> (u32, usize) {
        match self.tokens.get(self.at).or(self.tokens.last()) {
            Some(token) => (token.line, token.at),
            None => (1, 0),
        }
    }

    pub(crate) fn next(&mut self) -> Option<Kind<'a>> {
        let kind = self.peek();
        self.at += 1;
        kind
    }

    pub(crate) fn error(&self, expected: &'static str) -> ParseError {
        let (line, at) = self.place();
        ParseError::new(self.source, line, at, ParseErrorKind::Syntax { expected })
    }

    pub(crate) fn take(&mut self, mark: char) -> bool {
        let found = self.peek() == Some(Kind::Mark(mark));
        self.at += usize::from(found);
        found
    }

    pub(crate) fn take_word(&mut self, word: &str) -> bool {
        let found = self.peek() == Some(Kind::Word(word));
        self.at += usize::from(found);
        found
    }

    pub(crate) fn expect(&mut self, mark: char, expected: &'static str) -> Result<(), ParseError> {
        if self.take(mark) { Ok(()) } else { Err(self.error(expected)) }
    }

    pub(crate) fn word(&mut self, expected: &'static str) -> Result<&'a str, ParseError> {
        match self.peek() {
            Some(Kind::Word(word)) => {
                self.at += 1;
                Ok(word)
            }
            _ => Err(self.error(expected)),
        }
    }

    /// An integer without a sign.
    pub(crate) fn number(&mut self, expected: &'static str) -> Result<u64, ParseError> {
        match self.peek() {
            Some(Kind::Number(word)) => {
                let value = number(word).ok_or_else(|| self.error(expected))?;
                self.at += 1;
                Ok(value)
            }
            _ => Err(self.error(expected)),
        }
    }

    /// An integer, perhaps negative, as its two's complement.
    pub(crate) fn signed(&mut self, expected: &'static str) -> Result<i64, ParseError> {
        let negative = self.take('-');
        let value = self.number(expected)? as i64;
        Ok(if negative { value.wrapping_neg() } else { value })
    }

    /// Skips to the next line, for directives that end there.
    pub(crate) fn skip_line(&mut self) {
        let line = self.place().0;
        while self.tokens.get(self.at).is_some_and(|token| token.line == line) {
            self.at += 1;
        }
    }

    /// Skips what stands between braces, from after the first to after the last.
    pub(crate) fn skip_braces(&mut self) -> Result<(), ParseError> {
        let mut depth = 1;
        while depth > 0 {
            match self.next() {
                Some(Kind::Mark('{')) => depth += 1,
                Some(Kind::Mark('}')) => depth -= 1,
                Some(_) => {}
                None => return Err(self.error("a closing brace")),
            }
        }
        Ok(())
    }

    fn offset(&mut self) -> Result<i64, ParseError> {
        if self.take('+') || self.peek() == Some(Kind::Mark('-')) { self.signed("an offset") } else { Ok(0) }
    }

    fn operand(&mut self) -> Result<Operand<'a>, ParseError> {
        const EXPECTED: &str = "an operand";
        match self.peek() {
            Some(Kind::Mark('!')) => {
                self.at += 1;
                Ok(Operand::Not(self.word("a predicate")?))
            }
            Some(Kind::Mark('[')) => {
                self.at += 1;
                let base = match self.peek() {
                    Some(Kind::Word(word)) => {
                        self.at += 1;
                        Some(word)
                    }
                    _ => None,
                };
                let offset = if base.is_some() { self.offset()? } else { self.signed("an address")? };
                self.expect(']', "the end of an address")?;
                Ok(Operand::Address(base, offset))
            }
            Some(Kind::Mark('{')) => {
                self.at += 1;
                let mut items = Vec::new();
                while !self.take('}') {
                    if !items.is_empty() {
                        self.expect(',', "a comma")?;
                    }
                    if self.peek() == Some(Kind::Mark('{')) {
                        return Err(self.error(EXPECTED));
                    }
                    items.push(self.operand()?);
                }
                Ok(Operand::Vector(items))
            }
            Some(Kind::Word(word)) => {
                self.at += 1;
                if self.take('|') {
                    return Ok(Operand::Pair(word, self.word("a second destination")?));
                }
                Ok(Operand::Name(word, self.offset()?))
            }
            Some(Kind::Number(word)) if word.starts_with("0f") || word.starts_with("0F") => {
                Ok(Operand::Float32(self.number("a float")? as u32))
            }
            Some(Kind::Number(word)) if word.starts_with("0d") || word.starts_with("0D") => {
                Ok(Operand::Float64(self.number("a double")?))
            }
            Some(Kind::Number(_) | Kind::Mark('-')) => Ok(Operand::Integer(self.signed("a number")?)),
            _ => Err(self.error(EXPECTED)),
        }
    }

    /// One instruction with its semicolon.
    pub(crate) fn statement(&mut self) -> Result<Statement<'a>, ParseError> {
        let mut guard = None;
        if self.take('@') {
            let negated = self.take('!');
            guard = Some((self.word("a predicate")?, negated));
        }
        let word = self.word("an instruction")?;
        let mut parts = word.split('.');
        let opcode = parts.next().unwrap_or_default();
        let modifiers = parts.collect();
        let mut operands = Vec::new();
        while !self.take(';') {
            if !operands.is_empty() {
                self.expect(',', "a comma or semicolon")?;
            }
            operands.push(self.operand()?);
        }
        Ok(Statement { opcode, modifiers, operands, guard })
    }
}
