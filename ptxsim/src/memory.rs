//! Device memory: allocations at device addresses with gaps between them, so that an access beside one is seen.
//!
//! The words are relaxed atomics: blocks that run in parallel share them with no undefined behaviour even where the
//! kernel races, at the price of plain loads and stores.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Alignment of an allocation, the driver's.
const ALIGN: u64 = 256;

/// Unallocated bytes after each allocation: more than any stride of a kernel here, so that a wrong index is seen.
const GAP: u64 = 1 << 20;

/// First device address, in the range that drivers give out. Addresses are never given out twice.
const BASE: u64 = 0x7f00_0000_0000;

/// What fresh memory holds: NaN as f32 and as f16, and an index far outside.
const POISON: u32 = u32::MAX;

/// Device memory that cannot be had or is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// The limit of the memory.
    #[error("out of device memory: {asked} bytes asked for, {free} are free")]
    Full {
        /// Bytes asked for.
        asked: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// An address that no allocation begins with.
    #[error("no allocation begins at {0:#x}")]
    NotAllocated(u64),
    /// A range outside all allocations.
    #[error("{bytes} bytes at {address:#x} are out of bounds: {nearest}")]
    OutOfBounds {
        /// Device address.
        address: u64,
        /// Length of the range.
        bytes: u64,
        /// What is allocated nearby, in words.
        nearest: String,
    },
}

/// One allocation.
#[derive(Debug)]
pub(crate) struct Allocation {
    pub(crate) base: u64,
    pub(crate) bytes: u64,
    words: Box<[AtomicU32]>,
}

impl Allocation {
    /// Offset of `bytes` at `address`, if they lie inside.
    #[inline(always)]
    pub(crate) fn offset(&self, address: u64, bytes: u32) -> Option<usize> {
        let offset = address.wrapping_sub(self.base);
        (offset < self.bytes && u64::from(bytes) <= self.bytes - offset).then_some(offset as usize)
    }

    /// The word at `offset`, a multiple of 4.
    #[inline(always)]
    pub(crate) fn load(&self, offset: usize) -> u32 {
        self.words[offset / 4].load(Ordering::Relaxed)
    }

    /// Writes the word at `offset`, a multiple of 4.
    #[inline(always)]
    pub(crate) fn store(&self, offset: usize, value: u32) {
        self.words[offset / 4].store(value, Ordering::Relaxed);
    }

    /// Writes one or two bytes at `offset`, which must not cross a word.
    pub(crate) fn store_part(&self, offset: usize, bytes: u32, value: u32) {
        let shift = (offset % 4 * 8) as u32;
        let mask = if bytes == 1 { 0xff } else { 0xffff } << shift;
        let word = &self.words[offset / 4];
        let put = |old: u32| Some(old & !mask | value << shift & mask);
        // Always succeeds, since `put` does.
        let _ = word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, put);
    }

    fn byte(&self, offset: usize) -> u8 {
        self.load(offset & !3).to_le_bytes()[offset % 4]
    }
}

/// Device memory. Kernels write it through a shared reference; allocating and freeing needs an exclusive one.
#[derive(Debug)]
pub struct Memory {
    allocations: BTreeMap<u64, Arc<Allocation>>,
    next: u64,
    used: u64,
    total: u64,
}

impl Default for Memory {
    fn default() -> Self {
        Self::new(8 << 30)
    }
}

impl Memory {
    /// Memory of a device with `total` bytes; only what is allocated costs memory here.
    pub fn new(total: u64) -> Self {
        Self { allocations: BTreeMap::new(), next: BASE, used: 0, total }
    }

    /// Bytes of the device.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Bytes not allocated.
    pub fn free_bytes(&self) -> u64 {
        self.total - self.used
    }

