//! Opening an MP4 file: top-level boxes, the H.264 track, and the audio track.
//!
//! Only headers are read here; pictures stay in the file until their turn comes.

use std::io::{Read, Seek, SeekFrom};

use super::Error;
use super::avc::Configuration;
use super::boxes::{self, Name, Reader};
use super::sound::Sound;
use super::table::Sample;
use super::track::{self, Header, Presentation};
use crate::limits::{MAX_HEADER_BOX_BYTES, MAX_TOP_LEVEL_BOXES};

/// The H.264 track of a movie, and the audio beside it.
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
    /// When samples are presented in the movie, where audio has the same clock.
    pub presentation: Presentation,
    /// The first audio track that we carry.
    pub sound: Option<Sound>,
}

/// Reads the headers of a movie and lists the samples of its first H.264 track.
pub(crate) fn open<R: Read + Seek>(file: &mut R) -> Result<Track, Error> {
    let file_len = file.seek(SeekFrom::End(0))?;
    let boxes = TopLevel::scan(file, file_len)?;
    let (_, moov) = boxes.headers.iter().find(|(at, _)| at.name == *b"moov").ok_or(Error::NoMovie)?;
    let moofs = || {
        let moofs = boxes.headers.iter().filter(|(at, _)| at.name == *b"moof");
        moofs.map(|(at, moof)| (at.offset, &moof[..]))
    };
    let traks = Traks::find(moov)?;
    let (mut header, configuration) = traks.video;
    header.complete(moofs(), file_len)?;
    let presentation = header.presentation();
    let Header { timescale, mut samples, edit, .. } = header;
    let first = samples.iter().position(|sample| sample.sync).ok_or(Error::Empty)?;
    samples.drain(..first);
    let earliest = samples.iter().map(|sample| sample.pts).min().ok_or(Error::Empty)?;
    let start = edit.start.unwrap_or(earliest).max(earliest);
    let end = edit.duration.map_or(i64::MAX, |duration| start.saturating_add(duration));
    let mut sound = None;
    for (trak, mdia) in traks.audio {
        match Sound::read(moov, trak, mdia, moofs(), file_len) {
            Ok(read) => {
                sound = Some(read);
                break;
            }
            // The pictures are as good as without it.
            Err(error) => tracing::warn!(%error, "an audio track of the file is left out"),
        }
    }
    Ok(Track { timescale, configuration, samples, start, end, presentation, sound })
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
                return Err(Error::NotMp4);
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

/// Most audio tracks that are looked at: a few languages.
const AUDIO_TRACKS_MAX: usize = 16;

/// The tracks of a movie that we read.
struct Traks<'a> {
    video: (Header, Configuration),
    /// `trak` and `mdia` of each audio track.
    audio: Vec<(&'a [u8], &'a [u8])>,
}

impl<'a> Traks<'a> {
    fn find(moov: &'a [u8]) -> Result<Self, Error> {
        let (mut found, mut audio) = (None, Vec::new());
        let mut others = Vec::new();
        for child in boxes::children("moov", moov) {
            let (name, trak) = child?;
            if name != *b"trak" {
                continue;
            }
            let mdia = boxes::need("trak", trak, b"mdia", "has no media")?;
            let mut handler = Reader::new("hdlr", boxes::need("mdia", mdia, b"hdlr", "has no handler")?);
            handler.skip(8)?;
            match &handler.name()? {
                b"soun" if audio.len() < AUDIO_TRACKS_MAX => audio.push((trak, mdia)),
                b"vide" if found.is_none() => match video(moov, trak, mdia)? {
                    Ok(video) => found = Some(video),
                    Err(codec) => others.push(codec),
                },
                _ => {}
            }
        }
        Ok(Self { video: found.ok_or(Error::NoH264(others))?, audio })
    }
}

/// Fixed fields of a `VisualSampleEntry` in front of its boxes.
const VISUAL_SAMPLE_ENTRY_BYTES: usize = 78;

/// Reads a video track; the inner error is the name of a codec that is not H.264.
fn video(moov: &[u8], trak: &[u8], mdia: &[u8]) -> Result<Result<(Header, Configuration), String>, Error> {
    let (stbl, codec, entry) = track::table(mdia)?;
    if codec != *b"avc1" && codec != *b"avc3" {
        return Ok(Err(codec_name(codec)));
    }
    let mut visual = Reader::new("avc1", entry);
    visual.skip(VISUAL_SAMPLE_ENTRY_BYTES)?;
    let avcc = boxes::need("avc1", visual.rest(), b"avcC", "has no decoder configuration")?;
    let configuration = Configuration::parse(avcc)?;
    Ok(Ok((Header::read(moov, trak, mdia, stbl)?, configuration)))
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
