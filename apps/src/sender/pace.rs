//! When a frame or a packet may go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hone_media::frame::Frame;

/// Lets frames, and packets of audio, out one by one.
pub trait Pace: Send {
    /// Blocks until what is at `pts_us` may go; false stops the sender.
    fn wait(&mut self, pts_us: i64) -> bool;
    /// Is told of each frame at the size that viewers show, just before it is coded.
    fn captured(&mut self, _frame: &Frame) {}
}

/// The source's own pace, until `stop` is set.
pub struct RealTime {
    start: Option<(Instant, i64)>,
    stop: Arc<AtomicBool>,
}

impl RealTime {
    /// Starts with the first frame.
    pub fn new(stop: Arc<AtomicBool>) -> Self {
        Self { start: None, stop }
    }
}

/// The pace of a source that is live itself: no frame waits, until `stop` is set.
pub struct AsItComes(pub Arc<AtomicBool>);

impl Pace for AsItComes {
    fn wait(&mut self, _pts_us: i64) -> bool {
        !self.0.load(Ordering::Relaxed)
    }
}

/// How often a wait looks whether it should end.
pub const STOP_POLL: Duration = Duration::from_millis(50);

impl Pace for RealTime {
    fn wait(&mut self, pts_us: i64) -> bool {
        let (start, first) = *self.start.get_or_insert((Instant::now(), pts_us));
        let due = start + Duration::from_micros(pts_us.saturating_sub(first).max(0) as u64);
        while !self.stop.load(Ordering::Relaxed) {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(STOP_POLL));
        }
        false
    }
}
