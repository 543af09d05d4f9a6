//! The pictures' clock: which media time is seen now. There is no clock in here: every call takes the time.

use std::collections::VecDeque;

/// Pictures that count. One that is late because the device was busy says nothing of the next, and where the network
/// and what is faster take turns, sound keeps to the middle.
const PICTURES: usize = 9;

/// So many in a row that are all this much later, or sooner, than those before say that it is so from here on.
const JUMPED: usize = 3;
const JUMP_US: i64 = 80_000;

/// How media time lies to this machine's.
#[derive(Debug, Default)]
pub struct Clock {
    /// Time of showing less media time of the newest pictures.
    offsets_us: VecDeque<i64>,
    offset_us: Option<i64>,
}

impl Clock {
    /// Notes that the picture of media time `pts_us` was shown at `now_us`.
    pub fn shown(&mut self, now_us: i64, pts_us: i64) {
        self.offsets_us.push_back(now_us.saturating_sub(pts_us));
        if self.offsets_us.len() > PICTURES {
            self.offsets_us.pop_front();
        }
        if let (Some(offset_us), Some(old)) = (self.offset_us, self.offsets_us.len().checked_sub(JUMPED)) {
            let by = |off: &i64| off.saturating_sub(offset_us);
            let newest = self.offsets_us.range(old..);
            if newest.clone().all(|off| by(off) > JUMP_US) || newest.clone().all(|off| by(off) < -JUMP_US) {
                self.offsets_us.drain(..old);
            }
        }
        let mut sorted: Vec<i64> = self.offsets_us.iter().copied().collect();
        sorted.sort_unstable();
        // The mean of the middle half. Of two it is the earlier: who joins sees an old picture first, and then live.
        let middle = &sorted[(sorted.len() - 1) / 4..(sorted.len() - 1) * 3 / 4 + 1];
        let sum: i128 = middle.iter().map(|&offset_us| i128::from(offset_us)).sum();
        self.offset_us = i64::try_from(sum / middle.len() as i128).ok();
    }

    /// The media time at `now_us`; none before the first picture.
    pub fn media_us(&self, now_us: i64) -> Option<f64> {
        self.offset_us.map(|offset_us| now_us.saturating_sub(offset_us) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME_US: i64 = 40_000;

    #[test]
    fn a_late_picture_moves_nothing_and_turns_are_met_in_the_middle() {
        let mut clock = Clock::default();
        assert_eq!(clock.media_us(0), None);
        // One in nine is 200 ms late; the others are 10 and 30 ms late in turns.
        for k in 0..200 {
            let late_us = if k % 9 == 4 { 200_000 } else { 10_000 + k % 2 * 20_000 };
            clock.shown(5_000_000 + k * FRAME_US + late_us, k * FRAME_US);
            if k > 20 {
                let off_us = clock.media_us(5_020_000).unwrap();
                assert!(off_us.abs() <= 10_000.0, "picture {k}: {off_us}");
            }
        }
    }

    #[test]
    fn a_jump_is_followed_within_a_few_pictures() {
        let mut clock = Clock::default();
        // The first picture of who joins is two seconds old.
        clock.shown(10_000_000, 3_000_000);
        clock.shown(10_000_000, 5_000_000);
        assert_eq!(clock.media_us(10_000_000), Some(5_000_000.0));
        (1..20).for_each(|k| clock.shown(10_000_000 + k * FRAME_US, 5_000_000 + k * FRAME_US));
        // An hour ahead.
        let jumped = |k: i64| (11_000_000 + k * FRAME_US, 3_600_000_000 + k * FRAME_US);
        (0..3).for_each(|k| clock.shown(jumped(k).0, jumped(k).1));
        assert_eq!(clock.media_us(jumped(7).0), Some(jumped(7).1 as f64));
        for (now_us, pts_us) in [(i64::MAX, i64::MIN), (i64::MIN, i64::MAX), (0, i64::MIN)] {
            (0..20).for_each(|_| clock.shown(now_us, pts_us));
            assert!(clock.media_us(i64::MIN).unwrap().is_finite());
        }
    }
}
