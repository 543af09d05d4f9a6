//! The bitrate that a link has room for: what video and patches together are to aim at.
//!
//! While a queue stands, on the path or in this endpoint, and while packets are lost in masses, the rate falls every
//! [`HOLD`]: below what the link delivers, by so much that the queue drains in about a second. A queue counts once it has
//! stood for [`STANDING`]: that of a keyframe drains sooner. Masses of losses count once they are beyond chance, and have
//! lasted for [`LOSING`]. So congestion is answered in about a second. While the path is clear the rate rises, fast up to
//! what the link has delivered before, then slowly.
//!
//! Patches give way at a shorter queue ([`crate::pacer`]): they are gone before this looks.
//!
//! No sockets and no clock: the caller passes times, from any monotonic origin.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::pacer::INTERVAL_MIN;

/// Queueing delay above which the rate falls, once it has stood.
const QUEUE_MAX: Duration = Duration::from_millis(80);
/// Queueing delay below which the path is clear.
const QUEUE_CLEAR: Duration = Duration::from_millis(30);
/// How long a queue must stand to count.
const STANDING: Duration = Duration::from_millis(700);
/// Factor of one step down at least,
const SHRINK: f64 = 0.75;
/// and share of what the link delivers that is left to fill when no queue is to be drained.
const DELIVERED_SHARE: f64 = 0.85;
/// The least time between two steps down: what a step does shows a round trip later.
const HOLD: Duration = Duration::from_millis(500);
/// Factor of a second on a clear path, below what the link is known to deliver and above it.
const GROWTH_PER_S: [f64; 2] = [1.4, 1.08];
/// How long the path must be clear before the rate rises again.
const CLEAR: Duration = Duration::from_secs(1);
/// Shares of packets lost, by a bad radio and by a queue that is too short to be seen, between which a cumulative sum (Page
/// 1954) decides, packet by packet. From 23% on it grows; at 10% it falls.
const LOSS_SHARES: [f64; 2] = [0.1, 0.4];
/// Where the sum counts: at 10% it comes here once in e^11 packets at most, a quarter of an hour of a thin uplink; of half of
/// all packets lost, 23 are enough.
const LOSSES: f64 = 11.0;
/// What the sum never exceeds: ten packets that arrive after a short outage take it down again.
const LOSSES_MAX: f64 = LOSSES + 4.0;
/// How long losses must count: a short outage is none of the rate's doing.
const LOSING: Duration = Duration::from_millis(250);
/// The shortest round trip is forgotten after one to two of these: a path may have become longer.
const SHORTEST_KEPT: Duration = Duration::from_secs(20);

/// What is known of the link at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// Smoothed round trip.
    pub rtt: Duration,
    /// Bytes sent since the connection began.
    pub bytes_sent: u64,
    /// Packets sent and lost since the connection began.
    pub packets: (u64, u64),
    /// Whether what was written does not leave: [`crate::pacer::Pacer::behind`].
    pub behind: bool,
}

/// A bitrate that follows a link.
#[derive(Clone, Debug)]
pub struct LinkRate {
    range: RangeInclusive<f64>,
    kbps: f64,
    /// Shortest round trip of the window before, and of this one, which began then.
    shortest: [Duration; 2],
    window_at: Duration,
    /// Since when there has been a queue, and since when there has been none.
    queued_since: Option<Duration>,
    clear_since: Option<Duration>,
    /// When the rate last fell, and the queue then.
    shrunk: Option<(Duration, Duration)>,
    last: Option<Duration>,
    /// When it was last counted what passes, and what was known then.
    counted: Option<(Duration, Sample)>,
    /// What the link delivered in the newest count, kbit/s.
    delivered_kbps: f64,
    /// Packets sent and lost, when last asked; the cumulative sum of losses, and since when it counts.
    packets: Option<(u64, u64)>,
    losses: f64,
    losing_since: Option<Duration>,
    /// What the link is known to deliver, kbit/s: at the last step down.
    known_kbps: f64,
}

impl LinkRate {
    /// A rate that starts at `kbps` and stays within `range`, kbit/s.
    pub fn new(kbps: f64, range: RangeInclusive<f64>) -> Self {
        Self {
            kbps: kbps.clamp(*range.start(), range.end().max(*range.start())),
            range,
            shortest: [Duration::MAX; 2],
            window_at: Duration::ZERO,
            queued_since: None,
            clear_since: None,
            shrunk: None,
            last: None,
            counted: None,
            delivered_kbps: f64::INFINITY,
            packets: None,
            losses: 0.0,
            losing_since: None,
            known_kbps: 0.0,
        }
    }

