//! Where a stream is learned, and what that asks of the sender.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Where the trainer sits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Placement {
    /// At the server, from patches.
    #[default]
    Server,
    /// At the sender, from its own pictures: model updates go up instead of patches.
    Sender,
}

/// A sender that learns takes a pair to learn from and one to judge by every so often, microseconds of media time: they
/// cost nothing on the wire.
const PAIRS_EVERY_US: i64 = 100_000;
/// Pairs that it judges by at least: four seconds of them make a surer verdict than the few that a server has.
const HELD_OUT_MIN: usize = 40;
/// A version must gain so much there, dB: its bits are the video's, some ten kilobytes at a time.
const PUBLISH_GAIN_DB: f64 = 0.1;

impl Placement {
    /// How to learn there.
    pub fn learn(self, config: hone_trainer::Config) -> hone_trainer::Config {
        match self {
            Self::Server => config,
            Self::Sender => hone_trainer::Config {
                held_out_max: config.held_out_max.max(HELD_OUT_MIN),
                publish_gain_db: config.publish_gain_db.max(PUBLISH_GAIN_DB),
                ..config
            },
        }
    }
}

/// When pairs are due.
#[derive(Debug, Default)]
pub struct PairClock {
    next_us: Option<i64>,
}

impl PairClock {
    /// Whether pairs of the frame at `pts_us` are due.
    pub fn due(&mut self, pts_us: i64) -> bool {
        let due = self.next_us.is_none_or(|next| pts_us >= next);
        if due {
            self.next_us = Some(pts_us.saturating_add(PAIRS_EVERY_US));
        }
        due
    }
}

/// What model updates took from the video, and the video gets back over this time, seconds.
const REPAID_OVER_S: f64 = 4.0;

/// Model updates come in lumps; the video makes room for them afterwards, a little at a time.
#[derive(Debug, Default)]
pub struct Debt {
    bytes: f64,
}

impl Debt {
    /// Books an update.
    pub fn add(&mut self, bytes: usize) {
        self.bytes += bytes as f64;
    }

    /// What the video must do without now, kbit/s.
    pub fn kbps(&self) -> f64 {
        self.bytes / 125.0 / REPAID_OVER_S
    }

    /// Lets media time pass in which the video did without.
    pub fn repay(&mut self, us: i64) {
        self.bytes *= (-(us as f64) / 1e6 / REPAID_OVER_S).exp();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_come_ten_times_a_second_at_most() {
        let count = |step_us: i64| {
            let mut clock = PairClock::default();
            (0..2_000_000 / step_us).filter(|frame| clock.due(frame * step_us)).count()
        };
        assert_eq!((count(20_000), count(200_000)), (20, 10));
    }

    #[test]
    fn a_debt_is_paid_to_the_byte() {
        let mut debt = Debt::default();
        debt.add(10_000);
        let mut paid = 0.0;
        for _ in 0..1200 {
            paid += debt.kbps() * 125.0 * 0.04;
            debt.repay(40_000);
        }
        assert!((paid / 10_000.0 - 1.0).abs() < 0.01, "{paid}");
    }
}
