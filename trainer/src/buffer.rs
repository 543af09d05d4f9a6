//! Patches to learn from: bounded, the newest preferred.

use std::collections::VecDeque;

use hone_model::gather::{Draw, Patch, Turn};
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

impl Pair {
    /// What a training backend keeps of it.
    pub fn patch(&self) -> Patch<'_> {
        Patch { h: self.h, w: self.w, lr: &self.lr, hr: &self.hr, quantiser: self.quantiser }
    }
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

/// Which patches a training backend holds, oldest first.
pub struct Buffer {
    scale: usize,
    crop: usize,
    held: VecDeque<Held>,
    held_max: usize,
}

/// One of them: its slot and its LR size.
struct Held {
    slot: usize,
    h: usize,
    w: usize,
}

impl Buffer {
    pub fn new(scale: usize, crop: usize, held_max: usize) -> Self {
        Self { scale, crop, held: VecDeque::new(), held_max }
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

    /// The slot that the next patch goes to: the oldest gives way.
    pub fn next_slot(&self) -> usize {
        if self.held.len() < self.held_max { self.held.len() } else { self.held[0].slot }
    }

    /// Notes that a checked patch of `h` x `w` LR pixels now is in [`Self::next_slot`].
    pub fn add(&mut self, h: usize, w: usize) {
        let slot = self.next_slot();
        if self.held.len() == self.held_max {
            self.held.pop_front();
        }
        self.held.push_back(Held { slot, h, w });
    }

    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// `n` crops, turned and mirrored at random; the share `newest` of them from the newest quarter.
    pub fn draw(&self, n: usize, newest: f64, rng: &mut Rng) -> Vec<Draw> {
        let count = self.held.len();
        let draw = |_| {
            let index =
                if rng.unit() < newest { count - 1 - rng.below(count.div_ceil(4)) } else { rng.below(count) };
            let &Held { slot, h, w } = &self.held[index];
            let (y, x) = (rng.below(h - self.crop + 1), rng.below(w - self.crop + 1));
            Draw { slot, y, x, turn: Turn(rng.below(Turn::COUNT) as u8) }
        };
        (0..n).map(draw).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(side: usize, s: usize) -> Pair {
        let lr = vec![0.5; side * side * 3];
        let hr = vec![128; side * side * 3 * s * s];
        Pair { pts_us: 0, h: side, w: side, lr, quantiser: 30, hr, held_out: false }
    }

    #[test]
    fn draws_stay_inside_and_prefer_the_newest() {
        let mut buffer = Buffer::new(2, 8, 8);
        for side in 8..16 {
            buffer.add(side, side + 1);
        }
        let draws = buffer.draw(4000, 0.5, &mut Rng::new(1));
        let mut of_slot = [0; 8];
        for draw in &draws {
            assert!(draw.y + 8 <= 8 + draw.slot && draw.x + 8 <= 9 + draw.slot && draw.turn.0 < 8);
            of_slot[draw.slot] += 1;
        }
        // A quarter of the patches take a half of the draws and their share of the other half.
        assert!((2300..2700).contains(&(of_slot[6] + of_slot[7])), "{of_slot:?}");
        assert!(of_slot.iter().all(|&n| n > 150), "{of_slot:?}");
    }

    #[test]
    fn bounded_and_the_oldest_gives_way() {
        let mut buffer = Buffer::new(1, 4, 3);
        assert!(buffer.is_empty());
        let slots: Vec<usize> = (0..7)
            .map(|_| {
                let slot = buffer.next_slot();
                buffer.add(4, 4);
                slot
            })
            .collect();
        assert_eq!(slots, [0, 1, 2, 0, 1, 2, 0]);
        assert_eq!(buffer.held.iter().map(|held| held.slot).collect::<Vec<_>>(), [1, 2, 0]);
    }

    #[test]
    fn refuses_pairs_that_do_not_fit() {
        let buffer = Buffer::new(2, 8, 10);
        assert!(buffer.check(&pair(8, 2)).is_ok());
        assert!(buffer.check(&pair(7, 2)).is_err());
        assert!(buffer.check(&pair(8, 1)).is_err());
        assert!(buffer.check(&pair(SIDE_MAX + 1, 2)).is_err());
    }
}
