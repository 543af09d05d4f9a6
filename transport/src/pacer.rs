//! Pacing of the patches by queueing delay, so that they fill what video leaves and never queue before it.
//!
//! Priority alone does not do it: packets that have left wait in the queue of the bottleneck whatever their
//! priority was. So the rate follows the delay (after LEDBAT, RFC 6817): while the round trip is less than
//! [`Config::queue_ms_max`] and half a packet above its minimum, the rate grows by [`Config::growth`] once per interval;
//! above, it shrinks by [`Config::shrink`]. An interval is a round trip, and at least [`INTERVAL_MIN`].
//!
//! The rate is that of video and patches together: a keyframe takes what patches would have had for a while, and so
//! finds no queue of theirs to wait behind, nor one that they build while it leaves. The queue of the keyframe itself says
//! nothing of the rate: until it is gone, a long queue is no reason to shrink. Without that, the limit on the queue would
//! have to be above what keyframes make, and ordinary frames would wait as long.
//!
//! Where losses hold the congestion window down, there is no queue on the path: it is in this endpoint instead, and no
//! round trip shows it. So what was written is compared with what has left.
//!
//! No sockets and no clock: the caller passes times, from any monotonic origin.

use std::time::Duration;

/// The least time between two changes of the rate: on a short path, one round trip is too few samples.
pub const INTERVAL_MIN: Duration = Duration::from_millis(50);

/// What was written and has not left is a backlog from this age on: a keyframe may take a moment.
pub const BACKLOG_AGE: Duration = Duration::from_millis(250);
/// Bytes that may wait at any time: a few packets.
const BACKLOG_BYTES: f64 = 6_000.0;

/// The longest that one burst of video puts patches off.
const VIDEO_FIRST: Duration = Duration::from_millis(400);
/// What a packet on its way adds to the mean delay: half of its size.
const HALF_PACKET_BYTES: f64 = 600.0;
/// A frame of so many times the usual bytes is a keyframe.
const KEYFRAME: f64 = 4.0;
/// Frames over which the usual bytes are averaged.
const FRAMES_USUAL: f64 = 16.0;
/// The smoothed round trip shows a keyframe's queue for so long after it is gone.
const RTT_LAG: Duration = Duration::from_millis(200);
/// Where the link has no room beside the video, one patch goes out after so long: training continues, slowly, on the
/// worst link.
const TRICKLE: Duration = Duration::from_secs(3);

/// How the rate moves. Rates are bytes per second of payload.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    /// Queueing delay (rtt - min_rtt) above which the rate shrinks, ms; besides what half a packet takes at that rate.
    pub queue_ms_max: f64,
    /// Factor per interval while the queue is short; above 1.
    pub growth: f64,
    /// Factor per interval while the queue is long; below 1.
    pub shrink: f64,
    /// First rate.
    pub rate_start: f64,
    /// The rate never falls below this: training continues, slowly, on the worst link.
    pub rate_min: f64,
    /// The rate never rises above this.
    pub rate_max: f64,
    /// The most that may be saved up while nothing is sent, s of the current rate.
    pub burst_s: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            queue_ms_max: 12.0,
            growth: 1.06,
            shrink: 0.85,
            rate_start: 30_000.0,
            rate_min: 2_000.0,
            rate_max: 5e6,
            burst_s: 0.1,
        }
    }
}

/// A token bucket whose rate follows the queueing delay.
#[derive(Clone, Debug)]
pub struct Pacer {
    config: Config,
    rate: f64,
    /// Bytes that may be sent; negative after a message that was larger than what was saved.
    tokens: f64,
    /// When tokens were last added.
    filled_at: Duration,
    /// When the rate was last changed.
    changed_at: Duration,
    /// Bytes written and sent, when last asked.
    counted: (u64, u64),
    /// Bytes that wait in this endpoint.
    backlog: f64,
    /// When the last patch went out.
    patch_at: Duration,
    /// Bytes of a usual frame of video.
    frame_bytes: f64,
    /// Until when a queue may be that of a keyframe.
    keyframe_until: Duration,
    /// Since when more than [`BACKLOG_BYTES`] did.
    stuck_since: Option<Duration>,
}

