//! Camera, server and viewer in simulated time: the real parts, driven by one loop.
//!
//! A frame is captured at its media time. It and its patches take the time that the uplink's rate and delay make of
//! them. The trainer is asked for a step at each tick of its given speed, wherever this runs. An update goes down with
//! its own rate and delay, and holds for what the viewer shows from then on. A frame is shown when it arrives.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use hone_cpu::CpuTrainer;
use hone_media::encode::Packet;
use hone_media::frame::Frame;
use hone_model::{Arch, Origin, Published};
use hone_runtime::{Mode, Preference};
use hone_trainer::{Event, Trainer};

use super::link::{Message, Uplink};
use super::settings::Settings;
use super::trace::Trace;
use crate::auto_scale::{Net, NextLook, advise};
use crate::camera::{self, Camera};
use crate::demand::too_dear;
use crate::learner::Learner;
use crate::patch::{self, Purpose};
use crate::placement::{Debt, PairClock, Placement};
use crate::screen::Screen;
use crate::sender::{PATCH_START_S, PATCHES_PER_LEARN, Plan};

/// The encoder is told of a new rate when it differs by so much.
const RATE_CHANGE: f64 = 0.02;
/// Least rate of the encoder, kbit/s.
const VIDEO_KBPS_MIN: f64 = 8.0;
/// Shown pixels of frames that were captured and not yet shown: 512 MB of them.
const PIXELS_WAITING_MAX: u64 = 340_000_000;

/// What a viewer shows of a frame.
#[derive(Clone, Debug, PartialEq)]
pub enum Picture {
    /// Bicubic.
    Bicubic,
    /// By the weights of version 0, bit for bit.
    Origin,
    /// By weights of its own: (H, W, 4).
    Own(Vec<u8>),
}

/// A frame on its way to being shown.
#[derive(Clone, Debug)]
pub struct Shown {
    /// As the camera has it.
    pub truth: Frame,
    /// As it was decoded, LR.
    pub decoded: Frame,
    /// As it is shown.
    pub picture: Picture,
    /// Version of the weights held.
    pub version: u64,
    /// From capture to shown, microseconds of media time.
    pub latency_us: i64,
    /// Bytes of the frame, and of the patches or updates that went up beside it.
    pub bytes: (u64, u64),
}

/// What was sent, learned and received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Bytes of video.
    pub video_bytes: u64,
    /// Patches.
    pub patches: u64,
    /// Bytes of patches.
    pub patch_bytes: u64,
    /// Bytes of model updates that went up, where the sender learns.
    pub uplink_model_bytes: u64,
    /// Bytes of model updates that arrived.
    pub model_bytes: u64,
    /// Versions that were in force.
    pub versions: u64,
    /// Steps of the optimiser.
    pub steps: u64,
}

enum Due {
    Sent(Message),
    Packet(Packet),
    Update(Vec<u8>),
    /// Whether the server asks for patches.
    Ask(bool),
}

/// Media time between two looks at what the video's bits are worth, microseconds. Here they take no time.
const LOOK_EVERY_US: i64 = 30_000_000;
/// Media time of the first, as a sender has it.
const FIRST_LOOK_US: i64 = 10_000_000;

/// One run of a stream.
pub struct Stream {
    plan: Plan,
    placement: Placement,
    pairs: PairClock,
    debt: Debt,
    /// Bytes of updates since the last frame.
    sent_since: u64,
    follows_rate: bool,
    /// Whether the camera knows patches to be asked for, and what the server said last.
    asked: bool,
    asks: bool,
    /// A rate of patches was given: as many are sent as it pays for, also several a frame.
    always_asks: bool,
    net: Net,
    next_look: NextLook,
    /// What the last look said that twice the bits would gain, dB.
    twice_the_bits_db: Option<f64>,
    camera: Camera,
    video_kbps: f64,
    credit_bytes: f64,
    last_pts_us: Option<i64>,
    uplink: Uplink,
    learner: Learner,
    screen: Screen,
    origin: Published,
    /// Microseconds of media time between ticks of the trainer; none if it does not train.
    tick_us: Option<f64>,
    ticks: u64,
    /// From server to sender, and from server to viewer, microseconds.
    uplink_us: i64,
    downlink_us: i64,
    model_link_kbps: f64,
    model_link_free_us: i64,
    /// What is due, by time and then by order.
    due: BTreeMap<(i64, u64), Due>,
    order: u64,
    /// Captured and not shown, by media time; with the bytes that it cost.
    captured: BTreeMap<i64, (Frame, (u64, u64))>,
    totals: Totals,
}

