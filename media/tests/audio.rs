//! Audio of MP4 files, and of what we record: the packets as they were, at their times, beside the pictures. ffmpeg
//! makes the files and ffprobe judges them.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod common;

use std::path::Path;

use common::audio::{Heard, heard, in_step, since};
use common::ffmpeg::{ffmpeg, have};
use common::{config, packets, record_config};
use hone_media::audio::Codec;
use hone_media::encode::Packet;
use hone_media::record::Recorder;
use hone_media::source::{Item, Looped, Mp4Source, Source};

const VIDEO: &str = "-f lavfi -i testsrc2=s=160x96:r=25:d=2 -c:v libx264 -pix_fmt yuv420p -g 12";
const AAC: &str = "-f lavfi -i sine=f=440:r=44100:d=2 -c:a aac -b:a 96k -ac 1";
const OPUS: &str = "-f lavfi -i sine=f=440:r=48000:d=2 -c:a libopus -b:a 64k -ac 2";

/// ffmpeg wants all inputs before the first option of an output.
fn clip(audio: &str, more: &str, path: &Path) {
    let (input, coding) = audio.split_once(" -c:a").unwrap();
    let (source, video) = VIDEO.split_once(" -c:v").unwrap();
    ffmpeg(&format!("{source} {input} -c:v{video} -c:a{coding} {more}"), path);
}

/// The audio of a file, counted from its first picture.
fn beside_pictures(path: &Path) -> Heard {
    let start_s: f64 = common::ffprobe(path, "stream=start_time")[0].parse().unwrap();
    since(&heard(path), (start_s * 1e6).round() as i64)
}

fn tools() -> bool {
    have("ffmpeg") && have("ffprobe")
}

/// Media times of the pictures, and the packets of audio, in the order in which they came.
fn play(source: &mut dyn Source) -> (Vec<i64>, Heard) {
    let (mut times, mut heard) = (Vec::new(), Heard::new());
    while let Some(item) = source.next().unwrap() {
        // Pictures and packets take turns by their times.
        match item {
            Item::Frame(frame) => {
                assert!(heard.last().is_none_or(|(pts_us, _)| *pts_us <= frame.pts_us), "audio too early");
                times.push(frame.pts_us);
            }
            Item::Audio(packet) => {
                assert!(times.last().is_none_or(|pts_us| *pts_us <= packet.pts_us), "audio too late");
                heard.push((packet.pts_us, packet.data));
            }
        }
    }
    (times, heard)
}

#[test]
fn packets_come_as_they_are_at_their_times() {
    if !tools() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (name, audio, more, codec, rate) in [
        ("aac", AAC, "", Codec::Aac, 44_100),
        ("opus", OPUS, "", Codec::Opus, 48_000),
        ("b_frames", AAC, "-bf 3", Codec::Aac, 44_100),
        ("fragmented", OPUS, "-movflags frag_keyframe+empty_moov+default_base_moof", Codec::Opus, 48_000),
        (
            "fragmented_plain",
            AAC,
            "-movflags frag_keyframe+empty_moov -frag_duration 300000",
            Codec::Aac,
            44_100,
        ),
        ("cut", AAC, "-ss 0.7", Codec::Aac, 44_100),
        ("mkv_aac", AAC, "-bf 3 -f matroska", Codec::Aac, 44_100),
        ("mkv_opus", OPUS, "-f matroska", Codec::Opus, 48_000),
    ] {
        // Matroska's times are whole milliseconds.
        let tolerance_us = if name.starts_with("mkv") { 1_000 } else { 2 };
        let path = folder.path().join(format!("{name}.mp4"));
        clip(audio, more, &path);
        let truth = beside_pictures(&path);
        let mut source = Mp4Source::open(&path).unwrap();
        let track = source.audio().unwrap().clone();
        assert_eq!((track.config.codec(), track.config.sample_rate()), (codec, rate), "{name}");
        let bits = truth.iter().map(|(_, data)| data.len() * 8).sum::<usize>() as f64;
        let span_s = (truth[truth.len() - 1].0 - truth[0].0) as f64 * 1e-6;
        assert!((track.kbps * 1e3 / (bits / span_s) - 1.0).abs() < 0.1, "{name}: {} kbit/s", track.kbps);
        let end_us = source.info().duration_us.unwrap();
        let (_, played) = play(&mut source);
        let within: Heard = truth.into_iter().filter(|(pts_us, _)| *pts_us < end_us).collect();
        assert!(within.len() > 40, "{name}: {}", within.len());
        in_step(name, &played, &within, tolerance_us);
    }
}

#[test]
fn an_audio_track_that_begins_late_stays_late() {
    if !tools() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (early, late) = (folder.path().join("early.mp4"), folder.path().join("late.mp4"));
    clip(AAC, "", &early);
    let early = early.display();
    ffmpeg(&format!("-i {early} -itsoffset 0.5 -i {early} -map 0:v -map 1:a -c copy"), &late);
    let (_, played) = play(&mut Mp4Source::open(&late).unwrap());
    // ffprobe rounds the delay to samples.
    in_step("late", &played, &since(&heard(&late), 0)[..played.len()], 25);
    assert!((played[0].0 - 478_000).abs() < 25_000, "begins at {} us", played[0].0);
}

