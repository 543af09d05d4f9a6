//! When a frame is to be shown: its media time on this machine's clock, plus a delay that covers the network's jitter.
//!
//! What arrives with the least delay tells how the clocks lie to each other; what arrives later than that is jitter.
//! There is no clock in here: every call takes the time.

use std::time::Duration;

/// Least delay that is added, so that a frame is decoded before it is due.
const DELAY_MIN_US: i64 = 30_000;
/// Most delay that is added: above it, live is worth more than smooth.
const DELAY_MAX_US: i64 = 400_000;
/// How fast the delay shrinks when the network calms down, microseconds a second: unseen.
const DELAY_DECAY_US: i64 = 10_000;
/// The least delay seen over so long counts. Longer ago, the route or the sender's clock may have been another.
const WINDOW_US: i64 = 2_000_000;

/// Maps media time to the time of showing.
#[derive(Clone, Debug)]
pub struct Playout {
    /// The half of the window before `half_start_us`, and the one since: least arrival less media time.
    before_us: i64,
    since_us: i64,
    half_start_us: i64,
    delay_us: i64,
    last_us: i64,
}

impl Default for Playout {
    fn default() -> Self {
        Self {
            before_us: i64::MAX,
            since_us: i64::MAX,
            half_start_us: i64::MIN,
            delay_us: DELAY_MIN_US,
            last_us: i64::MIN,
        }
    }
}

impl Playout {
    /// Notes that the frame of media time `pts_us` arrived at `now_us`.
    pub fn arrived(&mut self, now_us: i64, pts_us: i64) {
        let transit_us = now_us.saturating_sub(pts_us);
        if now_us.saturating_sub(self.half_start_us) > WINDOW_US / 2 {
            // After a pause both halves are old.
            let pause = now_us.saturating_sub(self.half_start_us) > WINDOW_US;
            self.before_us = if pause { i64::MAX } else { self.since_us };
            (self.since_us, self.half_start_us) = (i64::MAX, now_us);
        }
        self.since_us = self.since_us.min(transit_us);
        let jitter_us = transit_us.saturating_sub(self.offset_us());
        let elapsed_us = now_us.saturating_sub(self.last_us).clamp(0, 1_000_000);
        self.last_us = now_us;
        let calmer_us = self.delay_us - DELAY_DECAY_US * elapsed_us / 1_000_000;
        self.delay_us = calmer_us.max(jitter_us).clamp(DELAY_MIN_US, DELAY_MAX_US);
    }

    /// When the frame of media time `pts_us` is to be shown: never more than [`Playout::delay`] after its arrival.
    pub fn due_us(&self, pts_us: i64) -> i64 {
        pts_us.saturating_add(self.offset_us()).saturating_add(self.delay_us)
    }

    /// What is added to the least delay of the network.
    pub fn delay(&self) -> Duration {
        Duration::from_micros(self.delay_us.unsigned_abs())
    }

    fn offset_us(&self) -> i64 {
        self.before_us.min(self.since_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME_US: i64 = 40_000;

    #[test]
    fn frames_are_shown_in_their_own_rhythm_however_they_arrive() {
        let mut playout = Playout::default();
        let mut last_due = None;
        for k in 0..500 {
            let pts_us = k * FRAME_US;
            let jitter_us = (k * 7919) % 60_000;
            playout.arrived(5_000_000 + pts_us + jitter_us, pts_us);
            let due_us = playout.due_us(pts_us);
            if k > 50 {
                let step_us = due_us - last_due.unwrap_or(due_us - FRAME_US);
                assert!((step_us - FRAME_US).abs() < 8_000, "frame {k}: {step_us} us after the last");
                assert!(due_us >= 5_000_000 + pts_us + jitter_us, "frame {k} is due before it is here");
            }
            last_due = Some(due_us);
        }
        assert!(playout.delay() < Duration::from_millis(70), "{:?}", playout.delay());
    }

    #[test]
    fn who_joins_late_is_at_the_live_edge_with_the_last_frame_of_the_burst() {
        let mut playout = Playout::default();
        // Four seconds of frames arrive within 100 ms.
        for k in 0..100 {
            playout.arrived(1_000_000 + 1_000 * k, k * FRAME_US);
        }
        let now_us = 1_100_000;
        assert!(playout.due_us(50 * FRAME_US) < now_us, "the middle of the burst is over");
        let ahead_us = playout.due_us(99 * FRAME_US) - now_us;
        assert!((0..50_000).contains(&ahead_us), "{ahead_us}");
    }

    #[test]
    fn a_longer_route_and_a_jump_in_media_time_are_followed() {
        let mut playout = Playout::default();
        let run = |playout: &mut Playout, from: i64, now_us: i64, pts_us: i64| {
            (from..from + 100).for_each(|k| {
                playout.arrived(now_us + (k - from) * FRAME_US, pts_us + (k - from) * FRAME_US);
            });
        };
        run(&mut playout, 0, 0, 0);
        // 300 ms longer from here on: in the end frames are early enough again.
        run(&mut playout, 100, 4_300_000, 4_000_000);
        let due_us = playout.due_us(8_000_000);
        assert!((8_300_000..8_700_000).contains(&due_us), "{due_us}");
        // An hour ahead, and back: due at most the greatest delay after arrival.
        run(&mut playout, 200, 9_000_000, 3_600_000_000);
        assert!(playout.due_us(3_600_000_000 + 100 * FRAME_US) - 13_000_000 <= DELAY_MAX_US);
        run(&mut playout, 300, 14_000_000, 0);
        let late_us = 18_000_000 - playout.due_us(4_000_000);
        assert!(late_us.abs() <= DELAY_MAX_US, "{late_us}");
    }

    #[test]
    fn hostile_times_never_overflow() {
        let mut playout = Playout::default();
        for pts_us in [i64::MAX, 0, i64::MIN, 1, i64::MAX, -1] {
            for now_us in [0, 1, 1 << 40] {
                playout.arrived(now_us, pts_us);
                playout.due_us(pts_us);
                assert!(playout.delay() <= Duration::from_micros(DELAY_MAX_US as u64));
            }
        }
    }
}
