//! A camera's own two streams: the small one goes to viewers untouched, its audio too, and the main one is sampled for
//! training.
//!
//! Nothing is coded but the patches. Of the main stream only keyframes are decoded: they need no other picture, and
//! there are far more of them than patches are wanted.

mod pairs;
mod sampled;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hone_media::audio;
use hone_media::decode::{self, Decoder, codec_name};
use hone_media::encode::Packet;
use hone_media::frame::Frame;
use hone_media::rtsp::{self, AccessUnit, Camera, Unit};
use hone_media::source::{Info, camera_audio};
use hone_model::rng::Rng;
use hone_transport::catalog::Catalog;
use hone_transport::pacer::{self, Pacer};

use crate::camera::{PATCH_QUALITY, cut};
use crate::dial::Dialer;
use crate::patch::Purpose;
use crate::scene::Scenes;
use crate::sender::{PATCHES_PER_LEARN, Plan, Rate, Sent};
use crate::sound;
use crate::uplink::{Link, Uplink};
pub use pairs::{Counts, Pair, Pairs};
use sampled::Main;

/// Pictures looked at for the small stream's rate and size before it is announced.
const UNITS_FIRST: usize = 8;
/// How long both streams have for their first pictures.
const FIRST_MAX: Duration = Duration::from_secs(20);
/// How long to wait for a picture at a time.
const WAIT: Duration = Duration::from_millis(100);
/// Patches, kbit/s. The camera's uplink pays for them, and its video is not ours to make smaller.
const PATCH_KBPS: f64 = 100.0;
/// Patches that have been earned but not sent, in seconds' worth of them.
const CREDIT_MAX_S: f64 = 4.0;
/// Patches of one picture: more would tell the same again.
const PATCHES_PER_PAIR: u64 = 12;
/// Width over height of the two streams may differ so much before it is worth a word.
const ASPECT_TOLERANCE: f64 = 0.02;

/// A camera whose streams both play, before anything is sent.
pub struct Ingest {
    camera: Camera,
    /// What came while the stream was looked at.
    first: VecDeque<AccessUnit>,
    first_audio: Vec<audio::Packet>,
    audio: Option<audio::Track>,
    codec: Option<String>,
    plan: Plan,
    main: Main,
}

/// Sends a camera's small stream as it is, with patches of its main stream, until `stop` is set.
///
/// # Errors
/// What the camera or the connection say.
pub async fn relay(
    sub: rtsp::Config,
    main: rtsp::Config,
    scale: u32,
    dialer: Dialer,
    name: String,
    stop: Arc<AtomicBool>,
) -> Result<()> {
    let ingest = tokio::task::spawn_blocking(move || Ingest::open(sub, main, scale)).await??;
    let client = dialer.connect().await?;
    let mut uplink = Uplink::new(client, Some(dialer), &name, &ingest.catalog())?;
    let plan = ingest.plan();
    tracing::info!(stream = name, lr = ?plan.lr, hr = ?plan.hr, patch_kbps = plan.patch_kbps, "relaying");
    let (uplink, sent) = tokio::task::spawn_blocking(move || {
        let sent = ingest.run(&mut uplink, &stop);
        (uplink, sent)
    })
    .await?;
    uplink.close().await;
    sent.map(|_| ())
}

impl Ingest {
    /// Connects to both streams and looks at their first pictures. Blocks.
    ///
    /// # Errors
    /// One line that names the stream and what is wrong with it.
    pub fn open(sub: rtsp::Config, main: rtsp::Config, scale: u32) -> Result<Self> {
        let (sub_name, main_name) = (sub.address.to_string(), main.address.to_string());
        let mut camera = Camera::connect(sub).with_context(|| sub_name.clone())?;
        let mut main = Camera::connect(main).with_context(|| main_name.clone())?;
        let (mut first, mut first_audio) = (VecDeque::new(), Vec::new());
        let start = Instant::now();
        while first.len() < UNITS_FIRST {
            match camera.next(WAIT).with_context(|| sub_name.clone())? {
                Some(Unit::Picture(unit)) => first.push_back(unit),
                Some(Unit::Audio(packet)) => first_audio.push(packet),
                None => {}
            }
            if start.elapsed() > FIRST_MAX {
                bail!("{sub_name}: {}", rtsp::Error::Silent);
            }
        }
        let codec = first.iter().find_map(|unit| codec_name(&unit.data));
        let ((width, height), colour) = format_of(&first).with_context(|| sub_name.clone())?;
        if !first.iter().is_sorted_by_key(|unit| unit.pts_us) {
            tracing::warn!(
                camera = sub_name,
                "this stream has B-frames: each costs viewers a frame of delay"
            );
        }
        let (main_width, main_height) = main_size(&mut main).with_context(|| main_name.clone())?;
        let hr = (width * scale, height * scale);
        if hr.0 > main_width || hr.1 > main_height {
            bail!(
                "{main_name}: {main_width}x{main_height} is less than {scale} times the {width}x{height} of {sub_name}; \
                 choose another --scale or other sizes in the camera"
            );
        }
        let aspect = |w: u32, h: u32| f64::from(w) / f64::from(h);
        if (aspect(main_width, main_height) / aspect(width, height) - 1.0).abs() > ASPECT_TOLERANCE {
            tracing::warn!(
                main = %format_args!("{main_width}x{main_height}"),
                small = %format_args!("{width}x{height}"),
                "the streams differ in shape: they are of use only if both show the same section of the scene"
            );
        }
        let info =
            Info { width: hr.0, height: hr.1, fps: fps(&first), duration_us: None, colour, live: true };
        let plan = Plan { patch_kbps: PATCH_KBPS, ..Plan::new(&info, scale, None, Rate::Video(0.0))? };
        let audio = camera.video().audio.clone().map(|config| camera_audio(config, &first_audio));
        let main = Main::start(main, main_name, hr);
        Ok(Self { camera, first, first_audio, audio, codec, plan, main })
    }

