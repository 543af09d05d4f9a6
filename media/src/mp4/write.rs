//! Writing fragmented MP4: one header, then fragments that each stand on their own.

use super::boxes::Name;
use super::table::Sample;

use crate::audio;

/// Ticks per second of the video: media times are microseconds, so nothing is rounded. Audio counts samples.
pub(crate) const TIMESCALE: u32 = 1_000_000;

const VIDEO_TRACK: u32 = 1;
const AUDIO_TRACK: u32 = 2;

/// Appends a box whose payload `fill` writes.
fn boxed(out: &mut Vec<u8>, name: &Name, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(name);
    fill(out);
    let size =
        u32::try_from(out.len() - start).expect("header boxes and fragments are bounded far below 4 GiB");
    out[start..start + 4].copy_from_slice(&size.to_be_bytes());
}

/// Appends a box with version and flags.
fn full_box(out: &mut Vec<u8>, name: &Name, version: u8, flags: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    boxed(out, name, |out| {
        u32s(out, &[u32::from(version) << 24 | flags]);
        fill(out);
    });
}

fn u16s(out: &mut Vec<u8>, values: &[u16]) {
    values.iter().for_each(|value| out.extend_from_slice(&value.to_be_bytes()));
}

fn u32s(out: &mut Vec<u8>, values: &[u32]) {
    values.iter().for_each(|value| out.extend_from_slice(&value.to_be_bytes()));
}

/// The unity transformation matrix.
const MATRIX: [u32; 9] = [0x0001_0000, 0, 0, 0, 0x0001_0000, 0, 0, 0, 0x4000_0000];

/// What the header says of the video.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Video<'a> {
    pub width: u16,
    pub height: u16,
    /// Sequence parameter set, without start code; at least 4 bytes.
    pub sps: &'a [u8],
    /// Picture parameter set, without start code.
    pub pps: &'a [u8],
    /// `colour_primaries`, `transfer_characteristics`, `matrix_coefficients` of ITU-T H.273.
    pub colour: [u16; 3],
    pub full_range: bool,
}

/// `ftyp` and `moov`.
pub(crate) fn header(video: &Video<'_>, sound: Option<&audio::Config>) -> Vec<u8> {
    let mut out = Vec::new();
    boxed(&mut out, b"ftyp", |out| {
        out.extend_from_slice(b"iso5\0\0\x02\0iso5iso6mp41avc1");
    });
    boxed(&mut out, b"moov", |out| {
        full_box(out, b"mvhd", 0, 0, |out| {
            u32s(out, &[0, 0, TIMESCALE, 0]); // created, modified, timescale, duration: in the fragments
            u32s(out, &[0x0001_0000, 0x0100_0000, 0, 0]); // rate 1.0, volume 1.0, reserved
            u32s(out, &MATRIX);
            u32s(out, &[0; 6]);
            u32s(out, &[AUDIO_TRACK + 1]);
        });
        boxed(out, b"trak", |out| video_track(out, video));
        if let Some(sound) = sound {
            boxed(out, b"trak", |out| audio_track(out, sound));
        }
        boxed(out, b"mvex", |out| {
            for track in [VIDEO_TRACK, AUDIO_TRACK].into_iter().take(1 + usize::from(sound.is_some())) {
                full_box(out, b"trex", 0, 0, |out| u32s(out, &[track, 1, 0, 0, 0]));
            }
        });
    });
    out
}

/// What the headers of a track say of it, whatever it holds.
struct Kind {
    id: u32,
    /// Volume: 1.0 for audio, in 8.8 fixed point.
    volume: u16,
    /// Columns and rows, in pixels.
    size: (u16, u16),
    timescale: u32,
    handler: &'static [u8; 4],
}

/// The boxes of a `trak`; `media_header` writes `vmhd` or `smhd`, `entry` the sample entry.
fn track(
    out: &mut Vec<u8>,
    kind: &Kind,
    media_header: impl FnOnce(&mut Vec<u8>),
    entry: impl FnOnce(&mut Vec<u8>),
) {
    const ENABLED_IN_MOVIE: u32 = 3;
    full_box(out, b"tkhd", 0, ENABLED_IN_MOVIE, |out| {
        u32s(out, &[0, 0, kind.id, 0, 0, 0, 0]);
        u16s(out, &[0, 0, kind.volume, 0]); // layer, alternate group
        u32s(out, &MATRIX);
        u32s(out, &[u32::from(kind.size.0) << 16, u32::from(kind.size.1) << 16]);
    });
    boxed(out, b"mdia", |out| {
        const UNDETERMINED_LANGUAGE: u16 = 0x55c4;
        full_box(out, b"mdhd", 0, 0, |out| {
            u32s(out, &[0, 0, kind.timescale, 0]);
            u16s(out, &[UNDETERMINED_LANGUAGE, 0]);
        });
        full_box(out, b"hdlr", 0, 0, |out| {
            u32s(out, &[0]);
            out.extend_from_slice(kind.handler);
            out.extend_from_slice(&[0; 13]); // reserved, and an empty name
        });
        boxed(out, b"minf", |out| {
            media_header(out);
            boxed(out, b"dinf", |out| {
                full_box(out, b"dref", 0, 0, |out| {
                    u32s(out, &[1]);
                    full_box(out, b"url ", 0, 1, |_| {}); // in this very file
                });
            });
            boxed(out, b"stbl", |out| {
                full_box(out, b"stsd", 0, 0, |out| {
                    u32s(out, &[1]);
                    entry(out);
                });
                full_box(out, b"stts", 0, 0, |out| u32s(out, &[0]));
                full_box(out, b"stsc", 0, 0, |out| u32s(out, &[0]));
                full_box(out, b"stsz", 0, 0, |out| u32s(out, &[0, 0]));
                full_box(out, b"stco", 0, 0, |out| u32s(out, &[0]));
            });
        });
    });
}

