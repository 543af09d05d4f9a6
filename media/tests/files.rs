//! MP4 and Matroska files of all kinds, made by ffmpeg and compared with what ffmpeg makes of them.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod common;

use std::path::{Path, PathBuf};

use common::ffmpeg::{ffmpeg, have};
use common::{ffmpeg_frames, ffprobe, packed, psnr};
use hone_media::decode;
use hone_media::frame::{Colour, Matrix, Range};
use hone_media::source::{Error, Info, Looped, Mp4Error, Mp4Source, Source};

/// Opens `path` and checks pictures and times, frame by frame, against ffmpeg and ffprobe.
fn same_as_ffmpeg(path: &Path, exact_only: bool) -> (Info, Vec<i64>) {
    let mut source = Mp4Source::open(path).unwrap();
    let info = *source.info();
    let truth = ffmpeg_frames(path);
    let times: Vec<f64> =
        ffprobe(path, "frame=best_effort_timestamp_time").iter().map(|time| time.parse().unwrap()).collect();
    let frame_bytes = (info.width * info.height * 3 / 2) as usize;
    assert_eq!(truth.len() % frame_bytes, 0, "{}x{}", info.width, info.height);
    let mut shown = Vec::new();
    let mut exact = 0;
    for (index, truth) in truth.chunks(frame_bytes).enumerate() {
        let frame = source.next_frame().unwrap().unwrap_or_else(|| panic!("frame {index} is missing"));
        let frame_bytes = packed(&frame.image);
        exact += usize::from(frame_bytes == truth);
        // openh264 gets a few pixels of some B-frames wrong; another picture would be far below this.
        let quality = psnr(&frame_bytes, truth);
        assert!(quality > 38.0, "{}: frame {index} differs: {quality:.1} dB", path.display());
        let expected = ((times[index] - times[0]) * 1e6).round() as i64;
        assert!((frame.pts_us - expected).abs() <= 1, "frame {index}: {} for {expected}", frame.pts_us);
        shown.push(frame.pts_us);
    }
    assert!(source.next_frame().unwrap().is_none(), "more frames than ffmpeg shows");
    assert!(source.next_frame().unwrap().is_none(), "stays at its end");
    println!("{}: {exact} of {} frames are exact", path.display(), shown.len());
    if exact_only {
        assert_eq!(exact, shown.len(), "{}", path.display());
    }
    (info, shown)
}

const VIDEO: &str = "-f lavfi -i testsrc2=s=320x180:r=30:d=2";
const X264: &str = "-c:v libx264 -pix_fmt yuv420p";

