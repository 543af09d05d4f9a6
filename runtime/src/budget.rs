//! How much a frame may cost: the network while it keeps up, bicubic while it does not.

use std::time::Duration;

use crate::Mode;

/// Share of the frame interval that upscaling may take; the rest is for decoding and showing.
const SHARE: f64 = 0.8;
/// Late frames, less those in time since, that make the network step down.
const MISSES_MAX: u32 = 8;
/// Late frames that end a probe: enough to forgive one hiccup.
const PROBE_MISSES_MAX: u32 = 2;
/// Frames in a row that a probe must keep up before it counts as settled.
const PROBE_FRAMES: u32 = 60;
/// Bicubic frames before the first probe: some seconds.
const WAIT_FRAMES: u32 = 120;
/// Longest wait between probes, in frames: each failed probe doubles the wait up to this, some minutes.
const WAIT_FRAMES_MAX: u32 = 7_680;

/// Decides each frame's [`Mode`] from what the frames before took. Has no clock of its own.
#[derive(Clone, Debug)]
pub struct Budget {
    limit: Duration,
    state: State,
    /// Bicubic frames until the next probe, should the network step down.
    wait: u32,
}

#[derive(Clone, Debug)]
enum State {
    Settled { misses: u32 },
    Probing { misses: u32, frames: u32 },
    Floor { left: u32 },
}

impl Budget {
    /// A budget that starts with the network. `interval` is the time from frame to frame.
    pub fn new(interval: Duration) -> Self {
        Self { limit: interval.mul_f64(SHARE), state: State::Settled { misses: 0 }, wait: WAIT_FRAMES }
    }

    /// Takes a new frame rate; what has been learned of the old one is forgotten.
    pub fn set_interval(&mut self, interval: Duration) {
        *self = Self::new(interval);
    }

    /// How the next frame is to be upscaled.
    pub fn mode(&self) -> Mode {
        match self.state {
            State::Settled { .. } | State::Probing { .. } => Mode::Network,
            State::Floor { .. } => Mode::Bicubic,
        }
    }

    /// Notes what the frame that [`Budget::mode`] was asked for took.
    pub fn record(&mut self, took: Duration) {
        let late = took > self.limit;
        self.state = match self.state {
            State::Settled { misses } => {
                let misses = if late { misses + 1 } else { misses.saturating_sub(1) };
                if misses < MISSES_MAX { State::Settled { misses } } else { State::Floor { left: self.wait } }
            }
            State::Floor { left } if left > 1 => State::Floor { left: left - 1 },
            State::Floor { .. } => State::Probing { misses: 0, frames: 0 },
            State::Probing { misses, frames } => {
                let (misses, frames) = (misses + u32::from(late), frames + 1);
                if misses >= PROBE_MISSES_MAX {
                    self.wait = (2 * self.wait).min(WAIT_FRAMES_MAX);
                    State::Floor { left: self.wait }
                } else if frames >= PROBE_FRAMES {
                    self.wait = WAIT_FRAMES;
                    State::Settled { misses: 0 }
                } else {
                    State::Probing { misses, frames }
                }
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(40);
    const FAST: Duration = Duration::from_millis(10);
    const SLOW: Duration = Duration::from_millis(60);

    /// Frames in a row of one mode while each network frame takes `network`; at most `max`.
    fn run(budget: &mut Budget, network: Duration, max: u32) -> u32 {
        let mode = budget.mode();
        let took = if mode == Mode::Network { network } else { FAST };
        let mut frames = 0;
        while frames < max && budget.mode() == mode {
            budget.record(took);
            frames += 1;
        }
        frames
    }

    #[test]
    fn a_device_that_keeps_up_stays_with_the_network() {
        let mut budget = Budget::new(INTERVAL);
        assert_eq!(run(&mut budget, FAST, 10_000), 10_000);
        // A late frame now and then is forgiven.
        for k in 0..10_000 {
            budget.record(if k % 3 == 0 { SLOW } else { FAST });
            assert_eq!(budget.mode(), Mode::Network);
        }
    }

    #[test]
    fn the_limit_is_a_share_of_the_interval() {
        for (took, frames) in [(32, 1_000), (33, MISSES_MAX)] {
            assert_eq!(
                run(&mut Budget::new(INTERVAL), Duration::from_millis(took), 1_000),
                frames,
                "{took} ms"
            );
        }
    }

    #[test]
    fn a_slow_device_steps_down_and_probes_ever_more_rarely() {
        let mut budget = Budget::new(INTERVAL);
        assert_eq!(run(&mut budget, SLOW, 1_000), MISSES_MAX);
        let mut wait = WAIT_FRAMES;
        for _ in 0..10 {
            assert_eq!(budget.mode(), Mode::Bicubic);
            assert_eq!(run(&mut budget, SLOW, 100_000), wait);
            assert_eq!(run(&mut budget, SLOW, 1_000), PROBE_MISSES_MAX);
            wait = (2 * wait).min(WAIT_FRAMES_MAX);
        }
    }

    #[test]
    fn a_device_that_recovers_gets_the_network_back() {
        let mut budget = Budget::new(INTERVAL);
        run(&mut budget, SLOW, 1_000);
        assert_eq!(run(&mut budget, FAST, 1_000), WAIT_FRAMES);
        assert_eq!(run(&mut budget, FAST, 1_000), 1_000);
        // and it is as patient as at first
        assert_eq!(run(&mut budget, SLOW, 1_000), MISSES_MAX);
        assert_eq!(run(&mut budget, SLOW, 1_000), WAIT_FRAMES);
    }

    #[test]
    fn a_new_interval_starts_over() {
        let mut budget = Budget::new(INTERVAL);
        run(&mut budget, SLOW, 1_000);
        budget.set_interval(2 * INTERVAL);
        assert_eq!(run(&mut budget, SLOW, 1_000), 1_000);
    }
}
