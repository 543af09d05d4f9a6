//! The stream's sound, heard with its pictures. All but the device itself is here without one.

mod clock;
#[cfg(feature = "sound")]
pub mod device;
mod line;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use hone_media::audio;
use hone_media::audio::decode::Decoder;

use self::line::Line;
use super::{Sink, Stream};

/// How long after it was drawn a picture is seen: a refresh at 60 Hz, and a little for what is behind it.
const SCREEN: Duration = Duration::from_millis(20);

/// Between a player, the device that is heard, and the pictures that are seen.
#[derive(Clone)]
pub struct Tap {
    /// The origin of the line's times.
    begun: Instant,
    /// Held for as long as a packet takes to be copied: a device that finds it taken waits so long.
    line: Arc<Mutex<Line>>,
    silent: Arc<AtomicBool>,
    /// How long before it is heard the device takes a sample, microseconds; 0 before it ever did.
    lead_us: Arc<AtomicU64>,
}

impl Tap {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn micros(&self, time: Instant) -> i64 {
        i64::try_from(time.duration_since(self.begun).as_micros()).unwrap_or(i64::MAX)
    }

    /// The picture of media time `pts_us` was just drawn.
    pub fn drawn(&self, pts_us: i64) {
        self.line().clock.shown(self.micros(Instant::now() + SCREEN), pts_us);
    }

    /// Fills a device's buffer, `channels` interleaved at `rate` samples a second, that is heard in `latency` from now.
    pub fn fill(&self, out: &mut [f32], channels: usize, rate: u32, latency: Duration) {
        let length =
            Duration::from_secs_f64(out.len() as f64 / (channels.max(1) as f64 * f64::from(rate.max(1))));
        let lead_us = u64::try_from((latency + length).as_micros()).unwrap_or(u64::MAX);
        self.lead_us.store(lead_us, Ordering::Relaxed);
        let silent = self.silent.load(Ordering::Relaxed);
        self.line().fill(out, channels, rate, self.micros(Instant::now() + latency), silent);
    }
}

/// Decodes a stream's sound and holds it ready for a device, in step with the pictures that are seen.
pub struct Player {
    tap: Tap,
    open: Box<dyn FnMut(&Tap) + Send>,
    decoder: Option<Decoder>,
    /// Packets that could not be decoded.
    damaged: u64,
}

impl Player {
    /// Nothing is heard while `silent`. `open` is called for each stream that can be heard, to see to a device.
    pub fn new(silent: Arc<AtomicBool>, open: impl FnMut(&Tap) + Send + 'static) -> Self {
        let line = Arc::new(Mutex::new(Line::new(1)));
        let tap = Tap { begun: Instant::now(), line, silent, lead_us: Arc::default() };
        Self { tap, open: Box::new(open), decoder: None, damaged: 0 }
    }

    /// Where a device takes what is played, and whoever shows the pictures says so.
    pub fn tap(&self) -> Tap {
        self.tap.clone()
    }
}

impl Sink for Player {
    fn start(&mut self, stream: &Stream) -> Result<()> {
        (self.decoder, self.damaged) = (None, 0);
        let Some(config) = &stream.audio else { return Ok(()) };
        match Decoder::new(config) {
            Ok(decoder) => {
                *self.tap.line() = Line::new(config.sample_rate());
                self.decoder = Some(decoder);
                (self.open)(&self.tap);
            }
            Err(error) => tracing::warn!(%error, "the stream's sound is not played"),
        }
        Ok(())
    }

    fn audio(&mut self, packet: audio::Packet) -> Result<()> {
        let Some(decoder) = &mut self.decoder else { return Ok(()) };
        match decoder.decode(&packet.data) {
            Ok(samples) => self.tap.line().push(packet.pts_us, samples),
            // What is missing is silence.
            Err(error) => {
                self.damaged += 1;
                tracing::debug!(%error, pts_us = packet.pts_us, "silence");
            }
        }
        Ok(())
    }

    fn lead(&self) -> Option<Duration> {
        let heard = self.decoder.is_some() && !self.tap.silent.load(Ordering::Relaxed);
        let lead_us = self.tap.lead_us.load(Ordering::Relaxed);
        (heard && lead_us > 0).then(|| Duration::from_micros(lead_us))
    }

    fn end(&mut self) -> Result<()> {
        let late_ms = (self.tap.line().late_s() * 1e3) as u64;
        if self.decoder.take().is_some() {
            tracing::info!(damaged_packets = self.damaged, late_ms, "sound ended");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