#[test]
fn conforming_files_decode_like_in_ffmpeg() {
    if !have("ffmpeg") || !have("ffprobe") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let audio = "-f lavfi -i sine=d=2 -c:a aac";
    let cases: &[(&str, String)] = &[
        ("b_frames", format!("{VIDEO} {X264} -bf 3 -g 20")),
        ("pyramid_open_gop", format!("{VIDEO} {X264} -bf 4 -g 15 -x264-params b-pyramid=normal:open-gop=1")),
        ("many_references", format!("{VIDEO} {X264} -bf 7 -refs 6 -g 250")),
        ("no_b_frames_main", format!("{VIDEO} {X264} -bf 0 -profile:v main")),
        ("baseline", format!("{VIDEO} {X264} -profile:v baseline")),
        ("no_b_frames_slices", format!("{VIDEO} {X264} -bf 0 -slices 4")),
        ("audio_first", format!("{audio} {VIDEO} {X264} -map 0:a -map 1:v")),
        ("audio_second", format!("{VIDEO} -f lavfi -i sine=d=2 {X264} -c:a aac -map 0:v -map 1:a")),
        ("fragmented", format!("{VIDEO} {X264} -movflags frag_keyframe+empty_moov+default_base_moof")),
        ("fragmented_plain_base", format!("{VIDEO} {X264} -g 12 -movflags frag_keyframe+empty_moov")),
        (
            "fragmented_with_audio",
            format!("{VIDEO} -f lavfi -i sine=d=2 {X264} -c:a aac -g 12 -movflags frag_keyframe+empty_moov"),
        ),
        ("header_first", format!("{VIDEO} {X264} -movflags faststart")),
        ("negative_offsets", format!("{VIDEO} {X264} -bf 2 -movflags negative_cts_offsets")),
        ("cropped", format!("-f lavfi -i testsrc2=s=1918x1078:r=30:d=0.3 {X264} -preset ultrafast")),
        ("tiny", format!("-f lavfi -i testsrc2=s=34x18:r=30:d=1 {X264}")),
        ("fps_24", format!("-f lavfi -i testsrc2=s=320x180:r=24:d=1 {X264}")),
        ("fps_ntsc", format!("-f lavfi -i testsrc2=s=320x180:r=30000/1001:d=1 {X264}")),
        ("fps_60", format!("-f lavfi -i testsrc2=s=320x180:r=60:d=1 {X264}")),
        (
            "variable_rate",
            format!("{VIDEO} -vf select='not(mod(n\\,3))+not(mod(n\\,7))' -fps_mode vfr {X264}"),
        ),
        ("multiple_edits_cut", format!("{VIDEO} {X264} -ss 0.5")),
        ("mkv_b_frames", format!("{VIDEO} {X264} -bf 3 -g 20 -f matroska")),
        ("mkv_ntsc", format!("-f lavfi -i testsrc2=s=320x180:r=30000/1001:d=1 {X264} -f matroska")),
        ("mkv_live", format!("{VIDEO} {X264} -g 10 -live 1 -cluster_time_limit 300 -f matroska")),
        ("mkv_clusters", format!("{VIDEO} {X264} -g 10 -cluster_time_limit 100 -f matroska")),
        (
            "mkv_with_audio",
            format!("{VIDEO} -f lavfi -i sine=d=2 {X264} -c:a aac -map 1:a -map 0:v -f matroska"),
        ),
    ];
    for (name, arguments) in cases {
        // Told apart by what is in them.
        let path = folder.path().join(format!("{name}.mp4"));
        ffmpeg(arguments, &path);
        let (info, shown) = same_as_ffmpeg(&path, name.starts_with("no_b_frames") || name == &"baseline");
        assert_eq!(Mp4Source::open(&path).unwrap().audio().is_some(), name.contains("audio"), "{name}");
        let span_s = *shown.last().unwrap() as f64 * 1e-6;
        let mean = (shown.len() - 1) as f64 / span_s;
        assert!((info.fps / mean - 1.0).abs() < 1e-3, "{name}: {} fps for {mean}", info.fps);
        let duration_s = info.duration_us.unwrap() as f64 * 1e-6;
        assert!(duration_s > span_s && duration_s < span_s + 0.3, "{name}: {duration_s} s for {span_s}");
    }
}

#[test]
fn a_copied_cut_shows_only_its_part() {
    if !have("ffmpeg") || !have("ffprobe") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (whole, cut) = (folder.path().join("whole.mp4"), folder.path().join("cut.mp4"));
    ffmpeg(&format!("{VIDEO} {X264} -g 30 -bf 2"), &whole);
    // Starts between keyframes: an edit list hides the frames from the keyframe on.
    ffmpeg(&format!("-ss 0.5 -i {} -t 1 -c copy", whole.display()), &cut);
    let mut source = Mp4Source::open(&cut).unwrap();
    let first = source.next_frame().unwrap().unwrap();
    let frame_bytes = 320 * 180 * 3 / 2;
    let whole = ffmpeg_frames(&whole);
    let quality =
        |index: usize| psnr(&packed(&first.image), &whole[index * frame_bytes..(index + 1) * frame_bytes]);
    assert!(quality(15) > 45.0 && quality(14) < 40.0 && quality(16) < 40.0, "starts at 0.5 s");
    assert_eq!(first.pts_us, 0);
}

