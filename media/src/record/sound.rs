//! The audio of a recording, as far as it is not in the file yet.

use crate::audio::{self, Config, Packet};
use crate::mp4::table::Sample;

/// Packets that wait for the next fragment, in samples of the audio's own rate.
pub(super) struct Sound {
    pub(super) config: Config,
    /// The last one's duration is not known yet.
    samples: Vec<Sample>,
    data: Vec<u8>,
}

impl Sound {
    pub(super) fn new(config: Config) -> Self {
        Self { config, samples: Vec::new(), data: Vec::new() }
    }

    pub(super) fn bytes(&self) -> usize {
        self.data.len()
    }

    /// Adds a packet `at_us` microseconds into the file. One that cannot be, or that is not later than the last, is
    /// left out: what is missing is silent, and the rest stays in step.
    pub(super) fn push(&mut self, packet: &Packet, at_us: i64) {
        let ticks = (i128::from(at_us) * i128::from(self.config.sample_rate()) + 500_000) / 1_000_000;
        let (Ok(pts), Ok(size)) = (i64::try_from(ticks), u32::try_from(packet.data.len())) else { return };
        if at_us < 0 || audio::check_packet(packet.data.len()).is_err() {
            return;
        }
        if let Some(last) = self.samples.last_mut() {
            let Some(duration) = u32::try_from(pts - last.pts).ok().filter(|duration| *duration > 0) else {
                return tracing::debug!(pts_us = packet.pts_us, "audio out of order is not recorded");
            };
            last.duration = duration;
        }
        self.samples.push(Sample { offset: 0, size, pts, duration: 0, sync: true });
        self.data.extend_from_slice(&packet.data);
    }

    /// Takes all packets but the last, whose duration the next one tells.
    pub(super) fn take(&mut self) -> (Vec<Sample>, Vec<u8>) {
        let Some(last) = self.samples.pop() else { return (Vec::new(), Vec::new()) };
        let data = self.data.split_off(self.data.len() - last.size as usize);
        (std::mem::replace(&mut self.samples, vec![last]), std::mem::replace(&mut self.data, data))
    }

    /// The last packet lasts as long as it says itself.
    pub(super) fn take_all(&mut self) -> (Vec<Sample>, Vec<u8>) {
        if let Some(last) = self.samples.last_mut() {
            let own = &self.data[self.data.len() - last.size as usize..];
            last.duration = self.config.packet_samples(own).max(1);
        }
        (std::mem::take(&mut self.samples), std::mem::take(&mut self.data))
    }
}
