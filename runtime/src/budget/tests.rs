//! Devices of every speed, steady and not.

use proptest::prelude::*;

use super::*;

const INTERVAL: Duration = Duration::from_millis(40);
/// 0.8 of it.
const LIMIT_MS: u64 = 32;

/// What frames of each mode take, in ms.
#[derive(Clone, Copy, Debug)]
struct Device {
    network: u64,
    reuse: u64,
}

const FAST: Device = Device { network: 10, reuse: 5 };
const SLOW: Device = Device { network: 50, reuse: 10 };
const HOPELESS: Device = Device { network: 70, reuse: 10 };

impl Device {
    fn frame(self, budget: &mut Budget) {
        let mode = budget.mode();
        let ms = match mode {
            Mode::Network => self.network,
            Mode::Reuse => self.reuse,
            Mode::Bicubic => 4,
        };
        budget.record(mode, Duration::from_millis(ms));
    }

    /// Frames in a row on one rung, at most `max`.
    fn run(self, budget: &mut Budget, max: u32) -> u32 {
        let rung = budget.rung();
        let mut frames = 0;
        while frames < max && budget.rung() == rung {
            self.frame(budget);
            frames += 1;
        }
        frames
    }

    /// The best rung on which frames take no longer than they may.
    fn affords(self) -> Rung {
        match () {
            () if self.network <= LIMIT_MS => Rung::Network,
            () if self.network + self.reuse <= 2 * LIMIT_MS => Rung::Reuse,
            () => Rung::Bicubic,
        }
    }
}

#[test]
fn a_device_that_keeps_up_stays_with_the_network() {
    let mut budget = Budget::new(INTERVAL);
    assert_eq!(FAST.run(&mut budget, 10_000), 10_000);
    // A late frame now and then is forgiven.
    for k in 0..10_000 {
        if k % 3 == 0 { SLOW } else { FAST }.frame(&mut budget);
        assert_eq!(budget.rung(), Rung::Network);
    }
}

#[test]
fn the_limit_is_a_share_of_the_interval() {
    for (network, frames) in [(LIMIT_MS, 1_000), (LIMIT_MS + 1, MISSES_MAX)] {
        let device = Device { network, reuse: 5 };
        assert_eq!(device.run(&mut Budget::new(INTERVAL), 1_000), frames, "{network} ms");
    }
}

#[test]
fn a_slow_device_shows_the_network_on_every_second_frame_and_does_not_even_try_more() {
    let mut budget = Budget::new(INTERVAL);
    assert_eq!(SLOW.run(&mut budget, 1_000), MISSES_MAX);
    for _ in 0..10_000 {
        for mode in [Mode::Network, Mode::Reuse] {
            assert_eq!((budget.rung(), budget.mode()), (Rung::Reuse, mode));
            SLOW.frame(&mut budget);
        }
    }
    // As soon as the network would keep up by itself for long enough, it is tried, and stays.
    assert_eq!(FAST.run(&mut budget, 1_000), WAIT_FRAMES);
    assert_eq!(budget.rung(), Rung::Network);
    assert_eq!(FAST.run(&mut budget, 1_000), 1_000);
    // And it is as patient as at first.
    assert_eq!(SLOW.run(&mut budget, 1_000), MISSES_MAX);
}

#[test]
fn a_hopeless_device_goes_down_at_once_and_tries_ever_more_rarely() {
    let mut budget = Budget::new(INTERVAL);
    assert_eq!(HOPELESS.run(&mut budget, 1_000), MISSES_MAX);
    let mut wait = WAIT_FRAMES;
    for _ in 0..10 {
        assert_eq!(budget.rung(), Rung::Bicubic);
        assert_eq!(HOPELESS.run(&mut budget, 100_000), wait);
        assert_eq!(budget.rung(), Rung::Reuse);
        // Two pairs.
        assert_eq!(HOPELESS.run(&mut budget, 1_000), 4);
        wait = (2 * wait).min(WAIT_FRAMES_MAX);
    }
}

