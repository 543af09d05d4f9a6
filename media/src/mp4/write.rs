//! Writing fragmented MP4: one header, then fragments that each stand on their own.

use super::boxes::Name;
use super::table::Sample;

/// Ticks per second: media times are microseconds, so nothing is rounded.
pub(crate) const TIMESCALE: u32 = 1_000_000;

const TRACK_ID: u32 = 1;

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
pub(crate) fn header(video: &Video<'_>) -> Vec<u8> {
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
            u32s(out, &[TRACK_ID + 1]);
        });
        boxed(out, b"trak", |out| track(out, video));
        boxed(out, b"mvex", |out| {
            full_box(out, b"trex", 0, 0, |out| u32s(out, &[TRACK_ID, 1, 0, 0, 0]));
        });
    });
    out
}

fn track(out: &mut Vec<u8>, video: &Video<'_>) {
    const ENABLED_IN_MOVIE: u32 = 3;
    full_box(out, b"tkhd", 0, ENABLED_IN_MOVIE, |out| {
        u32s(out, &[0, 0, TRACK_ID, 0, 0, 0, 0, 0, 0]);
        u32s(out, &MATRIX);
        u32s(out, &[u32::from(video.width) << 16, u32::from(video.height) << 16]);
    });
    boxed(out, b"mdia", |out| {
        const UNDETERMINED_LANGUAGE: u16 = 0x55c4;
        full_box(out, b"mdhd", 0, 0, |out| {
            u32s(out, &[0, 0, TIMESCALE, 0]);
            u16s(out, &[UNDETERMINED_LANGUAGE, 0]);
        });
        full_box(out, b"hdlr", 0, 0, |out| {
            out.extend_from_slice(b"\0\0\0\0vide\0\0\0\0\0\0\0\0\0\0\0\0video\0");
        });
        boxed(out, b"minf", |out| {
            full_box(out, b"vmhd", 0, 1, |out| u16s(out, &[0; 4]));
            boxed(out, b"dinf", |out| {
                full_box(out, b"dref", 0, 0, |out| {
                    u32s(out, &[1]);
                    full_box(out, b"url ", 0, 1, |_| {}); // in this very file
                });
            });
            boxed(out, b"stbl", |out| {
                full_box(out, b"stsd", 0, 0, |out| {
                    u32s(out, &[1]);
                    boxed(out, b"avc1", |out| sample_entry(out, video));
                });
                full_box(out, b"stts", 0, 0, |out| u32s(out, &[0]));
                full_box(out, b"stsc", 0, 0, |out| u32s(out, &[0]));
                full_box(out, b"stsz", 0, 0, |out| u32s(out, &[0, 0]));
                full_box(out, b"stco", 0, 0, |out| u32s(out, &[0]));
            });
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

/// `moof` and `mdat` for samples that follow each other in `data`; `sequence` counts from 1.
pub(crate) fn fragment(sequence: u32, samples: &[Sample], data: &[u8]) -> Vec<u8> {
    const DEFAULT_BASE_IS_MOOF: u32 = 0x02_0000;
    const OFFSET_DURATION_SIZE_FLAGS: u32 = 0x701;
    const SYNC: u32 = 0x0200_0000; // depends on no other sample
    const NON_SYNC: u32 = 0x0101_0000; // depends on others, is no sync sample
    let mut out = Vec::with_capacity(data.len() + 12 * samples.len() + 128);
    let mut data_offset_at = 0;
    boxed(&mut out, b"moof", |out| {
        full_box(out, b"mfhd", 0, 0, |out| u32s(out, &[sequence]));
        boxed(out, b"traf", |out| {
            full_box(out, b"tfhd", 0, DEFAULT_BASE_IS_MOOF, |out| u32s(out, &[TRACK_ID]));
            full_box(out, b"tfdt", 1, 0, |out| {
                let start = samples.first().map_or(0, |sample| sample.pts);
                out.extend_from_slice(&start.to_be_bytes());
            });
            full_box(out, b"trun", 0, OFFSET_DURATION_SIZE_FLAGS, |out| {
                u32s(out, &[u32::try_from(samples.len()).expect("fragments are bounded")]);
                data_offset_at = out.len();
                u32s(out, &[0]);
                for sample in samples {
                    u32s(out, &[sample.duration, sample.size, if sample.sync { SYNC } else { NON_SYNC }]);
                }
            });
        });
    });
    let data_offset = u32::try_from(out.len() + 8).expect("fragments are bounded");
    out[data_offset_at..data_offset_at + 4].copy_from_slice(&data_offset.to_be_bytes());
    boxed(&mut out, b"mdat", |out| out.extend_from_slice(data));
    out
}
