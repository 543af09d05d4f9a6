//! Recordings, read back by our own reader and, where it is installed, by ffprobe.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod common;

use common::ffmpeg::have;
use common::{config, ffprobe, packed, packets, record_config};
use hone_media::decode::{Decoder, Limits};
use hone_media::encode::Config;
use hone_media::frame::{Colour, Frame, Matrix, Range};
use hone_media::record::{self, Recorder};
use hone_media::source::{Mp4Source, Source};

/// A camera that cannot keep its rate, starting late.
fn uneven_times() -> Vec<i64> {
    let mut pts_us = 7_000_000;
    (0..40)
        .map(|i| {
            pts_us += [33_333, 33_334, 50_001, 16_667, 400_000][i % 5];
            pts_us
        })
        .collect()
}

fn frames(mut source: impl Source) -> Vec<Frame> {
    std::iter::from_fn(|| source.next_frame().unwrap()).collect()
}

#[test]
fn times_sizes_colours_and_pictures_survive() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("recording.mp4");
    // 1918x1078 in small: neither side is a multiple of 16, so that the stream is cropped.
    let colour = Colour { matrix: Matrix::Bt2020, range: Range::Full };
    let config = Config { colour, ..config(190, 110) };
    let times = uneven_times();
    let packets = packets(&config, times.iter().copied());
    let mut recorder = Recorder::create(&path, record_config(&config)).unwrap();
    packets.iter().for_each(|packet| recorder.write(packet).unwrap());
    recorder.finish().unwrap();

    let source = Mp4Source::open(&path).unwrap();
    let info = *source.info();
    assert_eq!((info.width, info.height, info.colour), (190, 110, colour));
    assert!(source.audio().is_none());
    assert_eq!(info.duration_us, Some(times[39] - times[0] + 40_000));
    let mean = 39e6 / (times[39] - times[0]) as f64;
    assert!((info.fps - mean).abs() < 1e-6, "{} for {mean}", info.fps);
    let frames = frames(source);
    let shown: Vec<i64> = frames.iter().map(|frame| frame.pts_us + times[0]).collect();
    assert_eq!(shown, times);
    let mut decoder = Decoder::new(Limits::default()).unwrap();
    for (frame, packet) in frames.iter().zip(&packets) {
        let direct = decoder.decode(&packet.data, 0).unwrap();
        assert!(packed(&direct[0].image) == packed(&frame.image));
    }

    if have("ffprobe") {
        let seen = ffprobe(&path, "frame=best_effort_timestamp_time");
        let seen: Vec<i64> =
            seen.iter().map(|time| (time.parse::<f64>().unwrap() * 1e6).round() as i64 + times[0]).collect();
        assert_eq!(seen, times);
        let stream = ffprobe(&path, "stream=width,height,color_range,color_space");
        assert_eq!(stream, ["190,110,pc,bt2020nc"]);
    }
}

#[test]
fn a_killed_recording_plays_up_to_the_last_whole_fragment() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("killed.mp4");
    let config = config(160, 96);
    let packets = packets(&config, (0..31).map(|i| i * 40_000));
    let mut recorder = Recorder::create(&path, record_config(&config)).unwrap();
    packets.iter().for_each(|packet| recorder.write(packet).unwrap());
    // What a kill leaves: groups of 12 from 0 and from 12 are on disk, the one from 24 is not.
    let killed = std::fs::read(&path).unwrap();
    recorder.finish().unwrap();
    let whole = std::fs::read(&path).unwrap();
    assert!(whole.starts_with(&killed));
    let count = |bytes: &[u8]| frames(Mp4Source::from_bytes("killed.mp4", bytes.to_vec()).unwrap()).len();
    assert_eq!(count(&killed), 24);
    assert_eq!(count(&whole), 31);
    // A cut anywhere in the last fragment keeps all of those before it.
    for cut in (killed.len()..whole.len()).step_by(97) {
        assert!(count(&whole[..cut]) >= 24, "{cut}");
    }
    // A cut in the header is an error, not a panic.
    for cut in (0..700).step_by(13) {
        assert!(Mp4Source::from_bytes("cut.mp4", whole[..cut].to_vec()).is_err(), "{cut}");
    }
    if have("ffprobe") {
        let cut = folder.path().join("cut.mp4");
        std::fs::write(&cut, &whole[..killed.len() + 50]).unwrap();
        assert!(ffprobe(&cut, "frame=pts").len() >= 24);
    }
}

#[test]
fn dropping_without_finish_keeps_the_tail() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dropped.mp4");
    let config = config(160, 96);
    let mut recorder = Recorder::create(&path, record_config(&config)).unwrap();
    packets(&config, [0, 40_000, 80_000]).iter().for_each(|packet| recorder.write(packet).unwrap());
    drop(recorder);
    assert_eq!(frames(Mp4Source::open(&path).unwrap()).len(), 3);
}

#[test]
fn what_cannot_be_recorded_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("refused.mp4");
    let config = config(160, 96);
    let packets = packets(&config, [0, 40_000, 80_000]);
    let create = |width| Recorder::create(&path, record::Config { width, ..record_config(&config) });
    assert!(matches!(create(161), Err(record::Error::Size(_))));
    assert!(matches!(create(160).unwrap().write(&packets[1]), Err(record::Error::NoKeyframe)));
    assert!(matches!(create(96).unwrap().write(&packets[0]), Err(record::Error::OtherSize { .. })));
    let mut recorder = create(160).unwrap();
    recorder.write(&packets[0]).unwrap();
    recorder.write(&packets[2]).unwrap();
    assert!(matches!(recorder.write(&packets[1]), Err(record::Error::Time { .. })));
    let nowhere = folder.path().join("missing").join("out.mp4");
    let error = Recorder::create(nowhere, record_config(&config)).err().unwrap();
    assert!(error.to_string().contains("out.mp4"), "{error}");
}