#[test]
fn colour_is_read_from_the_stream() {
    if !have("ffmpeg") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let guess = Colour::guess(180);
    let full = Range::Full;
    for (name, flags, colour) in [
        ("none", "", guess),
        (
            "bt709",
            "-colorspace bt709 -color_primaries bt709 -color_trc bt709",
            Colour { matrix: Matrix::Bt709, ..guess },
        ),
        ("bt601", "-colorspace smpte170m", Colour { matrix: Matrix::Bt601, ..guess }),
        ("bt2020", "-colorspace bt2020nc", Colour { matrix: Matrix::Bt2020, ..guess }),
        ("full", "-color_range pc -colorspace bt709", Colour { matrix: Matrix::Bt709, range: full }),
    ] {
        let path = folder.path().join(format!("{name}.mp4"));
        ffmpeg(&format!("{VIDEO} {X264} {flags}"), &path);
        assert_eq!(Mp4Source::open(&path).unwrap().info().colour, colour, "{name}");
    }
}

#[test]
fn the_quantiser_is_read_from_the_slices() {
    if !have("ffmpeg") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for quantiser in [12, 30, 51] {
        // No adaptive quantisation; keyframes as coarse as the rest.
        let path = folder.path().join(format!("{quantiser}.mp4"));
        ffmpeg(
            &format!("{VIDEO} -c:v libx264 -pix_fmt yuv420p -bf 0 -qp {quantiser} -x264-params ipratio=1"),
            &path,
        );
        let mut source = Mp4Source::open(&path).unwrap();
        while let Some(frame) = source.next_frame().unwrap() {
            assert_eq!(frame.quantiser, Some(quantiser), "at {} us", frame.pts_us);
        }
    }
}

#[test]
fn what_cannot_be_decoded_is_refused_by_name() {
    if !have("ffmpeg") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (name, arguments, says) in [
        ("ten_bit", "-c:v libx264 -pix_fmt yuv420p10le", "10-bit"),
        ("422", "-c:v libx264 -pix_fmt yuv422p", "4:2:2"),
        ("444", "-c:v libx264 -pix_fmt yuv444p", "4:4:4"),
        ("gray", "-c:v libx264 -pix_fmt gray", "monochrome"),
        ("interlaced", "-c:v libx264 -pix_fmt yuv420p -flags +ildct+ilme", "interlaced"),
        ("mpeg4", "-c:v mpeg4", "MPEG-4 Part 2"),
        ("h265", "-c:v libx265 -x265-params log-level=none", "H.265"),
    ] {
        let path = folder.path().join(format!("{name}.mp4"));
        ffmpeg(&format!("{VIDEO} {arguments}"), &path);
        let error = Mp4Source::open(&path).err().unwrap_or_else(|| panic!("{name} must be refused"));
        one_line(&error, &path, says);
    }
    let mkv = folder.path().join("h265.mkv");
    ffmpeg(&format!("{VIDEO} -c:v libx265 -x265-params log-level=none"), &mkv);
    one_line(&Mp4Source::open(&mkv).err().unwrap(), &mkv, "H.265");
    let sound = folder.path().join("sound.mp4");
    ffmpeg("-f lavfi -i sine=d=1 -c:a aac", &sound);
    one_line(&Mp4Source::open(&sound).err().unwrap(), &sound, "no H.264 video track");
}

fn one_line(error: &Error, path: &Path, says: &str) {
    let text = error.to_string();
    assert!(text.starts_with(&path.display().to_string()), "{text}");
    assert!(text.contains(says) && !text.contains('\n'), "{text}");
}

