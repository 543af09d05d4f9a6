//! Matroska and WebM files, as far as this crate needs them: the same tables of an H.264 and an audio track that an MP4
//! file has in its header, here gathered from the heads of all blocks. Pictures stay in the file until their turn comes.
//!
//! Source: RFC 8794 (EBML), RFC 9559 (Matroska); draft-ietf-cellar-codec for what a codec keeps in `CodecPrivate`.

mod block;
mod ebml;
mod tracks;

use std::io::{Read, Seek, SeekFrom};

use self::block::Block;
use self::ebml::{Element, id};
use self::tracks::{Tracks, Wanted};
use crate::audio;
use crate::limits::{MAX_HEADER_BOX_BYTES, MAX_SAMPLES};
use crate::mp4::Error;
use crate::mp4::movie::Track;
use crate::mp4::sound::Sound;
use crate::mp4::table::{Sample, check_sample_count, check_sample_size};
use crate::mp4::track::Presentation;

/// What every Matroska file begins with: the identifier of its EBML header.
pub(crate) const MAGIC: [u8; 4] = [0x1a, 0x45, 0xdf, 0xa3];

/// Times are kept in microseconds: the file's own ticks may be of any length.
const TIMESCALE: u32 = 1_000_000;
/// Bytes that are read of an element at first: its head, and that of a block in it.
const HEAD_BYTES: usize = 32;
/// Bytes that are read of a block which holds several frames: their lengths.
const LACE_BYTES_MAX: usize = 4096;
/// Most elements that are looked at: a few for each sample of two tracks.
const ELEMENTS_MAX: usize = 4 * MAX_SAMPLES;

/// Reads the tracks of a file and lists the samples of its first H.264 track, and of the first audio that we carry.
pub(crate) fn open<R: Read + Seek>(file: &mut R) -> Result<Track, Error> {
    let len = file.seek(SeekFrom::End(0))?;
    let mut scan =
        Scan { file, len, head: Vec::new(), tick_ns: 1_000_000, cluster: 0, tracks: None, elements: 0 };
    scan.run()?;
    let Some(Tracks { video, audio }) = scan.tracks else {
        return Err(Error::Damaged { name: "Tracks", problem: "is missing: the file is cut short" });
    };
    let tracks::Video { configuration, wanted } = video;
    let mut samples = wanted.finish();
    let first = samples.iter().position(|sample| sample.sync).ok_or(Error::Empty)?;
    samples.drain(..first);
    let start = samples.iter().map(|sample| sample.pts).min().ok_or(Error::Empty)?;
    let sound = audio.filter(|audio| !audio.wanted.samples.is_empty()).map(|audio| Sound {
        config: audio.config,
        // What a decoder throws away at the beginning is counted in the blocks' times.
        presentation: Presentation::new(TIMESCALE, audio.wanted.delay_us),
        samples: audio.wanted.finish(),
        end: i64::MAX,
    });
    let presentation = Presentation::new(TIMESCALE, 0);
    Ok(Track { timescale: TIMESCALE, configuration, samples, start, end: i64::MAX, presentation, sound })
}

/// A walk over the elements of a file. Segment and clusters are entered, so that their lengths do not matter: a live
/// recording leaves them unknown.
struct Scan<'a, R> {
    file: &'a mut R,
    len: u64,
    /// First bytes of the element that is looked at.
    head: Vec<u8>,
    /// Length of a tick of the blocks' times, in nanoseconds.
    tick_ns: u64,
    /// When the cluster begins, in ticks.
    cluster: u64,
    tracks: Option<Tracks>,
    elements: usize,
}

