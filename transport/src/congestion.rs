//! Cubic (RFC 9438) that tells the losses of a radio from those of a queue.
//!
//! Cubic shrinks its window by 30% at every loss. On a mobile uplink packets are also lost to the air, at 2% and more,
//! and a stream of half a megabit a second then stalls on a link that could carry twice that. Here a loss counts only
//! beside a queue, which the round trip shows, or where losses are so many that no radio explains them. Against
//! traffic that fills the queue it is as hard as Cubic: there is a queue then.

use std::{
    any::Any,
    sync::Arc,
    time::{Duration, Instant},
};

use quinn::congestion::{Controller, ControllerFactory, CubicConfig};
use quinn_proto::RttEstimator;

/// A round trip longer than the shortest by this much means that a queue has built up. Below, it may be jitter.
const QUEUE: Duration = Duration::from_millis(20);
/// Share of bytes lost above which losses count whatever the round trip says: the queue may be too short to be seen.
const LOSS_SHARE_MAX: f64 = 0.2;
/// Bytes in which that share is measured: about a second of a thin uplink.
const LOSS_BYTES: f64 = 100_000.0;

/// Makes [`Tolerant`] controllers.
#[derive(Debug, Default)]
pub(crate) struct TolerantConfig(Arc<CubicConfig>);

impl ControllerFactory for TolerantConfig {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(Tolerant {
            cubic: self.0.clone().build(now, current_mtu),
            queue: Duration::ZERO,
            loss_share: 0.0,
        })
    }
}

struct Tolerant {
    cubic: Box<dyn Controller>,
    /// Smoothed round trip above the shortest.
    queue: Duration,
    /// Of the newest [`LOSS_BYTES`], an exponential mean.
    loss_share: f64,
}

impl Tolerant {
    fn count(&mut self, bytes: u64, lost: f64) {
        #[allow(clippy::cast_precision_loss, reason = "a batch of packets is far below 2^52 bytes")]
        let weight = (bytes as f64 / LOSS_BYTES).min(1.0);
        self.loss_share += weight * (lost - self.loss_share);
    }
}

impl Controller for Tolerant {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.cubic.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        self.queue = rtt.get().saturating_sub(rtt.min());
        self.count(bytes, 0.0);
        self.cubic.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, largest: Option<u64>) {
        self.cubic.on_end_acks(now, in_flight, app_limited, largest);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, is_persistent: bool, lost_bytes: u64) {
        self.count(lost_bytes, 1.0);
        // No bytes are lost where a router has marked packets: it has a queue.
        let marked = lost_bytes == 0;
        if marked || is_persistent || self.queue > QUEUE || self.loss_share > LOSS_SHARE_MAX {
            self.cubic.on_congestion_event(now, sent, is_persistent, lost_bytes);
        }
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.cubic.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        self.cubic.window()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self { cubic: self.cubic.clone_box(), ..*self })
    }

    fn initial_window(&self) -> u64 {
        self.cubic.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
