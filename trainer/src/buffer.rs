//! Patches to learn from: bounded, the newest preferred.

use std::collections::VecDeque;

use hone_model::backend::Images;
use hone_model::rng::Rng;

/// Largest LR side of a patch: bounds what one patch can hold in memory (1.6 MB at scale 4).
pub const SIDE_MAX: usize = 128;

/// One training patch: what the decoder gave and what the camera saw, at the same place and time.
#[derive(Clone, Debug)]
pub struct Pair {
    /// Media time of the frame, microseconds.
    pub pts_us: i64,
    /// Rows of the LR crop.
    pub h: usize,
    /// Columns of the LR crop.
    pub w: usize,
    /// (h, w, 3) RGB from the decoder, nominally 0..=1.
    pub lr: Vec<f32>,
    /// Quantiser of the frame, 0 to 51.
    pub quantiser: u8,
    /// (s·h, s·w, 3) 8-bit RGB from the camera.
    pub hr: Vec<u8>,
    /// Kept to judge by and never trained on. Such pairs must come from random places: the gain on the worst
    /// places says little of the whole picture.
    pub held_out: bool,
}

/// Why a pair was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "training patch of {w}x{h} with {lr} LR and {hr} HR values does not fit crops of {crop} at scale {scale}"
)]
pub struct PairError {
    /// Rows of the LR crop.
    pub h: usize,
    /// Columns of the LR crop.
    pub w: usize,
    /// LR values it has.
    pub lr: usize,
    /// HR values it has.
    pub hr: usize,
    /// LR side of the crops that training takes from it.
    pub crop: usize,
    /// Scale of the network.
    pub scale: usize,
}

/// Holds pairs to learn from, oldest first.
pub struct Buffer {
    scale: usize,
    crop: usize,
    train: VecDeque<Pair>,
    train_max: usize,
}

impl Buffer {
    pub fn new(scale: usize, crop: usize, train_max: usize) -> Self {
        Self { scale, crop, train: VecDeque::new(), train_max }
    }

    /// Whether training can use it, or judge by it.
    pub fn check(&self, pair: &Pair) -> Result<(), PairError> {
        let (h, w) = (pair.h, pair.w);
        let fits = (self.crop..=SIDE_MAX).contains(&h)
            && (self.crop..=SIDE_MAX).contains(&w)
            && pair.lr.len() == h * w * 3
            && pair.hr.len() == h * w * 3 * self.scale * self.scale;
        let error =
            PairError { h, w, lr: pair.lr.len(), hr: pair.hr.len(), crop: self.crop, scale: self.scale };
        if fits { Ok(()) } else { Err(error) }
    }

    /// Adds a checked pair; the oldest gives way.
    pub fn add(&mut self, pair: Pair) {
        if self.train.len() == self.train_max {
            self.train.pop_front();
        }
        self.train.push_back(pair);
    }

    pub fn is_empty(&self) -> bool {
        self.train.is_empty()
    }

    /// A batch of `n` crops, turned and mirrored at random; the share `newest` of them from the newest quarter.
    pub fn batch(&self, n: usize, newest: f64, rng: &mut Rng) -> (Images, Images) {
        let (crop, s) = (self.crop, self.scale);
        let (mut lr, mut hr) = (Images::zeros(n, crop, crop), Images::zeros(n, crop * s, crop * s));
        let count = self.train.len();
        for i in 0..n {
            let index =
                if rng.unit() < newest { count - 1 - rng.below(count.div_ceil(4)) } else { rng.below(count) };
            let pair = &self.train[index];
            let (y, x) = (rng.below(pair.h - crop + 1), rng.below(pair.w - crop + 1));
            let turn = Turn(rng.below(8));
            lr.quantisers[i] = pair.quantiser;
            turn.copy(crop, &mut lr.rgb[i * crop * crop * 3..], |cy, cx| {
                let at = ((y + cy) * pair.w + x + cx) * 3;
                [pair.lr[at], pair.lr[at + 1], pair.lr[at + 2]]
            });
            turn.copy(crop * s, &mut hr.rgb[i * crop * crop * s * s * 3..], |cy, cx| {
                let at = ((y * s + cy) * pair.w * s + x * s + cx) * 3;
                [pair.hr[at], pair.hr[at + 1], pair.hr[at + 2]].map(|v| f32::from(v) / 255.0)
            });
        }
        (lr, hr)
    }
}

/// One of the eight symmetries of a square.
#[derive(Clone, Copy)]
struct Turn(usize);

impl Turn {
    /// Fills a square of `side` with the turned `pixel(y, x)`.
    fn copy(self, side: usize, out: &mut [f32], pixel: impl Fn(usize, usize) -> [f32; 3]) {
        for y in 0..side {
            for x in 0..side {
                let (a, b) = if self.0 & 4 == 0 { (y, x) } else { (x, y) };
                let a = if self.0 & 1 == 0 { a } else { side - 1 - a };
                let b = if self.0 & 2 == 0 { b } else { side - 1 - b };
                out[(y * side + x) * 3..][..3].copy_from_slice(&pixel(a, b));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pair in which HR is LR repeated, so that every symmetry must keep them aligned.
    fn pair(pts_us: i64, side: usize, s: usize) -> Pair {
        let value = |y: usize, x: usize| ((y * 37 + x * 11 + pts_us as usize * 3) % 251) as u8;
        let lr = (0..side * side).flat_map(|i| [f32::from(value(i / side, i % side)) / 255.0; 3]).collect();
        let hr_side = side * s;
        let hr = (0..hr_side * hr_side).flat_map(|i| [value(i / hr_side / s, i % hr_side / s); 3]).collect();
        Pair { pts_us, h: side, w: side, lr, quantiser: 30, hr, held_out: false }
    }

    #[test]
    fn crops_stay_aligned_under_every_symmetry() {
        let mut buffer = Buffer::new(2, 8, 10);
        buffer.add(pair(2, 12, 2));
        let (lr, hr) = buffer.batch(64, 0.5, &mut Rng::new(1));
        let mut distinct = std::collections::HashSet::new();
        for n in 0..64 {
            for y in 0..16 {
                for x in 0..16 {
                    let (a, b) =
                        (lr.rgb[((n * 8 + y / 2) * 8 + x / 2) * 3], hr.rgb[((n * 16 + y) * 16 + x) * 3]);
                    assert!((a - b).abs() < 1e-6);
                }
            }
            distinct.insert(lr.rgb[n * 192..n * 192 + 192].iter().map(|v| v.to_bits()).collect::<Vec<_>>());
        }
        assert!(distinct.len() > 40, "{} distinct crops of 64", distinct.len());
    }

    #[test]
    fn bounded_and_the_oldest_gives_way() {
        let mut buffer = Buffer::new(1, 4, 40);
        assert!(buffer.is_empty());
        for i in 0..200 {
            buffer.add(pair(i, 4, 1));
        }
        let kept: Vec<i64> = buffer.train.iter().map(|p| p.pts_us).collect();
        assert_eq!(kept, (160..200).collect::<Vec<_>>());
    }

    #[test]
    fn refuses_pairs_that_do_not_fit() {
        let buffer = Buffer::new(2, 8, 10);
        assert!(buffer.check(&pair(0, 8, 2)).is_ok());
        assert!(buffer.check(&pair(0, 7, 2)).is_err());
        assert!(buffer.check(&pair(0, 8, 1)).is_err());
        assert!(buffer.check(&pair(0, SIDE_MAX + 1, 2)).is_err());
    }
}
