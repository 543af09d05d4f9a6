//! Opening an MP4 file: top-level boxes, the H.264 track, its samples and its edit.
//!
//! Only headers are read here; pictures stay in the file until their turn comes.

use std::io::{Read, Seek, SeekFrom};

use super::Error;
use super::avc::Configuration;
use super::boxes::{self, Name, Reader};
use super::fragment::{self, Defaults};
use super::table::{self, Sample};
use crate::limits::{MAX_HEADER_BOX_BYTES, MAX_TOP_LEVEL_BOXES};

/// The H.264 track of a movie.
#[derive(Debug)]
pub(crate) struct Track {
    /// Ticks per second of all times.
    pub timescale: u32,
    /// How samples are framed.
    pub configuration: Configuration,
    /// Samples that lie wholly inside the file, in decoding order.
    pub samples: Vec<Sample>,
    /// Presentation times from here on are shown; it is media time zero.
    pub start: i64,
    /// Presentation times from here on are not shown.
    pub end: i64,
    /// Whether the movie has an audio track too.
    pub has_audio: bool,
}

/// Reads the headers of a movie and lists the samples of its first H.264 track.
pub(crate) fn open<R: Read + Seek>(file: &mut R) -> Result<Track, Error> {
    let file_len = file.seek(SeekFrom::End(0))?;
    let boxes = TopLevel::scan(file, file_len)?;
    let (_, moov) = boxes.headers.iter().find(|(at, _)| at.name == *b"moov").ok_or(Error::NoMovie)?;
    let mut header = TrackHeader::find(moov)?;
    let mut samples = std::mem::take(&mut header.samples);
    let mut next_dts = 0;
    for (at, moof) in boxes.headers.iter().filter(|(at, _)| at.name == *b"moof") {
        fragment::push_samples(moof, at.offset, header.id, header.defaults, &mut next_dts, &mut samples)?;
    }
    let listed = samples.len();
    samples
        .retain(|sample| sample.size > 0 && sample.offset.saturating_add(u64::from(sample.size)) <= file_len);
    if samples.len() < listed {
        tracing::warn!(listed, whole = samples.len(), "the file is cut short: frames at its end are missing");
    }
    let first = samples.iter().position(|sample| sample.sync).ok_or(Error::Empty)?;
    samples.drain(..first);
    let earliest = samples.iter().map(|sample| sample.pts).min().ok_or(Error::Empty)?;
    let start = header.edit_start.unwrap_or(earliest).max(earliest);
    let end = header.edit_duration.map_or(i64::MAX, |duration| start.saturating_add(duration));
    Ok(Track {
        timescale: header.timescale,
        configuration: header.configuration,
        samples,
        start,
        end,
        has_audio: header.has_audio,
    })
}

/// Where a top-level box begins.
struct At {
    name: Name,
    offset: u64,
}

/// The header boxes of a file: `moov` and every `moof`, whole.
struct TopLevel {
    headers: Vec<(At, Vec<u8>)>,
}

impl TopLevel {
    fn scan<R: Read + Seek>(file: &mut R, file_len: u64) -> Result<Self, Error> {
        let mut headers: Vec<(At, Vec<u8>)> = Vec::new();
        let mut header_bytes = 0;
        let mut offset = 0;
        for count in 0.. {
            if count == MAX_TOP_LEVEL_BOXES {
                let limit = MAX_TOP_LEVEL_BOXES as u64;
                return Err(Error::TooLarge { what: "a box count of", have: limit + 1, limit });
            }
            if file_len - offset < 8 {
                break;
            }
            let mut head = [0; 16];
            file.seek(SeekFrom::Start(offset))?;
            file.read_exact(&mut head[..8])?;
            let mut reader = Reader::new("file", &head);
            let size = u64::from(reader.u32()?);
            let name = reader.name()?;
            if count == 0 && !FIRST.contains(&&name) {
                // "EBML", with which Matroska and WebM files begin.
                let matroska = head.starts_with(&[0x1a, 0x45, 0xdf, 0xa3]);
                return Err(if matroska { Error::Matroska } else { Error::NotMp4 });
            }
            let (header_len, size) = match size {
                0 => (8, file_len - offset),
                1 if file_len - offset >= 16 => {
                    file.read_exact(&mut head[8..])?;
                    (16, Reader::new("file", &head[8..]).u64()?)
                }
                size => (8, size),
            };
            let end = offset.checked_add(size).filter(|&end| size >= header_len && end <= file_len);
            // A box that leaves the file is the cut end of a recording: what came before it counts.
            let Some(end) = end else { break };
            if name == *b"moov" || name == *b"moof" {
                header_bytes += size;
                if header_bytes > MAX_HEADER_BOX_BYTES {
                    let limit = MAX_HEADER_BOX_BYTES;
                    return Err(Error::TooLarge { what: "headers of bytes", have: header_bytes, limit });
                }
                let len = usize::try_from(size - header_len).unwrap_or(usize::MAX);
                let mut payload = vec![0; len];
                file.read_exact(&mut payload)?;
                headers.push((At { name, offset }, payload));
            }
            offset = end;
        }
        Ok(Self { headers })
    }
}