#[test]
fn a_device_that_recovers_climbs_rung_by_rung() {
    let mut budget = Budget::new(INTERVAL);
    HOPELESS.run(&mut budget, 1_000);
    assert_eq!(FAST.run(&mut budget, 1_000), WAIT_FRAMES);
    assert_eq!(budget.rung(), Rung::Reuse);
    assert_eq!(FAST.run(&mut budget, 1_000), WAIT_FRAMES);
    assert_eq!(budget.rung(), Rung::Network);
    assert_eq!(FAST.run(&mut budget, 1_000), 1_000);
}

#[test]
fn a_network_that_fails_its_trial_goes_back_to_every_second_frame() {
    let mut budget = Budget::new(INTERVAL);
    SLOW.run(&mut budget, 1_000);
    // A GPU shows what its frames take only once it is full: all is well until every frame is the network's.
    let mut wait = WAIT_FRAMES;
    for _ in 0..4 {
        assert_eq!(FAST.run(&mut budget, 10_000), wait);
        assert_eq!(budget.rung(), Rung::Network);
        assert_eq!(SLOW.run(&mut budget, 1_000), TRIAL_MISSES_MAX);
        assert_eq!(budget.rung(), Rung::Reuse);
        wait *= 2;
    }
}

#[test]
fn frames_that_were_made_otherwise_do_not_count() {
    let late = Duration::from_secs(1);
    let mut budget = Budget::new(INTERVAL);
    for _ in 0..100 {
        budget.record(Mode::Bicubic, late);
        budget.record(Mode::Reuse, late);
    }
    assert_eq!(budget.rung(), Rung::Network);
    SLOW.run(&mut budget, 1_000);
    for _ in 0..100 {
        budget.record(Mode::Bicubic, late);
    }
    assert_eq!((budget.rung(), budget.mode()), (Rung::Reuse, Mode::Network));
    // With nothing to reuse, the network's frames are judged by themselves.
    for _ in 0..=MISSES_MAX {
        budget.record(Mode::Network, Duration::from_millis(50));
    }
    assert_eq!(budget.rung(), Rung::Bicubic);
}

fn device() -> impl Strategy<Value = Device> {
    (1u64..120, 1u64..40).prop_map(|(network, reuse)| Device { network, reuse })
}

proptest! {
    /// However its speed changes, a device is never sent up and down in turns: a step up goes one rung, comes after the whole
    /// wait, and what is stepped down from was late often enough.
    #[test]
    fn no_speed_makes_it_flip_flop(phases in prop::collection::vec((device(), 1u32..200), 1..60)) {
        let mut budget = Budget::new(INTERVAL);
        let (mut rung, mut since) = (Rung::Network, 0);
        for (device, frames) in phases {
            for _ in 0..frames {
                let mode = budget.mode();
                device.frame(&mut budget);
                since += 1;
                prop_assert!(budget.rung() != Rung::Reuse || mode != Mode::Reuse || budget.mode() == Mode::Network);
                if budget.rung() == rung {
                    continue;
                }
                if budget.rung() < rung {
                    prop_assert_eq!(budget.rung() as u32 + 1, rung as u32);
                    prop_assert!(since >= WAIT_FRAMES, "up after {} frames", since);
                } else {
                    prop_assert!(since >= TRIAL_MISSES_MAX, "down after {} frames", since);
                }
                (rung, since) = (budget.rung(), 0);
            }
        }
    }

    /// A device of one speed is soon on the rung that it affords, and all but always there.
    #[test]
    fn a_steady_device_ends_on_its_rung(device in device()) {
        let mut budget = Budget::new(INTERVAL);
        for _ in 0..2 * MISSES_MAX + 2 {
            device.frame(&mut budget);
        }
        prop_assert_eq!(budget.rung(), device.affords());
        let mut elsewhere = 0;
        for _ in 0..100_000 {
            device.frame(&mut budget);
            elsewhere += u32::from(budget.rung() != device.affords());
        }
        prop_assert!(elsewhere <= 100, "{} of 100,000 frames elsewhere", elsewhere);
    }
}