    /// Sizes and rates of what is sent; the bitrate of the video is the camera's.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The stream, as it is told to the server.
    pub fn catalog(&self) -> Catalog {
        let mut catalog = self.plan.catalog(std::time::SystemTime::now());
        for rendition in catalog.video.renditions.values_mut() {
            rendition.bitrate = None;
            rendition.codec = self.codec.clone().unwrap_or_else(|| rendition.codec.clone());
        }
        catalog.with_audio(self.audio.as_ref().map(sound::rendition))
    }

    /// Relays until `stop` is set. Blocks: call it on a thread of its own.
    ///
    /// # Errors
    /// What the cameras or the connection say; lost cameras come back by themselves.
    pub fn run(mut self, uplink: &mut Uplink, stop: &AtomicBool) -> Result<(Sent, Counts)> {
        let mut out = Out::new(&self.plan, uplink);
        let mut small = Small {
            decoder: Decoder::new(decode::Limits::default())?,
            broken: true,
            size: self.plan.lr,
            decoded: 0,
        };
        let mut pairs = Pairs::default();
        let mut scenes = Scenes::default();
        for packet in std::mem::take(&mut self.first_audio) {
            out.audio(packet)?;
        }
        while !stop.load(Ordering::Relaxed) {
            let unit = match self.first.pop_front() {
                Some(unit) => unit,
                None => match self.camera.next(WAIT)? {
                    Some(Unit::Picture(unit)) => unit,
                    Some(Unit::Audio(packet)) => {
                        out.audio(packet)?;
                        continue;
                    }
                    None => continue,
                },
            };
            let goes = out.video(&unit)?;
            self.main.rest(!goes);
            if !goes {
                // Nobody learns from it. What comes next continues nothing that was decoded.
                small.broken = true;
                continue;
            }
            for frame in small.decode(&unit)? {
                scenes.see(&frame.image, frame.pts_us);
                if let Some(zero_us) = unit.zero_unix_us {
                    let unix_us = zero_us.saturating_add(frame.pts_us);
                    pairs.small(frame, unix_us);
                }
            }
            while let Ok((frame, unix_us)) = self.main.pictures.try_recv() {
                pairs.large(frame, unix_us);
            }
            if let Some(pair) = pairs.pair().filter(|_| scenes.settled()) {
                out.patches(&pair)?;
            }
        }
        let (sent, counts) = (out.sent, pairs.counts);
        let (decoded, passed_by) = (small.decoded, sent.passed_by);
        tracing::info!(
            frames = sent.frames,
            passed_by,
            decoded,
            patches = sent.patches,
            ?counts,
            "stream ended"
        );
        Ok((sent, counts))
    }
}

/// The small stream, decoded as viewers decode it.
struct Small {
    decoder: Decoder,
    /// A picture is missing or damaged.
    broken: bool,
    size: (u32, u32),
    /// Pictures handed to the decoder.
    decoded: u64,
}

impl Small {
    fn decode(&mut self, unit: &AccessUnit) -> Result<Vec<Frame>> {
        if unit.keyframe {
            self.broken = false;
        }
        if self.broken {
            return Ok(Vec::new());
        }
        let mut frames = if unit.fresh { self.decoder.flush()? } else { Vec::new() };
        self.decoded += 1;
        match self.decoder.decode(&unit.data, unit.pts_us) {
            Ok(more) => frames.extend(more),
            Err(error) => {
                tracing::debug!(%error, pts_us = unit.pts_us, "a picture of the camera's is damaged");
                self.broken = true;
            }
        }
        match self.decoder.format() {
            Some((size, _)) if size != self.size => {
                bail!("the camera's small stream changes from {:?} to {size:?}; start again", self.size)
            }
            _ => Ok(frames),
        }
    }
}

