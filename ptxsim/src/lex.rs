//! PTX text into words and marks.

use crate::error::{ParseError, ParseErrorKind};

/// One word or mark, and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    /// What it is.
    pub kind: Kind<'a>,
    /// Line, from 1.
    pub line: u32,
    /// Place in the text, in bytes.
    pub at: usize,
}

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind<'a> {
    /// An identifier, opcode, directive or register with all its dots: `ld.global.f32`, `.reg`, `%tid.x`, `$L_1`.
    Word(&'a str),
    /// What begins with a digit: `16`, `0x1F`, `0f3F800000`, `8.0`.
    Number(&'a str),
    /// What stands between quotation marks.
    Text(&'a str),
    /// Any other single character.
    Mark(char),
}

fn in_word(c: u8) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, b'_' | b'$' | b'%' | b'.')
}

/// Cuts a text into tokens; comments and space are dropped.
///
/// # Errors
/// At a comment or quotation without an end, and at a character that PTX does not know.
pub fn tokens(text: &str) -> Result<Vec<Token<'_>>, ParseError> {
    let bytes = text.as_bytes();
    let mut found = Vec::with_capacity(text.len() / 4);
    let (mut at, mut line) = (0, 1u32);
    let error = |line: u32, at: usize, what: &'static str| {
        ParseError::new(text, line, at, ParseErrorKind::Syntax { expected: what })
    };
    while at < bytes.len() {
        let start = at;
        let c = bytes[at];
        match c {
            b'\n' => {
                line += 1;
                at += 1;
            }
            _ if c.is_ascii_whitespace() => at += 1,
            b'/' if bytes.get(at + 1) == Some(&b'/') => {
                at = text[at..].find('\n').map_or(bytes.len(), |n| at + n);
            }
            b'/' if bytes.get(at + 1) == Some(&b'*') => {
                let length =
                    text[at..].find("*/").ok_or_else(|| error(line, start, "the end of a comment"))?;
                line += u32::try_from(text[at..at + length].matches('\n').count()).unwrap_or(u32::MAX);
                at += length + 2;
            }
            b'"' => {
                let length =
                    text[at + 1..].find('"').ok_or_else(|| error(line, start, "the end of a quotation"))?;
                let inner = &text[at + 1..at + 1 + length];
                found.push(Token { kind: Kind::Text(inner), line, at: start });
                line += u32::try_from(inner.matches('\n').count()).unwrap_or(u32::MAX);
                at += length + 2;
            }
            _ if in_word(c) => {
                while at < bytes.len() {
                    if in_word(bytes[at]) {
                        at += 1;
                    } else if bytes[at..].starts_with(b"::") {
                        at += 2;
                    } else {
                        break;
                    }
                }
                let word = &text[start..at];
                let kind = if c.is_ascii_digit() { Kind::Number(word) } else { Kind::Word(word) };
                found.push(Token { kind, line, at: start });
            }
            _ if c.is_ascii_punctuation() => {
                found.push(Token { kind: Kind::Mark(char::from(c)), line, at: start });
                at += 1;
            }
            _ => return Err(error(line, start, "a character of PTX")),
        }
    }
    Ok(found)
}

/// Reads a number of PTX as its 64 bits: decimal, `0x`, `0b`, octal, with `U`, or a float as `0f` and `0d`.
///
/// A float in `0f` notation gives the 32 bits of the float, one in `0d` the 64 bits of the double.
pub fn number(word: &str) -> Option<u64> {
    let digits = word.strip_suffix('U').unwrap_or(word);
    if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        return u64::from_str_radix(hex, 16).ok();
    }
    if let Some(hex) = word.strip_prefix("0f").or_else(|| word.strip_prefix("0F")) {
        return (hex.len() == 8).then(|| u64::from_str_radix(hex, 16).ok()).flatten();
    }
    if let Some(hex) = word.strip_prefix("0d").or_else(|| word.strip_prefix("0D")) {
        return (hex.len() == 16).then(|| u64::from_str_radix(hex, 16).ok()).flatten();
    }
    if let Some(bits) = digits.strip_prefix("0b").or_else(|| digits.strip_prefix("0B")) {
        return u64::from_str_radix(bits, 2).ok();
    }
    if digits.len() > 1 && digits.starts_with('0') {
        return u64::from_str_radix(digits, 8).ok();
    }
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_keep_their_dots_and_lines_are_counted() {
        let text = "ld.global.v2.u16 {%rs1, %rs2}, [%rd1+-4];\n/* a\nb */ fence.proxy.async.shared::cta; // c\n$L_1:";
        let kinds: Vec<(Kind<'_>, u32)> = tokens(text).unwrap().iter().map(|t| (t.kind, t.line)).collect();
        let word = |w| Kind::Word(w);
        let mark = Kind::Mark;
        assert_eq!(kinds[0], (word("ld.global.v2.u16"), 1));
        assert_eq!(
            kinds[1..5].iter().map(|k| k.0).collect::<Vec<_>>(),
            [mark('{'), word("%rs1"), mark(','), word("%rs2"),]
        );
        assert!(kinds.contains(&(word("fence.proxy.async.shared::cta"), 3)));
        assert_eq!(kinds[kinds.len() - 2..], [(word("$L_1"), 4), (mark(':'), 4)]);
    }

    #[test]
    fn numbers_are_read_as_ptx_writes_them() {
        for (word, value) in [
            ("16", 16),
            ("0x1F", 31),
            ("0b101", 5),
            ("017", 15),
            ("4294967295U", 0xffff_ffff),
            ("0f3F800000", 0x3f80_0000),
            ("0d3FF0000000000000", 0x3ff0_0000_0000_0000),
            ("0", 0),
        ] {
            assert_eq!(number(word), Some(value), "{word}");
        }
        for word in ["0f3F8", "0x", "12z", "08", "99999999999999999999"] {
            assert_eq!(number(word), None, "{word}");
        }
    }
}
