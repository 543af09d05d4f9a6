//! AAC and Opus decoded, against ffmpeg: the same samples at the same times.

#![cfg(feature = "sound")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

#[path = "common/audio.rs"]
mod audio;
#[path = "common/ffmpeg.rs"]
mod ffmpeg;

use std::process::Command;

use audio::heard;
use ffmpeg::{ffmpeg, have};
use hone_media::audio::Config;
use hone_media::audio::decode::{Decoder, Stereo};
use hone_media::source::{Mp4Source, Source};

/// Least agreement with ffmpeg's decoders. Both codecs leave the last bits of a sample to the decoder; a wrong tool of a
/// codec costs 20 dB and more.
const SNR_DB_MIN: f64 = 60.0;

/// A clip of two seconds: a chirp on the left, noise that comes and goes on the right.
fn clip(coding: &str, path: &std::path::Path) {
    let left = "0.3*sin(2*PI*(200+2000*t)*t)";
    let right = "0.2*(random(0)-0.5)*gt(sin(9*t),0)+0.2*sin(2*PI*300*t)";
    let sound = format!("-f lavfi -i aevalsrc='{left}|{right}':s=48000:d=2");
    ffmpeg(
        &format!("-f lavfi -i testsrc2=s=64x48:r=25:d=2 {sound} -c:v libx264 -pix_fmt yuv420p {coding}"),
        path,
    );
}

#[test]
fn samples_are_those_of_ffmpeg() {
    if !have("ffmpeg") || !have("ffprobe") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.mp4");
    for (coding, decoder) in [
        ("-c:a aac -b:a 128k", "aac"),
        ("-c:a aac -b:a 32k -ar 16000 -ac 1", "aac"),
        ("-c:a aac -b:a 96k -ar 44100", "aac"),
        // CELT, hybrid, SILK; packets of several frames.
        ("-c:a libopus -b:a 96k", "libopus"),
        ("-c:a libopus -b:a 64k -application lowdelay -frame_duration 2.5", "libopus"),
        ("-c:a libopus -b:a 28k -application voip", "libopus"),
        ("-c:a libopus -b:a 12k -application voip -ac 1 -frame_duration 60", "libopus"),
        ("-c:a libopus -b:a 32k -ac 1 -frame_duration 120", "libopus"),
    ] {
        clip(coding, &path);
        let config = Mp4Source::open(&path).unwrap().audio().unwrap().config.clone();
        let packets = heard(&path);
        let mut ours: Vec<Stereo> = vec![];
        let mut decode = Decoder::new(&config).unwrap();
        for (_, packet) in &packets {
            let samples = decode.decode(packet).unwrap();
            assert_eq!(samples.len(), config.packet_samples(packet) as usize, "{coding}");
            ours.extend(samples);
        }
        let theirs = theirs(&path, decoder, &config);
        // Both begin with the codec's warm-up, which ffmpeg cuts off.
        let ahead = ours.len() - theirs.len().min(ours.len());
        let best = (0..=ahead.min(4_096)).map(|cut| snr_db(&ours[cut..], &theirs)).fold(f64::MIN, f64::max);
        assert!(best > SNR_DB_MIN, "{coding}: {best} dB");
    }
}

/// What ffmpeg decodes; mono on both channels.
fn theirs(path: &std::path::Path, decoder: &str, config: &Config) -> Vec<Stereo> {
    let ran = Command::new("ffmpeg")
        .args(["-v", "error", "-c:a", decoder, "-i"])
        .arg(path)
        .args(["-map", "0:a:0", "-ar", &config.sample_rate().to_string(), "-f", "f32le", "-"])
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let sample = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().unwrap());
    let width = 4 * usize::from(config.channels());
    ran.stdout.chunks_exact(width).map(|all| [sample(&all[..4]), sample(&all[width - 4..])]).collect()
}

fn snr_db(ours: &[Stereo], theirs: &[Stereo]) -> f64 {
    let (mut signal, mut noise) = (0.0, 1e-12);
    for (ours, theirs) in ours.iter().zip(theirs) {
        for side in 0..2 {
            signal += f64::from(theirs[side]).powi(2);
            noise += f64::from(ours[side] - theirs[side]).powi(2);
        }
    }
    10.0 * f64::log10(signal / noise)
}
