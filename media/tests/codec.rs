//! Encoder and decoder against each other.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod common;

use common::{config, packed, packets, picture, psnr};
use hone_media::decode::{self, Decoder, Limits};
use hone_media::encode::{self, Config, Encoder};
use hone_media::frame::{Colour, I420, Matrix, Range};
use proptest::prelude::*;

#[test]
fn every_picture_comes_back_at_once_with_its_time() {
    let config = config(320, 192);
    // Uneven on purpose: a camera's clock.
    let times: Vec<i64> = (0..30).map(|i| i * 40_000 + (i % 3) * 1_111 - 500_000).collect();
    let mut decoder = Decoder::new(Limits::default()).unwrap();
    for (packet, index) in packets(&config, times.iter().copied()).iter().zip(0..) {
        let frames = decoder.decode(&packet.data, packet.pts_us).unwrap();
        assert_eq!(frames.len(), 1, "frame {index} was held back");
        assert_eq!(frames[0].pts_us, times[index as usize]);
        let quality = psnr(frames[0].image.y(), picture(320, 192, index).y());
        assert!(quality > 26.0, "frame {index}: {quality:.1} dB");
    }
    assert!(decoder.flush().unwrap().is_empty());
}

#[test]
fn keyframes_open_groups_and_carry_parameter_sets() {
    let config = config(160, 96);
    let mut encoder = Encoder::new(&config).unwrap();
    for index in 0..40 {
        let forced = index == 0 || index == 17;
        let packet = encoder.encode(&picture(160, 96, index), i64::from(index) * 40_000, forced).unwrap();
        // A forced keyframe restarts the group of 12: 0, 12, 17, 29.
        assert_eq!(packet.keyframe, [0, 12, 17, 29].contains(&index), "frame {index}");
        if packet.keyframe {
            // A decoder that joins here gets a picture.
            let mut late = Decoder::new(Limits::default()).unwrap();
            assert_eq!(late.decode(&packet.data, 0).unwrap().len(), 1);
        }
    }
}

#[test]
fn colour_tags_survive() {
    for matrix in [Matrix::Bt601, Matrix::Bt709, Matrix::Bt2020] {
        for range in [Range::Limited, Range::Full] {
            let colour = Colour { matrix, range };
            let packet = packets(&Config { colour, ..config(160, 96) }, [0]).remove(0);
            let mut decoder = Decoder::new(Limits::default()).unwrap();
            assert_eq!(decoder.decode(&packet.data, 0).unwrap()[0].colour, colour);
        }
    }
}

#[test]
fn the_quantiser_rises_where_bits_are_few() {
    let [fine, coarse] = [4000, 40].map(|bitrate_kbps| {
        let config = Config { bitrate_kbps, ..config(320, 192) };
        let mut decoder = Decoder::new(Limits::default()).unwrap();
        let frames = packets(&config, (0..30).map(|i| i * 40_000)).into_iter();
        let quantisers = frames.map(|p| decoder.decode(&p.data, p.pts_us).unwrap()[0].quantiser.unwrap());
        quantisers.last().unwrap()
    });
    assert!(fine + 10 < coarse && coarse <= 51, "{fine}, {coarse}");
}

#[test]
fn same_input_gives_the_same_bytes() {
    let config = config(160, 96);
    assert_eq!(packets(&config, (0..20).map(|i| i * 40_000)), packets(&config, (0..20).map(|i| i * 40_000)));
}

fn kbps(packets: &[encode::Packet], fps: f64) -> f64 {
    let bytes: usize = packets.iter().map(|packet| packet.data.len()).sum();
    bytes as f64 * 8.0 * fps / packets.len() as f64 / 1000.0
}

#[test]
fn bitrate_is_held_and_follows_changes() {
    let config = Config { gop_frames: 50, ..Config::new(640, 360, 25.0, 800) };
    let mut encoder = Encoder::new(&config).unwrap();
    let run = |encoder: &mut Encoder, from: u32, to: u32| -> Vec<encode::Packet> {
        (from..to)
            .map(|i| encoder.encode(&picture(640, 360, i), i64::from(i) * 40_000, false).unwrap())
            .collect()
    };
    let before = run(&mut encoder, 0, 150);
    encoder.set_bitrate_kbps(300).unwrap();
    let mut decoder = Decoder::new(Limits::default()).unwrap();
    for packet in &before {
        assert_eq!(decoder.decode(&packet.data, packet.pts_us).unwrap().len(), 1, "no buffer is lost");
    }
    let settling = run(&mut encoder, 150, 200);
    let after = run(&mut encoder, 200, 350);
    let (before, after) = (kbps(&before, 25.0), kbps(&after, 25.0));
    assert!((before / 800.0 - 1.0).abs() < 0.1, "{before:.0} kbps for 800");
    assert!((after / 300.0 - 1.0).abs() < 0.1, "{after:.0} kbps for 300");
    assert!(!settling.iter().any(|packet| packet.data.is_empty()), "no frame is skipped");
}

#[test]
fn bitrate_may_rise_a_hundredfold() {
    let mut encoder = Encoder::new(&Config::new(320, 192, 25.0, 50)).unwrap();
    let mut packets = Vec::new();
    for (index, target) in (0..).zip([50; 25].into_iter().chain([5_000; 75])) {
        encoder.set_bitrate_kbps(target).unwrap();
        packets.push(encoder.encode(&picture(320, 192, index), i64::from(index) * 40_000, false).unwrap());
    }
    let (low, high) = (kbps(&packets[..25], 25.0), kbps(&packets[50..], 25.0));
    assert!(high > 10.0 * low, "{low:.0} kbps, then {high:.0}");
    assert!(encoder.set_bitrate_kbps(0).is_err());
}

