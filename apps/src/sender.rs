//! Moves a source's frames to a server: video and audio at their own pace, patches where the link has room.

mod budget;
mod lesson;
mod pace;
mod scout;

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use hone_media::encode;
use hone_media::frame::{Frame, I420};
use hone_media::scale::downscale;
use hone_media::source::{Info, Item, Source};
use hone_transport::catalog::{self, Catalog, Hone, Rendition};

use self::budget::Budget;
pub(crate) use self::budget::START_S as PATCH_START_S;
pub use self::lesson::Lesson;
pub use self::pace::{AsItComes, Pace, RealTime, STOP_POLL};
use self::scout::Announced;
pub use self::scout::{ByLooks, Scout};
use crate::camera::{self, Camera};
use crate::demand::too_dear;
use crate::patch::{self, Purpose};
use crate::placement::PairClock;
use crate::uplink::{Link, Uplink};

/// Share of the uplink that patches take where the total is given. Patches are paid in video bits: few, then.
const PATCH_SHARE: f64 = 0.07;
/// The same at scale 1, where less can be learned.
const PATCH_SHARE_X1: f64 = 0.02;
/// Seconds between keyframes. A late viewer gets the newest group whole, so that this bounds what it must catch
/// up with, not how long it waits.
pub const GOP_S: f64 = 4.0;
/// One patch in so many is to learn from, the others are to judge by: they are smaller, and many are needed for a
/// verdict.
pub(crate) const PATCHES_PER_LEARN: u64 = 3;
/// What a link of unknown capacity is given first, kbit/s,
const AUTO_START_KBPS: f64 = 600.0;
/// and the most that it is given, in bits for a pixel of the small stream: more is not worth having.
const AUTO_BITS_PER_PIXEL_MAX: f64 = 0.25;
/// An uplink that gives way falls to this share of what it was given at most: below, there is no picture left.
const GIVE_WAY_MAX: f64 = 0.1;

/// The uplink's budget.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// Video, patches and audio together, kbit/s.
    Total(f64),
    /// Video alone, kbit/s; patches come on top in the same proportion, and audio.
    Video(f64),
    /// Video and patches together, as much as the link has room for beside audio.
    Auto,
}

/// The least that video and patches need, kbit/s.
const PICTURES_KBPS_MIN: f64 = 20.0;

impl Rate {
    /// All that it gives to pictures at first, kbit/s.
    pub fn kbps(self) -> f64 {
        match self {
            Self::Total(total) => total,
            Self::Video(video) => video / (1.0 - PATCH_SHARE),
            Self::Auto => AUTO_START_KBPS,
        }
    }

    /// What is left for the pictures beside audio of so many kbit/s.
    ///
    /// # Errors
    /// If that is too little.
    pub fn beside_audio(self, kbps: f64) -> Result<Self> {
        match self {
            Self::Total(total) if total - kbps < PICTURES_KBPS_MIN => bail!(
                "--uplink-kbps {total:.0} leaves too little beside the source's audio of {kbps:.0} kbit/s: give more, or \
                 leave the audio out with --no-audio"
            ),
            Self::Total(total) => Ok(Self::Total(total - kbps)),
            Self::Video(_) | Self::Auto => Ok(self),
        }
    }
}

/// What to send: derived from the source and the user's wishes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// HR size over LR size.
    pub scale: u32,
    /// Columns and rows of the stream.
    pub lr: (u32, u32),
    /// Columns and rows of what viewers show: `scale` times LR.
    pub hr: (u32, u32),
    /// Frames a second.
    pub fps: f64,
    /// Video, kbit/s.
    pub video_kbps: f64,
    /// Patches, kbit/s.
    pub patch_kbps: f64,
    /// Audio, kbit/s, as far as it is known; zero until it is set.
    pub audio_kbps: f64,
    /// Least and most that both together may come to where the link asks for it, kbit/s.
    pub total_kbps_range: (f64, f64),
    /// Colour tags of the source.
    pub colour: hone_media::frame::Colour,
    /// Seconds between keyframes.
    pub keyframe_interval_s: f64,
}