    /// The rate, kbit/s.
    pub fn kbps(&self) -> f64 {
        self.kbps
    }

    /// The same rate on a new connection, whose path is not known yet.
    #[must_use]
    pub fn on_new_link(&self) -> Self {
        Self::new(self.kbps, self.range.clone())
    }

    /// Takes what is known of the link now; call it every frame or so.
    pub fn on_link(&mut self, now: Duration, sample: Sample) {
        let since = now.saturating_sub(self.last.replace(now).unwrap_or(now));
        let queue = sample.rtt.saturating_sub(self.shortest(now, sample.rtt));
        self.count(now, sample);
        self.count_losses(now, sample.packets);
        let losing = self.losing_since.is_some();
        let queued = queue > QUEUE_MAX || sample.behind;
        let clear = queue < QUEUE_CLEAR && !queued && !losing;
        self.queued_since = queued.then(|| self.queued_since.unwrap_or(now));
        self.clear_since = clear.then(|| self.clear_since.unwrap_or(now));
        let lasts = |since: Option<Duration>, long| since.is_some_and(|at| now.saturating_sub(at) >= long);
        if lasts(self.queued_since, STANDING) || lasts(self.losing_since, LOSING) {
            // A queue that drains needs no further step.
            let drains = |then| queue < then && !sample.behind && !losing;
            match self.shrunk {
                Some((at, _)) if now.saturating_sub(at) < HOLD => {}
                Some((_, then)) if drains(then) => self.shrunk = Some((now, queue)),
                _ => {
                    self.known_kbps = DELIVERED_SHARE * self.delivered_kbps;
                    self.kbps = (SHRINK * self.kbps).min(self.known_kbps / (1.0 + queue.as_secs_f64()));
                    self.shrunk = Some((now, queue));
                }
            }
        } else if lasts(self.clear_since, CLEAR) {
            let growth = GROWTH_PER_S[usize::from(self.kbps > self.known_kbps)];
            self.kbps *= growth.powf(since.as_secs_f64().min(1.0));
        }
        self.kbps = self.kbps.min(*self.range.end()).max(*self.range.start());
    }

    fn shortest(&mut self, now: Duration, rtt: Duration) -> Duration {
        if now.saturating_sub(self.window_at) > SHORTEST_KEPT {
            self.shortest = [self.shortest[1], Duration::MAX];
            self.window_at = now;
        }
        self.shortest[1] = self.shortest[1].min(rtt);
        self.shortest[0].min(self.shortest[1])
    }

    /// Adds up for and against masses of losses: the logarithm of how much likelier they make what is seen.
    fn count_losses(&mut self, now: Duration, packets: (u64, u64)) {
        let before = self.packets.replace(packets).unwrap_or(packets);
        #[allow(clippy::cast_precision_loss, reason = "between two frames far less than 2^52 packets pass")]
        let [sent, lost] =
            [packets.0.saturating_sub(before.0), packets.1.saturating_sub(before.1)].map(|n| n as f64);
        let [radio, queue] = LOSS_SHARES;
        let sum = lost * (queue / radio).ln() + (sent - lost).max(0.0) * ((1.0 - queue) / (1.0 - radio)).ln();
        self.losses = (self.losses + sum).clamp(0.0, LOSSES_MAX);
        self.losing_since = (self.losses >= LOSSES).then(|| self.losing_since.unwrap_or(now));
    }

    /// Counts once in [`HOLD`] what passes. Packets that left within some time arrived within that time and what the
    /// round trip grew by.
    fn count(&mut self, now: Duration, sample: Sample) {
        let (at, before) = *self.counted.get_or_insert((now, sample));
        let since = now.saturating_sub(at);
        if since < HOLD {
            return;
        }
        let arrival_s = since.as_secs_f64() + sample.rtt.as_secs_f64() - before.rtt.as_secs_f64();
        let [bytes, sent, lost] = [
            (sample.bytes_sent, before.bytes_sent),
            (sample.packets.0, before.packets.0),
            (sample.packets.1, before.packets.1),
        ]
        .map(|(now, before)| {
            #[allow(clippy::cast_precision_loss, reason = "what passes in a second")]
            let count = now.saturating_sub(before) as f64;
            count
        });
        let passed = (1.0 - lost / sent.max(1.0)).max(0.0);
        self.delivered_kbps = bytes * passed / 125.0 / arrival_s.max(INTERVAL_MIN.as_secs_f64());
        self.counted = Some((now, sample));
    }
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "packets of a minute")]
mod tests {
    use super::*;