impl Stream {
    /// Opens the parts.
    ///
    /// # Errors
    /// What they say.
    pub fn new(settings: &Settings, plan: Plan, arch: Arch, trace: Trace) -> Result<Self> {
        let config = hone_trainer::Config {
            seed: settings.seed,
            batch: settings.batch,
            ..hone_trainer::Config::default()
        };
        let config = settings.train_at.learn(config);
        let origin = Origin::best(arch, settings.seed);
        let version_0 = Published::origin(arch, origin);
        let trainer = Trainer::new(Box::new(CpuTrainer::new(version_0.weights())), origin, config)?;
        let (video_kbps, follows_rate) = match settings.trace {
            Some(_) => (trace.at(0).0 * plan.video_kbps / (plan.video_kbps + plan.patch_kbps), true),
            None => (plan.video_kbps, false),
        };
        let video_kbps = video_kbps.max(VIDEO_KBPS_MIN);
        let us = |ms: f64| (ms * 1e3) as i64;
        Ok(Self {
            camera: Camera::new(camera::Config {
                scale: plan.scale as usize,
                encode: plan.encode(plan.lr, video_kbps),
                patch_quality: camera::PATCH_QUALITY,
                seed: settings.seed,
            })?,
            placement: settings.train_at,
            pairs: PairClock::default(),
            debt: Debt::default(),
            sent_since: 0,
            follows_rate,
            asked: settings.train_at == Placement::Server,
            asks: true,
            always_asks: settings.patch_kbps.is_some(),
            net: (settings.blocks, settings.features),
            next_look: NextLook::at(FIRST_LOOK_US),
            twice_the_bits_db: None,
            video_kbps,
            credit_bytes: PATCH_START_S * plan.patch_kbps * 125.0,
            last_pts_us: None,
            uplink: Uplink::new(trace, us(settings.uplink_delay_ms)),
            learner: Learner::new(trainer)?,
            screen: Screen::new(arch, Preference::Cpu)?,
            origin: version_0,
            tick_us: (settings.steps_per_second > 0.0).then(|| 1e6 / settings.steps_per_second),
            ticks: 0,
            uplink_us: us(settings.uplink_delay_ms),
            downlink_us: us(settings.downlink_delay_ms),
            model_link_kbps: settings.model_link_kbps,
            model_link_free_us: 0,
            due: BTreeMap::new(),
            order: 0,
            captured: BTreeMap::new(),
            totals: Totals::default(),
            plan,
        })
    }

    /// What has come of it so far.
    pub fn totals(&self) -> Totals {
        Totals { steps: self.learner.trainer.steps(), ..self.totals }
    }

