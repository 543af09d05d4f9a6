//! What a peer can make happen again and again is said seldom, or it would fill the log.

use std::time::Duration;

/// The least time between two lines of one kind about one peer.
const EVERY: Duration = Duration::from_secs(10);

/// Decides which of many like events are said: the first, then at most one in ten seconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seldom {
    said: Option<Duration>,
    unsaid: u64,
}

impl Seldom {
    /// Counts an event at `now`, from any monotonic origin. If it is to be said: how many there were since the last that
    /// was, this one included.
    pub fn say(&mut self, now: Duration) -> Option<u64> {
        self.unsaid += 1;
        if self.is_fresh(now) {
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }

    /// Whether one was said lately.
    pub(crate) fn is_fresh(&self, now: Duration) -> bool {
        self.said.is_some_and(|said| now.saturating_sub(said) < EVERY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_said_and_then_one_in_ten_seconds_with_their_number() {
        let mut seldom = Seldom::default();
        // Ten a second for 25 s, then one much later.
        let times = (0..250).map(|i| 100 * i).chain([60_000]);
        let said: Vec<_> =
            times.filter_map(|ms| Some((ms, seldom.say(Duration::from_millis(ms))?))).collect();
        assert_eq!(said, [(0, 1), (10_000, 100), (20_000, 100), (60_000, 50)]);
    }
}