    /// Allocates `bytes` and poisons them with 0xFF. The address is a multiple of 256 and was never given out before.
    ///
    /// # Errors
    /// [`MemoryError::Full`] above the total. An empty allocation has an address and no byte.
    pub fn allocate(&mut self, bytes: u64) -> Result<u64, MemoryError> {
        let full = MemoryError::Full { asked: bytes, free: self.free_bytes() };
        if bytes > self.free_bytes() {
            return Err(full);
        }
        let count = usize::try_from(bytes.div_ceil(4)).map_err(|_| full)?;
        let words = (0..count).map(|_| AtomicU32::new(POISON)).collect();
        let base = self.next;
        self.next = (base + bytes + GAP).next_multiple_of(ALIGN);
        self.used += bytes;
        self.allocations.insert(base, Arc::new(Allocation { base, bytes, words }));
        Ok(base)
    }

    /// Frees what was allocated at `address`.
    ///
    /// # Errors
    /// [`MemoryError::NotAllocated`] if no allocation begins there.
    pub fn free(&mut self, address: u64) -> Result<(), MemoryError> {
        let gone = self.allocations.remove(&address).ok_or(MemoryError::NotAllocated(address))?;
        self.used -= gone.bytes;
        Ok(())
    }

    fn range(&self, address: u64, bytes: u64) -> Result<(&Allocation, usize), MemoryError> {
        let at = self.allocations.range(..=address).next_back().map(|(_, allocation)| &**allocation);
        if let Some(allocation) = at {
            let offset = address - allocation.base;
            if offset <= allocation.bytes && bytes <= allocation.bytes - offset {
                return Ok((allocation, offset as usize));
            }
        }
        Err(MemoryError::OutOfBounds { address, bytes, nearest: self.view().nearest(address) })
    }

    /// Writes `data` at `address`.
    ///
    /// # Errors
    /// [`MemoryError::OutOfBounds`] if that is not inside one allocation.
    pub fn write(&self, address: u64, data: &[u8]) -> Result<(), MemoryError> {
        let (allocation, offset) = self.range(address, data.len() as u64)?;
        let head = data.len().min(offset.wrapping_neg() % 4);
        for (i, byte) in data[..head].iter().enumerate() {
            allocation.store_part(offset + i, 1, u32::from(*byte));
        }
        let (words, tail) = data[head..].as_chunks::<4>();
        for (i, word) in words.iter().enumerate() {
            allocation.store(offset + head + i * 4, u32::from_le_bytes(*word));
        }
        for (i, byte) in tail.iter().enumerate() {
            allocation.store_part(offset + head + words.len() * 4 + i, 1, u32::from(*byte));
        }
        Ok(())
    }

    /// Reads into `data` from `address`.
    ///
    /// # Errors
    /// [`MemoryError::OutOfBounds`] if that is not inside one allocation.
    pub fn read(&self, address: u64, data: &mut [u8]) -> Result<(), MemoryError> {
        let (allocation, offset) = self.range(address, data.len() as u64)?;
        if offset % 4 == 0 {
            let (words, tail) = data.as_chunks_mut::<4>();
            for (i, word) in words.iter_mut().enumerate() {
                *word = allocation.load(offset + i * 4).to_le_bytes();
            }
            for (i, byte) in tail.iter_mut().enumerate() {
                *byte = allocation.byte(offset + words.len() * 4 + i);
            }
        } else {
            for (i, byte) in data.iter_mut().enumerate() {
                *byte = allocation.byte(offset + i);
            }
        }
        Ok(())
    }

    /// The `bytes` at `address`.
    ///
    /// # Errors
    /// [`MemoryError::OutOfBounds`] if that is not inside one allocation.
    pub fn read_vec(&self, address: u64, bytes: u64) -> Result<Vec<u8>, MemoryError> {
        self.range(address, bytes)?;
        let mut data = vec![0; bytes as usize];
        self.read(address, &mut data)?;
        Ok(data)
    }

    /// Repeats `value` from `address` on, `count` times.
    ///
    /// # Errors
    /// [`MemoryError::OutOfBounds`] if that is not inside one allocation.
    pub fn fill(&self, address: u64, value: &[u8], count: u64) -> Result<(), MemoryError> {
        let bytes = count.saturating_mul(value.len() as u64);
        self.range(address, bytes)?;
        self.write(address, &value.repeat(count as usize))
    }

