//! MP4 and Matroska files: the H.264 track, decoded frame by frame, and the audio track as it is.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::Path;

use super::{Error, Info, Item, Mp4Error, Source, fits};
use crate::audio;
use crate::decode::{self, Decoder};
use crate::frame::{Colour, Frame};
use crate::mkv;
use crate::mp4::movie::{self, Track};
use crate::mp4::sound::Sound;
use crate::mp4::track::micros;

trait ReadSeek: Read + Seek + Send {}
impl<T: Read + Seek + Send> ReadSeek for T {}

/// The H.264 track of an MP4 or Matroska file, decoded frame by frame as asked for, and the audio that is heard while it is seen.
///
/// The first frame has time zero; audio from before it or beyond the last one is left out. A rotation in the track header is not applied: frames come as coded.
pub struct Mp4Source {
    name: String,
    file: Box<dyn ReadSeek>,
    track: Track,
    next_sample: usize,
    /// Whether the decoder has had the track's parameter sets.
    begun: bool,
    decoder: Decoder,
    decoded: VecDeque<Frame>,
    last_us: i64,
    info: Info,
    audio: Option<Audio>,
    /// Reused buffers: a sample as stored, and as Annex B.
    sample: Vec<u8>,
    annex_b: Vec<u8>,
}

/// The audio beside the pictures.
struct Audio {
    track: audio::Track,
    sound: Sound,
    /// Media time zero, in microseconds of the movie.
    zero_us: i64,
    next: usize,
    last_us: i64,
}

impl Audio {
    fn new(sound: Sound, zero_us: i64) -> Self {
        let track = audio::Track { config: sound.config.clone(), kbps: sound.kbps() };
        Self { track, sound, zero_us, next: 0, last_us: -1 }
    }

    /// Place, length and media time of the next packet, if it is due before `until_us`.
    fn due(&mut self, until_us: i64) -> Option<(u64, u32, i64)> {
        while let Some(sample) = self.sound.samples.get(self.next) {
            let pts_us = self.sound.presentation.us(sample.pts).saturating_sub(self.zero_us);
            if pts_us >= until_us {
                return None;
            }
            self.next += 1;
            // Times that do not grow are a muxer's fault, and what comes before media time zero is not for us.
            if pts_us > self.last_us && sample.pts < self.sound.end {
                self.last_us = pts_us;
                return Some((sample.offset, sample.size, pts_us));
            }
        }
        None
    }
}

impl Mp4Source {
    /// Opens a file and decodes its first frame, so that everything that rules it out is found here.
    ///
    /// # Errors
    /// [`Error`], one line that names the file and says what to do.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::open_at(path, 0)
    }

    /// Opens a file `start_us` microseconds into it: the first frame shown from there on has time zero.
    ///
    /// # Errors
    /// As [`Mp4Source::open`], and [`Error::PastEnd`].
    pub fn open_at(path: impl AsRef<Path>, start_us: i64) -> Result<Self, Error> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let opened = File::open(path).and_then(|file| {
            if file.metadata()?.is_dir() { Err(std::io::ErrorKind::IsADirectory.into()) } else { Ok(file) }
        });
        match opened {
            Ok(file) => Self::new(name, Box::new(BufReader::new(file)), start_us),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(Error::Missing { name }),
            Err(error) => Err(Error::Mp4 { name, source: error.into() }),
        }
    }

    /// Reads a file held in memory, such as one embedded in the program; `name` stands for it in errors.
    ///
    /// # Errors
    /// As [`Mp4Source::open`].
    pub fn from_bytes(
        name: impl Into<String>,
        bytes: impl AsRef<[u8]> + Send + 'static,
    ) -> Result<Self, Error> {
        Self::from_bytes_at(name, bytes, 0)
    }

    /// The same, as [`Mp4Source::open_at`].
    ///
    /// # Errors
    /// As [`Mp4Source::open_at`].
    pub fn from_bytes_at(
        name: impl Into<String>,
        bytes: impl AsRef<[u8]> + Send + 'static,
        start_us: i64,
    ) -> Result<Self, Error> {
        Self::new(name.into(), Box::new(Cursor::new(bytes)), start_us)
    }

    fn new(name: String, mut file: Box<dyn ReadSeek>, start_us: i64) -> Result<Self, Error> {
        let opened = match is_matroska(&mut file) {
            Ok(true) => mkv::open(&mut file),
            Ok(false) => movie::open(&mut file),
            Err(error) => Err(error.into()),
        };
        let mut track = match opened {
            Ok(track) => track,
            Err(source) => return Err(Error::Mp4 { name, source }),
        };
        let Some(next_sample) = seek(&mut track, start_us) else {
            return Err(Error::PastEnd { name, start_us });
        };
        let decoder = match Decoder::new(decode::Limits::default()) {
            Ok(decoder) => decoder,
            Err(source) => return Err(Error::Decode { name, source }),
        };
        let (fps, duration_us) = timing(&track);
        let zero_us = track.presentation.us(track.start);
        let audio = track.sound.take().map(|sound| Audio::new(sound, zero_us));
        let mut source = Self {
            name,
            file,
            track,
            next_sample,
            begun: false,
            decoder,
            decoded: VecDeque::new(),
            last_us: i64::MIN,
            info: Info {
                width: 0,
                height: 0,
                fps,
                duration_us: Some(duration_us),
                colour: Colour::guess(0),
                live: false,
            },
            audio,
            sample: Vec::new(),
            annex_b: Vec::new(),
        };
        source.decode_more()?;
        let Some(first) = source.decoded.front() else {
            return Err(Error::Mp4 { name: source.name, source: Mp4Error::Empty });
        };
        source.info.width = first.image.width();
        source.info.height = first.image.height();
        source.info.colour = first.colour;
        Ok(source)
    }

    /// Decodes until a frame that is shown comes out, or the track ends.
    fn decode_more(&mut self) -> Result<(), Error> {
        while self.decoded.is_empty() && self.next_sample <= self.track.samples.len() {
            let frames = match self.track.samples.get(self.next_sample).copied() {
                Some(sample) => {
                    let pts_us = micros(sample.pts - self.track.start, self.track.timescale);
                    self.read_sample(sample.offset, sample.size)
                        .map_err(|source| Error::Mp4 { name: self.name.clone(), source })?;
                    self.decoder.decode(&self.annex_b, pts_us)
                }
                None => self.decoder.flush(),
            };
            let frames = frames.map_err(|source| Error::Decode { name: self.name.clone(), source })?;
            self.next_sample += 1;
            let end_us = micros(self.track.end.saturating_sub(self.track.start), self.track.timescale);
            self.decoded.extend(frames.into_iter().filter(|frame| (0..end_us).contains(&frame.pts_us)));
        }
        Ok(())
    }

    fn read(&mut self, offset: u64, size: u32) -> Result<(), Mp4Error> {
        self.sample.resize(size as usize, 0);
        self.file.seek(SeekFrom::Start(offset))?;
        Ok(self.file.read_exact(&mut self.sample)?)
    }

    /// Reads a sample into `annex_b`, behind the track's parameter sets if it is the first.
    fn read_sample(&mut self, offset: u64, size: u32) -> Result<(), Mp4Error> {
        self.read(offset, size)?;
        self.annex_b.clear();
        if !std::mem::replace(&mut self.begun, true) {
            self.annex_b.extend_from_slice(&self.track.configuration.parameter_sets);
        }
        self.track.configuration.push_annex_b(&mut self.annex_b, &self.sample)
    }
}