impl Plan {
    /// Sizes and rates for a source.
    ///
    /// # Errors
    /// If the LR picture would be larger than the source allows, or too small to code.
    pub fn new(info: &Info, scale: u32, lr_height: Option<u32>, rate: Rate) -> Result<Self> {
        let full = info.height / scale / 2 * 2;
        let height = lr_height.unwrap_or(full);
        if height > full || height < 16 || height % 2 == 1 {
            bail!(
                "--lr-height {height}: a {}x{} source at scale {scale} allows even heights from 16 to {full}",
                info.width,
                info.height
            );
        }
        let widest = info.width / scale / 2 * 2;
        let width = match lr_height {
            None => widest,
            Some(_) => {
                let width = f64::from(info.width) * f64::from(height) / f64::from(info.height);
                ((width / 2.0).round() as u32 * 2).min(widest)
            }
        };
        if width < 16 {
            bail!("a {}x{} source is too narrow for scale {scale}", info.width, info.height);
        }
        let auto_max = f64::from(width * height) * info.fps * AUTO_BITS_PER_PIXEL_MAX / 1e3;
        let (total, most) = match rate {
            Rate::Auto => (rate.kbps().min(auto_max), auto_max),
            Rate::Total(_) | Rate::Video(_) => (rate.kbps(), rate.kbps()),
        };
        let hr = (width * scale, height * scale);
        let patch_kbps = total * if scale == 1 { PATCH_SHARE_X1 } else { PATCH_SHARE };
        Ok(Self {
            scale,
            lr: (width, height),
            hr,
            fps: info.fps,
            video_kbps: total - patch_kbps,
            patch_kbps,
            audio_kbps: 0.0,
            total_kbps_range: (GIVE_WAY_MAX * total, most),
            colour: info.colour,
            keyframe_interval_s: GOP_S,
        })
    }

    /// The same with an uplink that never gives way: for links that are not in question.
    #[must_use]
    pub fn steady(self) -> Self {
        let total = self.video_kbps + self.patch_kbps;
        Self { total_kbps_range: (total, total), ..self }
    }

    /// The same without patches: their share is the video's.
    #[must_use]
    pub fn without_patches(self) -> Self {
        Self { video_kbps: self.video_kbps + self.patch_kbps, patch_kbps: 0.0, ..self }
    }

    /// The same picture sent at another scale; none if that is no whole number of even LR rows and columns.
    #[must_use]
    pub fn at_scale(self, scale: u32) -> Option<Self> {
        let even =
            |side: u32| side.is_multiple_of(2 * scale).then_some(side / scale).filter(|side| *side >= 16);
        Some(Self { scale, lr: (even(self.hr.0)?, even(self.hr.1)?), ..self })
    }

    /// Settings of an encoder for a picture of this size at this rate, keyframes as the stream has them.
    pub fn encode(&self, (width, height): (u32, u32), kbps: f64) -> encode::Config {
        let gop_frames = (self.keyframe_interval_s * self.fps).round().max(1.0) as u32;
        let config = encode::Config::new(width, height, self.fps, kbps.round() as u32);
        encode::Config { gop_frames, colour: self.colour, ..config }
    }

    /// The stream, as it is told to the server; `start` is when media time 0 was.
    pub fn catalog(&self, start: SystemTime) -> Catalog {
        let (name, range) = tags(self.colour);
        let start = start.duration_since(UNIX_EPOCH).unwrap_or_default();
        let rendition = Rendition {
            // High profile, level 5.2: what our encoder may use at most.
            codec: "avc1.640034".into(),
            coded_width: self.lr.0,
            coded_height: self.lr.1,
            framerate: Some(self.fps),
            // An uplink of unknown capacity promises nothing.
            bitrate: (self.total_kbps_range.1 <= self.video_kbps + self.patch_kbps)
                .then_some((self.video_kbps * 1e3) as u64),
            container: catalog::Container::default(),
        };
        let hone = Hone {
            arch: String::new(),
            update_format: String::new(),
            hr_width: self.hr.0,
            hr_height: self.hr.1,
            colour: catalog::Colour { matrix: name.into(), range: range.into() },
            start_unix_us: start.as_micros() as u64,
        };
        Catalog::new(rendition, hone)
    }
}

fn tags(colour: hone_media::frame::Colour) -> (&'static str, &'static str) {
    use hone_media::frame::{Matrix, Range};
    let matrix = match colour.matrix {
        Matrix::Bt601 => "bt601",
        Matrix::Bt709 => "bt709",
        Matrix::Bt2020 => "bt2020",
    };
    (matrix, if colour.range == Range::Full { "full" } else { "limited" })
}

