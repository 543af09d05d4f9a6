//! Patches to learn from, and the batches that are drawn from them.
//!
//! Plain movement of numbers, the same on every device: this is what they answer to.

use crate::backend::Images;

/// A training patch: what the decoder gave and what the camera saw, at the same place and time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Patch<'a> {
    /// Rows of the LR crop.
    pub h: usize,
    /// Columns of the LR crop.
    pub w: usize,
    /// (h, w, 3) RGB from the decoder, nominally 0..=1.
    pub lr: &'a [f32],
    /// (s·h, s·w, 3) 8-bit RGB from the camera.
    pub hr: &'a [u8],
    /// Quantiser of the frame, 0 to 51.
    pub quantiser: u8,
}

/// One of the eight symmetries of a square: bits 0 and 1 mirror rows and columns of the source, bit 2 swaps rows with
/// columns of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn(pub u8);

impl Turn {
    /// How many there are.
    pub const COUNT: usize = 8;

    /// Where pixel (y, x) of a turned square of `side` comes from.
    pub fn source(self, side: usize, y: usize, x: usize) -> (usize, usize) {
        let (a, b) = if self.0 & 4 == 0 { (y, x) } else { (x, y) };
        let a = if self.0 & 1 == 0 { a } else { side - 1 - a };
        let b = if self.0 & 2 == 0 { b } else { side - 1 - b };
        (a, b)
    }
}

/// A square crop of a kept patch, turned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// Which patch.
    pub slot: usize,
    /// First LR row.
    pub y: usize,
    /// First LR column.
    pub x: usize,
    /// How it is turned.
    pub turn: Turn,
}

/// Patches in slots, in the memory of the host.
#[derive(Clone, Debug)]
pub struct Patches {
    scale: usize,
    slots: Vec<Option<Kept>>,
}

#[derive(Clone, Debug)]
struct Kept {
    h: usize,
    w: usize,
    lr: Vec<f32>,
    hr: Vec<u8>,
    quantiser: u8,
}

impl Patches {
    /// None yet, for networks of `scale`.
    pub fn new(scale: usize) -> Self {
        Self { scale, slots: vec![] }
    }

    /// Keeps a copy of `patch`, in place of what `slot` held.
    ///
    /// # Panics
    /// If its values do not fit its size.
    pub fn keep(&mut self, slot: usize, patch: Patch<'_>) {
        let Patch { h, w, lr, hr, quantiser } = patch;
        assert_eq!(
            (lr.len(), hr.len()),
            (h * w * 3, h * w * 3 * self.scale * self.scale),
            "a patch's values"
        );
        if slot >= self.slots.len() {
            self.slots.resize_with(slot + 1, || None);
        }
        self.slots[slot] = Some(Kept { h, w, lr: lr.into(), hr: hr.into(), quantiser });
    }

    /// Crops of `crop` x `crop` LR pixels and their HR.
    ///
    /// # Panics
    /// If a draw reaches beyond a kept patch, or there is none.
    pub fn batch(&self, crop: usize, draws: &[Draw]) -> (Images, Images) {
        let s = self.scale;
        let (mut lr, mut hr) =
            (Images::zeros(draws.len(), crop, crop), Images::zeros(draws.len(), crop * s, crop * s));
        for (i, &Draw { slot, y, x, turn }) in draws.iter().enumerate() {
            let kept =
                self.slots.get(slot).and_then(Option::as_ref).expect("a patch in the slot that is drawn");
            assert!(y + crop <= kept.h && x + crop <= kept.w, "a crop inside its patch");
            lr.quantisers[i] = kept.quantiser;
            copy(turn, crop, &mut lr.rgb[i * crop * crop * 3..], |cy, cx| {
                let at = ((y + cy) * kept.w + x + cx) * 3;
                [kept.lr[at], kept.lr[at + 1], kept.lr[at + 2]]
            });
            copy(turn, crop * s, &mut hr.rgb[i * crop * crop * s * s * 3..], |cy, cx| {
                let at = ((y * s + cy) * kept.w * s + x * s + cx) * 3;
                [kept.hr[at], kept.hr[at + 1], kept.hr[at + 2]].map(|v| f32::from(v) / 255.0)
            });
        }
        (lr, hr)
    }
}

/// Fills a square of `side` with the turned `pixel(y, x)`.
fn copy(turn: Turn, side: usize, out: &mut [f32], pixel: impl Fn(usize, usize) -> [f32; 3]) {
    for y in 0..side {
        for x in 0..side {
            let (a, b) = turn.source(side, y, x);
            out[(y * side + x) * 3..][..3].copy_from_slice(&pixel(a, b));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crops_stay_aligned_under_every_symmetry() {
        // HR is LR repeated, so that every symmetry must keep them aligned.
        let (side, s) = (12, 2);
        let value = |y: usize, x: usize| ((y * 37 + x * 11) % 251) as u8;
        let lr: Vec<f32> =
            (0..side * side).flat_map(|i| [f32::from(value(i / side, i % side)) / 255.0; 3]).collect();
        let wide = side * s;
        let hr: Vec<u8> = (0..wide * wide).flat_map(|i| [value(i / wide / s, i % wide / s); 3]).collect();
        let mut patches = Patches::new(s);
        patches.keep(1, Patch { h: side, w: side, lr: &lr, hr: &hr, quantiser: 30 });
        let draws: Vec<Draw> =
            (0..Turn::COUNT as u8).map(|turn| Draw { slot: 1, y: 1, x: 3, turn: Turn(turn) }).collect();
        let (lr, hr) = patches.batch(8, &draws);
        assert_eq!(lr.quantisers, [30; Turn::COUNT]);
        let mut distinct = std::collections::HashSet::new();
        for n in 0..Turn::COUNT {
            for y in 0..16 {
                for x in 0..16 {
                    let a = lr.rgb[((n * 8 + y / 2) * 8 + x / 2) * 3];
                    let b = hr.rgb[((n * 16 + y) * 16 + x) * 3];
                    assert!((a - b).abs() < 1e-6, "turn {n} at {y}, {x}");
                }
            }
            distinct.insert(lr.rgb[n * 192..][..192].iter().map(|v| v.to_bits()).collect::<Vec<_>>());
        }
        assert_eq!(distinct.len(), Turn::COUNT);
        // Turned by nothing it is the crop itself.
        assert_eq!(lr.rgb[3], f32::from(value(1, 4)) / 255.0);
    }

    #[test]
    #[should_panic(expected = "a crop inside its patch")]
    fn a_crop_beyond_its_patch_is_a_mistake() {
        let mut patches = Patches::new(1);
        patches.keep(0, Patch { h: 4, w: 4, lr: &[0.5; 48], hr: &[7; 48], quantiser: 30 });
        patches.batch(4, &[Draw { slot: 0, y: 1, x: 0, turn: Turn(0) }]);
    }
}
