//! The sample table of a track (`stbl`) as a list of samples.
//!
//! Source: ISO/IEC 14496-12:2022, clauses 8.6.1 (times), 8.6.2 (sync samples), 8.7 (sizes and chunks).

use super::Error;
use super::boxes::{self, Reader};
use crate::limits::{MAX_ACCESS_UNIT_BYTES, MAX_SAMPLES};

/// One access unit of a track: where it lies, and when it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sample {
    /// First byte in the file.
    pub offset: u64,
    /// Length in bytes.
    pub size: u32,
    /// Presentation time in the track's timescale, before edits.
    pub pts: i64,
    /// Duration in the track's timescale.
    pub duration: u32,
    /// Whether decoding can start here.
    pub sync: bool,
}

/// Checks the size of one sample.
pub(crate) fn check_sample_size(size: u32) -> Result<(), Error> {
    if size as usize > MAX_ACCESS_UNIT_BYTES {
        let limit = MAX_ACCESS_UNIT_BYTES as u64;
        return Err(Error::TooLarge { what: "a frame of bytes", have: u64::from(size), limit });
    }
    Ok(())
}

/// Checks the number of samples of a track.
pub(crate) fn check_sample_count(count: usize) -> Result<(), Error> {
    if count > MAX_SAMPLES {
        let limit = MAX_SAMPLES as u64;
        return Err(Error::TooLarge { what: "a frame count of", have: count as u64, limit });
    }
    Ok(())
}

/// Lists the samples of `stbl` in decoding order.
pub(crate) fn samples(stbl: &[u8]) -> Result<Vec<Sample>, Error> {
    let mut samples = sizes(stbl)?;
    if !samples.is_empty() {
        set_offsets(stbl, &mut samples)?;
        set_times(stbl, &mut samples)?;
        set_sync(stbl, &mut samples)?;
    }
    Ok(samples)
}

fn sizes(stbl: &[u8]) -> Result<Vec<Sample>, Error> {
    let mut reader = Reader::new("stsz", boxes::need("stbl", stbl, b"stsz", "has no sample sizes")?);
    reader.version_flags()?;
    let fixed_size = reader.u32()?;
    let blank = Sample { offset: 0, size: fixed_size, pts: 0, duration: 0, sync: true };
    if fixed_size != 0 {
        let count = reader.u32()? as usize;
        check_sample_count(count)?;
        check_sample_size(fixed_size)?;
        return Ok(vec![blank; count]);
    }
    let count = reader.entries(4)?;
    check_sample_count(count)?;
    let mut samples = Vec::with_capacity(count);
    for _ in 0..count {
        let size = reader.u32()?;
        check_sample_size(size)?;
        samples.push(Sample { size, ..blank });
    }
    Ok(samples)
}

/// Walks chunks (`stco` or `co64`) and the runs of samples in them (`stsc`).
fn set_offsets(stbl: &[u8], samples: &mut [Sample]) -> Result<(), Error> {
    let (mut chunks, entry_bytes) = match boxes::find("stbl", stbl, b"stco")? {
        Some(payload) => (Reader::new("stco", payload), 4),
        None => (Reader::new("co64", boxes::need("stbl", stbl, b"co64", "has no chunk offsets")?), 8),
    };
    chunks.version_flags()?;
    let chunk_count = chunks.entries(entry_bytes)?;
    let mut runs = Reader::new("stsc", boxes::need("stbl", stbl, b"stsc", "has no sample-to-chunk table")?);
    runs.version_flags()?;
    let mut runs_left = runs.entries(12)?;
    let mut samples_per_chunk = 0;
    let mut next_run_chunk = 1;
    let mut unplaced = samples.iter_mut();
    for chunk in 1..=chunk_count as u64 {
        while runs_left > 0 && chunk >= next_run_chunk {
            runs.skip(4)?; // first_chunk, read ahead of time below
            samples_per_chunk = runs.u32()?;
            runs.skip(4)?; // sample_description_index
            runs_left -= 1;
            let mut ahead = runs;
            next_run_chunk = if runs_left > 0 { u64::from(ahead.u32()?) } else { u64::MAX };
        }
        let mut offset = if entry_bytes == 4 { u64::from(chunks.u32()?) } else { chunks.u64()? };
        for _ in 0..samples_per_chunk {
            let Some(sample) = unplaced.next() else { return Ok(()) };
            sample.offset = offset;
            offset = offset.saturating_add(u64::from(sample.size));
        }
    }
    if unplaced.next().is_some() {
        Err(chunks.damaged("holds fewer samples than there are sizes"))
    } else {
        Ok(())
    }
}

/// Decoding times (`stts`) plus composition offsets (`ctts`).
fn set_times(stbl: &[u8], samples: &mut [Sample]) -> Result<(), Error> {
    let mut reader = Reader::new("stts", boxes::need("stbl", stbl, b"stts", "has no sample times")?);
    reader.version_flags()?;
    let mut runs = reader.entries(8)?;
    let mut time = 0_i64;
    let mut timed = 0;
    while runs > 0 && timed < samples.len() {
        let (count, delta) = (reader.u32()? as usize, reader.u32()?);
        for sample in samples[timed..].iter_mut().take(count) {
            sample.pts = time;
            sample.duration = delta;
            time = time.saturating_add(i64::from(delta));
            timed += 1;
        }
        runs -= 1;
    }
    if timed < samples.len() {
        return Err(reader.damaged("times fewer samples than there are"));
    }
    let Some(payload) = boxes::find("stbl", stbl, b"ctts")? else { return Ok(()) };
    let mut reader = Reader::new("ctts", payload);
    reader.version_flags()?;
    let runs = reader.entries(8)?;
    let mut shifted = 0;
    for _ in 0..runs {
        // Version 0 says unsigned, but writers store negative offsets there too: read both as signed.
        let (count, offset) = (reader.u32()? as usize, reader.i32()?);
        for sample in samples[shifted..].iter_mut().take(count) {
            sample.pts = sample.pts.saturating_add(i64::from(offset));
            shifted += 1;
        }
    }
    Ok(())
}

fn set_sync(stbl: &[u8], samples: &mut [Sample]) -> Result<(), Error> {
    let Some(payload) = boxes::find("stbl", stbl, b"stss")? else { return Ok(()) };
    let mut reader = Reader::new("stss", payload);
    reader.version_flags()?;
    let count = reader.entries(4)?;
    samples.iter_mut().for_each(|sample| sample.sync = false);
    for _ in 0..count {
        let number = reader.u32()? as usize;
        if let Some(sample) = number.checked_sub(1).and_then(|index| samples.get_mut(index)) {
            sample.sync = true;
        }
    }
    Ok(())
}
