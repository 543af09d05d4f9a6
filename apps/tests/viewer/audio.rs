//! Audio that lies: the pictures stay, and what can be recorded is.

use std::path::Path;

use hone_apps::viewer::Files;
use hone_media::source::{Item, Mp4Source, Source};
use hone_runtime::Preference;
use hone_transport::catalog::{AudioRendition, Container};

use crate::stream::{How, Packets, SIZE, Scene, how, plain, view};

const FRAMES: u32 = 25;

fn aac(description: &str) -> AudioRendition {
    AudioRendition {
        codec: "mp4a.40.2".into(),
        sample_rate: 48_000,
        number_of_channels: 2,
        bitrate: None,
        description: Some(description.into()),
        container: Container { kind: "raw".into() },
    }
}

/// What a recording holds: pictures, whether there is an audio track, and times and bytes of its packets.
fn recorded(path: &Path) -> (usize, bool, Packets) {
    let mut source = Mp4Source::open(path).unwrap();
    let (mut frames, mut packets) = (0, vec![]);
    while let Some(item) = source.next().unwrap() {
        match item {
            Item::Frame(_) => frames += 1,
            Item::Audio(packet) => packets.push((packet.pts_us, packet.data)),
        }
    }
    (frames, source.audio().is_some(), packets)
}

/// Views pictures with this audio, and gives what both recordings hold.
fn hear(told: AudioRendition, packets: Packets) -> [(usize, bool, Packets); 2] {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let groups = [Scene::new(SIZE, plain()).group(0, FRAMES)];
    let files = Files { record: Some(path("sr.mp4")), record_raw: Some(path("lr.mp4")), y4m: None };
    let viewed = view(&[], &groups, How { files, sound: Some((told, packets)), ..how(Preference::Cpu) });
    assert_eq!(viewed.received.unwrap().frames, u64::from(FRAMES));
    [recorded(&path("sr.mp4")), recorded(&path("lr.mp4"))]
}

#[test]
fn garbage_on_the_audio_track_is_recorded_as_it_came() {
    // Nobody here decodes it. Empty packets, and times that do not grow, are left out.
    let packet = |at: i64| (at * 21_333, (0..100u8).map(|v| v.wrapping_mul(at as u8 | 1) ^ 0x5a).collect());
    let mut packets: Packets = (0..40).map(packet).collect();
    let expected: Vec<Vec<u8>> = packets.iter().map(|(_, data)| data.clone()).collect();
    packets.insert(10, (packets[10].0, vec![]));
    packets.insert(20, packets[3].clone());
    for (frames, _, heard) in hear(aac("1190"), packets) {
        assert_eq!(frames, FRAMES as usize);
        assert_eq!(heard.into_iter().map(|(_, data)| data).collect::<Vec<_>>(), expected);
    }
}

#[test]
fn a_description_that_lies_costs_the_audio_alone() {
    let packets: Packets = (0..40).map(|at| (at * 21_333, vec![at as u8; 64])).collect();
    for told in [
        aac("ffff"),
        aac(""),
        AudioRendition { description: None, ..aac("1190") },
        AudioRendition { codec: "flac".into(), ..aac("1190") },
        AudioRendition { container: Container { kind: "loc".into() }, ..aac("1190") },
    ] {
        for (frames, has_audio, _) in hear(told.clone(), packets.clone()) {
            assert_eq!((frames, has_audio), (FRAMES as usize, false), "{told:?}");
        }
    }
}

#[test]
fn a_huge_packet_ends_the_audio_and_not_the_pictures() {
    let mut packets: Packets = (0..40).map(|at| (at * 21_333, vec![at as u8; 64])).collect();
    packets[20].1 = vec![7; 100_000];
    for (frames, has_audio, heard) in hear(aac("1190"), packets) {
        assert_eq!((frames, has_audio), (FRAMES as usize, true));
        assert!(heard.len() <= 20, "{} packets", heard.len());
    }
}