/// What goes to the server.
struct Out<'a> {
    uplink: &'a mut Uplink,
    plan: Plan,
    start: Instant,
    pacer: Pacer,
    rng: Rng,
    sent: Sent,
    /// Bytes of patches that media time has earned.
    credit_bytes: f64,
    last_us: Option<i64>,
    /// The link is new: only a keyframe can follow.
    gap: bool,
}

impl<'a> Out<'a> {
    fn new(plan: &Plan, uplink: &'a mut Uplink) -> Self {
        Self {
            uplink,
            plan: *plan,
            start: Instant::now(),
            pacer: Pacer::new(Duration::ZERO, pacer::Config::default()),
            rng: Rng::new(1),
            sent: Sent::default(),
            credit_bytes: 0.0,
            last_us: None,
            gap: true,
        }
    }

    /// Sends an access unit as it is. What does not continue what came before waits for a keyframe. Whether there is
    /// somebody to send to.
    fn video(&mut self, unit: &AccessUnit) -> Result<bool> {
        let link = self.uplink.link()?;
        let now = self.start.elapsed();
        if link == Link::Fresh && !self.gap {
            self.pacer = Pacer::new(now, pacer::Config::default());
        }
        self.gap |= link != Link::Up;
        if link == Link::Down || (self.gap && !unit.keyframe) {
            self.sent.passed_by += 1;
            return Ok(link != Link::Down);
        }
        self.gap = false;
        self.sent.frames += 1;
        self.sent.video_bytes += unit.data.len() as u64;
        self.uplink.video(Packet {
            data: unit.data.clone(),
            pts_us: unit.pts_us,
            keyframe: unit.keyframe,
        })?;
        let since_us =
            self.last_us.replace(unit.pts_us).map_or(0, |last| unit.pts_us - last).clamp(0, 1_000_000);
        let second = self.plan.patch_kbps * 125.0;
        self.credit_bytes = (self.credit_bytes + second * since_us as f64 / 1e6).min(CREDIT_MAX_S * second);
        if let Some(stats) = self.uplink.stats() {
            self.pacer.on_sent(now, self.uplink.written(), stats.bytes_sent);
            self.pacer.on_rtt(now, stats.rtt, stats.min_rtt);
        }
        Ok(true)
    }

    /// Sends a packet of audio as it is.
    fn audio(&mut self, packet: audio::Packet) -> Result<()> {
        if self.uplink.link()? != Link::Down && self.uplink.has_audio() {
            self.sent.audio_bytes += packet.data.len() as u64;
            self.uplink.audio(packet)?;
        }
        Ok(())
    }

    /// Sends patches of a pair, as many as have been earned.
    fn patches(&mut self, pair: &Pair) -> Result<()> {
        for _ in 0..PATCHES_PER_PAIR {
            if self.gap
                || !self.uplink.patches_asked()
                || self.credit_bytes <= 0.0
                || self.pacer.budget(self.start.elapsed()) == 0
            {
                break;
            }
            let purpose = match self.sent.patches.is_multiple_of(PATCHES_PER_LEARN) {
                true => Purpose::Learn,
                false => Purpose::Judge,
            };
            let s = self.plan.scale as usize;
            let patch = cut(&pair.large, &pair.small, purpose, s, PATCH_QUALITY, &mut self.rng)?;
            let Some((pts_us, message)) = patch else { break };
            let bytes = message.len() as u64;
            self.pacer.spend(bytes);
            self.credit_bytes -= bytes as f64;
            self.sent.patches += 1;
            self.sent.patch_bytes += bytes;
            self.uplink.patch(pts_us, message)?;
        }
        Ok(())
    }
}

/// Size and colour of a stream, from its first keyframe.
fn format_of(units: &VecDeque<AccessUnit>) -> Result<((u32, u32), hone_media::frame::Colour)> {
    let mut decoder = Decoder::new(decode::Limits::default())?;
    let keyframe = units.iter().find(|unit| unit.keyframe).context("it sends no keyframe")?;
    decoder.decode(&keyframe.data, keyframe.pts_us)?;
    decoder.format().context("it sends no parameter set")
}

/// The main stream's size: as it says, or from its first keyframe.
fn main_size(camera: &mut Camera) -> Result<(u32, u32)> {
    if let Some(size) = camera.video().size {
        return Ok(size);
    }
    let start = Instant::now();
    while start.elapsed() < FIRST_MAX {
        if let Some(Unit::Picture(unit)) = camera.next(WAIT)? {
            return Ok(format_of(&VecDeque::from([unit]))?.0);
        }
    }
    bail!(rtsp::Error::Silent)
}

/// The mean rate of these units, in Hz.
fn fps(units: &VecDeque<AccessUnit>) -> f64 {
    let times = units.iter().map(|unit| unit.pts_us);
    let span_us = times.clone().max().unwrap_or(0) - times.min().unwrap_or(0);
    (units.len().saturating_sub(1) as f64 * 1e6 / span_us.max(1) as f64).clamp(0.1, 240.0)
}