#[test]
fn start_and_loop_keep_audio_in_step() {
    if !tools() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.mp4");
    clip(AAC, "", &path);
    let truth = heard(&path);
    let (times, played) = play(&mut Mp4Source::open_at(&path, 500_000).unwrap());
    assert_eq!(times.len(), 37);
    // The first picture at or after half a second is that of 520 ms.
    in_step("start", &played, &since(&truth, 520_000)[..played.len()], 2);

    let mut source = Looped::new(|| Mp4Source::open(&path), 5_000_000).unwrap();
    let (times, played) = play(&mut source);
    assert_eq!(times.len(), 125);
    for round in 0..3 {
        let zero = round * 2_000_000;
        let this: Heard = played
            .iter()
            .filter(|(pts_us, _)| (zero..zero + 2_000_000).contains(pts_us))
            .map(|(pts_us, data)| (pts_us - zero, data.clone()))
            .collect();
        let truth = since(&truth, 0);
        in_step(&format!("round {round}"), &this, &truth[..this.len()], 2);
        let expected = if round == 2 { 43 } else { 86 };
        assert!(this.len().abs_diff(expected) <= 1, "round {round}: {} packets", this.len());
    }
    assert!(played.windows(2).all(|pair| pair[0].0 < pair[1].0));
}

#[test]
fn what_is_not_aac_or_opus_is_left_out_and_the_pictures_stay() {
    if !tools() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mp3.mp4");
    clip(&AAC.replace("-c:a aac", "-c:a ac3"), "", &path);
    let mut source = Mp4Source::open(&path).unwrap();
    assert!(source.audio().is_none());
    assert_eq!(play(&mut source), ((0..50).map(|i| i * 40_000).collect(), vec![]));
}

/// Pictures of 25 a second in groups of 12, which begin late and leave a gap, as a camera's may.
fn pictures() -> Vec<Packet> {
    let times = (0..40).map(|i| 7_000_000 + i * 40_000 + if i < 20 { 0 } else { 300_000 });
    packets(&config(160, 96), times)
}

#[test]
fn a_recording_has_the_audio_beside_the_pictures() {
    if !tools() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (name, audio) in [("aac", AAC), ("opus", OPUS)] {
        let (clip_path, path) = (folder.path().join("clip.mp4"), folder.path().join(format!("{name}.mp4")));
        clip(audio, "", &clip_path);
        let mut source = Mp4Source::open(&clip_path).unwrap();
        let track = source.audio().unwrap().clone();
        let (_, mut played) = play(&mut source);
        // It begins before the pictures do, and has a gap.
        played.iter_mut().for_each(|(pts_us, _)| *pts_us += 6_900_000);
        played.drain(30..40);
        let pictures = pictures();
        let recorder = Recorder::create(&path, record_config(&config(160, 96))).unwrap();
        let mut recorder = recorder.with_audio(Some(track.config.clone()));
        let mut sound = played.iter().peekable();
        for picture in &pictures {
            recorder.write(picture).unwrap();
            while let Some((pts_us, data)) = sound.next_if(|(pts_us, _)| *pts_us <= picture.pts_us) {
                let packet = hone_media::audio::Packet { data: data.clone(), pts_us: *pts_us };
                recorder.write_audio(&packet).unwrap();
                // The same again is left out.
                recorder.write_audio(&packet).unwrap();
            }
        }
        let killed = std::fs::read(&path).unwrap();
        recorder.finish().unwrap();
        let recorded: Heard = played.into_iter().filter(|(pts_us, _)| *pts_us <= 8_860_000).collect();
        let truth = since(&recorded, 7_000_000);
        // Half a sample of the coarsest rate, and what ffprobe rounds.
        in_step(name, &heard(&path), &truth, 13);
        let again = Mp4Source::open(&path).unwrap().audio().unwrap().clone();
        assert_eq!(again.config, track.config);
        in_step(name, &play(&mut Mp4Source::open(&path).unwrap()).1, &truth, 13);

        // What a kill leaves plays, with both tracks up to the last keyframe.
        std::fs::write(&path, &killed).unwrap();
        let (times, left) = play(&mut Mp4Source::open(&path).unwrap());
        assert_eq!(times.len(), 36, "{name}");
        let last_us = left.last().unwrap().0;
        assert!(last_us > times[35] - 50_000, "{name}: audio to {last_us} us, pictures to {} us", times[35]);
        in_step(name, &heard(&path), &truth[..left.len()], 13);
        for cut in (killed.len() - 2000..killed.len()).step_by(101) {
            std::fs::write(&path, &killed[..cut]).unwrap();
            let (times, left) = play(&mut Mp4Source::open(&path).unwrap());
            assert!(times.len() >= 24 && left.len() > 30, "{name}, cut at {cut}");
        }
    }
}

#[test]
fn audio_alone_fills_no_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.mp4");
    let config = hone_media::audio::Config::new("mp4a.40.2", &[0x11, 0x90]).unwrap();
    let recorder = Recorder::create(&path, record_config(&common::config(160, 96))).unwrap();
    let mut recorder = recorder.with_audio(Some(config));
    let sound = |at: i64| hone_media::audio::Packet { data: vec![7; 60_000], pts_us: at * 21_333 };
    // Before the first picture nothing is kept.
    (0..100).for_each(|at| recorder.write_audio(&sound(at)).unwrap());
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
    recorder.write(&pictures()[0]).unwrap();
    (400..600).for_each(|at| recorder.write_audio(&sound(at)).unwrap());
    assert!(std::fs::metadata(&path).unwrap().len() > 8_000_000, "nothing is written without a keyframe");
    recorder.finish().unwrap();
    let mut source = Mp4Source::open(&path).unwrap();
    assert!(source.audio().is_some() && source.next_frame().unwrap().is_some());
}