fn video_track(out: &mut Vec<u8>, video: &Video<'_>) {
    let size = (video.width, video.height);
    let kind = Kind { id: VIDEO_TRACK, volume: 0, size, timescale: TIMESCALE, handler: b"vide" };
    let media_header = |out: &mut Vec<u8>| full_box(out, b"vmhd", 0, 1, |out| u16s(out, &[0; 4]));
    track(out, &kind, media_header, |out| boxed(out, b"avc1", |out| sample_entry(out, video)));
}

fn audio_track(out: &mut Vec<u8>, sound: &audio::Config) {
    let timescale = sound.sample_rate();
    let kind = Kind { id: AUDIO_TRACK, volume: 0x0100, size: (0, 0), timescale, handler: b"soun" };
    let media_header = |out: &mut Vec<u8>| full_box(out, b"smhd", 0, 0, |out| u16s(out, &[0; 2]));
    let name = match sound.codec() {
        audio::Codec::Aac => b"mp4a",
        audio::Codec::Opus => b"Opus",
    };
    track(out, &kind, media_header, |out| {
        boxed(out, name, |out| {
            u16s(out, &[0, 0, 0, 1]); // reserved, data_reference_index
            u16s(out, &[0; 4]);
            u16s(out, &[sound.channels(), 16, 0, 0]); // bits a sample, by custom
            // 16.16 fixed point; a rate that does not fit is in the decoder's configuration.
            u16s(out, &[u16::try_from(timescale).unwrap_or(0), 0]);
            let (name, payload) = sound.mp4_box();
            // `esds` is a full box; the codec's part brings its version along.
            boxed(out, &name, |out| out.extend_from_slice(&payload));
        });
    });
}

fn sample_entry(out: &mut Vec<u8>, video: &Video<'_>) {
    u16s(out, &[0, 0, 0, 1]); // reserved, data_reference_index
    u16s(out, &[0; 8]);
    u16s(out, &[video.width, video.height]);
    u32s(out, &[0x0048_0000, 0x0048_0000, 0]); // 72 dpi
    u16s(out, &[1]); // frames per sample
    out.extend_from_slice(&[0; 32]); // compressor name
    u16s(out, &[0x0018, 0xffff]); // depth, pre_defined
    boxed(out, b"avcC", |out| {
        out.push(1);
        out.extend_from_slice(&video.sps[1..4]); // profile, compatibility, level
        out.extend_from_slice(&[0xff, 0xe1]); // 4-byte lengths, one SPS
        length_prefixed(out, video.sps);
        out.push(1);
        length_prefixed(out, video.pps);
        if !matches!(video.sps[1], 66 | 77 | 88) {
            out.extend_from_slice(&[0xfd, 0xf8, 0xf8, 0]); // High: 4:2:0, 8 bits, 8 bits, no SPS extension
        }
    });
    boxed(out, b"colr", |out| {
        out.extend_from_slice(b"nclx");
        u16s(out, &video.colour);
        out.push(u8::from(video.full_range) << 7);
    });
}

fn length_prefixed(out: &mut Vec<u8>, unit: &[u8]) {
    u16s(out, &[u16::try_from(unit.len()).expect("the recorder checked the parameter sets")]);
    out.extend_from_slice(unit);
}

/// `moof` and `mdat` of samples that follow each other in `data`, first those of the video, then those of the audio,
/// each in the timescale of its track; `sequence` counts from 1.
pub(crate) fn fragment(sequence: u32, video: &[Sample], sound: &[Sample], data: [&[u8]; 2]) -> Vec<u8> {
    const DEFAULT_BASE_IS_MOOF: u32 = 0x02_0000;
    const OFFSET_DURATION_SIZE_FLAGS: u32 = 0x701;
    const SYNC: u32 = 0x0200_0000; // depends on no other sample
    const NON_SYNC: u32 = 0x0101_0000; // depends on others, is no sync sample
    let bytes = data[0].len() + data[1].len();
    let mut out = Vec::with_capacity(bytes + 12 * (video.len() + sound.len()) + 256);
    // Where each track's offset of its data is to be written, and where its data begins in `mdat`.
    let mut offsets = Vec::new();
    boxed(&mut out, b"moof", |out| {
        full_box(out, b"mfhd", 0, 0, |out| u32s(out, &[sequence]));
        for (track, samples, begin) in [(VIDEO_TRACK, video, 0), (AUDIO_TRACK, sound, data[0].len())] {
            let Some(first) = samples.first() else { continue };
            boxed(out, b"traf", |out| {
                full_box(out, b"tfhd", 0, DEFAULT_BASE_IS_MOOF, |out| u32s(out, &[track]));
                full_box(out, b"tfdt", 1, 0, |out| out.extend_from_slice(&first.pts.to_be_bytes()));
                full_box(out, b"trun", 0, OFFSET_DURATION_SIZE_FLAGS, |out| {
                    u32s(out, &[u32::try_from(samples.len()).expect("fragments are bounded")]);
                    offsets.push((out.len(), begin));
                    u32s(out, &[0]);
                    for sample in samples {
                        u32s(out, &[sample.duration, sample.size, if sample.sync { SYNC } else { NON_SYNC }]);
                    }
                });
            });
        }
    });
    for (at, begin) in offsets {
        let offset = u32::try_from(out.len() + 8 + begin).expect("fragments are bounded");
        out[at..at + 4].copy_from_slice(&offset.to_be_bytes());
    }
    boxed(&mut out, b"mdat", |out| data.iter().for_each(|data| out.extend_from_slice(data)));
    out
}