impl Pacer {
    /// A pacer at [`Config::rate_start`] with a full bucket; `now` is from the clock of all later calls.
    ///
    /// # Panics
    /// If a rate or factor is not finite and in order: a programmer's error.
    pub fn new(now: Duration, config: Config) -> Self {
        assert!(config.growth > 1.0 && config.shrink > 0.0 && config.shrink < 1.0, "growth > 1 > shrink > 0");
        assert!(config.rate_min > 0.0 && config.rate_min <= config.rate_max, "0 < rate_min <= rate_max");
        assert!(config.rate_max.is_finite() && config.rate_start.is_finite() && config.burst_s > 0.0);
        let rate = config.rate_start.clamp(config.rate_min, config.rate_max);
        Self {
            config,
            rate,
            tokens: rate * config.burst_s,
            filled_at: now,
            changed_at: now,
            counted: (0, 0),
            backlog: 0.0,
            patch_at: now,
            frame_bytes: 0.0,
            keyframe_until: now,
            stuck_since: None,
        }
    }

    /// The current rate, bytes per second.
    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// Lowers or raises the ceiling, for a budget that video shares; at least [`Config::rate_min`].
    pub fn set_rate_max(&mut self, rate_max: f64) {
        self.config.rate_max = if rate_max.is_finite() { rate_max } else { self.config.rate_max };
        self.config.rate_max = self.config.rate_max.max(self.config.rate_min);
        self.rate = self.rate.min(self.config.rate_max);
    }

    /// Takes what all tracks of the connection have written so far, and what has left; call it every frame or so.
    ///
    /// What has left counts headers and what was sent again: the backlog looks a little smaller than it is, and nothing
    /// adds up over hours.
    pub fn on_sent(&mut self, now: Duration, written: u64, sent: u64) {
        let (before_written, before_sent) = std::mem::replace(&mut self.counted, (written, sent));
        #[allow(clippy::cast_precision_loss, reason = "between two frames far less than 2^52 bytes pass")]
        let [written, sent] =
            [written.saturating_sub(before_written), sent.saturating_sub(before_sent)].map(|n| n as f64);
        self.backlog = (self.backlog + written - sent).max(0.0);
        self.stuck_since = (self.backlog >= BACKLOG_BYTES).then(|| self.stuck_since.unwrap_or(now));
    }

    /// Whether what was written has not left for longer than [`BACKLOG_AGE`].
    pub fn behind(&self, now: Duration) -> bool {
        self.stuck_since.is_some_and(|since| now.saturating_sub(since) > BACKLOG_AGE)
    }

    /// Takes a sample of the round trip; call it every frame or so.
    ///
    /// The rate does not grow while the bucket is full: a sender with little to send has learnt nothing about the
    /// link.
    pub fn on_rtt(&mut self, now: Duration, rtt: Duration, min_rtt: Duration) {
        let since = now.saturating_sub(self.changed_at);
        if since < rtt.max(INTERVAL_MIN) {
            return;
        }
        self.fill(now);
        let queue_ms = rtt.saturating_sub(min_rtt).as_secs_f64() * 1e3;
        if self.behind(now) {
            self.rate *= self.config.shrink;
        } else if queue_ms > self.config.queue_ms_max + HALF_PACKET_BYTES / self.rate * 1e3 {
            if now >= self.keyframe_until {
                self.rate *= self.config.shrink;
            }
        } else if self.tokens < self.capacity() {
            self.rate *= self.config.growth;
        }
        self.rate = self.rate.clamp(self.config.rate_min, self.config.rate_max);
        self.changed_at = now;
    }

    /// Bytes that may be sent now. A message may exceed it: send while it is not 0, then [`spend`](Self::spend)
    /// what was sent, and the bucket waits until the debt is paid.
    pub fn budget(&mut self, now: Duration) -> u64 {
        self.fill(now);
        if self.behind(now) {
            return 0;
        }
        // Saturates, and a debt is 0.
        #[allow(clippy::cast_possible_truncation, reason = "the bucket holds at most burst_s of rate_max")]
        #[allow(clippy::cast_sign_loss, reason = "clamped to be positive")]
        let bytes = self.tokens.max(0.0) as u64;
        let due = now.saturating_sub(self.patch_at) > TRICKLE;
        bytes.max(u64::from(due))
    }