    /// Captures a frame of the size that viewers show, after everything that happens before it.
    ///
    /// # Errors
    /// What the codecs say, or that the link falls too far behind.
    pub fn frame(&mut self, frame: Frame, show: &mut dyn FnMut(Shown) -> Result<()>) -> Result<()> {
        let now_us = frame.pts_us;
        self.pass(now_us, show)?;
        let pictures_kbps = match self.follows_rate {
            true => self.uplink.kbps(),
            false => self.plan.video_kbps + self.plan.patch_kbps,
        };
        let asked = self.asked && (self.always_asks || !too_dear(&self.plan, self.twice_the_bits_db));
        let patch_share = match asked {
            true => self.plan.patch_kbps / (self.plan.video_kbps + self.plan.patch_kbps),
            false => 0.0,
        };
        let kbps = (pictures_kbps * (1.0 - patch_share) - self.debt.kbps()).max(VIDEO_KBPS_MIN);
        if (kbps / self.video_kbps - 1.0).abs() > RATE_CHANGE {
            self.camera.set_bitrate_kbps(kbps.round() as u32)?;
            self.video_kbps = kbps;
        }
        let packet = self.camera.frame(&frame, false)?;
        let video_bytes = packet.data.len() as u64;
        if self.placement == Placement::Sender {
            self.learner.video(&packet.data, packet.pts_us)?;
            if self.camera.settled() && self.pairs.due(now_us) {
                for purpose in [Purpose::Learn, Purpose::Judge] {
                    self.camera.pair(purpose).map_or(Ok(()), |pair| self.learner.pair(pair))?;
                }
            }
        }
        self.uplink.send(Message::Video(packet));
        let since_us = self.last_pts_us.replace(now_us).map_or(0, |last| now_us - last).clamp(0, 1_000_000);
        self.credit_bytes += pictures_kbps * patch_share * 125.0 * since_us as f64 / 1e6;
        self.debt.repay(since_us);
        if self.asked
            && !self.always_asks
            && let Some(frames) = self.next_look.see(&frame)
        {
            let plan = Plan { video_kbps: self.video_kbps, ..self.plan };
            self.twice_the_bits_db = advise(&plan, false, self.net, frames)?.twice_the_bits_db;
            self.next_look = NextLook::at(now_us.saturating_add(LOOK_EVERY_US));
        }
        let mut patch_bytes = 0;
        while asked
            && self.camera.settled()
            && self.credit_bytes > 0.0
            && (self.always_asks || !self.uplink.patches_wait())
        {
            let learn = self.totals.patches.is_multiple_of(PATCHES_PER_LEARN);
            let purpose = if learn { Purpose::Learn } else { Purpose::Judge };
            let Some((pts_us, mut message)) = self.camera.patch(purpose)? else { break };
            if let Some(worth_db) = self.twice_the_bits_db {
                patch::tell_worth(&mut message, worth_db);
            }
            self.credit_bytes -= message.len() as f64;
            self.totals.patches += 1;
            patch_bytes += message.len() as u64;
            self.uplink.send(Message::Patch(pts_us, message));
        }
        self.totals.video_bytes += video_bytes;
        self.totals.patch_bytes += patch_bytes;
        let sent_beside = patch_bytes + std::mem::take(&mut self.sent_since);
        self.captured.insert(now_us, (frame, (video_bytes, sent_beside)));
        let pixels = u64::from(self.plan.hr.0 * self.plan.hr.1);
        ensure!(
            self.captured.len() as u64 <= (PIXELS_WAITING_MAX / pixels).max(2),
            "the uplink is {} frames behind: {}x{} cannot be coded at its rate, a larger scale can",
            self.uplink.frames_waiting(),
            self.plan.lr.0,
            self.plan.lr.1
        );
        Ok(())
    }

    /// Lets everything arrive that is under way.
    ///
    /// # Errors
    /// As [`Stream::frame`].
    pub fn finish(&mut self, show: &mut dyn FnMut(Shown) -> Result<()>) -> Result<()> {
        let mut until_us = self.last_pts_us.unwrap_or(0);
        while !self.uplink.is_empty() || !self.captured.is_empty() {
            // A trace ends with a rate above 0: this ends.
            until_us += 1_000_000;
            let shown_before = self.captured.len();
            let waiting = !self.uplink.is_empty() || !self.due.is_empty();
            self.pass(until_us, show)?;
            ensure!(waiting || self.captured.len() < shown_before, "a frame was never shown");
        }
        Ok(())
    }