#[test]
fn what_is_no_mp4_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| -> PathBuf {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let text = write("notes.mp4", b"Dear diary, this is not a film but a text file.\n");
    one_line(&Mp4Source::open(&text).err().unwrap(), &text, "not an MP4");
    let empty = write("empty.mp4", b"");
    one_line(&Mp4Source::open(&empty).err().unwrap(), &empty, "cut short");
    let missing = folder.path().join("missing.mp4");
    one_line(&Mp4Source::open(&missing).err().unwrap(), &missing, "no such file");
    one_line(&Mp4Source::open(folder.path()).err().unwrap(), folder.path(), "cannot be read");
}

#[test]
fn a_cut_file_plays_what_is_there() {
    if !have("ffmpeg") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("whole.mp4");
    ffmpeg(&format!("{VIDEO} {X264} -bf 2 -movflags faststart"), &path);
    let whole = std::fs::read(&path).unwrap();
    let mut source = Mp4Source::from_bytes("cut.mp4", whole[..whole.len() * 2 / 3].to_vec()).unwrap();
    let mut count = 0;
    while source.next_frame().unwrap().is_some() {
        count += 1;
    }
    assert!((10..60).contains(&count), "{count}");
    // So does Matroska, which has no header to lose.
    let mkv = folder.path().join("whole.mkv");
    ffmpeg(&format!("{VIDEO} {X264} -bf 2"), &mkv);
    let whole = std::fs::read(&mkv).unwrap();
    let mut source = Mp4Source::from_bytes("cut.mkv", whole[..whole.len() * 2 / 3].to_vec()).unwrap();
    let count = std::iter::from_fn(|| source.next_frame().unwrap()).count();
    assert!((10..60).contains(&count), "{count}");
    // With the header at the end, nothing can be read.
    ffmpeg(&format!("{VIDEO} {X264}"), &path);
    let whole = std::fs::read(&path).unwrap();
    let error = Mp4Source::from_bytes("cut.mp4", whole[..whole.len() * 2 / 3].to_vec()).err().unwrap();
    assert!(matches!(error, Error::Mp4 { source: Mp4Error::NoMovie, .. }), "{error}");
}

#[test]
fn a_size_change_on_the_way_is_an_error() {
    if !have("ffmpeg") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (small, large) = (folder.path().join("small.h264"), folder.path().join("large.h264"));
    ffmpeg("-f lavfi -i testsrc2=s=160x96:r=25:d=0.2 -c:v libx264 -pix_fmt yuv420p", &small);
    ffmpeg("-f lavfi -i testsrc2=s=320x192:r=25:d=0.2 -c:v libx264 -pix_fmt yuv420p", &large);
    let both = folder.path().join("both.h264");
    std::fs::write(&both, [std::fs::read(small).unwrap(), std::fs::read(large).unwrap()].concat()).unwrap();
    let path = folder.path().join("both.mp4");
    ffmpeg(&format!("-i {} -c copy -bsf:v dump_extra", both.display()), &path);
    let mut source = Mp4Source::open(&path).unwrap();
    let error = loop {
        match source.next_frame() {
            Ok(frame) => assert!(frame.is_some(), "ended without an error"),
            Err(error) => break error,
        }
    };
    assert!(
        matches!(error, Error::SizeChanged { .. } | Error::Decode { source: decode::Error::Codec(_), .. }),
        "{error}"
    );
}

#[test]
fn loops_keep_the_beat_and_end_on_time() {
    if !have("ffmpeg") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("second.mp4");
    ffmpeg(&format!("-f lavfi -i testsrc2=s=64x48:r=25:d=1 {X264} -bf 2"), &path);
    let times = |total_us| -> Vec<i64> {
        let mut looped = Looped::new(|| Mp4Source::open(&path), total_us).unwrap();
        assert_eq!(looped.info().duration_us, Some(total_us));
        std::iter::from_fn(|| looped.next_frame().unwrap()).map(|frame| frame.pts_us).collect()
    };
    assert_eq!(times(2_500_000), (0..63).map(|i| i * 40_000).collect::<Vec<_>>());
    assert_eq!(times(400_000), (0..10).map(|i| i * 40_000).collect::<Vec<_>>());
    assert_eq!(times(0), []);
}
