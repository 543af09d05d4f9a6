//! Blocks: the frames of one track that begin at one time.
//!
//! Source: RFC 9559, clauses 10.1 to 10.3.

use super::ebml;
use crate::mp4::Error;

/// How the lengths of several frames are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lacing {
    /// There is one frame.
    None,
    Xiph,
    Fixed,
    Ebml,
}

/// The head of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    pub track: u64,
    /// Time since the cluster's, in ticks.
    pub ticks: i16,
    /// Of a simple block; any other says it elsewhere.
    pub keyframe: bool,
    pub lacing: Lacing,
    /// Its own bytes; the first frame's come then.
    pub bytes: usize,
}

/// The frames of a block.
pub(super) struct Frames {
    /// Where the first one lies.
    pub offset: u64,
    pub lengths: Vec<u64>,
    pub time_us: i64,
    pub sync: bool,
}

fn damaged(problem: &'static str) -> Error {
    Error::Damaged { name: "Block", problem }
}

impl Block {
    /// From the first bytes of its payload.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let short = || damaged("is too short");
        let (track, length) = ebml::vint(bytes).ok_or_else(short)?;
        let [high, low, flags] = bytes[length..].first_chunk().copied().ok_or_else(short)?;
        let lacing = match flags & 6 {
            0 => Lacing::None,
            2 => Lacing::Xiph,
            4 => Lacing::Fixed,
            _ => Lacing::Ebml,
        };
        let ticks = i16::from_be_bytes([high, low]);
        Ok(Self { track, ticks, keyframe: flags & 0x80 != 0, lacing, bytes: length + 3 })
    }

    /// Lengths of the frames of a block of `size` bytes, whose first bytes are given; then its head is counted with them.
    pub(super) fn lengths(&mut self, bytes: &[u8], size: u64) -> Result<Vec<u64>, Error> {
        let short = || damaged("says less of its frames than it holds");
        let (&count, mut rest) = bytes.get(self.bytes..).and_then(<[u8]>::split_first).ok_or_else(short)?;
        let others = usize::from(count);
        let mut lengths: Vec<u64> = Vec::with_capacity(others + 1);
        // The last frame has what is left.
        for index in 0..others {
            let length = match self.lacing {
                Lacing::Xiph => {
                    let full = rest.iter().take_while(|&&byte| byte == 255).count();
                    let (digits, after) = rest.split_at_checked(full + 1).ok_or_else(short)?;
                    rest = after;
                    digits.iter().map(|&byte| u64::from(byte)).sum()
                }
                Lacing::Ebml => {
                    let (value, length) = ebml::vint(rest).ok_or_else(short)?;
                    rest = &rest[length..];
                    // From the second one on, a difference: half of the range is negative.
                    let bias = (1_u64 << (7 * length - 1)) - 1;
                    match index.checked_sub(1).map(|before| lengths[before]) {
                        None => value,
                        Some(before) => before.wrapping_add(value).wrapping_sub(bias),
                    }
                }
                Lacing::Fixed | Lacing::None => break,
            };
            // What is longer than all of it is less than nothing, or a lie.
            if length > size {
                return Err(damaged("holds frames that are longer than itself"));
            }
            lengths.push(length);
        }
        self.bytes = bytes.len() - rest.len();
        let all = size.checked_sub(self.bytes as u64).ok_or_else(short)?;
        if self.lacing == Lacing::Fixed {
            let length = all / (others as u64 + 1);
            return Ok(vec![length; others + 1]);
        }
        let sum = lengths.iter().fold(0_u64, |sum, &length| sum.saturating_add(length));
        lengths
            .push(all.checked_sub(sum).ok_or_else(|| damaged("holds frames that are longer than itself"))?);
        Ok(lengths)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(flags: u8, lace: &[u8], size: u64) -> Result<(Vec<u64>, usize), Error> {
        let bytes = [&[0x81, 0, 0, flags], lace].concat();
        let mut block = Block::parse(&bytes)?;
        Ok((block.lengths(&bytes, size)?, block.bytes))
    }

    #[test]
    fn heads_and_laces_are_those_of_the_standard() {
        let block = Block::parse(&[0x40, 0x81, 0xff, 0xfe, 0x80, 9]).unwrap();
        let expected = Block { track: 129, ticks: -2, keyframe: true, lacing: Lacing::None, bytes: 5 };
        assert_eq!(block, expected);
        // The examples of clause 10.3: frames of 800, 500 and 1000 bytes.
        let xiph = lengths(2, &[2, 255, 255, 255, 35, 255, 245], 4 + 7 + 2300).unwrap();
        assert_eq!(xiph, (vec![800, 500, 1000], 11));
        let ebml = lengths(6, &[2, 0x43, 0x20, 0x5e, 0xd3], 4 + 5 + 2300).unwrap();
        assert_eq!(ebml, (vec![800, 500, 1000], 9));
        assert_eq!(lengths(4, &[2], 5 + 2400).unwrap(), (vec![800, 800, 800], 5));
    }

    #[test]
    fn laces_that_lie_are_errors() {
        for (flags, lace, size) in [
            (2, &[2, 255][..], 5000),
            (2, &[1, 200], 100),
            (2, &[3, 90, 90], 100),
            (6, &[1, 0], 5000),
            (6, &[2, 0x81, 0x80], 5000),
            (6, &[1, 0x01, 255, 255, 255, 255, 255, 255, 254], 5000),
            (4, &[], 5000),
            (4, &[9], 3),
        ] {
            assert!(lengths(flags, lace, size).is_err(), "{flags} {lace:?}");
        }
        for short in [&[][..], &[0x81], &[0x81, 0, 0], &[0, 0, 0, 0]] {
            assert!(Block::parse(short).is_err(), "{short:?}");
        }
    }
}
