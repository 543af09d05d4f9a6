//! What one stream may cost the server.

use std::time::Instant;

use anyhow::{Result, bail};
use hone_media::decode;
use hone_transport::catalog::Catalog;
use serde::Deserialize;

/// `[streams]` in the server's file. How many there may be is in `[endpoint.limits]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Most pixels of a small picture: the server decodes every one.
    pub picture_pixels_max: u64,
    /// Most pictures a second; a stream that sends more, for longer than [`BURST_S`] of them, is dropped.
    pub pictures_per_second_max: u32,
    /// Most packets of audio a second; a stream that sends more is dropped alike. The shortest of Opus last 2.5 ms.
    pub audio_packets_per_second_max: u32,
    /// Most patches a second; more are left out.
    pub patches_per_second_max: u32,
    /// Most model updates a second of a sender that learns; a stream that sends more is dropped.
    pub updates_per_second_max: u32,
    /// Whether a stream that nobody watches is asked for nothing, and learns nothing. Its sender then codes nothing.
    pub on_demand: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            picture_pixels_max: 1920 * 1088,
            pictures_per_second_max: 120,
            audio_packets_per_second_max: 500,
            patches_per_second_max: 120,
            updates_per_second_max: 20,
            on_demand: false,
        }
    }
}

/// What may come at once, in seconds of the rate: as much as a sender keeps over an outage.
const BURST_S: u32 = 10;
/// A stream may change its size every so many seconds in the mean,
const RESIZE_S: f64 = 10.0;
/// and so often at once.
const RESIZES_MAX: f64 = 3.0;

/// Side of a macroblock: coded sizes are whole ones.
const MACROBLOCK: u64 = 16;

impl Limits {
    /// What the decoder of a stream may take in: what its catalog says, and no more.
    ///
    /// # Errors
    /// If that is more than a stream may have.
    pub fn decoder(&self, catalog: &Catalog) -> Result<decode::Limits> {
        let (width, height) = catalog.rendition().map_or((0, 0), |r| (r.coded_width, r.coded_height));
        let whole = |side: u32| u64::from(side).next_multiple_of(MACROBLOCK);
        let pixels = whole(width) * whole(height);
        if pixels > self.picture_pixels_max {
            bail!("its pictures of {width}x{height} are larger than {} pixels", self.picture_pixels_max);
        }
        Ok(decode::Limits { max_pixels: pixels, ..decode::Limits::default() })
    }

    /// Counts pictures from now on.
    pub fn pictures(&self, now: Instant) -> Rate {
        Rate::new(self.pictures_per_second_max, now)
    }

    /// Counts packets of audio from now on.
    pub fn audio_packets(&self, now: Instant) -> Rate {
        Rate::new(self.audio_packets_per_second_max, now)
    }

    /// Counts model updates from now on.
    pub fn updates(&self, now: Instant) -> Rate {
        Rate::new(self.updates_per_second_max, now)
    }

    /// Counts changes of size from now on: each costs a network.
    pub fn resizes(now: Instant) -> Rate {
        Rate { per_second: 1.0 / RESIZE_S, most: RESIZES_MAX, tokens: RESIZES_MAX, then: now }
    }

    /// Counts patches from now on.
    pub fn patches(&self, now: Instant) -> Rate {
        Rate::new(self.patches_per_second_max, now)
    }
}

/// A bucket of so many tokens a second.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    per_second: f64,
    most: f64,
    tokens: f64,
    then: Instant,
}

impl Rate {
    fn new(per_second: u32, now: Instant) -> Self {
        let per_second = f64::from(per_second);
        let most = per_second * f64::from(BURST_S);
        Self { per_second, most, tokens: most, then: now }
    }

    /// Whether one more keeps within the rate.
    pub fn take(&mut self, now: Instant) -> bool {
        let earned = now.saturating_duration_since(self.then).as_secs_f64() * self.per_second;
        self.then = now;
        self.tokens = (self.tokens + earned).min(self.most);
        let within = self.tokens >= 1.0;
        if within {
            self.tokens -= 1.0;
        }
        within
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_rate_allows_its_mean_and_one_burst() {
        let start = Instant::now();
        let mut rate = Rate::new(10, start);
        let burst = (0..500).filter(|_| rate.take(start)).count();
        assert_eq!(burst, 100);
        // Twice the rate for 20 s: half of it.
        let taken = (0..400u32).filter(|i| rate.take(start + Duration::from_millis(50) * (i + 1))).count();
        assert!((199..=201).contains(&taken), "{taken}");
        // A clock that goes back earns nothing.
        let mut empty = rate;
        assert!((0..200).filter(|_| empty.take(start)).count() <= 1);
    }
}