    const FPS: u64 = 30;
    const PATH: Duration = Duration::from_millis(60);
    const QUEUE_BYTES: f64 = 50_000.0;

    /// A link as a fluid: its queue, and what an encoder at the followed rate puts into it.
    struct Fluid {
        rate: LinkRate,
        queue: f64,
        rtt_s: f64,
        frame: u64,
        bytes: f64,
        packets: (u64, u64),
    }

    impl Fluid {
        fn new(kbps: f64, range: RangeInclusive<f64>) -> Self {
            let rate = LinkRate::new(kbps, range);
            Self { rate, queue: 0.0, rtt_s: PATH.as_secs_f64(), frame: 0, bytes: 0.0, packets: (0, 0) }
        }

        /// Runs for so long at a capacity, kbit/s, with some share of packets lost. The longest queue of the last
        /// second in ms.
        fn run(&mut self, seconds: u64, capacity_kbps: f64, loss: f64) -> f64 {
            let mut longest = 0.0f64;
            for frame in 0..seconds * FPS {
                self.frame += 1;
                // A keyframe of 8 frames' size every 2 s.
                let share = if self.frame % 60 == 1 { 8.0 } else { 52.0 / 59.0 };
                let bytes = self.rate.kbps() * 125.0 / FPS as f64 * share;
                self.bytes += bytes;
                self.packets.0 += (bytes / 1_200.0).ceil() as u64;
                self.packets.1 = (self.packets.0 as f64 * loss) as u64;
                self.queue =
                    (self.queue + bytes - capacity_kbps * 125.0 / FPS as f64).clamp(0.0, QUEUE_BYTES);
                let queue_s = self.queue / (capacity_kbps * 125.0);
                self.rtt_s += (PATH.as_secs_f64() + queue_s - self.rtt_s) / 4.0;
                let sample = Sample {
                    rtt: Duration::from_secs_f64(self.rtt_s),
                    bytes_sent: self.bytes as u64,
                    packets: self.packets,
                    behind: false,
                };
                self.rate.on_link(Duration::from_millis(self.frame * 1_000 / FPS), sample);
                if frame >= (seconds - 1) * FPS {
                    longest = longest.max(queue_s * 1e3);
                }
            }
            longest
        }
    }

    #[test]
    fn a_link_with_room_changes_nothing() {
        let mut link = Fluid::new(600.0, 60.0..=600.0);
        link.run(60, 2_000.0, 0.0);
        assert_eq!(link.rate.kbps(), 600.0);
        // Losses of the air without a queue neither.
        link.run(60, 2_000.0, 0.1);
        assert_eq!(link.rate.kbps(), 600.0);
    }

    #[test]
    fn a_link_that_becomes_thin_is_followed_within_a_second_and_back() {
        let mut link = Fluid::new(600.0, 60.0..=600.0);
        link.run(10, 2_000.0, 0.0);
        link.run(1, 300.0, 0.0);
        assert!(link.rate.kbps() < 600.0, "nothing within a second");
        let queue = link.run(4, 300.0, 0.0);
        assert!(link.rate.kbps() < 300.0 && queue < 300.0, "{} kbit/s, {queue} ms", link.rate.kbps());
        link.run(20, 300.0, 0.0);
        assert!(link.rate.kbps() > 150.0, "{} of 300 kbit/s used", link.rate.kbps());
        link.run(30, 2_000.0, 0.0);
        assert_eq!(link.rate.kbps(), 600.0);
    }

    #[test]
    fn an_unknown_link_is_filled() {
        for capacity in [400.0, 1_000.0, 3_000.0] {
            let mut link = Fluid::new(500.0, 50.0..=5_000.0);
            link.run(40, capacity, 0.0);
            let (mut mean, mut longest) = (0.0, 0.0f64);
            for _ in 0..40 {
                longest = longest.max(link.run(1, capacity, 0.0));
                mean += link.rate.kbps() / 40.0;
            }
            assert!(mean > 0.6 * capacity && mean < capacity, "{mean} of {capacity} kbit/s");
            assert!(longest < 900.0, "{longest} ms at {capacity} kbit/s");
        }
    }