    /// Takes `bytes` of video out of the bucket.
    pub fn spend_on_video(&mut self, bytes: u64) {
        let patch_at = self.patch_at;
        self.spend(bytes);
        self.patch_at = patch_at;
        #[allow(clippy::cast_precision_loss, reason = "a frame is far below 2^52 bytes")]
        let bytes = bytes as f64;
        self.frame_bytes += (bytes - self.frame_bytes) / FRAMES_USUAL;
        if bytes > KEYFRAME * self.frame_bytes {
            // At half the rate: video waits for what was on its way before it.
            let leaves_s = 2.0 * (bytes / self.rate).min(VIDEO_FIRST.as_secs_f64());
            self.keyframe_until = self.filled_at + Duration::from_secs_f64(leaves_s) + RTT_LAG;
        }
        self.tokens = self.tokens.max(-self.rate * VIDEO_FIRST.as_secs_f64());
    }

    /// Takes `bytes` out of the bucket.
    pub fn spend(&mut self, bytes: u64) {
        #[allow(clippy::cast_precision_loss, reason = "a message is far below 2^52 bytes")]
        let bytes = bytes as f64;
        self.tokens -= bytes;
        self.patch_at = self.filled_at;
    }

    fn fill(&mut self, now: Duration) {
        let since = now.saturating_sub(self.filled_at).as_secs_f64();
        self.filled_at = self.filled_at.max(now);
        self.tokens = (self.tokens + self.rate * since).min(self.capacity());
    }