    /// Everything that is due up to `until_us`, in order.
    fn pass(&mut self, until_us: i64, show: &mut dyn FnMut(Shown) -> Result<()>) -> Result<()> {
        let mut arrived = vec![];
        self.uplink.advance(until_us, |at_us, message| arrived.push((at_us, message)));
        for (at_us, message) in arrived {
            self.at(at_us, Due::Sent(message));
        }
        loop {
            let next_us = self.due.first_key_value().map(|((at_us, _), _)| *at_us);
            let tick_us = self.tick_us.map(|tick_us| ((self.ticks + 1) as f64 * tick_us) as i64);
            match (next_us, tick_us) {
                (Some(at_us), tick_us) if at_us <= until_us && tick_us.is_none_or(|tick| at_us <= tick) => {
                    if let Some(((at_us, _), due)) = self.due.pop_first() {
                        self.happen(at_us, due, show)?;
                    }
                }
                (_, Some(tick_us)) if tick_us <= until_us => {
                    self.ticks += 1;
                    self.step(tick_us)?;
                }
                _ => return Ok(()),
            }
        }
    }

    fn at(&mut self, at_us: i64, due: Due) {
        self.order += 1;
        self.due.insert((at_us, self.order), due);
    }

    fn happen(&mut self, at_us: i64, due: Due, show: &mut dyn FnMut(Shown) -> Result<()>) -> Result<()> {
        match due {
            Due::Sent(Message::Video(packet)) => {
                if self.placement == Placement::Server {
                    self.learner.video(&packet.data, packet.pts_us)?;
                    // A rate that was given is kept to.
                    let asks = self.always_asks || self.learner.asks_for_patches();
                    if asks != self.asks {
                        self.asks = asks;
                        self.at(at_us + self.uplink_us, Due::Ask(asks));
                    }
                }
                self.at(at_us + self.downlink_us, Due::Packet(packet));
                Ok(())
            }
            Due::Sent(Message::Patch(pts_us, message)) => {
                self.learner.patch(pts_us, message)?;
                Ok(())
            }
            Due::Sent(Message::Model(update)) => {
                self.send_down(at_us, update);
                Ok(())
            }
            Due::Ask(asks) => {
                self.asked = asks;
                Ok(())
            }
            Due::Update(update) => {
                self.screen.update(&update).context("the viewer refuses an update")?;
                self.totals.model_bytes += update.len() as u64;
                self.totals.versions += 1;
                Ok(())
            }
            Due::Packet(packet) => {
                for decoded in self.screen.decode(&packet.data, packet.pts_us)? {
                    let shown = self.show(at_us, decoded)?;
                    show(shown)?;
                }
                Ok(())
            }
        }
    }

    fn step(&mut self, now_us: i64) -> Result<()> {
        if let Event::Published(publication) = self.learner.trainer.step()? {
            let update = publication.update;
            if self.placement == Placement::Sender {
                self.totals.uplink_model_bytes += update.len() as u64;
                self.sent_since += update.len() as u64;
                self.debt.add(update.len());
                self.uplink.send(Message::Model(update));
            } else {
                self.send_down(now_us, update);
            }
        }
        Ok(())
    }

    fn send_down(&mut self, now_us: i64, update: Vec<u8>) {
        let takes_us = (update.len() as f64 * 8e3 / self.model_link_kbps) as i64;
        self.model_link_free_us = self.model_link_free_us.max(now_us) + takes_us;
        self.at(self.model_link_free_us + self.downlink_us, Due::Update(update));
    }

    fn show(&mut self, now_us: i64, decoded: Frame) -> Result<Shown> {
        let (truth, bytes) =
            self.captured.remove(&decoded.pts_us).context("a frame was shown that was never captured")?;
        let mode = self.screen.mode(&decoded);
        let mode = self.screen.possible(&decoded, mode);
        let held = self.screen.held();
        let version = held.version();
        let picture = if mode == Mode::Bicubic {
            Picture::Bicubic
        } else if held.grid() == self.origin.grid() {
            Picture::Origin
        } else {
            let mut rgba = vec![];
            self.screen.upscale(&decoded, mode, &mut rgba)?;
            Picture::Own(rgba)
        };
        Ok(Shown { latency_us: now_us - truth.pts_us, truth, decoded, picture, version, bytes })
    }
}