    #[test]
    fn masses_of_losses_and_what_does_not_leave_count_without_a_queue() {
        let mut link = Fluid::new(600.0, 60.0..=600.0);
        link.run(10, 2_000.0, 0.0);
        link.run(5, 2_000.0, 0.4);
        assert!(link.rate.kbps() < 300.0, "{}", link.rate.kbps());
        let mut rate = LinkRate::new(600.0, 60.0..=600.0);
        for frame in 0..60 {
            let sample = Sample { rtt: PATH, bytes_sent: frame * 1_500, behind: true, ..Sample::default() };
            rate.on_link(Duration::from_millis(frame * 33), sample);
        }
        assert!(rate.kbps() < 400.0, "{}", rate.kbps());
    }

    /// Seconds at 30 frames a second and 3 packets a frame, each lost with this probability from `begin_s` on, until the rate
    /// falls; none if it does not within `seconds`.
    fn seconds_until_it_falls(share: f64, begin_s: u64, seconds: u64, seed: u64) -> Option<f64> {
        let mut rate = LinkRate::new(600.0, 60.0..=600.0);
        let (mut random, mut packets) = (seed, (0, 0));
        for frame in 0..seconds * FPS {
            packets.0 += 3;
            for _ in 0..3 {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let unlucky = ((random >> 11) as f64 / (1u64 << 53) as f64) < share;
                packets.1 += u64::from(frame >= begin_s * FPS && unlucky);
            }
            let now = Duration::from_millis(frame * 1_000 / FPS);
            let bytes_sent = packets.0 * 1_200;
            rate.on_link(now, Sample { rtt: PATH, bytes_sent, packets, behind: false });
            if rate.kbps() < 600.0 {
                return Some((now.as_secs_f64() - begin_s as f64).max(0.0));
            }
        }
        None
    }

    #[test]
    fn masses_of_losses_are_answered_within_a_second_and_a_bad_radio_is_none() {
        for seed in 1..=20 {
            for (share, within_s) in [(0.5, 1.0), (0.4, 1.5)] {
                let after_s = seconds_until_it_falls(share, 10, 20, seed).unwrap_or(f64::INFINITY);
                assert!(after_s < within_s, "{share}: after {after_s} s");
            }
            // An hour and a half in all.
            assert_eq!(seconds_until_it_falls(0.1, 0, 300, seed), None);
        }
        let mut slowest: Vec<_> =
            (1..=20).filter_map(|seed| seconds_until_it_falls(0.5, 10, 20, seed)).collect();
        slowest.sort_by(f64::total_cmp);
        println!("half of the packets lost: answered after {} s, {} s at most", slowest[10], slowest[19]);
    }

    #[test]
    fn an_outage_of_a_moment_is_not_the_rates_doing() {
        let mut rate = LinkRate::new(600.0, 60.0..=600.0);
        let mut packets = (0, 0);
        for frame in 0..300 {
            packets.0 += 3;
            // 200 ms, all of it, said at once as QUIC does.
            packets.1 += if frame == 150 { 18 } else { 0 };
            let now = Duration::from_millis(frame * 1_000 / FPS);
            rate.on_link(now, Sample { rtt: PATH, bytes_sent: packets.0 * 1_200, packets, behind: false });
        }
        assert_eq!(rate.kbps(), 600.0);
    }

    #[test]
    fn a_path_that_became_longer_is_no_queue_for_ever() {
        let mut rate = LinkRate::new(600.0, 60.0..=600.0);
        for frame in 0..120 * FPS {
            let now = Duration::from_millis(frame * 1_000 / FPS);
            let rtt = if frame < 10 * FPS { PATH } else { 4 * PATH };
            rate.on_link(now, Sample { rtt, ..Sample::default() });
        }
        assert_eq!(rate.kbps(), 600.0);
    }

    #[test]
    fn stays_within_its_range_whatever_the_link_reports() {
        let mut rate = LinkRate::new(1e9, 60.0..=600.0);
        for frame in 0..10_000u64 {
            let wild = Duration::from_secs(frame.wrapping_mul(2_654_435_761) % 7_200);
            let sample = Sample {
                rtt: wild,
                bytes_sent: frame % 99,
                packets: (frame % 7, frame),
                behind: frame % 100 > 60,
            };
            rate.on_link(Duration::from_millis(frame * 10 % 5_000), sample);
            assert!((60.0..=600.0).contains(&rate.kbps()), "{}", rate.kbps());
        }
    }
}
