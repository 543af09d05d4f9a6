//! What the tests share: pictures to encode, and ffmpeg where the machine has it.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod audio;
pub mod ffmpeg;

use std::path::Path;
use std::process::Command;

use hone_media::encode::{Config, Encoder, Packet};
use hone_media::frame::I420;

/// A textured scene that moves by two pixels a frame, with some noise: neither flat nor incompressible.
pub fn picture(width: u32, height: u32, index: u32) -> I420 {
    let mut image = I420::new(width, height).unwrap();
    fill(image.y_mut(), width, index, 1.0);
    fill(image.u_mut(), width / 2, index, 0.3);
    fill(image.v_mut(), width / 2, index + 40, 0.3);
    image
}

fn fill(plane: &mut [u8], width: u32, index: u32, contrast: f32) {
    let mut state = index.wrapping_mul(2_654_435_761) | 1;
    for (at, sample) in plane.iter_mut().enumerate() {
        let (x, y) = (at as u32 % width + 2 * index, at as u32 / width);
        let wave = (x as f32 * 0.13).sin() + (y as f32 * 0.09).cos() + ((x + 3 * y) as f32 * 0.031).sin();
        let edge = if (x / 24 + y / 16) % 2 == 0 { 18.0 } else { -18.0 };
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let noise = (state >> 24) as f32 / 64.0;
        *sample = (126.0 + contrast * (wave * 24.0 + edge + noise)) as u8;
    }
}

pub fn config(width: u32, height: u32) -> Config {
    Config { gop_frames: 12, ..Config::new(width, height, 25.0, 400) }
}

/// Encodes pictures at the given times.
pub fn packets(config: &Config, times_us: impl IntoIterator<Item = i64>) -> Vec<Packet> {
    let mut encoder = Encoder::new(config).unwrap();
    times_us
        .into_iter()
        .zip(0..)
        .map(|(pts_us, index)| {
            encoder.encode(&picture(config.width, config.height, index), pts_us, false).unwrap()
        })
        .collect()
}

pub fn record_config(config: &Config) -> hone_media::record::Config {
    let Config { width, height, fps, colour, .. } = *config;
    hone_media::record::Config { width, height, fps, colour }
}

pub fn psnr(a: &[u8], b: &[u8]) -> f64 {
    assert_eq!(a.len(), b.len());
    let sum: f64 = a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum();
    10.0 * (255.0_f64.powi(2) * a.len() as f64 / sum.max(1e-9)).log10()
}

/// All frames of a file as ffmpeg decodes them: packed I420.
pub fn ffmpeg_frames(path: &Path) -> Vec<u8> {
    let ran = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(path)
        .args(["-map", "0:v:0", "-fps_mode", "passthrough", "-pix_fmt", "yuv420p", "-f", "rawvideo", "-"])
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    ran.stdout
}

/// One field per video frame or stream, as ffprobe prints it.
pub fn ffprobe(path: &Path, entries: &str) -> Vec<String> {
    let ran = Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", "v:0", "-of", "csv=p=0", "-show_entries", entries])
        .arg(path)
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let text = String::from_utf8(ran.stdout).unwrap();
    text.lines().map(|line| line.trim_end_matches(',').to_owned()).filter(|line| !line.is_empty()).collect()
}

pub fn packed(image: &I420) -> Vec<u8> {
    [image.y(), image.u(), image.v()].concat()
}
