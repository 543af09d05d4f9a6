//! Boxes inside a byte slice: every read is bounded by the slice, so nothing here can panic or allocate.

use super::Error;

/// A four-character box name.
pub(crate) type Name = [u8; 4];

/// A big-endian reader over the payload of the box `name`.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    name: &'static str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(name: &'static str, payload: &'a [u8]) -> Self {
        Self { name, rest: payload }
    }

    pub(crate) fn damaged(&self, problem: &'static str) -> Error {
        Error::Damaged { name: self.name, problem }
    }

    /// The bytes not read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let Some((head, rest)) = self.rest.split_at_checked(count) else {
            return Err(self.damaged("is too short"));
        };
        self.rest = rest;
        Ok(head)
    }

    pub(crate) fn skip(&mut self, count: usize) -> Result<(), Error> {
        self.bytes(count).map(|_| ())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let Some((head, rest)) = self.rest.split_first_chunk() else {
            return Err(self.damaged("is too short"));
        };
        self.rest = rest;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Error> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Error> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Error> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn i32(&mut self) -> Result<i32, Error> {
        self.array().map(i32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Error> {
        self.array().map(u64::from_be_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, Error> {
        self.array().map(i64::from_be_bytes)
    }

    pub(crate) fn name(&mut self) -> Result<Name, Error> {
        self.array()
    }

    /// `version` and `flags` of a full box.
    pub(crate) fn version_flags(&mut self) -> Result<(u8, u32), Error> {
        let word = self.u32()?;
        Ok((self.version(word), word & 0x00ff_ffff))
    }

    fn version(&self, word: u32) -> u8 {
        word.to_be_bytes()[0]
    }

    /// A 64-bit number in version 1 boxes, a 32-bit one in version 0.
    pub(crate) fn u32_or_u64(&mut self, version: u8) -> Result<u64, Error> {
        if version == 1 { self.u64() } else { self.u32().map(u64::from) }
    }

    /// An entry count followed by at least that many entries of `entry_bytes`.
    pub(crate) fn entries(&mut self, entry_bytes: usize) -> Result<usize, Error> {
        let count = self.u32()? as usize;
        if count > self.rest.len() / entry_bytes {
            return Err(self.damaged("claims more entries than it holds"));
        }
        Ok(count)
    }
}

/// Walks the boxes of a container's payload; a box that leaves the payload ends the walk with an error.
pub(crate) fn children<'a>(
    name: &'static str,
    payload: &'a [u8],
) -> impl Iterator<Item = Result<(Name, &'a [u8]), Error>> {
    let mut rest = payload;
    std::iter::from_fn(move || {
        // Some writers end a container with a 32-bit zero (QuickTime `udta`).
        if rest.len() < 8 {
            return None;
        }
        let child = split_box(name, rest);
        rest = child.as_ref().map_or(&[], |(_, _, rest)| rest);
        Some(child.map(|(name, payload, _)| (name, payload)))
    })
}

type Split<'a> = (Name, &'a [u8], &'a [u8]);

fn split_box<'a>(parent: &'static str, bytes: &'a [u8]) -> Result<Split<'a>, Error> {
    let mut reader = Reader::new(parent, bytes);
    let size = u64::from(reader.u32()?);
    let name = reader.name()?;
    let (size, header) = match size {
        0 => (bytes.len() as u64, 8),
        1 => (reader.u64()?, 16),
        size => (size, 8),
    };
    let payload_len = size.checked_sub(header).and_then(|len| usize::try_from(len).ok());
    match payload_len.and_then(|len| reader.rest().split_at_checked(len)) {
        Some((payload, rest)) => Ok((name, payload, rest)),
        None => Err(reader.damaged("holds a box that is larger than itself")),
    }
}

/// The payload of the first child called `wanted`.
pub(crate) fn find<'a>(
    name: &'static str,
    payload: &'a [u8],
    wanted: &Name,
) -> Result<Option<&'a [u8]>, Error> {
    for child in children(name, payload) {
        let (name, payload) = child?;
        if name == *wanted {
            return Ok(Some(payload));
        }
    }
    Ok(None)
}

/// The payload of the first child called `wanted`, which must be there.
pub(crate) fn need<'a>(
    name: &'static str,
    payload: &'a [u8],
    wanted: &Name,
    problem: &'static str,
) -> Result<&'a [u8], Error> {
    find(name, payload, wanted)?.ok_or(Error::Damaged { name, problem })
}