    fn capacity(&self) -> f64 {
        self.rate * self.config.burst_s
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN_RTT: Duration = Duration::from_millis(60);

    /// Runs a fluid model of a link for `seconds`: `capacity` bytes per second, its queue in front, greedy sender.
    /// Returns (bytes per second sent, longest queue in ms) of the second half.
    fn run(capacity: f64, seconds: u32, greedy: bool) -> (f64, f64, Pacer) {
        let mut pacer = Pacer::new(Duration::ZERO, Config::default());
        let (mut queue, mut sent, mut longest) = (0.0f64, 0.0, 0.0f64);
        const STEP: f64 = 0.005;
        for step in 0..seconds * 200 {
            let now = Duration::from_secs_f64(f64::from(step) * STEP);
            let rtt = MIN_RTT + Duration::from_secs_f64(queue / capacity);
            pacer.on_rtt(now, rtt, MIN_RTT);
            if greedy && pacer.budget(now) > 0 {
                pacer.spend(1_200);
                queue += 1_200.0;
                if step >= seconds * 100 {
                    sent += 1_200.0;
                }
            }
            queue = (queue - capacity * STEP).max(0.0);
            if step >= seconds * 100 {
                longest = longest.max(queue / capacity * 1e3);
            }
        }
        (sent / f64::from(seconds) * 2.0, longest, pacer)
    }

    #[test]
    fn fills_the_link_with_a_short_queue() {
        for capacity in [20e3, 80e3, 200e3] {
            let (rate, queue_ms, _) = run(capacity, 60, true);
            assert!(rate > 0.75 * capacity, "{rate} of {capacity}");
            // On the thinnest, a packet takes 60 ms.
            assert!(queue_ms < 150.0, "{queue_ms}");
        }
    }

    #[test]
    fn an_idle_sender_does_not_grow_nor_save_up() {
        let (_, _, mut pacer) = run(1e6, 60, false);
        assert_eq!(pacer.rate(), Config::default().rate_start);
        let saved = pacer.budget(Duration::from_secs(3600));
        assert!(saved <= 3_000, "{saved}");
    }

    #[test]
    fn a_large_message_is_paid_off_before_the_next() {
        let mut pacer = Pacer::new(Duration::ZERO, Config { rate_start: 10_000.0, ..Config::default() });
        assert_eq!(pacer.budget(Duration::ZERO), 1_000);
        pacer.spend(11_000);
        assert_eq!(pacer.budget(Duration::from_millis(999)), 0);
        assert!(pacer.budget(Duration::from_millis(1100)) > 0);
    }

    #[test]
    fn a_keyframe_holds_patches_back_and_no_video_does_for_ever() {
        let mut pacer = Pacer::new(Duration::ZERO, Config { rate_start: 100_000.0, ..Config::default() });
        pacer.spend_on_video(25_000);
        assert_eq!(pacer.budget(Duration::from_millis(149)), 0);
        assert!(pacer.budget(Duration::from_millis(151)) > 0);
        // Video alone takes more than there is.
        let mut sent = 0;
        for ms in (151..30_151).step_by(33) {
            let now = Duration::from_millis(ms);
            pacer.spend_on_video(10_000);
            if pacer.budget(now) > 0 {
                pacer.spend(4_000);
                sent += 1;
            }
        }
        assert!((8..=11).contains(&sent), "{sent} patches in 30 s");
    }

    #[test]
    fn the_queue_of_a_keyframe_does_not_slow_patches_down_and_another_does() {
        let after_a_queue = |keyframe: bool| {
            let config = Config { rate_start: 100_000.0, rate_max: 100_000.0, ..Config::default() };
            let mut pacer = Pacer::new(Duration::ZERO, config);
            for ms in (0..=2_310).step_by(33) {
                let now = Duration::from_millis(ms);
                pacer.spend_on_video(if keyframe && ms == 1_980 { 24_000 } else { 1_000 });
                let queue = Duration::from_millis(if ms >= 1_980 { 90 } else { 0 });
                pacer.on_rtt(now, MIN_RTT + queue, MIN_RTT);
            }
            pacer.rate()
        };
        assert_eq!(after_a_queue(true), 100_000.0);
        assert!(after_a_queue(false) < 80_000.0, "{}", after_a_queue(false));
    }

    #[test]
    fn what_does_not_leave_holds_patches_back() {
        let mut pacer = Pacer::new(Duration::ZERO, Config::default());
        let mut written = 0;
        let mut run = |pacer: &mut Pacer, ms: std::ops::Range<u64>, leaves: bool, sent: &mut u64| {
            for ms in ms.step_by(33) {
                let now = Duration::from_millis(ms);
                written += 2_000;
                while pacer.budget(now) > 0 {
                    pacer.spend(1_000);
                    written += 1_000;
                }
                *sent = if leaves { written } else { *sent + 2_000 };
                pacer.on_sent(now, written, *sent);
                pacer.on_rtt(now, MIN_RTT, MIN_RTT);
            }
            (pacer.rate(), written)
        };
        let mut sent = 0;
        let (grown, _) = run(&mut pacer, 0..10_000, true, &mut sent);
        assert!(grown > Config::default().rate_start);
        // The link carries the video alone from here on: what more is written stays a fraction of a second.
        let (shrunk, stuck) = run(&mut pacer, 10_000..20_000, false, &mut sent);
        assert!(shrunk < 0.1 * grown, "{shrunk}");
        assert!(((stuck - sent) as f64) < grown, "{}", stuck - sent);
        let (again, _) = run(&mut pacer, 20_000..40_000, true, &mut sent);
        assert!(again > Config::default().rate_start, "{again}");
    }

    #[test]
    fn the_rate_stays_within_its_bounds_whatever_the_link_reports() {
        let mut pacer = Pacer::new(Duration::ZERO, Config { rate_max: 50_000.0, ..Config::default() });
        for ms in 0..100_000u64 {
            let now = Duration::from_millis(ms);
            // Hours of delay, a minimum above the sample, and time that stands still.
            let rtt = Duration::from_secs(if ms % 20_000 < 10_000 { 0 } else { 7_200 });
            pacer.on_rtt(now, rtt.min(Duration::from_millis(ms / 3 + 30)), Duration::from_millis(20));
            pacer.on_rtt(Duration::ZERO, Duration::ZERO, Duration::MAX);
            while pacer.budget(now) > 0 {
                pacer.spend(1_000);
            }
            assert!((2_000.0..=50_000.0).contains(&pacer.rate()), "{}", pacer.rate());
        }
        pacer.set_rate_max(1.0);
        assert_eq!(pacer.rate(), 2_000.0);
    }
}