/// Brings a frame to the size that viewers show: rows and columns that no whole LR pixel covers are cut off,
/// anything more is scaled.
///
/// # Errors
/// If the frame is smaller.
pub fn fit(frame: Frame, (width, height): (u32, u32), scale: u32) -> Result<Frame> {
    let (w, h) = (frame.image.width(), frame.image.height());
    if (w, h) == (width, height) {
        return Ok(frame);
    }
    let image = if (width..width + 2 * scale).contains(&w) && (height..height + 2 * scale).contains(&h) {
        let cut = |plane: &[u8], d: u32| -> Vec<u8> {
            let rows = plane.chunks_exact((w / d) as usize).take((height / d) as usize);
            rows.flat_map(|row| &row[..(width / d) as usize]).copied().collect()
        };
        I420::from_planes(
            width,
            height,
            cut(frame.image.y(), 1),
            cut(frame.image.u(), 2),
            cut(frame.image.v(), 2),
        )?
    } else {
        downscale(&frame.image, width, height)?
    };
    Ok(Frame { image: Arc::new(image), ..frame })
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sent {
    /// Frames.
    pub frames: u64,
    /// Frames that came while there was no link.
    pub passed_by: u64,
    /// Bytes of video.
    pub video_bytes: u64,
    /// Patches.
    pub patches: u64,
    /// Bytes of patches.
    pub patch_bytes: u64,
    /// Bytes of model updates, where the sender learns.
    pub model_bytes: u64,
    /// Bytes of audio.
    pub audio_bytes: u64,
}

/// What a sender does beside sending.
#[derive(Default)]
pub struct Beside {
    /// Learns what is sent.
    pub lesson: Option<Lesson>,
    /// Looks ahead; not for a sender that learns.
    pub scout: Option<Box<dyn Scout>>,
}

/// Sends `source` over `uplink` until it ends or `pace` stops it. Blocks: call it on a thread of its own.
///
/// While there is no link, frames pass by.
///
/// # Errors
/// What the source, the codecs or the connection say.
pub fn run(uplink: &mut Uplink, source: &mut dyn Source, plan: &Plan, pace: &mut dyn Pace) -> Result<Sent> {
    run_with(uplink, source, plan, pace, Beside::default())
}

/// The same, and what is done beside it.
///
/// # Errors
/// As [`run`].
pub fn run_with(
    uplink: &mut Uplink,
    source: &mut dyn Source,
    plan: &Plan,
    pace: &mut dyn Pace,
    beside: Beside,
) -> Result<Sent> {
    let Beside { lesson, mut scout } = beside;
    let open = |plan: &Plan, kbps: f64| {
        Camera::new(camera::Config {
            scale: plan.scale as usize,
            encode: plan.encode(plan.lr, kbps),
            patch_quality: camera::PATCH_QUALITY,
            seed: 1,
        })
    };
    let mut plan = *plan;
    let mut camera = open(&plan, plan.video_kbps)?;
    let mut announced: Option<Announced> = None;
    let start = Instant::now();
    let mut budget = Budget::new(&plan);
    let mut pairs = PairClock::default();
    let mut sent = Sent::default();
    while let Some(item) = source.next()? {
        let frame = match item {
            Item::Frame(frame) => frame,
            Item::Audio(_) if !uplink.has_audio() => continue,
            Item::Audio(packet) => {
                if !pace.wait(packet.pts_us) {
                    break;
                }
                if uplink.link()? != Link::Down {
                    budget.audio(packet.data.len() as u64);
                    sent.audio_bytes += packet.data.len() as u64;
                    uplink.audio(packet)?;
                }
                continue;
            }
        };
        if !pace.wait(frame.pts_us) {
            break;
        }
        let link = uplink.link()?;
        if link == Link::Down {
            sent.passed_by += 1;
            budget.passed_by(frame.pts_us);
            continue;
        }
        if link == Link::Fresh {
            budget.on_new_link(start.elapsed());
        } else if let Some(stats) = uplink.stats() {
            budget.on_link(start.elapsed(), &stats, uplink.written());
        }
        let worth_db = scout.as_ref().and_then(|scout| scout.twice_the_bits_db());
        budget.on_ask(uplink.patches_asked() && !too_dear(&plan, worth_db));
        if let Some(kbps) = budget.new_video_kbps() {
            camera.set_bitrate_kbps(kbps)?;
        }
        let frame = fit(frame, plan.hr, plan.scale).context("the source changed its size")?;
        pace.captured(&frame);
        if let Some(next) = announced.take_if(|next| next.from_us <= frame.pts_us) {
            plan = next.plan;
            camera = open(&plan, budget.video_kbps())?;
        } else if let (None, Some(scout)) = (&announced, &mut scout) {
            let now = Plan { video_kbps: budget.video_kbps(), ..plan };
            announced = scout.see(&frame, &now).map(|plan| Announced::after(&frame, plan));
            if let Some(Announced { from_us, plan: Plan { scale, lr, .. } }) = announced {
                tracing::info!(from = plan.scale, to = scale, ?lr, "the scale changes");
                uplink.change_size(from_us, lr)?;
            }
        }
        let packet = camera.frame(&frame, link == Link::Fresh)?;
        sent.frames += 1;
        sent.video_bytes += packet.data.len() as u64;
        budget.video(packet.pts_us, packet.data.len() as u64);
        if let Some(lesson) = &lesson {
            lesson.video(&packet);
            if camera.settled() && pairs.due(packet.pts_us) {
                for purpose in [Purpose::Learn, Purpose::Judge] {
                    camera.pair(purpose).into_iter().for_each(|pair| lesson.pair(pair));
                }
            }
            while let Some(publication) = lesson.update() {
                let bytes = publication.update.len() as u64;
                budget.model(bytes);
                sent.model_bytes += bytes;
                uplink.model(packet.pts_us, publication)?;
            }
        }
        uplink.video(packet)?;
        while camera.settled() && budget.allows_patch(start.elapsed()) {
            let Some((pts_us, mut message)) =
                camera.patch(if sent.patches.is_multiple_of(PATCHES_PER_LEARN) {
                    Purpose::Learn
                } else {
                    Purpose::Judge
                })?
            else {
                break;
            };
            if let Some(worth_db) = worth_db {
                patch::tell_worth(&mut message, worth_db);
            }
            budget.patch(message.len() as u64);
            sent.patches += 1;
            sent.patch_bytes += message.len() as u64;
            uplink.patch(pts_us, message)?;
        }
        tracing::trace!(
            pts_us = frame.pts_us,
            video = sent.video_bytes,
            patches = sent.patches,
            "frame sent"
        );
    }
    tracing::info!(
        frames = sent.frames,
        passed_by = sent.passed_by,
        video_bytes = sent.video_bytes,
        audio_bytes = sent.audio_bytes,
        patches = sent.patches,
        model_bytes = sent.model_bytes,
        "stream ended"
    );
    Ok(sent)
}

#[cfg(test)]
mod tests {
    use hone_media::frame::Colour;

    use super::*;

    fn info(width: u32, height: u32) -> Info {
        let colour = Colour::guess(height);
        Info { width, height, fps: 25.0, duration_us: None, colour, live: false }
    }

    #[test]
    fn sizes_are_even_and_hr_is_a_whole_multiple() {
        for (w, h) in [(1920, 1080), (1918, 1078), (1280, 720), (640, 362), (1080, 1920), (426, 240)] {
            for scale in 1..=4 {
                let plan = Plan::new(&info(w, h), scale, None, Rate::Total(600.0)).unwrap();
                assert!(plan.lr.0.is_multiple_of(2) && plan.lr.1.is_multiple_of(2));
                assert_eq!(plan.hr, (plan.lr.0 * scale, plan.lr.1 * scale));
                assert!(plan.hr.0 <= w && plan.hr.1 <= h && plan.hr.0 + 2 * scale > w, "{plan:?}");
            }
        }
        let plan = Plan::new(&info(1920, 1080), 2, Some(270), Rate::Video(400.0)).unwrap();
        assert_eq!((plan.lr, plan.hr, plan.video_kbps), ((480, 270), (960, 540), 400.0));
        for (scale, height) in [(2, 542), (2, 271), (2, 8), (4, 540)] {
            assert!(Plan::new(&info(1920, 1080), scale, Some(height), Rate::Total(600.0)).is_err());
        }
    }

    #[test]
    fn audio_is_paid_out_of_the_total() {
        assert_eq!(Rate::Total(600.0).beside_audio(64.0).unwrap(), Rate::Total(536.0));
        assert_eq!(Rate::Video(600.0).beside_audio(64.0).unwrap(), Rate::Video(600.0));
        let error = Rate::Total(80.0).beside_audio(64.0).unwrap_err().to_string();
        assert!(error.contains("--uplink-kbps 80") && error.contains("--no-audio"), "{error}");
    }

    #[test]
    fn fit_cuts_a_few_pixels_and_scales_the_rest() {
        let mut image = I420::new(70, 38).unwrap();
        image.y_mut().iter_mut().enumerate().for_each(|(i, v)| *v = (i % 70) as u8 + 16);
        let frame = Frame { pts_us: 7, image: Arc::new(image), colour: Colour::guess(38), quantiser: None };
        let cut = fit(frame.clone(), (68, 36), 2).unwrap();
        assert_eq!(cut.image.y()[68 + 5], 21);
        let scaled = fit(frame.clone(), (34, 18), 2).unwrap();
        assert_eq!((scaled.image.width(), scaled.pts_us), (34, 7));
        assert!(fit(frame, (140, 76), 2).is_err());
    }
}