impl<R: Read + Seek> Scan<'_, R> {
    fn run(&mut self) -> Result<(), Error> {
        let mut at = match self.element(0)? {
            Some(Element { id: id::EBML, size: Some(size), data, .. }) => data.saturating_add(size),
            _ => return Err(Error::Damaged { name: "EBML", problem: "has no length" }),
        };
        loop {
            let element = match self.element(at) {
                Ok(Some(element)) => element,
                Ok(None) => break,
                // What came before it counts, as it does where a file is cut.
                Err(error @ Error::Damaged { .. }) if self.tracks.is_some() => {
                    tracing::warn!(%error, at, "the file is read up to here");
                    break;
                }
                Err(error) => return Err(error),
            };
            let end = element.size.map(|size| element.data.saturating_add(size));
            if matches!(element.id, id::SEGMENT | id::CLUSTER) {
                at = element.data;
                continue;
            }
            let Some(end) = end else {
                return Err(Error::Damaged { name: "an element", problem: "has no length" });
            };
            // What leaves the file is the cut end of a recording, and a second header another recording.
            if end > self.len || element.id == id::EBML {
                break;
            }
            match element.id {
                id::INFO => self.tick_ns = tracks::tick_ns(&self.payload(&element)?)?,
                id::TRACKS if self.tracks.is_none() => {
                    self.tracks = Some(Tracks::parse(&self.payload(&element)?)?);
                }
                id::TIMESTAMP => self.cluster = ebml::unsigned(&self.payload(&element)?)?,
                id::SIMPLE_BLOCK => self.block(&element, None)?,
                id::BLOCK_GROUP => self.group(element.data, end)?,
                _ => {}
            }
            at = end;
        }
        Ok(())
    }

    /// The element that begins at `at`, if it does so within the file; its first bytes are in `head`.
    fn element(&mut self, at: u64) -> Result<Option<Element>, Error> {
        self.elements += 1;
        if self.elements > ELEMENTS_MAX {
            let limit = ELEMENTS_MAX as u64;
            return Err(Error::TooLarge { what: "an element count of", have: limit + 1, limit });
        }
        self.read(at, HEAD_BYTES)?;
        Element::parse(&self.head, at)
    }

    /// Reads `bytes` bytes into `head`, or as many as there are.
    fn read(&mut self, at: u64, bytes: usize) -> Result<(), Error> {
        let bytes = usize::try_from(self.len.saturating_sub(at)).unwrap_or(usize::MAX).min(bytes);
        self.head.resize(bytes, 0);
        self.file.seek(SeekFrom::Start(at))?;
        Ok(self.file.read_exact(&mut self.head)?)
    }

    /// All of an element that lies within the file.
    fn payload(&mut self, element: &Element) -> Result<Vec<u8>, Error> {
        let size = element.size.unwrap_or(0);
        if size > MAX_HEADER_BOX_BYTES {
            return Err(Error::TooLarge {
                what: "headers of bytes",
                have: size,
                limit: MAX_HEADER_BOX_BYTES,
            });
        }
        self.read(element.data, usize::try_from(size).unwrap_or(usize::MAX))?;
        Ok(std::mem::take(&mut self.head))
    }

    /// A block with more to say of it than there is in its head.
    fn group(&mut self, mut at: u64, end: u64) -> Result<(), Error> {
        let (mut block, mut refers) = (None, false);
        while at < end {
            let Some(element) = self.element(at)? else { break };
            let Some(size) = element.size else { break };
            match element.id {
                id::BLOCK => block = Some(element),
                id::REFERENCE_BLOCK => refers = true,
                _ => {}
            }
            at = element.data.saturating_add(size);
        }
        match block {
            Some(block) if at <= end => {
                self.read(block.at, HEAD_BYTES)?;
                self.block(&block, Some(!refers))
            }
            // Its parts are longer than itself.
            _ => Ok(()),
        }
    }

    /// Lists the frames of a block whose first bytes are in `head`; `sync` is told where its own head does not.
    fn block(&mut self, element: &Element, sync: Option<bool>) -> Result<(), Error> {
        let Some(tracks) = &mut self.tracks else { return Ok(()) };
        let size = element.size.unwrap_or(0);
        let skip = usize::try_from(element.data - element.at).unwrap_or(usize::MAX);
        let within = |bytes: &[u8]| -> usize { usize::try_from(size).unwrap_or(usize::MAX).min(bytes.len()) };
        let bytes = self.head.get(skip..).unwrap_or_default();
        let mut block = Block::parse(&bytes[..within(bytes)])?;
        let is_audio = tracks.audio.as_ref().is_some_and(|audio| audio.wanted.number == block.track);
        if !is_audio && tracks.video.wanted.number != block.track {
            return Ok(());
        }
        let lengths = if block.lacing == block::Lacing::None {
            vec![size.saturating_sub(block.bytes as u64)]
        } else {
            self.read(element.data, LACE_BYTES_MAX)?;
            let bytes = &self.head[..within(&self.head)];
            block.lengths(bytes, size)?
        };
        let Some(tracks) = &mut self.tracks else { return Ok(()) };
        let ticks = i128::from(self.cluster) + i128::from(block.ticks);
        let us = (ticks * i128::from(self.tick_ns) + 500).div_euclid(1000);
        let time_us = i64::try_from(us).unwrap_or(i64::MAX);
        let frames = block::Frames {
            offset: element.data + block.bytes as u64,
            lengths,
            time_us,
            sync: sync.unwrap_or(block.keyframe),
        };
        if !is_audio {
            return tracks.video.wanted.push(&frames, check_sample_size);
        }
        let Some(audio) = &mut tracks.audio else { return Ok(()) };
        let pushed = audio.wanted.push(&frames, |size| audio::check_packet(size as usize));
        if let Err(error) = pushed {
            // The pictures are as good without it.
            tracing::warn!(%error, "the file's audio track is left out");
            tracks.audio = None;
        }
        Ok(())
    }
}

