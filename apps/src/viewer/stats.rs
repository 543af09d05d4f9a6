//! What a viewer tells of itself second by second.

use std::time::Duration;

use serde::Serialize;

use super::State;

/// One second of a viewer, as a line of `--stats`. Means are over that second; sums are since the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Stats {
    /// Seconds since the viewer started.
    pub t_s: f64,
    /// [`State`].
    pub state: Option<State>,
    /// What upscales: `cpu`, or the API and the adapter.
    pub backend: String,
    /// How the GPU computes; null on the CPU.
    pub variant: Option<String>,
    /// Time of each pass of a frame on the GPU; empty on the CPU, and where the GPU tells no times.
    pub passes: Vec<Pass>,
    /// Columns and rows shown; zeros before the first picture.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Frames shown in this second.
    pub fps: f64,
    /// What the device affords: `network`, `reuse`, that is the network on every second frame, or `bicubic`; null before
    /// the first picture.
    pub rung: Option<String>,
    /// Share of the frames that the network made, 0 to 1.
    pub network_share: f64,
    /// Share of them that show the detail of the network's last frame where nothing moves, and are bicubic elsewhere.
    pub reused_share: f64,
    /// Mean time to decode a frame, ms.
    pub decode_ms: f64,
    /// Mean time to upscale a frame, ms.
    pub upscale_ms: f64,
    /// Mean time to hand a frame on: to the window, into files, into the pipe, ms.
    pub output_ms: f64,
    /// Version of the weights in force; 0 before the first.
    pub version: u64,
    /// Held-out gain of these weights as the server measured it, dB over bicubic; null before the first.
    pub gain_db: Option<f32>,
    /// Video received, kbit/s.
    pub video_kbps: f64,
    /// Model updates received, kbit/s.
    pub model_kbps: f64,
    /// Mean time from capture to showing, ms; null unless both clocks agree well enough for it to make sense.
    pub latency_ms: Option<f64>,
    /// Time that frames wait so that the network's jitter is not seen, ms.
    pub jitter_delay_ms: f64,
    /// Frames shown since the start.
    pub frames: u64,
    /// Frames of the stream that were never shown since the start: too late, lost or damaged.
    pub dropped: u64,
    /// Old frames of the group in which the viewer joined, passed over to get to the live picture.
    pub passed_over: u64,
    /// Access units that could not be decoded since the start.
    pub damaged: u64,
    /// Model updates applied since the start.
    pub updates: u64,
    /// Model updates refused since the start.
    pub updates_refused: u64,
}

/// One pass of a frame on the GPU.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pass {
    /// Its place and its shader.
    pub name: String,
    /// Time on the device, ms.
    pub ms: f64,
}

/// Longest latency that is believed; beyond, the clocks of camera and viewer disagree.
const LATENCY_MAX: Duration = Duration::from_secs(60);

/// Capture to now, if it makes sense: `start_unix_us` is the wall clock at media time 0, 0 where nobody knows.
pub fn latency(now_unix_us: u64, start_unix_us: u64, pts_us: i64) -> Option<Duration> {
    let captured_us = start_unix_us.checked_add_signed(pts_us).filter(|_| start_unix_us > 0)?;
    let latency = Duration::from_micros(now_unix_us.checked_sub(captured_us)?);
    Some(latency).filter(|latency| *latency <= LATENCY_MAX)
}

pub(super) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// To hundredths: more digits say nothing.
pub(super) fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_is_told_only_where_the_clocks_agree() {
        let second = 1_000_000;
        assert_eq!(latency(10 * second, 9 * second, 500_000), Some(Duration::from_millis(500)));
        assert_eq!(latency(10 * second, 0, 500_000), None, "nobody knows the start");
        assert_eq!(latency(10 * second, 12 * second, 0), None, "captured in the future");
        assert_eq!(latency(100 * second, 9 * second, 0), None, "too long to believe");
        assert_eq!(latency(second, 1, i64::MIN), None);
    }
}
