//! How long to wait before the next attempt to connect.

use std::time::Duration;

/// The first pause at most.
const FIRST: Duration = Duration::from_millis(500);
/// Any pause at most.
const LONGEST: Duration = Duration::from_secs(30);

/// Pauses that double, each shortened by up to a half at random.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
    /// Of xorshift64, never zero.
    state: u64,
}

impl Backoff {
    pub(super) fn new(seed: u64) -> Self {
        Self { next: FIRST, state: seed | 1 }
    }

    /// The pause before the next attempt. `played` is how long the connection before it gave pictures: one that lasted
    /// longer than the pauses had grown to begins them anew.
    pub(super) fn pause(&mut self, played: Duration) -> Duration {
        if played > self.next {
            self.next = FIRST;
        }
        let longest = self.next;
        self.next = (longest * 2).min(LONGEST);
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        #[expect(clippy::cast_precision_loss, reason = "24 bits fit")]
        let shortened = 0.5 * (self.state >> 40) as f64 / (1_u64 << 24) as f64;
        longest.mul_f64(1.0 - shortened)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_half_a_minute_and_begin_anew_after_success() {
        let mut backoff = Backoff::new(7);
        let mut longest = FIRST;
        for _ in 0..12 {
            let pause = backoff.pause(Duration::ZERO);
            assert!(pause <= longest && pause >= longest / 2, "{pause:?} of {longest:?}");
            longest = (longest * 2).min(LONGEST);
        }
        assert_eq!(longest, LONGEST);
        assert!(backoff.pause(Duration::from_secs(20)) >= LONGEST / 2, "too short a success");
        assert!(backoff.pause(Duration::from_secs(31)) <= FIRST);
    }

    #[test]
    fn two_seeds_wait_differently() {
        let pauses = |seed| -> Vec<Duration> {
            let mut backoff = Backoff::new(seed);
            (0..5).map(|_| backoff.pause(Duration::ZERO)).collect()
        };
        assert_eq!(pauses(2), pauses(2));
        assert_ne!(pauses(2), pauses(4));
    }
}
