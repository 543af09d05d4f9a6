//! report.json and report.html: what a run showed.

use serde::Serialize;

use crate::quality::Quality;

/// Version of report.json.
const SCHEMA: u32 = 1;
/// A frame counts as worse than bicubic from this difference on, dB: less is the rounding of single pixels.
pub const WORSE_DB: f64 = 0.01;

/// One frame, measured three times against the camera's.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct FrameRow {
    /// Media time, seconds.
    pub t_s: f64,
    /// How coarsely H.264 coded it, 0 to 51.
    pub quantiser: Option<u8>,
    /// Model version that the viewer held.
    pub version: u64,
    /// Bicubic on the decoded LR.
    pub bicubic: Quality,
    /// What the viewer showed.
    pub hone: Quality,
    /// Plain H.264 with the same bits.
    #[serde(rename = "plain_h264")]
    pub plain: Quality,
    /// From capture to shown, milliseconds.
    pub latency_ms: f64,
}

/// Mean quality of one contender over all frames.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Contender {
    /// Mean over frames.
    pub psnr_y_db: f64,
    /// Mean over frames.
    pub psnr_rgb_db: f64,
    /// Mean over frames.
    pub ssim_y: f64,
    /// All bits it used on the uplink, over the clip's duration.
    pub total_kbps: f64,
}

/// Video, and what is learned from or by, kbit/s of media time.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Uplink {
    /// LR stream.
    pub video: f64,
    /// Training patches.
    pub patches: f64,
    /// Model updates, where the sender learns.
    pub model: f64,
}

/// Video and model updates, kbit/s of media time.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Downlink {
    /// LR stream.
    pub video: f64,
    /// Model updates.
    pub model: f64,
}

/// Devices.
#[derive(Clone, Debug, Serialize)]
pub struct Backends {
    /// Of the server.
    pub trainer: String,
    /// Of the viewer.
    pub viewer: String,
}

/// The three contenders.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Contenders {
    /// Bicubic on the decoded LR.
    pub bicubic: Contender,
    /// What the viewer showed.
    pub hone: Contender,
    /// The same encoder at full resolution with the same bits.
    pub plain_h264: Contender,
}

/// Milliseconds from capture to shown.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Latency {
    /// Median.
    pub p50: f64,
    /// 95th percentile.
    pub p95: f64,
}

/// Model updates.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Model {
    /// Versions in force at the viewer, one after another.
    pub versions: u64,
    /// Bytes of updates.
    pub bytes: u64,
}

/// report.json.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Version of this format.
    pub schema: u32,
    /// File name of the clip.
    pub clip: String,
    /// Frames measured.
    pub frames: usize,
    /// Mean frame rate.
    pub fps: f64,
    /// Media time.
    pub duration_s: f64,
    /// Columns and rows of the stream.
    pub lr: [u32; 2],
    /// Columns and rows of what is shown.
    pub hr: [u32; 2],
    /// The network.
    pub arch: String,
    /// Devices.
    pub backends: Backends,
    /// From sender to server.
    pub uplink_kbps: Uplink,
    /// From server to viewer.
    pub downlink_kbps: Downlink,
    /// The three contenders.
    pub quality: Contenders,
    /// PSNR-Y over bicubic, mean over all frames, cold start included.
    pub gain_db: f64,
    /// The same over the last quarter of the frames.
    pub gain_last_quarter_db: f64,
    /// Frames worse than bicubic by more than 0.01 dB.
    pub frames_worse_than_bicubic: usize,
    /// Media time at which the gain, averaged over a second, first reached 0.5 dB.
    pub seconds_to_half_db: Option<f64>,
    /// The same for 1 dB.
    pub seconds_to_one_db: Option<f64>,
    /// Capture to shown.
    pub latency_ms: Latency,
    /// Model updates.
    pub model: Model,
    /// Frames of the stream that were never shown.
    pub frames_dropped: u64,
    /// How many times slower than life the clip ran; 1 is real time.
    pub clock_slowdown: f64,
    /// Optimiser steps taken.
    pub training_steps: u64,
}

/// What the report is made of besides the frames.
#[derive(Clone, Debug)]
pub struct Run {
    /// File name of the clip.
    pub clip: String,
    /// Mean frame rate.
    pub fps: f64,
    /// Columns and rows of the stream.
    pub lr: [u32; 2],
    /// Columns and rows of what is shown.
    pub hr: [u32; 2],
    /// The network.
    pub arch: String,
    /// Devices.
    pub backends: Backends,
    /// Bytes of video, patches, model updates and the plain stream.
    pub video_bytes: u64,
    /// Bytes of patches.
    pub patch_bytes: u64,
    /// Bytes of model updates that went up, where the sender learns.
    pub uplink_model_bytes: u64,
    /// Bytes of model updates that reached the viewer.
    pub model_bytes: u64,
    /// Bytes of the plain stream.
    pub plain_bytes: u64,
    /// Versions that the viewer had in force.
    pub versions: u64,
    /// Frames never shown.
    pub frames_dropped: u64,
    /// How many times slower than life.
    pub clock_slowdown: f64,
    /// Optimiser steps.
    pub training_steps: u64,
}