impl Source for Mp4Source {
    fn info(&self) -> &Info {
        &self.info
    }

    fn audio(&self) -> Option<&audio::Track> {
        self.audio.as_ref().map(|audio| &audio.track)
    }

    fn next(&mut self) -> Result<Option<Item>, Error> {
        loop {
            self.decode_more()?;
            let until_us = match self.decoded.front() {
                Some(frame) => frame.pts_us.saturating_add(1),
                None => self.info.duration_us.unwrap_or(0),
            };
            if let Some((offset, size, pts_us)) = self.audio.as_mut().and_then(|audio| audio.due(until_us)) {
                let read = self.read(offset, size);
                read.map_err(|source| Error::Mp4 { name: self.name.clone(), source })?;
                return Ok(Some(Item::Audio(audio::Packet { data: self.sample.clone(), pts_us })));
            }
            let Some(frame) = self.decoded.pop_front() else { return Ok(None) };
            if fits(&self.name, &self.info, &mut self.last_us, &frame)? {
                return Ok(Some(Item::Frame(frame)));
            }
        }
    }
}

/// Told by the first bytes: names lie.
fn is_matroska(file: &mut dyn ReadSeek) -> std::io::Result<bool> {
    let mut magic = Vec::new();
    file.take(mkv::MAGIC.len() as u64).read_to_end(&mut magic)?;
    Ok(magic == mkv::MAGIC)
}

/// Moves the track's start to the first frame shown at or after `start_us`, and gives the sample to decode from:
/// the last keyframe that is shown no later. None if nothing is shown from there on.
fn seek(track: &mut Track, start_us: i64) -> Option<usize> {
    if start_us <= 0 {
        return Some(0);
    }
    let shown = track.samples.iter().map(|sample| sample.pts).filter(|&pts| pts < track.end);
    track.start =
        shown.filter(|pts| micros(pts.saturating_sub(track.start), track.timescale) >= start_us).min()?;
    track.samples.iter().rposition(|sample| sample.sync && sample.pts <= track.start).or(Some(0))
}

/// Mean frame rate and duration in microseconds of what a track shows.
fn timing(track: &Track) -> (f64, i64) {
    let shown = track.samples.iter().filter(|sample| (track.start..track.end).contains(&sample.pts));
    let (mut count, mut first, mut last) = (0_i64, i64::MAX, (i64::MIN, 0));
    for sample in shown {
        count += 1;
        first = first.min(sample.pts);
        last = last.max((sample.pts, sample.duration));
    }
    let span_us = if count > 0 { micros(last.0.saturating_sub(first), track.timescale) } else { 0 };
    let last_us = micros(i64::from(last.1), track.timescale);
    #[expect(clippy::cast_precision_loss, reason = "a mean")]
    let fps = match (count, span_us, last_us) {
        (2.., 1.., _) => (count - 1) as f64 * 1e6 / span_us as f64,
        (_, _, 1..) => 1e6 / last_us as f64,
        _ => FALLBACK_FPS,
    };
    (fps, span_us.saturating_add(last_us))
}

/// Frame rate of a file that says nothing about time.
const FALLBACK_FPS: f64 = 25.0;