impl Wanted {
    /// Adds the frames of a block.
    fn push<E: From<Error>>(
        &mut self,
        frames: &block::Frames,
        check: impl Fn(u32) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut offset = frames.offset;
        for (&length, index) in frames.lengths.iter().zip(0_i64..) {
            let size = u32::try_from(length).unwrap_or(u32::MAX);
            if size > 0 {
                check(size)?;
                check_sample_count(self.samples.len() + 1)?;
                let pts = frames.time_us.saturating_add(index.saturating_mul(self.frame_us.into()));
                self.samples.push(Sample { offset, size, pts, duration: self.frame_us, sync: frames.sync });
            }
            offset = offset.saturating_add(length);
        }
        Ok(())
    }

    /// The samples; where nothing says how long they last, the mean does.
    fn finish(mut self) -> Vec<Sample> {
        let times = || self.samples.iter().map(|sample| sample.pts);
        if let (0, Some(first), Some(last)) = (self.frame_us, times().min(), times().max()) {
            let steps = i64::try_from(self.samples.len()).unwrap_or(i64::MAX) - 1;
            let mean =
                last.saturating_sub(first).checked_div(steps).and_then(|mean| u32::try_from(mean).ok());
            let mean = mean.unwrap_or(0);
            self.samples.iter_mut().for_each(|sample| sample.duration = mean);
        }
        self.samples
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    fn element(id: u32, payload: &[u8]) -> Vec<u8> {
        let id: Vec<u8> = id.to_be_bytes().into_iter().skip_while(|&byte| byte == 0).collect();
        let size = u32::try_from(payload.len()).unwrap() | 0x1000_0000;
        [&id[..], &size.to_be_bytes(), payload].concat()
    }

    fn live(id: u32, payload: &[u8]) -> Vec<u8> {
        [&id.to_be_bytes()[..], &[0x01, 255, 255, 255, 255, 255, 255, 255], payload].concat()
    }

    fn track(number: u8, kind: u8, codec: &[u8], private: &[u8], more: &[u8]) -> Vec<u8> {
        let parts = [
            element(id::TRACK_NUMBER, &[number]),
            element(id::TRACK_TYPE, &[kind]),
            element(id::CODEC_ID, codec),
            element(id::CODEC_PRIVATE, private),
            more.to_vec(),
        ];
        element(id::TRACK_ENTRY, &parts.concat())
    }

    const AVCC: [u8; 15] = [1, 66, 0, 30, 0xff, 0xe1, 0, 2, 0x67, 66, 1, 0, 2, 0x68, 0xce];

    /// Pictures of 10, 11 and 12 bytes, a lace of three packets of AAC, a cluster without a length.
    fn file() -> Vec<u8> {
        let tracks = [
            track(
                1,
                1,
                b"V_MPEG4/ISO/AVC",
                &AVCC,
                &element(id::DEFAULT_DURATION, &40_000_000_u32.to_be_bytes()),
            ),
            track(2, 2, b"A_MPEG/L3", &[], &[]),
            track(3, 2, b"A_AAC", &[0x11, 0x90], &element(id::CODEC_DELAY, &20_000_000_u32.to_be_bytes())),
        ];
        let block = |head: &[u8], bytes: usize| [head, &vec![7; bytes]].concat();
        let group =
            [element(id::BLOCK, &block(&[0x81, 0, 80, 0], 11)), element(id::REFERENCE_BLOCK, &[0xd8])];
        let first = [
            element(id::TIMESTAMP, &[1, 0]),
            element(id::SIMPLE_BLOCK, &block(&[0x81, 0, 0, 0x80], 10)),
            element(id::SIMPLE_BLOCK, &block(&[0x83, 0, 4, 0x82, 2, 5, 6], 5 + 6 + 7)),
            element(id::BLOCK_GROUP, &group.concat()),
        ];
        let second =
            [element(id::TIMESTAMP, &[1, 99]), element(id::SIMPLE_BLOCK, &block(&[0x81, 0xff, 0xf0, 0], 12))];
        let segment = [
            element(id::INFO, &element(id::TIMESTAMP_SCALE, &500_000_u32.to_be_bytes())),
            element(id::TRACKS, &tracks.concat()),
            live(id::CLUSTER, &first.concat()),
            element(id::CLUSTER, &second.concat()),
        ];
        [element(id::EBML, b"header"), live(id::SEGMENT, &segment.concat())].concat()
    }

    #[test]
    fn blocks_become_samples() {
        let file = file();
        let track = open(&mut Cursor::new(&file)).unwrap();
        let seen = |samples: &[Sample]| -> Vec<(i64, u32, u32, bool)> {
            samples.iter().map(|sample| (sample.pts, sample.size, sample.duration, sample.sync)).collect()
        };
        // Half a millisecond a tick.
        let pictures =
            [(128_000, 10, 40_000, true), (168_000, 11, 40_000, false), (169_500, 12, 40_000, false)];
        assert_eq!(seen(&track.samples), pictures);
        let sound = track.sound.unwrap();
        assert_eq!((sound.config.sample_rate(), sound.presentation.us(130_000)), (48_000, 110_000));
        let packets = [(130_000, 5, 21_333, true), (151_333, 6, 21_333, true), (172_666, 7, 21_333, true)];
        assert_eq!(seen(&sound.samples), packets);
        for sample in track.samples.iter().chain(&sound.samples) {
            let at = usize::try_from(sample.offset).unwrap();
            assert!(file[at..at + sample.size as usize].iter().all(|&byte| byte == 7), "{sample:?}");
        }
    }

    #[test]
    fn a_cut_file_has_what_is_there() {
        let file = file();
        let whole = |cut: usize| open(&mut Cursor::new(&file[..cut])).map(|track| track.samples.len());
        assert_eq!(whole(file.len()).unwrap(), 3);
        assert_eq!(whole(file.len() - 1).unwrap(), 2);
        assert!(matches!(whole(30), Err(Error::Damaged { name: "Tracks", .. })));
    }

    #[test]
    fn what_holds_no_h264_is_refused_by_name() {
        let named = |codec: &[u8], more: &[u8]| {
            let tracks = element(id::TRACKS, &track(1, 1, codec, &AVCC, more));
            let file = [element(id::EBML, b""), live(id::SEGMENT, &tracks)].concat();
            open(&mut Cursor::new(file)).unwrap_err().to_string()
        };
        assert!(named(b"V_VP9", &[]).contains("found VP9"), "{}", named(b"V_VP9", &[]));
        let compressed = named(b"V_MPEG4/ISO/AVC", &element(id::CONTENT_ENCODINGS, &[]));
        assert!(compressed.contains("H.264, compressed again or encrypted"), "{compressed}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(3000) })]

        #[test]
        fn files_that_lie_never_panic(
            edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
            cut in any::<prop::sample::Index>(),
            whole in any::<bool>(),
        ) {
            let mut file = file();
            for (at, value) in edits {
                let at = at.index(file.len());
                file[at] = value;
            }
            if !whole {
                file.truncate(cut.index(file.len()));
            }
            if let Ok(track) = open(&mut Cursor::new(&file)) {
                let sound = track.sound.map(|sound| sound.samples).unwrap_or_default();
                for sample in track.samples.iter().chain(&sound) {
                    prop_assert!(sample.offset + u64::from(sample.size) <= file.len() as u64);
                }
            }
        }
    }
}