/// Boxes that an MP4 or QuickTime file may begin with.
const FIRST: [&Name; 7] = [b"ftyp", b"styp", b"moov", b"mdat", b"free", b"skip", b"wide"];

/// What `moov` says of the H.264 track.
struct TrackHeader {
    id: u32,
    timescale: u32,
    configuration: Configuration,
    samples: Vec<Sample>,
    defaults: Defaults,
    edit_start: Option<i64>,
    edit_duration: Option<i64>,
    has_audio: bool,
}

impl TrackHeader {
    fn find(moov: &[u8]) -> Result<Self, Error> {
        let mut found = None;
        let mut others = Vec::new();
        let mut has_audio = false;
        for child in boxes::children("moov", moov) {
            let (name, trak) = child?;
            if name != *b"trak" {
                continue;
            }
            let mdia = boxes::need("trak", trak, b"mdia", "has no media")?;
            let mut handler = Reader::new("hdlr", boxes::need("mdia", mdia, b"hdlr", "has no handler")?);
            handler.skip(8)?;
            match &handler.name()? {
                b"soun" => has_audio = true,
                b"vide" if found.is_none() => match Self::video(moov, trak, mdia)? {
                    Ok(header) => found = Some(header),
                    Err(codec) => others.push(codec),
                },
                _ => {}
            }
        }
        let mut header = found.ok_or(Error::NoH264(others))?;
        header.has_audio = has_audio;
        Ok(header)
    }

    /// Reads a video track; the inner error is the name of a codec that is not H.264.
    fn video(moov: &[u8], trak: &[u8], mdia: &[u8]) -> Result<Result<Self, String>, Error> {
        let minf = boxes::need("mdia", mdia, b"minf", "has no media information")?;
        let stbl = boxes::need("minf", minf, b"stbl", "has no sample table")?;
        let mut stsd = Reader::new("stsd", boxes::need("stbl", stbl, b"stsd", "has no sample description")?);
        stsd.skip(8)?; // version, flags, entry_count: the first entry counts
        let Some(entry) = boxes::children("stsd", stsd.rest()).next() else {
            return Err(stsd.damaged("is empty"));
        };
        let (codec, entry) = entry?;
        if codec != *b"avc1" && codec != *b"avc3" {
            return Ok(Err(codec_name(codec)));
        }
        let mut visual = Reader::new("avc1", entry);
        visual.skip(VISUAL_SAMPLE_ENTRY_BYTES)?;
        let avcc = boxes::need("avc1", visual.rest(), b"avcC", "has no decoder configuration")?;
        let configuration = Configuration::parse(avcc)?;

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
        let (edit_start, edit_duration) = edit(moov, trak, timescale)?;
        let samples = table::samples(stbl)?;
        Ok(Ok(Self {
            id,
            timescale,
            configuration,
            samples,
            defaults,
            edit_start,
            edit_duration,
            has_audio: false,
        }))
    }
}

/// Fixed fields of a `VisualSampleEntry` in front of its boxes.
const VISUAL_SAMPLE_ENTRY_BYTES: usize = 78;

/// Start and duration, in the track's timescale, of the first edit that shows something.
///
/// Empty edits in front only delay the track against others, which matters to audio alone. Further edits
/// would repeat or skip parts; they are rare and reported, not followed.
fn edit(moov: &[u8], trak: &[u8], timescale: u32) -> Result<(Option<i64>, Option<i64>), Error> {
    let Some(edts) = boxes::find("trak", trak, b"edts")? else { return Ok((None, None)) };
    let Some(elst) = boxes::find("edts", edts, b"elst")? else { return Ok((None, None)) };
    let mut mvhd = Reader::new("mvhd", boxes::need("moov", moov, b"mvhd", "has no movie header")?);
    let (version, _) = mvhd.version_flags()?;
    mvhd.skip(if version == 1 { 16 } else { 8 })?;
    let movie_timescale = u64::from(mvhd.u32()?);

    let mut reader = Reader::new("elst", elst);
    let (version, _) = reader.version_flags()?;
    let count = reader.entries(if version == 1 { 20 } else { 12 })?;
    let mut shown = None;
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
        }
    }
    let Some((start, duration)) = shown else { return Ok((None, None)) };
    // Duration zero, which writers of fragments use, means up to the end.
    if duration == 0 || movie_timescale == 0 {
        return Ok((Some(start), None));
    }
    let duration = (u128::from(duration) * u128::from(timescale)).div_ceil(u128::from(movie_timescale));
    Ok((Some(start), i64::try_from(duration).ok()))
}

/// A readable name for a sample entry.
fn codec_name(entry: Name) -> String {
    let known = match &entry {
        b"hvc1" | b"hev1" => "H.265",
        b"av01" => "AV1",
        b"vp09" => "VP9",
        b"vp08" => "VP8",
        b"mp4v" => "MPEG-4 Part 2",
        b"apch" | b"apcn" | b"apcs" | b"apco" | b"ap4h" => "ProRes",
        b"encv" => "encrypted video",
        b"jpeg" | b"mjpa" | b"mjpb" => "Motion JPEG",
        _ => "",
    };
    let entry = entry.escape_ascii();
    if known.is_empty() { format!("'{entry}'") } else { format!("{known}, '{entry}'") }
}
