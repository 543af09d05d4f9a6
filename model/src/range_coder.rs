//! Adaptive binary range coder.
//!
//! Source: Martin 1979, "Range encoding"; the carry handling and the shift-register probabilities are those
//! of LZMA's published specification.

/// Bits of probability.
const PROB_BITS: u32 = 12;
/// How fast a probability follows what it sees: 1/2^4 of the way at each bit. Updates are short, so it is fast.
const ADAPT_SHIFT: u32 = 4;
const RENORMALISE_BELOW: u32 = 1 << 24;

/// Probability that the next bit is 0, learned from the bits before.
#[derive(Clone, Copy)]
pub struct Bit(u16);

impl Bit {
    pub const EVEN: Bit = Bit(1 << (PROB_BITS - 1));

    fn split(self, range: u32) -> u32 {
        (range >> PROB_BITS) * u32::from(self.0)
    }

    fn learn(&mut self, bit: bool) {
        if bit {
            self.0 -= self.0 >> ADAPT_SHIFT;
        } else {
            self.0 += ((1 << PROB_BITS) - self.0) >> ADAPT_SHIFT;
        }
    }
}

pub struct Encoder {
    low: u64,
    range: u32,
    /// The last byte settled but for a carry, then `pending` bytes of 0xff.
    cache: u8,
    pending: u64,
    first: bool,
    out: Vec<u8>,
}

impl Encoder {
    pub fn new() -> Self {
        Self { low: 0, range: u32::MAX, cache: 0, pending: 0, first: true, out: Vec::new() }
    }

    pub fn encode(&mut self, model: &mut Bit, bit: bool) {
        let split = model.split(self.range);
        self.narrow(split, bit);
        model.learn(bit);
    }

    /// A bit about which nothing is known.
    pub fn encode_even(&mut self, bit: bool) {
        self.narrow(self.range >> 1, bit);
    }

    fn narrow(&mut self, split: u32, bit: bool) {
        if bit {
            self.low += u64::from(split);
            self.range -= split;
        } else {
            self.range = split;
        }
        while self.range < RENORMALISE_BELOW {
            self.range <<= 8;
            self.shift_low();
        }
    }

    fn shift_low(&mut self) {
        let carry = (self.low >> 32) as u8;
        if carry != 0 || self.low < 0xff00_0000 {
            if !self.first {
                self.out.push(self.cache.wrapping_add(carry));
            }
            self.first = false;
            for _ in 0..std::mem::take(&mut self.pending) {
                self.out.push(0xffu8.wrapping_add(carry));
            }
            self.cache = (self.low >> 24) as u8;
        } else {
            self.pending += 1;
        }
        self.low = (self.low << 8) & 0xffff_ffff;
    }

    pub fn finish(mut self) -> Vec<u8> {
        for _ in 0..5 {
            self.shift_low();
        }
        // The decoder reads zeros past the end.
        while self.out.last() == Some(&0) {
            self.out.pop();
        }
        self.out
    }
}

pub struct Decoder<'a> {
    code: u32,
    range: u32,
    bytes: std::slice::Iter<'a, u8>,
    /// Bytes asked for after the end.
    overrun: usize,
}

impl<'a> Decoder<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        let mut decoder = Self { code: 0, range: u32::MAX, bytes: bytes.iter(), overrun: 0 };
        for _ in 0..4 {
            decoder.shift();
        }
        decoder
    }

    fn shift(&mut self) {
        let byte = self.bytes.next().copied().unwrap_or_else(|| {
            self.overrun += 1;
            0
        });
        self.code = (self.code << 8) | u32::from(byte);
    }

    pub fn decode(&mut self, model: &mut Bit) -> bool {
        let bit = self.narrow(model.split(self.range));
        model.learn(bit);
        bit
    }

    pub fn decode_even(&mut self) -> bool {
        self.narrow(self.range >> 1)
    }

    fn narrow(&mut self, split: u32) -> bool {
        let bit = self.code >= split;
        if bit {
            self.code -= split;
            self.range -= split;
        } else {
            self.range = split;
        }
        while self.range < RENORMALISE_BELOW {
            self.range <<= 8;
            self.shift();
        }
        bit
    }

    /// Whether bytes are left that no bit needed.
    pub fn has_rest(&self) -> bool {
        self.bytes.len() > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn skewed_bits_round_trip_and_shrink() {
        let mut rng = Rng::new(7);
        // One in fifty set: 0.14 bit each by Shannon.
        let bits: Vec<bool> = (0..50_000).map(|_| rng.below(50) == 0).collect();
        let mut encoder = Encoder::new();
        let mut model = Bit::EVEN;
        for &bit in &bits {
            encoder.encode(&mut model, bit);
            encoder.encode_even(bit);
        }
        let bytes = encoder.finish();
        assert!(bytes.len() * 8 < 50_000 + 10_500, "{} bytes", bytes.len());
        let mut decoder = Decoder::new(&bytes);
        let mut model = Bit::EVEN;
        for &bit in &bits {
            assert_eq!(decoder.decode(&mut model), bit);
            assert_eq!(decoder.decode_even(), bit);
        }
        assert!(!decoder.has_rest());
    }

    #[test]
    fn carries_travel_through_runs_of_ff() {
        for seed in 0..200 {
            let mut rng = Rng::new(seed);
            let bits: Vec<bool> = (0..400).map(|_| rng.below(1000) != 0).collect();
            let mut encoder = Encoder::new();
            let mut model = Bit::EVEN;
            bits.iter().for_each(|&bit| encoder.encode(&mut model, bit));
            let bytes = encoder.finish();
            let mut decoder = Decoder::new(&bytes);
            let mut model = Bit::EVEN;
            assert!(bits.iter().all(|&bit| decoder.decode(&mut model) == bit), "seed {seed}");
        }
    }
}
