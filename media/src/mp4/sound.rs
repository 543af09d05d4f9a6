//! The audio track of a movie.

use super::boxes::Name;
use super::table::Sample;
use super::track::{Header, Presentation, table};
use crate::audio::{self, Config};

/// The first audio track of a coding that we carry.
#[derive(Debug)]
pub(crate) struct Sound {
    /// How to decode it.
    pub config: Config,
    /// Packets that lie wholly inside the file, in order.
    pub samples: Vec<Sample>,
    /// When each is presented.
    pub presentation: Presentation,
    /// Presentation times of the track from here on are not heard.
    pub end: i64,
}

impl Sound {
    /// Reads an audio track of `moov`, and its part in the fragments.
    pub(super) fn read<'a>(
        moov: &[u8],
        trak: &[u8],
        mdia: &[u8],
        moofs: impl Iterator<Item = (u64, &'a [u8])>,
        file_len: u64,
    ) -> Result<Self, audio::Error> {
        let (stbl, name, entry): (_, Name, _) = table(mdia)?;
        let config = Config::from_sample_entry(name, entry)?;
        let mut header = Header::read(moov, trak, mdia, stbl)?;
        header.complete(moofs, file_len)?;
        for sample in &header.samples {
            audio::check_packet(sample.size as usize)?;
        }
        let presentation = header.presentation();
        let start = header.edit.start.unwrap_or(0);
        let end = header.edit.duration.map_or(i64::MAX, |duration| start.saturating_add(duration));
        Ok(Self { config, samples: header.samples, presentation, end })
    }

    /// Mean rate in kbit/s; zero where nothing says how long the packets are.
    pub(crate) fn kbps(&self) -> f64 {
        let bytes: u64 = self.samples.iter().map(|sample| u64::from(sample.size)).sum();
        let (Some(first), Some(last)) = (self.samples.first(), self.samples.last()) else { return 0.0 };
        let end = last.pts.saturating_add(i64::from(last.duration));
        let span_us = self.presentation.us(end).saturating_sub(self.presentation.us(first.pts));
        #[expect(clippy::cast_precision_loss, reason = "a mean")]
        let kbps = bytes as f64 * 8e3 / span_us.max(1) as f64;
        if span_us > 0 { kbps } else { 0.0 }
    }
}
