//! What every track of a movie has, whatever it holds: its samples, its timescale, its edit.

use super::Error;
use super::boxes::{self, Name, Reader};
use super::fragment::{self, Defaults};
use super::table::{self, Sample};

/// A track's headers.
pub(crate) struct Header {
    id: u32,
    defaults: Defaults,
    /// Ticks per second of all times.
    pub timescale: u32,
    /// Samples, in decoding order.
    pub samples: Vec<Sample>,
    /// Which part is presented, and when.
    pub edit: Edit,
}

/// The first edit of a track that shows something, in the track's timescale.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Edit {
    /// The first time that is shown, if there is an edit.
    pub start: Option<i64>,
    /// For how long, if not to the end.
    pub duration: Option<i64>,
    /// How long the movie runs before that, in microseconds.
    pub delay_us: i64,
}

/// Where a track's times lie in the movie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Presentation {
    timescale: u32,
    start: i64,
    delay_us: i64,
}

impl Presentation {
    /// `start`, in ticks of the track, is the beginning of the movie.
    pub(crate) fn new(timescale: u32, start: i64) -> Self {
        Self { timescale, start, delay_us: 0 }
    }

    /// When a sample is presented, in microseconds of the movie.
    pub(crate) fn us(&self, pts: i64) -> i64 {
        micros(pts.saturating_sub(self.start), self.timescale).saturating_add(self.delay_us)
    }
}

/// Track time to microseconds, rounded to nearest.
pub(crate) fn micros(ticks: i64, timescale: u32) -> i64 {
    let (ticks, timescale) = (i128::from(ticks), i128::from(timescale));
    let rounded = (ticks * 1_000_000 + timescale / 2).div_euclid(timescale);
    i64::try_from(rounded).unwrap_or(if rounded < 0 { i64::MIN } else { i64::MAX })
}

/// The sample table of a track, and its first sample entry.
pub(crate) fn table(mdia: &[u8]) -> Result<(&[u8], Name, &[u8]), Error> {
    let minf = boxes::need("mdia", mdia, b"minf", "has no media information")?;
    let stbl = boxes::need("minf", minf, b"stbl", "has no sample table")?;
    let mut stsd = Reader::new("stsd", boxes::need("stbl", stbl, b"stsd", "has no sample description")?);
    stsd.skip(8)?; // version, flags, entry_count: the first entry counts
    match boxes::children("stsd", stsd.rest()).next() {
        Some(entry) => entry.map(|(name, entry)| (stbl, name, entry)),
        None => Err(stsd.damaged("is empty")),
    }
}

impl Header {
    /// Reads a track whose coding is known to be ours.
    pub(crate) fn read(moov: &[u8], trak: &[u8], mdia: &[u8], stbl: &[u8]) -> Result<Self, Error> {
        let mut mdhd = Reader::new("mdhd", boxes::need("mdia", mdia, b"mdhd", "has no media header")?);
        let (version, _) = mdhd.version_flags()?;
        mdhd.skip(if version == 1 { 16 } else { 8 })?;
        let timescale = mdhd.u32()?;
        if timescale == 0 {
            return Err(mdhd.damaged("has a timescale of zero"));
        }
        let mut tkhd = Reader::new("tkhd", boxes::need("trak", trak, b"tkhd", "has no header")?);
        let (version, _) = tkhd.version_flags()?;
        tkhd.skip(if version == 1 { 16 } else { 8 })?;
        let id = tkhd.u32()?;
        let defaults = match boxes::find("moov", moov, b"mvex")? {
            Some(mvex) => fragment::defaults(mvex, id)?,
            None => Defaults::default(),
        };
        let edit = edit(moov, trak, timescale)?;
        Ok(Self { id, timescale, samples: table::samples(stbl)?, defaults, edit })
    }

    /// Adds the samples of fragments, and leaves out those that do not lie wholly in the file.
    pub(crate) fn complete<'a>(
        &mut self,
        moofs: impl Iterator<Item = (u64, &'a [u8])>,
        file_len: u64,
    ) -> Result<(), Error> {
        let (mut next_dts, samples) = (0, &mut self.samples);
        for (offset, moof) in moofs {
            fragment::push_samples(moof, offset, self.id, self.defaults, &mut next_dts, samples)?;
        }
        let listed = samples.len();
        samples.retain(|sample| {
            sample.size > 0 && sample.offset.saturating_add(u64::from(sample.size)) <= file_len
        });
        if samples.len() < listed {
            let whole = samples.len();
            tracing::warn!(track = self.id, listed, whole, "the file is cut short: samples are missing");
        }
        Ok(())
    }

    /// Where the track's times lie in the movie.
    pub(crate) fn presentation(&self) -> Presentation {
        let Edit { start, delay_us, .. } = self.edit;
        Presentation { timescale: self.timescale, start: start.unwrap_or(0), delay_us }
    }
}

/// The first edit that shows something. Further ones would repeat or skip parts; they are rare and reported, not
/// followed.
fn edit(moov: &[u8], trak: &[u8], timescale: u32) -> Result<Edit, Error> {
    let mut edit = Edit::default();
    let Some(edts) = boxes::find("trak", trak, b"edts")? else { return Ok(edit) };
    let Some(elst) = boxes::find("edts", edts, b"elst")? else { return Ok(edit) };
    let mut mvhd = Reader::new("mvhd", boxes::need("moov", moov, b"mvhd", "has no movie header")?);
    let (version, _) = mvhd.version_flags()?;
    mvhd.skip(if version == 1 { 16 } else { 8 })?;
    let movie_timescale = mvhd.u32()?;

    let mut reader = Reader::new("elst", elst);
    let (version, _) = reader.version_flags()?;
    let count = reader.entries(if version == 1 { 20 } else { 12 })?;
    let (mut shown, mut delay) = (None, 0_u64);
    for _ in 0..count {
        let duration = reader.u32_or_u64(version)?;
        let start = if version == 1 { reader.i64()? } else { i64::from(reader.i32()?) };
        reader.skip(4)?; // media_rate
        if start >= 0 {
            if shown.is_some() {
                tracing::warn!(count, "the file has several edits; only the first is followed");
                break;
            }
            shown = Some((start, duration));
        } else if shown.is_none() {
            delay = delay.saturating_add(duration);
        }
    }
    if movie_timescale > 0 {
        edit.delay_us = micros(i64::try_from(delay).unwrap_or(i64::MAX), movie_timescale);
    }
    let Some((start, duration)) = shown else { return Ok(edit) };
    edit.start = Some(start);
    // Duration zero, which writers of fragments use, means up to the end.
    if duration > 0 && movie_timescale > 0 {
        let ticks = (u128::from(duration) * u128::from(timescale)).div_ceil(u128::from(movie_timescale));
        edit.duration = i64::try_from(ticks).ok();
    }
    Ok(edit)
}
