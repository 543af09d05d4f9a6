//! Patches in device memory.

use hone_model::gather::{Draw, Patch};

use crate::device::{Error, Stream};
use crate::gather::{Crop, gather_hr, gather_lr};
use crate::memory::{Buffer, CHANNEL_STEP, Shape, Tensor};

/// The pool grows by this much: a patch of 96x96 at scale 4 takes 0.5 MB.
const CHUNK_BYTES: usize = 16 << 20;
/// What the pool may take: 256 patches of 256x256 at scale 4, and as much again for those that came between.
const BYTES_MAX: usize = 2 << 30;
/// Every place is a multiple of this, so that f32 and copies are aligned and old places fit new patches.
const PLACE_STEP: usize = 4096;

/// Where bytes lie.
#[derive(Clone, Copy, Debug)]
struct Place {
    chunk: usize,
    at: usize,
    bytes: usize,
}

/// A patch that is kept.
#[derive(Clone, Copy, Debug)]
struct Kept {
    h: usize,
    w: usize,
    place: Place,
    /// Where HR begins, after LR.
    hr_at: usize,
    quantiser: u8,
}

/// Patches in slots.
pub struct Pool {
    stream: Stream,
    scale: usize,
    chunks: Vec<Buffer<u8>>,
    /// Bytes used of the last chunk.
    used: usize,
    /// Places whose patches were replaced.
    free: Vec<Place>,
    slots: Vec<Option<Kept>>,
}

impl Pool {
    /// None yet, for networks of `scale`.
    pub fn new(stream: &Stream, scale: usize) -> Self {
        Self { stream: stream.clone(), scale, chunks: vec![], used: 0, free: vec![], slots: vec![] }
    }

    /// Bytes on the device.
    pub fn bytes(&self) -> usize {
        self.chunks.iter().map(Buffer::len).sum()
    }

    /// Keeps a copy of `patch`, in place of what `slot` held.
    ///
    /// # Errors
    /// If the memory is full, or [`Error::Pool`]; the slot is then empty.
    ///
    /// # Panics
    /// If its values do not fit its size.
    pub fn keep(&mut self, slot: usize, patch: Patch<'_>) -> Result<(), Error> {
        let Patch { h, w, lr, hr, quantiser } = patch;
        let s2 = self.scale * self.scale;
        assert_eq!((lr.len(), hr.len()), (h * w * 3, h * w * 3 * s2), "a patch's values");
        if slot >= self.slots.len() {
            self.slots.resize(slot + 1, None);
        }
        if let Some(old) = self.slots[slot].take() {
            // Steps that still read it are in the stream before the copy that comes to lie there.
            self.free.push(old.place);
        }
        let hr_at = size_of_val(lr);
        let place = self.place(hr_at + hr.len())?;
        // Devices are little endian.
        let bytes: Vec<u8> = lr.iter().flat_map(|v| v.to_le_bytes()).chain(hr.iter().copied()).collect();
        self.chunks[place.chunk].write(place.at, &bytes)?;
        self.slots[slot] = Some(Kept { h, w, place, hr_at, quantiser });
        Ok(())
    }

    /// Room for `bytes`: the smallest free place, else the end of the last chunk, else a new chunk.
    fn place(&mut self, bytes: usize) -> Result<Place, Error> {
        let bytes = bytes.max(1).next_multiple_of(PLACE_STEP);
        let fitting = self.free.iter().enumerate().filter(|(_, place)| place.bytes >= bytes);
        if let Some((index, _)) = fitting.min_by_key(|(_, place)| place.bytes) {
            return Ok(self.free.swap_remove(index));
        }
        let room = self.chunks.last().map_or(0, |chunk| chunk.len() - self.used);
        if room < bytes {
            let chunk = bytes.max(CHUNK_BYTES);
            if self.bytes() + chunk > BYTES_MAX {
                return Err(Error::Pool { bytes: self.bytes() + chunk, bytes_max: BYTES_MAX });
            }
            if room > 0 {
                let chunk = self.chunks.len() - 1;
                self.free.push(Place { chunk, at: self.used, bytes: room });
            }
            self.chunks.push(Buffer::zeros(&self.stream, chunk)?);
            self.used = 0;
        }
        let place = Place { chunk: self.chunks.len() - 1, at: self.used, bytes };
        self.used += bytes;
        Ok(place)
    }

    /// A batch of crops, on its own and not as part of a step: the network's input, LR (N, crop, crop, 3) and HR
    /// (N, s·crop, s·crop, 3). `input` makes the fourth channel of a quantiser.
    ///
    /// # Errors
    /// If the memory is full.
    ///
    /// # Panics
    /// If a draw reaches beyond a kept patch, or there is none.
    pub fn batch(
        &self,
        crop: usize,
        draws: &[Draw],
        input: impl Fn(u8) -> f32,
    ) -> Result<(Tensor, Buffer<f32>, Buffer<u8>), Error> {
        let words: Vec<u64> = draws.iter().flat_map(|draw| self.crop(crop, draw, &input).words()).collect();
        let crops = Buffer::from(&self.stream, &words)?;
        let shape = Shape { n: draws.len(), h: crop, w: crop, c: CHANNEL_STEP };
        let mut input = Tensor::zeros(&self.stream, shape)?;
        let mut lr = Buffer::zeros(&self.stream, shape.pixels() * 3)?;
        let mut hr = Buffer::zeros(&self.stream, shape.pixels() * 3 * self.scale * self.scale)?;
        let crops = crops.view(0, words.len());
        // SAFETY: the draws were checked against the patches that the pool holds; a later copy over one of them is queued on
        // the same stream after this.
        unsafe {
            gather_lr(&self.stream, crops, &mut input, Some(&mut lr))?;
            gather_hr(&self.stream, crops, [draws.len(), crop, self.scale], &mut hr)?;
        }
        Ok((input, lr, hr))
    }

    /// What a draw of a square of `crop` reads; `input` makes the network's fourth channel of a quantiser.
    ///
    /// # Panics
    /// If it reaches beyond a kept patch, or there is none.
    pub(crate) fn crop(&self, crop: usize, draw: &Draw, input: impl Fn(u8) -> f32) -> Crop {
        let Draw { slot, y, x, turn } = *draw;
        let kept = self.slots.get(slot).and_then(Option::as_ref).expect("a patch in the slot that is drawn");
        let inside = |at: usize, size: usize| at <= size && crop <= size - at;
        assert!(inside(y, kept.h) && inside(x, kept.w), "a crop inside its patch");
        let lr = self.chunks[kept.place.chunk].address_at(kept.place.at);
        let hr = lr + kept.hr_at as u64;
        Crop { lr, hr, w: kept.w, y, x, turn: turn.0 % 8, quantiser: input(kept.quantiser) }
    }
}