#[test]
fn a_cut_late_in_a_group_puts_its_end_off() {
    let keyframes = |cuts: &[u32]| -> Vec<usize> {
        let mut encoder = Encoder::new(&Config { gop_frames: 10, ..config(160, 96) }).unwrap();
        let mut luma = 40;
        let packets = (0..50).map(|i| {
            luma = if cuts.contains(&i) { 220 - luma } else { luma };
            let mut image = I420::new(160, 96).unwrap();
            image.y_mut().fill(luma);
            encoder.encode(&image, i64::from(i) * 40_000, false).unwrap()
        });
        packets.enumerate().filter_map(|(i, packet)| packet.keyframe.then_some(i)).collect()
    };
    assert_eq!(keyframes(&[]), [0, 10, 20, 30, 40]);
    assert_eq!(keyframes(&[4, 18]), [0, 10, 28, 38, 48]);
    // Cuts without end: still a keyframe every other group.
    assert_eq!(keyframes(&[8, 16, 27, 38, 45]), [0, 20, 37]);
}

#[test]
fn threads_share_a_picture() {
    let config = Config { threads: 2, ..config(320, 192) };
    let mut decoder = Decoder::new(Limits::default()).unwrap();
    for (packet, index) in packets(&config, (0..20).map(|i| i * 40_000)).iter().zip(0..) {
        let frames = decoder.decode(&packet.data, packet.pts_us).unwrap();
        assert_eq!(frames.len(), 1);
        assert!(psnr(frames[0].image.y(), picture(320, 192, index).y()) > 26.0, "frame {index}");
    }
}

#[test]
fn configurations_are_checked() {
    let refused = |config: Config| Encoder::new(&config).err().expect("must be refused");
    for (width, height) in [(161, 96), (160, 0), (3842, 2160), (8, 8), (2400, 2400)] {
        assert!(matches!(refused(config(width, height)), encode::Error::Size { .. }), "{width}x{height}");
    }
    for bad in [
        Config { fps: 0.0, ..config(160, 96) },
        Config { fps: f64::NAN, ..config(160, 96) },
        Config { bitrate_kbps: 0, ..config(160, 96) },
        Config { bitrate_kbps: u32::MAX, ..config(160, 96) },
        Config { gop_frames: 0, ..config(160, 96) },
    ] {
        assert!(matches!(refused(bad), encode::Error::Setting { .. }), "{bad:?}");
    }
    let mut encoder = Encoder::new(&config(160, 96)).unwrap();
    assert!(matches!(encoder.encode(&picture(96, 160, 0), 0, false), Err(encode::Error::Size { .. })));
}

#[test]
fn a_late_decoder_waits_for_a_keyframe_and_a_gap_heals_at_the_next() {
    let config = config(160, 96);
    let packets = packets(&config, (0..36).map(|i| i * 40_000));
    let mut whole = Decoder::new(Limits::default()).unwrap();
    let truth: Vec<_> =
        packets.iter().flat_map(|packet| whole.decode(&packet.data, packet.pts_us).unwrap()).collect();
    let mut decoder = Decoder::new(Limits::default()).unwrap();
    assert!(matches!(decoder.decode(&packets[3].data, 0), Err(decode::Error::NoKeyframe)));
    for packet in &packets[..8] {
        decoder.decode(&packet.data, packet.pts_us).unwrap();
    }
    // Frame 8 is lost; whatever comes until the keyframe 12 may be wrong, but not its neighbours' times.
    for packet in &packets[9..12] {
        for frame in decoder.decode(&packet.data, packet.pts_us).unwrap_or_default() {
            assert_eq!(frame.pts_us, packet.pts_us);
        }
    }
    for (packet, truth) in packets.iter().zip(&truth).skip(12) {
        let frames = decoder.decode(&packet.data, packet.pts_us).unwrap();
        assert_eq!(frames.len(), 1);
        assert_eq!(frames[0].pts_us, truth.pts_us);
        assert!(packed(&frames[0].image) == packed(&truth.image), "decoding is exact");
    }
}

#[test]
fn limits_refuse_before_the_codec_sees_anything() {
    let packet = packets(&config(320, 192), [0]).remove(0);
    let mut small = Decoder::new(Limits { max_pixels: 160 * 96, ..Limits::default() }).unwrap();
    let error = small.decode(&packet.data, 0).unwrap_err();
    assert!(matches!(error, decode::Error::Unsupported(decode::Unsupported::Size { .. })), "{error}");
    let mut short = Decoder::new(Limits { max_access_unit_bytes: 10, ..Limits::default() }).unwrap();
    assert!(matches!(short.decode(&packet.data, 0), Err(decode::Error::TooLarge { limit: 10, .. })));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600), kind in 0_u8..32) {
        let mut decoder = Decoder::new(Limits::default()).unwrap();
        let _ = decoder.decode(&bytes, 0);
        let _ = decoder.decode(&[&[0, 0, 0, 1, kind | 0x60][..], &bytes].concat(), 1);
        let _ = decoder.flush();
    }

    #[test]
    fn mutated_streams_never_panic(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12)) {
        static STREAM: std::sync::OnceLock<Vec<encode::Packet>> = std::sync::OnceLock::new();
        let packets = STREAM.get_or_init(|| packets(&config(96, 64), (0..6).map(|i| i * 40_000)));
        let mut decoder = Decoder::new(Limits::default()).unwrap();
        for (packet, number) in packets.iter().zip(0..) {
            let mut data = packet.data.clone();
            for (at, value) in edits.iter().skip(number % 3) {
                let at = at.index(data.len());
                data[at] = *value;
            }
            let _ = decoder.decode(&data, packet.pts_us);
        }
        let _ = decoder.flush();
    }
}
