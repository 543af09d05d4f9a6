//! Files that lie: nothing may panic, and nothing may be allocated on a claim alone.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod common;

use std::sync::OnceLock;

use common::{config, packets, record_config};
use hone_media::audio;
use hone_media::jpeg;
use hone_media::record::Recorder;
use hone_media::source::{Error, Mp4Error, Mp4Source, Source};
use proptest::prelude::*;

/// A good recording of 14 frames in two fragments, with audio.
fn recording() -> &'static [u8] {
    static FILE: OnceLock<Vec<u8>> = OnceLock::new();
    FILE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("good.mp4");
        let config = config(96, 64);
        let recorder = Recorder::create(&path, record_config(&config)).unwrap();
        let aac = audio::Config::new("mp4a.40.2", &[0x11, 0x90]).unwrap();
        let mut recorder = recorder.with_audio(Some(aac));
        for packet in packets(&config, (0..14).map(|i| i * 40_000)) {
            recorder.write(&packet).unwrap();
            let sound = audio::Packet { data: vec![0x21; 90], pts_us: packet.pts_us };
            recorder.write_audio(&sound).unwrap();
        }
        recorder.finish().unwrap();
        std::fs::read(path).unwrap()
    })
}

fn play(bytes: Vec<u8>) -> Result<usize, Error> {
    let mut source = Mp4Source::from_bytes("hostile.mp4", bytes)?;
    let mut count = 0;
    while source.next_frame()?.is_some() {
        count += 1;
    }
    Ok(count)
}

/// Where the payload of the first box called `name` begins.
fn payload_of(name: &[u8; 4]) -> usize {
    recording().windows(4).position(|window| window == name).unwrap() + 4
}

#[test]
fn claims_are_checked_before_memory_is_taken() {
    assert_eq!(play(recording().to_vec()).unwrap(), 14);
    let patched = |name: &[u8; 4], at: usize, words: &[u32]| {
        let mut bytes = recording().to_vec();
        for (word, index) in words.iter().zip(0..) {
            let start = payload_of(name) + at + 4 * index;
            bytes[start..start + 4].copy_from_slice(&word.to_be_bytes());
        }
        play(bytes)
    };
    let all = u32::MAX;
    // Four thousand million samples of one byte each.
    let huge = patched(b"stsz", 4, &[1, all]);
    assert!(matches!(huge, Err(Error::Mp4 { source: Mp4Error::TooLarge { .. }, .. })), "{huge:?}");
    for (name, at) in [(b"stsz", 8), (b"trun", 4), (b"stts", 4), (b"stco", 4), (b"stsc", 4)] {
        let claimed = patched(name, at, &[all]);
        let harmless = matches!(claimed, Ok(14)) && name != b"stsz" && name != b"trun";
        assert!(harmless || matches!(claimed, Err(Error::Mp4 { .. })), "{name:?}: {claimed:?}");
    }
    // One sample of four gigabytes.
    assert!(matches!(patched(b"trun", 16, &[all]), Err(Error::Mp4 { .. })));
    // A timescale of zero divides by zero.
    let stopped = patched(b"mdhd", 12, &[0]);
    assert!(
        matches!(stopped, Err(Error::Mp4 { source: Mp4Error::Damaged { name: "mdhd", .. }, .. })),
        "{stopped:?}"
    );
}

