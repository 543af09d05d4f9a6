//! A player without a device: coded packets go in, and what a device would take is looked at.

use hone_media::source::{Item, Mp4Source, Source};

use super::*;
use ffmpeg::{ffmpeg, have};

#[path = "../../../../media/tests/common/ffmpeg.rs"]
mod ffmpeg;

const RATE: u32 = 48_000;
/// How long after its media time a picture is shown.
const SHOWN_US: i64 = 100_000;

fn stream(audio: audio::Config) -> Stream {
    Stream {
        from_us: 0,
        arch: "live-1x8-x2".parse().unwrap(),
        lr: (64, 48),
        fps: 25.0,
        start_unix_us: 0,
        audio: Some(audio),
    }
}

fn player() -> (Player, Arc<AtomicBool>, Arc<AtomicU64>) {
    let (silent, opened) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let opens = opened.clone();
    let player = Player::new(silent.clone(), move |_| {
        opens.fetch_add(1, Ordering::Relaxed);
    });
    (player, silent, opened)
}

/// Plays a file's sound beside pictures that are shown 100 ms after their media time; the left channel that is heard.
fn heard(path: &std::path::Path) -> Vec<f32> {
    let mut source = Mp4Source::open(path).unwrap();
    let (mut player, _, opened) = player();
    player.start(&stream(source.audio().unwrap().config.clone())).unwrap();
    assert_eq!(opened.load(Ordering::Relaxed), 1);
    let (mut left, mut out, mut now_us) = (vec![], vec![0.0; 960], 0);
    while let Some(item) = source.next().unwrap() {
        let pts_us = match item {
            Item::Audio(packet) => {
                let pts_us = packet.pts_us;
                player.audio(packet).unwrap();
                pts_us
            }
            Item::Frame(frame) => {
                player.tap.line().clock.shown(frame.pts_us + SHOWN_US, frame.pts_us);
                frame.pts_us
            }
        };
        // Live, a packet comes at its media time.
        while now_us <= pts_us {
            player.tap.line().fill(&mut out, 2, RATE, now_us, false);
            left.extend(out.iter().step_by(2));
            now_us += 10_000;
        }
    }
    player.end().unwrap();
    assert_eq!(player.damaged, 0);
    left
}

#[test]
fn a_beep_is_heard_when_its_picture_is_seen() {
    if !have("ffmpeg") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // A beep of 440 Hz from 1.0 to 1.5 s of the pictures.
    let beep = "aevalsrc='0.5*sin(2*PI*440*t)*between(t,1,1.5)':s=44100:d=3";
    for (coding, rate) in [("aac -b:a 96k", 44_100), ("libopus -b:a 64k", 48_000)] {
        let path = folder.path().join("beep.mp4");
        let pictures = "-f lavfi -i testsrc2=s=64x48:r=25:d=3";
        ffmpeg(
            &format!(
                "{pictures} -f lavfi -i {beep} -c:v libx264 -pix_fmt yuv420p -g 25 -c:a {coding} -ar {rate}"
            ),
            &path,
        );
        let left = heard(&path);
        let loud: Vec<usize> = (0..left.len()).filter(|&at| left[at].abs() > 0.1).collect();
        let s = |at: usize| at as f64 / f64::from(RATE) - SHOWN_US as f64 * 1e-6;
        let (from_s, to_s) = (s(loud[0]), s(loud[loud.len() - 1]));
        assert!((from_s - 1.0).abs() < 0.02, "{coding}: from {from_s} s");
        assert!((to_s - 1.5).abs() < 0.02, "{coding}: to {to_s} s");
        let tone = &left[loud[0] + 2_400..loud[loud.len() - 1] - 2_400];
        let ups = tone.windows(2).filter(|pair| pair[0] < 0.0 && pair[1] >= 0.0).count();
        let hz = ups as f64 * f64::from(RATE) / tone.len() as f64;
        assert!((hz - 440.0).abs() < 5.0, "{coding}: {hz} Hz");
    }
}

#[test]
fn damage_is_silence_and_nobody_waits_for_what_is_not_heard() {
    let (mut player, silent, opened) = player();
    let aac = audio::Config::new("mp4a.40.2", &[0x11, 0x90]).unwrap();
    player.start(&stream(aac)).unwrap();
    for k in 0..200_u8 {
        let data = (0..100u8).map(|v| v.wrapping_mul(k | 1) ^ 0x5a).collect();
        player.audio(audio::Packet { data, pts_us: i64::from(k) * 21_333 }).unwrap();
    }
    assert!(player.damaged > 0);
    // Until a device has taken something nobody knows how early it wants it.
    assert_eq!(player.lead(), None);
    let mut out = [9.0; 960];
    player.tap.fill(&mut out, 2, RATE, Duration::from_millis(30));
    assert_eq!((player.lead(), out), (Some(Duration::from_millis(40)), [0.0; 960]));
    // A picture that was just drawn is seen a moment later.
    let tap = player.tap();
    tap.drawn(7_000_000);
    let ago_us = 7_000_000.0 - tap.line().clock.media_us(tap.micros(Instant::now())).unwrap();
    assert!(ago_us <= 20_000.0 && ago_us > -10_000_000.0, "{ago_us}");
    silent.store(true, Ordering::Relaxed);
    assert_eq!(player.lead(), None);
    silent.store(false, Ordering::Relaxed);
    player.end().unwrap();
    assert_eq!((player.lead(), opened.load(Ordering::Relaxed)), (None, 1));
    // High Efficiency: no decoder, no device.
    player.start(&stream(audio::Config::new("mp4a.40.5", &[0x2b, 0x11, 0x88, 0x00]).unwrap())).unwrap();
    player.audio(audio::Packet { data: vec![1], pts_us: 0 }).unwrap();
    assert_eq!((player.lead(), opened.load(Ordering::Relaxed)), (None, 1));
}
