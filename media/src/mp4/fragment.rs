//! Movie fragments (`moof`) as samples.
//!
//! Source: ISO/IEC 14496-12:2022, clause 8.8.

use super::Error;
use super::boxes::{self, Reader};
use super::table::{Sample, check_sample_count, check_sample_size};

/// Defaults of a track for all its fragments (`trex`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Defaults {
    pub duration: u32,
    pub size: u32,
    pub flags: u32,
}

/// Reads the `trex` of `track_id` from the `mvex` payload.
pub(crate) fn defaults(mvex: &[u8], track_id: u32) -> Result<Defaults, Error> {
    for child in boxes::children("mvex", mvex) {
        let (name, payload) = child?;
        if name != *b"trex" {
            continue;
        }
        let mut reader = Reader::new("trex", payload);
        reader.version_flags()?;
        if reader.u32()? == track_id {
            reader.skip(4)?; // default_sample_description_index
            return Ok(Defaults { duration: reader.u32()?, size: reader.u32()?, flags: reader.u32()? });
        }
    }
    Ok(Defaults::default())
}

/// `sample_is_non_sync_sample` of the sample flags.
const NON_SYNC: u32 = 1 << 16;

mod tfhd {
    pub(super) const BASE_DATA_OFFSET: u32 = 0x01;
    pub(super) const DESCRIPTION_INDEX: u32 = 0x02;
    pub(super) const DEFAULT_DURATION: u32 = 0x08;
    pub(super) const DEFAULT_SIZE: u32 = 0x10;
    pub(super) const DEFAULT_FLAGS: u32 = 0x20;
}

mod trun {
    pub(super) const DATA_OFFSET: u32 = 0x001;
    pub(super) const FIRST_FLAGS: u32 = 0x004;
    pub(super) const DURATION: u32 = 0x100;
    pub(super) const SIZE: u32 = 0x200;
    pub(super) const FLAGS: u32 = 0x400;
    pub(super) const COMPOSITION_OFFSET: u32 = 0x800;
}

/// Appends the samples of one track from a `moof` box that begins at `moof_offset` in the file.
///
/// `next_dts` is where the track's decoding time stands; a fragment without `tfdt` goes on from there.
pub(crate) fn push_samples(
    moof: &[u8],
    moof_offset: u64,
    track_id: u32,
    defaults: Defaults,
    next_dts: &mut i64,
    samples: &mut Vec<Sample>,
) -> Result<(), Error> {
    // Without `default-base-is-moof` the base of a later track is the end of the one before. All writers in
    // use set the flag or give the offset, so that the start of the `moof` is the base in every case.
    for child in boxes::children("moof", moof) {
        let (name, traf) = child?;
        if name != *b"traf" {
            continue;
        }
        let mut reader = Reader::new("tfhd", boxes::need("traf", traf, b"tfhd", "has no header")?);
        let (_, flags) = reader.version_flags()?;
        if reader.u32()? != track_id {
            continue;
        }
        let mut base = moof_offset;
        let mut defaults = defaults;
        if flags & tfhd::BASE_DATA_OFFSET != 0 {
            base = reader.u64()?;
        }
        if flags & tfhd::DESCRIPTION_INDEX != 0 {
            reader.skip(4)?;
        }
        if flags & tfhd::DEFAULT_DURATION != 0 {
            defaults.duration = reader.u32()?;
        }
        if flags & tfhd::DEFAULT_SIZE != 0 {
            defaults.size = reader.u32()?;
        }
        if flags & tfhd::DEFAULT_FLAGS != 0 {
            defaults.flags = reader.u32()?;
        }
        if let Some(payload) = boxes::find("traf", traf, b"tfdt")? {
            let mut reader = Reader::new("tfdt", payload);
            let (version, _) = reader.version_flags()?;
            *next_dts =
                i64::try_from(reader.u32_or_u64(version)?).map_err(|_| reader.damaged("is out of range"))?;
        }
        let mut offset = base;
        for child in boxes::children("traf", traf) {
            let (name, payload) = child?;
            if name == *b"trun" {
                push_run(payload, base, &mut offset, defaults, next_dts, samples)?;
            }
        }
    }
    Ok(())
}

fn push_run(
    payload: &[u8],
    base: u64,
    offset: &mut u64,
    defaults: Defaults,
    next_dts: &mut i64,
    samples: &mut Vec<Sample>,
) -> Result<(), Error> {
    let mut reader = Reader::new("trun", payload);
    let (_, flags) = reader.version_flags()?;
    let count = reader.u32()? as usize;
    if flags & trun::DATA_OFFSET != 0 {
        let relative = i64::from(reader.i32()?);
        *offset =
            base.checked_add_signed(relative).ok_or_else(|| reader.damaged("points before the file"))?;
    }
    let first_flags = if flags & trun::FIRST_FLAGS != 0 { Some(reader.u32()?) } else { None };
    let fields = [trun::DURATION, trun::SIZE, trun::FLAGS, trun::COMPOSITION_OFFSET];
    let entry_bytes = 4 * fields.iter().filter(|&&field| flags & field != 0).count();
    if count.saturating_mul(entry_bytes) > reader.rest().len() {
        return Err(reader.damaged("claims more entries than it holds"));
    }
    check_sample_count(samples.len().saturating_add(count))?;
    for index in 0..count {
        let mut field = |flag: u32, default: u32| {
            if flags & flag != 0 { reader.u32() } else { Ok(default) }
        };
        let duration = field(trun::DURATION, defaults.duration)?;
        let size = field(trun::SIZE, defaults.size)?;
        let usual_flags = if index == 0 { first_flags.unwrap_or(defaults.flags) } else { defaults.flags };
        let sample_flags = field(trun::FLAGS, usual_flags)?;
        let composition = field(trun::COMPOSITION_OFFSET, 0)?.cast_signed();
        check_sample_size(size)?;
        samples.push(Sample {
            offset: *offset,
            size,
            pts: next_dts.saturating_add(i64::from(composition)),
            duration,
            sync: sample_flags & NON_SYNC == 0,
        });
        *offset = offset.saturating_add(u64::from(size));
        *next_dts = next_dts.saturating_add(i64::from(duration));
    }
    Ok(())
}
