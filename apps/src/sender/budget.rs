//! The uplink's budget: what the link has room for, how much of it is the video's beside the audio, when a patch may go.

use std::time::Duration;

use hone_transport::Stats;
use hone_transport::link_rate::{LinkRate, Sample};
use hone_transport::pacer::{self, Pacer};

use super::Plan;
use crate::placement::Debt;

/// Seconds' worth of patches that may go out at once in the beginning, when each is worth most.
pub(crate) const START_S: f64 = 2.0;
/// Patches that have been earned but not sent, in seconds' worth of them.
const CREDIT_MAX_S: f64 = 20.0;
/// Patches leave at most so many times faster than their share: a large one must not crowd the video out.
const BURST: f64 = 4.0;
/// Model updates leave the video at least this share.
const VIDEO_SHARE_MIN: f64 = 0.5;
/// The encoder is told of a change from this share on.
const CHANGE_MIN: f64 = 0.03;

/// Splits one uplink between video and patches. Audio never gives way: it is taken off first.
pub(crate) struct Budget {
    total: LinkRate,
    audio_kbps: f64,
    /// Of the rest, the patches' share now,
    patch_share: f64,
    /// and while the server asks for them.
    patch_share_asked: f64,
    pacer: Pacer,
    /// What model updates took, where the sender learns.
    debt: Debt,
    /// What the encoder aims at, kbit/s.
    video_kbps: f64,
    /// Bytes of patches that media time has earned: so a slowed clock sends no more of them.
    credit_bytes: f64,
    last_pts_us: Option<i64>,
}

impl Budget {
    pub(crate) fn new(plan: &Plan) -> Self {
        let pictures_kbps = plan.video_kbps + plan.patch_kbps;
        let (least, most) = plan.total_kbps_range;
        let audio_kbps = plan.audio_kbps;
        let patch_share = plan.patch_kbps / pictures_kbps;
        let mut budget = Self {
            total: LinkRate::new(pictures_kbps + audio_kbps, least + audio_kbps..=most + audio_kbps),
            audio_kbps,
            patch_share,
            patch_share_asked: patch_share,
            pacer: Pacer::new(Duration::ZERO, pacer::Config::default()),
            debt: Debt::default(),
            video_kbps: plan.video_kbps,
            credit_bytes: START_S * plan.patch_kbps * 125.0,
            last_pts_us: None,
        };
        budget.pacer = budget.new_pacer(Duration::ZERO);
        budget
    }

    fn new_pacer(&self, now: Duration) -> Pacer {
        let rate_start = self.total.kbps() * 125.0;
        Pacer::new(now, pacer::Config { rate_start, rate_max: self.rate_max(), ..pacer::Config::default() })
    }

    /// What is left beside audio, kbit/s.
    fn pictures_kbps(&self) -> f64 {
        self.total.kbps() - self.audio_kbps
    }

    /// The most that audio, video and a burst of patches may come to, bytes a second.
    fn rate_max(&self) -> f64 {
        (self.total.kbps() + self.pictures_kbps() * (BURST - 1.0) * self.patch_share) * 125.0
    }

    fn patch_bytes_per_s(&self) -> f64 {
        self.pictures_kbps() * self.patch_share * 125.0
    }

    /// A frame came while there was no link.
    pub(crate) fn passed_by(&mut self, pts_us: i64) {
        self.last_pts_us = Some(pts_us);
    }

    /// The link was made anew: nothing is known of its path.
    pub(crate) fn on_new_link(&mut self, now: Duration) {
        self.total = self.total.on_new_link();
        self.pacer = self.new_pacer(now);
    }

    /// Takes what QUIC measures, and the payload written so far; `now` is from the clock of all calls.
    pub(crate) fn on_link(&mut self, now: Duration, stats: &Stats, written: u64) {
        self.pacer.on_sent(now, written, stats.bytes_sent);
        self.pacer.on_rtt(now, stats.rtt, stats.min_rtt);
        let sample = Sample {
            rtt: stats.rtt,
            bytes_sent: stats.bytes_sent,
            packets: (stats.sent_packets, stats.lost_packets),
            behind: self.pacer.behind(now),
        };
        self.total.on_link(now, sample);
        self.pacer.set_rate_max(self.rate_max());
    }

    /// Whether the server asks for patches: if not, their share is the video's.
    pub(crate) fn on_ask(&mut self, patches: bool) {
        self.patch_share = if patches { self.patch_share_asked } else { 0.0 };
    }

    /// What the encoder is to aim at from now on, kbit/s, if that has changed.
    pub(crate) fn new_video_kbps(&mut self) -> Option<u32> {
        let pictures = self.pictures_kbps() * (1.0 - self.patch_share);
        let kbps = (pictures - self.debt.kbps()).max(pictures * VIDEO_SHARE_MIN);
        if (kbps / self.video_kbps - 1.0).abs() < CHANGE_MIN {
            return None;
        }
        // Updates are paid for every few seconds: no news.
        match kbps < self.video_kbps && self.debt.kbps() == 0.0 {
            true => tracing::info!(kbps = kbps.round(), "the video gives way"),
            false => tracing::debug!(kbps = kbps.round(), "the video follows"),
        }
        self.video_kbps = kbps;
        Some((kbps.round() as u32).max(1))
    }

    /// What the encoder aims at, kbit/s.
    pub(crate) fn video_kbps(&self) -> f64 {
        self.video_kbps
    }

    /// Books a frame of video.
    pub(crate) fn video(&mut self, pts_us: i64, bytes: u64) {
        self.pacer.spend_on_video(bytes);
        let since_us = self.last_pts_us.replace(pts_us).map_or(0, |last| pts_us.saturating_sub(last));
        let second = self.patch_bytes_per_s();
        let since_us = since_us.clamp(0, 1_000_000);
        self.debt.repay(since_us);
        self.credit_bytes += second * since_us as f64 / 1e6;
        self.credit_bytes = self.credit_bytes.min(CREDIT_MAX_S * second);
    }

    /// Books a packet of audio.
    pub(crate) fn audio(&mut self, bytes: u64) {
        self.pacer.spend_on_video(bytes);
    }

    /// Books a model update.
    pub(crate) fn model(&mut self, bytes: u64) {
        self.pacer.spend(bytes);
        self.debt.add(bytes as usize);
    }

    /// Whether a patch may go now.
    pub(crate) fn allows_patch(&mut self, now: Duration) -> bool {
        self.patch_share > 0.0 && self.credit_bytes > 0.0 && self.pacer.budget(now) > 0
    }

    /// Books a patch.
    pub(crate) fn patch(&mut self, bytes: u64) {
        self.pacer.spend(bytes);
        self.credit_bytes -= bytes as f64;
    }
}