#[test]
fn audio_that_lies_is_left_out_and_the_pictures_stay() {
    let good = Mp4Source::from_bytes("good.mp4", recording().to_vec()).unwrap();
    assert!(good.audio().is_some());
    let last = |name: &[u8; 4]| recording().windows(4).rposition(|window| window == name).unwrap() + 4;
    // An AudioSpecificConfig of no AAC, a length beyond the box, another descriptor, a timescale of zero, a packet of
    // four gigabytes, more packets than there are, an entry of an unknown version.
    for (name, at, bytes) in [
        (b"esds", 26, &[0xff, 0xff][..]),
        (b"esds", 5, &[0x7f]),
        (b"esds", 4, &[9]),
        (b"mdhd", 12, &[0; 4]),
        (b"trun", 16, &[0xff; 4]),
        (b"trun", 4, &[0xff; 4]),
        (b"mp4a", 8, &[0, 9]),
    ] {
        let mut lie = recording().to_vec();
        let start = last(name) + at;
        assert!(name != b"esds" || at != 26 || lie[start..start + 2] == [0x11, 0x90]);
        lie[start..start + bytes.len()].copy_from_slice(bytes);
        let mut source = Mp4Source::from_bytes("lie.mp4", lie).unwrap();
        assert!(source.audio().is_none(), "{name:?} {at}");
        let frames = std::iter::from_fn(|| source.next_frame().unwrap()).count();
        assert_eq!(frames, 14, "{name:?} {at}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn mutated_files_never_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..10),
        in_header in any::<bool>(),
        cut in any::<prop::sample::Index>(),
        whole in any::<bool>(),
    ) {
        let mut bytes = recording().to_vec();
        let reach = if in_header { payload_of(b"mdat") } else { bytes.len() };
        for (at, value) in edits {
            bytes[at.index(reach)] = value;
        }
        if !whole {
            bytes.truncate(cut.index(bytes.len()));
        }
        let _ = play(bytes);
    }

    #[test]
    fn random_files_never_panic(tail in prop::collection::vec(any::<u8>(), 0..400), kind in 0_usize..4) {
        let name = [b"ftyp", b"moov", b"moof", b"mdat"][kind];
        let size = u32::try_from(tail.len() + 8).unwrap().to_be_bytes();
        let _ = play([&size[..], name, &tail].concat());
        let _ = play(tail);
    }

    #[test]
    fn jpegs_keep_their_pixels(width in 1_u16..40, height in 1_u16..40, seed in any::<u8>()) {
        let rgb: Vec<u8> = (0..u32::from(width) * u32::from(height) * 3)
            .map(|i| (128.0 + 90.0 * (i as f32 * 0.01 + f32::from(seed)).sin()) as u8)
            .collect();
        let bytes = jpeg::encode(&rgb, width, height, 95).unwrap();
        let back = jpeg::decode(&bytes, (width, height)).unwrap();
        prop_assert!(common::psnr(&rgb, &back) > 30.0);
        let scan = jpeg::encode_scan(&rgb, width, height, 95).unwrap();
        prop_assert_eq!(jpeg::decode_scan(&scan, (width, height), 95).unwrap(), back);
    }

    #[test]
    fn mutated_jpegs_never_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let rgb: Vec<u8> = (0..48 * 32 * 3).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let mut bytes = jpeg::encode(&rgb, 48, 32, 80).unwrap();
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let _ = jpeg::decode(&bytes, (48, 32));
        bytes.truncate(cut.index(bytes.len()));
        let _ = jpeg::decode(&bytes, (48, 32));
        let _ = jpeg::decode_scan(&bytes, (48, 32), 80);
    }

    #[test]
    fn random_jpegs_never_panic(tail in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = jpeg::decode(&tail, (16, 16));
        let _ = jpeg::decode(&[&[0xff, 0xd8, 0xff][..], &tail].concat(), (16, 16));
        let _ = jpeg::decode_scan(&tail, (16, 16), 50);
    }
}

#[test]
fn only_the_announced_jpeg_is_taken() {
    let rgb = vec![90; 16 * 8 * 3];
    let good = jpeg::encode(&rgb, 16, 8, 90).unwrap();
    assert!(jpeg::decode(&good, (16, 8)).is_ok());
    for expect in [(8, 16), (16, 16), (17, 8), (16, 7), (0, 0)] {
        assert!(jpeg::decode(&good, expect).is_err(), "{expect:?}");
    }
    let grey = |colour, bytes: &[u8]| {
        let mut out = Vec::new();
        jpeg_encoder::Encoder::new(&mut out, 90).encode(bytes, 16, 8, colour).unwrap();
        out
    };
    for other in
        [grey(jpeg_encoder::ColorType::Luma, &[90; 128]), grey(jpeg_encoder::ColorType::Cmyk, &[90; 512])]
    {
        assert!(matches!(jpeg::decode(&other, (16, 8)), Err(jpeg::Error::Colour(_))));
    }
    assert!(matches!(jpeg::encode(&rgb, 16, 9, 90), Err(jpeg::Error::Buffer { .. })));
    assert!(matches!(jpeg::encode(&rgb, 16, 8, 0), Err(jpeg::Error::Quality(0))));
    assert!(matches!(jpeg::encode(&[], 0, 0, 90), Err(jpeg::Error::Encode(_))));
    assert!(matches!(jpeg::decode_scan(&[], (16, 8), 0), Err(jpeg::Error::Quality(0))));
    assert!(matches!(jpeg::decode_scan(&[], (0, 8), 90), Err(jpeg::Error::Encode(_))));
}
