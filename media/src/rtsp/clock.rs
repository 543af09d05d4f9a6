//! A camera's two clocks: the one that its pictures carry, and the time of day that it reports for it.

/// Microseconds between the epochs of NTP (1900) and Unix (1970).
const UNIX_EPOCH_NTP_US: i64 = 2_208_988_800_000_000;

/// The times of one connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    /// Ticks a second.
    rate: u32,
    /// Ticks of the first picture.
    first: i64,
    /// Media time of the first picture, in microseconds.
    start_us: i64,
    zero_unix_us: Option<i64>,
}

impl Clock {
    /// Begins with the first picture of a connection, at `ticks`, which has media time `start_us`.
    pub(super) fn new(rate: u32, ticks: i64, start_us: i64) -> Self {
        Self { rate: rate.max(1), first: ticks, start_us, zero_unix_us: None }
    }

    /// Media time of the first picture, in microseconds.
    pub(super) fn start_us(&self) -> i64 {
        self.start_us
    }

    /// Media time of a picture, in microseconds.
    pub(super) fn pts_us(&self, ticks: i64) -> i64 {
        let since = i128::from(ticks) - i128::from(self.first);
        let us = (since * 1_000_000 + i128::from(self.rate / 2)).div_euclid(i128::from(self.rate));
        i64::try_from(us).unwrap_or(i64::MAX / 2).saturating_add(self.start_us)
    }

    /// Takes a sender report: at `ticks` it was `ntp`, in units of 2^-32 s since 1900. The newest one counts, so that
    /// clocks that drift against each other stay together. Zero means that the camera knows no time (RFC 3550, 6.4.1).
    pub(super) fn report(&mut self, ticks: i64, ntp: u64) {
        if ntp == 0 {
            return;
        }
        let ntp_us = (u128::from(ntp) * 1_000_000) >> 32;
        let unix_us = i64::try_from(ntp_us).unwrap_or(i64::MAX).saturating_sub(UNIX_EPOCH_NTP_US);
        self.zero_unix_us = Some(unix_us.saturating_sub(self.pts_us(ticks)));
    }

    /// The camera's time of day at media time zero, in microseconds since 1970-01-01 UTC.
    pub(super) fn zero_unix_us(&self) -> Option<i64> {
        self.zero_unix_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ntp(unix_us: i64) -> u64 {
        let us = u128::try_from(unix_us + UNIX_EPOCH_NTP_US).unwrap();
        u64::try_from((us << 32).div_ceil(1_000_000)).unwrap()
    }

    #[test]
    fn pictures_keep_the_cameras_beat() {
        let clock = Clock::new(90_000, 7_000_000_000, 5_000_000);
        assert_eq!(clock.pts_us(7_000_000_000), 5_000_000);
        assert_eq!(clock.pts_us(7_000_003_003), 5_033_367);
        assert_eq!(clock.pts_us(7_000_000_000 - 90_000), 4_000_000);
        for extreme in [i64::MIN, i64::MAX] {
            let _ = Clock::new(1, extreme, i64::MAX).pts_us(-extreme.max(-i64::MAX));
        }
    }

    #[test]
    fn two_connections_that_began_at_different_times_agree_on_the_time_of_day() {
        const NOON: i64 = 1_700_000_000_000_000;
        // The sub-stream began at noon, the main stream 2.5 s later, with an origin of its own.
        let mut sub = Clock::new(90_000, 1_000, 0);
        let mut main = Clock::new(90_000, -77_777, 123);
        assert_eq!(sub.zero_unix_us(), None);
        sub.report(1_000 + 9 * 90_000, ntp(NOON + 9_000_000));
        main.report(-77_777 + 90_000, ntp(NOON + 3_500_000));
        let (sub, main) = (
            |ticks| sub.pts_us(ticks) + sub.zero_unix_us().unwrap(),
            |ticks| main.pts_us(ticks) + main.zero_unix_us().unwrap(),
        );
        assert_eq!(sub(1_000 + 90_000 * 4), NOON + 4_000_000);
        assert_eq!(main(-77_777 + 90_000 * 3 / 2), NOON + 4_000_000);
    }

    #[test]
    fn a_camera_without_time_of_day_is_taken_at_its_word() {
        let mut clock = Clock::new(90_000, 0, 0);
        clock.report(0, 0);
        assert_eq!(clock.zero_unix_us(), None);
        clock.report(i64::MIN, u64::MAX);
        clock.report(i64::MAX, 1);
        assert!(clock.zero_unix_us().is_some());
    }
}