impl Report {
    /// Sums a run up. `rows` are all frames in order, at least one.
    pub fn new(run: &Run, rows: &[FrameRow]) -> Self {
        let frames = rows.len();
        let duration_s = frames as f64 / run.fps;
        let kbps = |bytes: u64| bytes as f64 / 125.0 / duration_s;
        let mean = |rows: &[FrameRow], f: &dyn Fn(&FrameRow) -> f64| {
            rows.iter().map(f).sum::<f64>() / rows.len().max(1) as f64
        };
        let contender = |pick: &dyn Fn(&FrameRow) -> Quality, bytes| Contender {
            psnr_y_db: mean(rows, &|row| pick(row).psnr_y_db),
            psnr_rgb_db: mean(rows, &|row| pick(row).psnr_rgb_db),
            ssim_y: mean(rows, &|row| pick(row).ssim_y),
            total_kbps: kbps(bytes),
        };
        let gain = |row: &FrameRow| row.hone.psnr_y_db - row.bicubic.psnr_y_db;
        let window = (run.fps.round() as usize).clamp(1, frames.max(1));
        let reached = |db: f64| {
            let windows = rows.windows(window);
            windows
                .map(|rows| (rows[0].t_s, mean(rows, &gain)))
                .find(|(_, gain)| *gain >= db)
                .map(|(t_s, _)| t_s)
        };
        let mut latencies: Vec<f64> = rows.iter().map(|row| row.latency_ms).collect();
        latencies.sort_by(f64::total_cmp);
        let percentile = |p: f64| latencies.get(((frames as f64 - 1.0) * p) as usize).copied().unwrap_or(0.0);
        let uplink = run.video_bytes + run.patch_bytes + run.uplink_model_bytes;
        Self {
            schema: SCHEMA,
            clip: run.clip.clone(),
            frames,
            fps: run.fps,
            duration_s,
            lr: run.lr,
            hr: run.hr,
            arch: run.arch.clone(),
            backends: run.backends.clone(),
            uplink_kbps: Uplink {
                video: kbps(run.video_bytes),
                patches: kbps(run.patch_bytes),
                model: kbps(run.uplink_model_bytes),
            },
            downlink_kbps: Downlink { video: kbps(run.video_bytes), model: kbps(run.model_bytes) },
            quality: Contenders {
                bicubic: contender(&|row| row.bicubic, run.video_bytes),
                hone: contender(&|row| row.hone, uplink),
                plain_h264: contender(&|row| row.plain, run.plain_bytes),
            },
            gain_db: mean(rows, &gain),
            gain_last_quarter_db: mean(&rows[frames - frames.div_ceil(4)..], &gain),
            frames_worse_than_bicubic: rows.iter().filter(|row| gain(row) < -WORSE_DB).count(),
            seconds_to_half_db: reached(0.5),
            seconds_to_one_db: reached(1.0),
            latency_ms: Latency { p50: percentile(0.5), p95: percentile(0.95) },
            model: Model { versions: run.versions, bytes: run.model_bytes },
            frames_dropped: run.frames_dropped,
            clock_slowdown: run.clock_slowdown,
            training_steps: run.training_steps,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_up_gains_times_and_percentiles() {
        let quality = |db: f64| Quality { psnr_y_db: db, psnr_rgb_db: db - 1.0, ssim_y: 0.9 };
        let rows: Vec<FrameRow> = (0..100)
            .map(|i| {
                // 0 dB for 4 s, then 0.6 dB; one frame worse by 0.5 dB.
                let gain = if i == 3 {
                    -0.5
                } else if i < 40 {
                    0.0
                } else {
                    0.6
                };
                let (bicubic, hone, plain) = (quality(30.0), quality(30.0 + gain), quality(29.0));
                let (t_s, latency_ms) = (f64::from(i) / 10.0, f64::from(i));
                FrameRow { t_s, quantiser: None, version: 0, bicubic, hone, plain, latency_ms }
            })
            .collect();
        let run = Run {
            clip: "clip.mp4".into(),
            fps: 10.0,
            lr: [320, 180],
            hr: [640, 360],
            arch: "live-4x16-x2".into(),
            backends: Backends { trainer: "cpu".into(), viewer: "cpu".into() },
            video_bytes: 125_000,
            patch_bytes: 12_500,
            uplink_model_bytes: 0,
            model_bytes: 1_250,
            plain_bytes: 137_500,
            versions: 3,
            frames_dropped: 0,
            clock_slowdown: 1.0,
            training_steps: 10,
        };
        let report = Report::new(&run, &rows);
        assert!((report.gain_db - (0.6 * 60.0 - 0.5) / 100.0).abs() < 1e-9);
        assert!((report.gain_last_quarter_db - 0.6).abs() < 1e-9);
        assert_eq!(report.frames_worse_than_bicubic, 1);
        // Nine frames of ten in the window must have the gain: 0.54 dB from 3.9 s on.
        assert_eq!((report.seconds_to_half_db, report.seconds_to_one_db), (Some(3.9), None));
        assert_eq!((report.latency_ms.p50, report.latency_ms.p95), (49.0, 94.0));
        assert!((report.quality.hone.total_kbps - 110.0).abs() < 1e-9);
        assert!((report.quality.plain_h264.total_kbps - 110.0).abs() < 1e-9);
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["schema"], 1);
        assert_eq!(json["seconds_to_one_db"], serde_json::Value::Null);
        assert_eq!(json["uplink_kbps"]["patches"], 10.0);
    }
}