    /// Copies inside the device.
    ///
    /// # Errors
    /// [`MemoryError::OutOfBounds`] if one range is not inside one allocation.
    pub fn copy(&self, to: u64, from: u64, bytes: u64) -> Result<(), MemoryError> {
        self.write(to, &self.read_vec(from, bytes)?)
    }

    /// The allocation around `address`: where it begins, and its bytes.
    pub fn allocation(&self, address: u64) -> Option<(u64, u64)> {
        let (base, found) = self.allocations.range(..=address).next_back()?;
        (address - base < found.bytes).then_some((*base, found.bytes))
    }

    /// What a kernel sees: the allocations as they are now.
    pub(crate) fn view(&self) -> View {
        View { sorted: self.allocations.values().cloned().collect() }
    }
}

/// All allocations at the time of a launch, by address.
#[derive(Debug)]
pub(crate) struct View {
    sorted: Vec<Arc<Allocation>>,
}

impl View {
    /// The last allocation that begins at or below `address`.
    pub(crate) fn find(&self, address: u64) -> Option<&Allocation> {
        let after = self.sorted.partition_point(|allocation| allocation.base <= address);
        self.sorted[..after].last().map(|allocation| &**allocation)
    }

    /// Where `address` lies beside what is allocated, in words.
    pub(crate) fn nearest(&self, address: u64) -> String {
        let after = self.sorted.partition_point(|allocation| allocation.base <= address);
        let below =
            self.sorted[..after].last().map(|a| (address - a.base - a.bytes.min(address - a.base), a));
        let above = self.sorted.get(after).map(|a| (a.base - address, a));
        match (below, above) {
            (Some((far, a)), above) if above.is_none_or(|(other, _)| far <= other) => {
                let Allocation { base, bytes, .. } = **a;
                if address - base < bytes {
                    format!("it reaches past the end of the {bytes} bytes at {base:#x}")
                } else {
                    format!("{far} bytes past the end of the {bytes} bytes at {base:#x}")
                }
            }
            (_, Some((far, a))) => format!("{far} bytes before the {} bytes at {:#x}", a.bytes, a.base),
            _ => "nothing is allocated".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_memory_is_poison_and_bytes_come_back() {
        let mut memory = Memory::new(1 << 20);
        let a = memory.allocate(13).unwrap();
        assert_eq!(a % 256, 0);
        assert_eq!(memory.read_vec(a, 13).unwrap(), vec![0xff; 13]);
        memory.write(a + 1, &[1, 2, 3, 4, 5, 6, 7, 8, 9]).unwrap();
        assert_eq!(memory.read_vec(a, 13).unwrap(), [255, 1, 2, 3, 4, 5, 6, 7, 8, 9, 255, 255, 255]);
        memory.fill(a + 2, &[0xab, 0xcd], 2).unwrap();
        assert_eq!(memory.read_vec(a + 1, 6).unwrap(), [1, 0xab, 0xcd, 0xab, 0xcd, 6]);
    }

    #[test]
    fn what_is_outside_says_how_far() {
        let mut memory = Memory::new(1 << 20);
        let a = memory.allocate(100).unwrap();
        let b = memory.allocate(100).unwrap();
        assert!(memory.write(a + 96, &[0; 5]).unwrap_err().to_string().contains("reaches past the end"));
        assert!(memory.write(a + 104, &[0; 4]).unwrap_err().to_string().contains("4 bytes past the end"));
        assert!(memory.write(b - 8, &[0; 4]).unwrap_err().to_string().contains("8 bytes before"));
        memory.free(a).unwrap();
        assert_eq!(memory.free(a), Err(MemoryError::NotAllocated(a)));
        assert!(memory.write(a, &[0]).is_err());
        // An address is never given out again, so that a stale pointer stays one.
        assert!(memory.allocate(100).unwrap() > b);
        assert!(matches!(memory.allocate(1 << 20), Err(MemoryError::Full { .. })));
    }
}
