//! Sources that are not plain MP4 files from their beginning: y4m as ffmpeg writes it, files from the middle.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod common;

use std::process::{Command, Stdio};

use common::ffmpeg::{ffmpeg, have};
use common::{ffmpeg_frames, packed};
use hone_media::frame::Range;
use hone_media::source::{Error, Looped, Mp4Source, Source, Y4mSource};

const VIDEO: &str = "-f lavfi -i testsrc2=s=190x110:r=30000/1001:d=1";

fn all(source: &mut dyn Source) -> Vec<(i64, Vec<u8>)> {
    std::iter::from_fn(|| source.next_frame().unwrap()).map(|f| (f.pts_us, packed(&f.image))).collect()
}

#[test]
fn y4m_of_ffmpeg_is_read_from_a_pipe_and_from_a_file() {
    if !have("ffmpeg") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.y4m");
    ffmpeg(&format!("{VIDEO} -pix_fmt yuv420p -color_range pc -f yuv4mpegpipe"), &path);
    let truth = ffmpeg_frames(&path);
    let mut file = Y4mSource::open(&path).unwrap();
    assert_eq!((file.info().width, file.info().height, file.info().colour.range), (190, 110, Range::Full));
    assert_eq!(file.info().duration_us, Some(1_001_000));
    let frames = all(&mut file);
    assert_eq!(frames.iter().flat_map(|(_, planes)| planes).copied().collect::<Vec<u8>>(), truth);
    assert!(frames.iter().map(|(pts_us, _)| *pts_us).eq((0..30).map(|i| (i * 1_001_000 + 15) / 30)));

    let mut child = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(&path)
        .args(["-f", "yuv4mpegpipe", "-"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = Y4mSource::new("stdin", Box::new(child.stdout.take().unwrap())).unwrap();
    assert_eq!((pipe.info().duration_us, pipe.info().live), (None, false));
    assert!(all(&mut pipe) == frames, "the pipe's frames are not the file's");
    assert!(child.wait().unwrap().success());

    let mut part = Y4mSource::open_at(&path, 33_368).unwrap();
    assert_eq!(part.info().duration_us, Some(1_001_000 - 66_733));
    let part = all(&mut part);
    assert_eq!((part.len(), part[0].0, &part[0].1), (28, 0, &frames[2].1));
    for past in [1_001_000, 2_000_000] {
        assert!(matches!(Y4mSource::open_at(&path, past), Err(Error::PastEnd { .. })));
    }

    // As a file it can be repeated, on its own beat.
    let mut looped = Looped::new(|| Y4mSource::open(&path), 1_500_000).unwrap();
    let frames = all(&mut looped);
    assert_eq!(frames[30], (1_001_000, frames[0].1.clone()));
    assert_eq!(frames.len(), 45);

    ffmpeg(&format!("{VIDEO} -pix_fmt yuv422p -f yuv4mpegpipe"), &path);
    let error = Y4mSource::open(&path).err().unwrap().to_string();
    assert!(error.contains("clip.y4m: holds 422 samples"), "{error}");
    let error = Y4mSource::open(folder.path().join("none.y4m")).err().unwrap().to_string();
    assert!(error.contains("none.y4m: no such file"), "{error}");
}

#[test]
fn a_file_can_be_started_in_the_middle() {
    if !have("ffmpeg") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (name, coding) in [
        ("plain", "-bf 0 -g 10"),
        ("b_frames", "-bf 3 -g 12"),
        ("fragments", "-g 9 -movflags frag_keyframe+empty_moov"),
    ] {
        let path = folder.path().join(format!("{name}.mp4"));
        ffmpeg(&format!("{VIDEO} -c:v libx264 -pix_fmt yuv420p {coding}"), &path);
        let whole = all(&mut Mp4Source::open(&path).unwrap());
        assert_eq!(whole.len(), 30);
        for (start_us, first) in [(0, 0), (1, 1), (400_400, 12), (400_500, 13), (966_900, 29)] {
            let mut source = Mp4Source::open_at(&path, start_us).unwrap();
            let start = whole[first].0;
            let left_us = 1_001_000 - start;
            assert!((source.info().duration_us.unwrap() - left_us).abs() < 200, "{name} {:?}", source.info());
            let part = all(&mut source);
            assert_eq!(part.len(), 30 - first, "{name} from {start_us}");
            for (part, whole) in part.iter().zip(&whole[first..]) {
                assert!((part.0 - (whole.0 - start)).abs() <= 1, "{name} from {start_us}: {}", part.0);
                assert_eq!(part.1, whole.1, "{name} from {start_us}: another picture");
            }
            assert_eq!(part[0].0, 0);
        }
        let error = Mp4Source::open_at(&path, 1_001_000).err().unwrap();
        assert!(matches!(error, Error::PastEnd { .. }), "{error}");
    }
}

#[test]
fn a_matroska_file_starts_in_the_middle_and_repeats() {
    if !have("ffmpeg") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.mkv");
    ffmpeg("-f lavfi -i testsrc2=s=190x110:r=25:d=1 -c:v libx264 -pix_fmt yuv420p -bf 2 -g 10", &path);
    let whole = all(&mut Mp4Source::open(&path).unwrap());
    let mut source = Mp4Source::open_at(&path, 410_000).unwrap();
    assert_eq!((source.info().fps, source.info().duration_us), (25.0, Some(560_000)));
    let part = all(&mut source);
    assert_eq!(part.len(), 14);
    for (part, whole) in part.iter().zip(&whole[11..]) {
        assert!(part.0 == whole.0 - 440_000 && part.1 == whole.1, "another picture at {} us", part.0);
    }
    let looped = all(&mut Looped::new(|| Mp4Source::open(&path), 1_500_000).unwrap());
    assert!(looped.iter().map(|(pts_us, _)| *pts_us).eq((0..38).map(|i| i * 40_000)));
}
