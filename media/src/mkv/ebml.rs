//! Elements: an identifier, a length, and so many bytes.
//!
//! Source: RFC 8794, clauses 4 to 7.

use crate::mp4::Error;

/// The identifiers that are looked for, with their markers. Source: RFC 9559, clause 5.1.
pub(super) mod id {
    pub const EBML: u32 = 0x1a45_dfa3;
    pub const SEGMENT: u32 = 0x1853_8067;
    pub const INFO: u32 = 0x1549_a966;
    pub const TIMESTAMP_SCALE: u32 = 0x2a_d7b1;
    pub const TRACKS: u32 = 0x1654_ae6b;
    pub const TRACK_ENTRY: u32 = 0xae;
    pub const TRACK_NUMBER: u32 = 0xd7;
    pub const TRACK_TYPE: u32 = 0x83;
    pub const DEFAULT_DURATION: u32 = 0x23_e383;
    pub const CODEC_ID: u32 = 0x86;
    pub const CODEC_PRIVATE: u32 = 0x63a2;
    pub const CODEC_DELAY: u32 = 0x56aa;
    pub const CONTENT_ENCODINGS: u32 = 0x6d80;
    pub const CLUSTER: u32 = 0x1f43_b675;
    pub const TIMESTAMP: u32 = 0xe7;
    pub const SIMPLE_BLOCK: u32 = 0xa3;
    pub const BLOCK_GROUP: u32 = 0xa0;
    pub const BLOCK: u32 = 0xa1;
    pub const REFERENCE_BLOCK: u32 = 0xfb;
}

/// Where an element is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Element {
    pub id: u32,
    /// Bytes of its payload; none where the file does not say.
    pub size: Option<u64>,
    /// Where it begins, and where its payload does.
    pub at: u64,
    pub data: u64,
}

impl Element {
    /// The element whose first bytes, those from `at` on, are given; none if they end before its payload does begin.
    pub(super) fn parse(bytes: &[u8], at: u64) -> Result<Option<Self>, Error> {
        let Some(id_bytes) = bytes.first().map(|first| first.leading_zeros() as usize + 1) else {
            return Ok(None);
        };
        if id_bytes > 4 {
            return Err(Error::Damaged { name: "an element", problem: "has no identifier" });
        }
        let Some((id, rest)) = bytes.split_at_checked(id_bytes) else { return Ok(None) };
        let id = id.iter().fold(0, |id, &byte| id << 8 | u32::from(byte));
        let Some((size, size_bytes)) = vint(rest) else { return Ok(None) };
        let unknown = (1 << (7 * size_bytes)) - 1;
        let data = at.saturating_add((id_bytes + size_bytes) as u64);
        Ok(Some(Self { id, size: (size != unknown).then_some(size), at, data }))
    }
}

/// A number of variable length, and its bytes; none if it is cut, or no number.
pub(super) fn vint(bytes: &[u8]) -> Option<(u64, usize)> {
    let &first = bytes.first()?;
    let length = first.leading_zeros() as usize + 1;
    let number = bytes.get(..length).filter(|_| length <= 8)?;
    let value = number.iter().fold(0, |value, &byte| value << 8 | u64::from(byte));
    Some((value & ((1 << (7 * length)) - 1), length))
}

/// An unsigned integer, of no byte or up to eight.
pub(super) fn unsigned(payload: &[u8]) -> Result<u64, Error> {
    if payload.len() > 8 {
        return Err(Error::Damaged { name: "an integer", problem: "is too long" });
    }
    Ok(payload.iter().fold(0, |value, &byte| value << 8 | u64::from(byte)))
}

/// The elements of a payload that is all there.
pub(super) fn children(payload: &[u8]) -> impl Iterator<Item = Result<(u32, &[u8]), Error>> {
    let mut rest = payload;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let cut = || Error::Damaged { name: "an element", problem: "leaves the one around it" };
        let child = Element::parse(rest, 0).and_then(|element| {
            let Element { id, size, data, .. } = element.ok_or_else(cut)?;
            let inside = rest.get(usize::try_from(data).map_err(|_| cut())?..).ok_or_else(cut)?;
            let size = usize::try_from(size.ok_or_else(cut)?).map_err(|_| cut())?;
            let (child, after) = inside.split_at_checked(size).ok_or_else(cut)?;
            rest = after;
            Ok((id, child))
        });
        if child.is_err() {
            rest = &[];
        }
        Some(child)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_length_that_their_first_byte_says() {
        assert_eq!(vint(&[0x81, 9]), Some((1, 1)));
        assert_eq!(vint(&[0x40, 0x02]), Some((2, 2)));
        assert_eq!(vint(&[0x01, 0, 0, 0, 0, 0, 1, 0]), Some((256, 8)));
        for bad in [&[][..], &[0x40], &[0, 0, 0, 0, 0, 0, 0, 0, 1]] {
            assert_eq!(vint(bad), None, "{bad:?}");
        }
        assert_eq!(unsigned(&[]).unwrap(), 0);
        assert_eq!(unsigned(&[1, 0]).unwrap(), 256);
        assert!(unsigned(&[0; 9]).is_err());
    }

    #[test]
    fn elements_are_found_and_lies_are_errors() {
        let element = Element::parse(&[0x1a, 0x45, 0xdf, 0xa3, 0x84, 1], 10).unwrap().unwrap();
        assert_eq!(element, Element { id: id::EBML, size: Some(4), at: 10, data: 15 });
        // A length of ones is none.
        assert_eq!(Element::parse(&[0xa3, 0xff], 0).unwrap().unwrap().size, None);
        let live = [0x1f, 0x43, 0xb6, 0x75, 0x01, 255, 255, 255, 255, 255, 255, 255];
        assert_eq!(Element::parse(&live, 0).unwrap().unwrap().size, None);
        assert_eq!(Element::parse(&[0x1a, 0x45], 0).unwrap(), None);
        assert!(Element::parse(&[0x01, 0x45, 0, 0, 0, 0], 0).is_err());

        let good = [0xd7, 0x81, 7, 0xec, 0x80, 0x83, 0x81, 1];
        let found: Vec<_> = children(&good).map(Result::unwrap).collect();
        assert_eq!(found, [(id::TRACK_NUMBER, &[7][..]), (0xec, &[]), (id::TRACK_TYPE, &[1])]);
        for bad in [
            &[0xd7, 0x82, 7][..],
            &[0xd7],
            &[0xd7, 0xff, 7],
            &[0xd7, 0x01, 255, 255, 255, 255, 255, 255, 254],
        ] {
            assert!(children(bad).any(|child| child.is_err()), "{bad:?}");
        }
    }
}
