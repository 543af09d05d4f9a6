//! `hone train-base`: a generic start for every stream, from clips of many things.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result};
use hone_cpu::CpuTrainer;
use hone_media::encode;
use hone_media::frame::{Frame, Range};
use hone_media::source::{Looped, Mp4Source, Source};
use hone_model::rng::Rng;
use hone_model::{Arch, Origin, Published, Weights, update};
use hone_trainer::{Event, Trainer};

use crate::camera::{self, Camera};
use crate::learner::Learner;
use crate::patch::Purpose;
use crate::sender::{Plan, Rate, fit};

/// Frames coded at one bitrate and light, then the encoder starts anew at another.
const SEGMENT_FRAMES: u64 = 24;
/// Optimiser steps for each coded frame, which brings one patch. In the clip's first round there are none: large steps on its
/// first few scenes would undo what the weights knew of all.
const STEPS_PER_FRAME: usize = 2;
/// Patches kept: most of a clip of hundreds of scenes.
const PATCHES_MAX: usize = 12_000;
/// The first part of the clip is never trained on: one frame in so many.
const HELD_OUT_SHARE: u64 = 12;
/// Frames there for one patch to judge by.
const FRAMES_PER_HELD_OUT: u64 = 4;
/// One segment in so many fades between two lights: on darkness the network must learn to do nothing.
const FADES: usize = 4;
/// Frames of the first round between two words of progress.
const TELL_EVERY_FRAMES: u64 = 1000;
/// Steps between two verdicts.
const EVALUATE_EVERY: u64 = 500;
/// Halvings of the learning rate from the first step to the last.
const HALVINGS: f32 = 6.0;

/// What to train.
#[derive(Clone, Debug)]
pub struct Options {
    /// H.264 in an MP4 file: many scenes, high quality.
    pub input: PathBuf,
    /// The network.
    pub arch: Arch,
    /// Bits a pixel of the LR stream, least and most: drawn anew for each segment, evenly in the logarithm.
    pub bits_per_pixel: (f64, f64),
    /// How many steps to train.
    pub steps: u64,
    /// Weights to start from, a model update for this network or a smaller one, at any scale; drawn if none.
    pub from: Option<PathBuf>,
    /// Adam's step size at the start.
    pub learning_rate: f32,
    /// The model update to write.
    pub out: PathBuf,
}

/// Trains until the steps are done or `stop` is set, and writes the best weights. Returns their gain, dB, on
/// scenes that were held out.
///
/// # Errors
/// What the source, the codecs or the file say; or if nothing better than bicubic was found.
pub fn run(options: &Options, stop: &AtomicBool) -> Result<f64> {
    let input = options.input.clone();
    let mut source = Looped::new(move || Mp4Source::open(&input), i64::MAX / 4)?;
    let info = *Mp4Source::open(&options.input)?.info();
    let round = (info.duration_us.unwrap_or(0) as f64 / 1e6 * info.fps).round().max(1.0) as u64;
    let held_out_frames = (round / HELD_OUT_SHARE / SEGMENT_FRAMES).max(1) * SEGMENT_FRAMES;
    let plan = Plan::new(&info, options.arch.scale() as u32, None, Rate::Video(100.0))?;
    let config = hone_trainer::Config {
        patches_max: PATCHES_MAX,
        newest_share: 0.0,
        held_out_max: (held_out_frames / FRAMES_PER_HELD_OUT) as usize,
        learning_rate: options.learning_rate,
        learning_rate_half_steps: options.steps as f32 / HALVINGS,
        learning_rate_min: 0.0,
        average_steps: 300.0,
        evaluate_every_steps: EVALUATE_EVERY,
        // The last weights are kept, not those that happen to suit the held-out scenes best.
        publish_gain_db: f64::NEG_INFINITY,
        publish_certainty: f64::NEG_INFINITY,
        pause_after: u32::MAX,
        follow_scenes: false,
        ..hone_trainer::Config::default()
    };
    let origin = Origin::Seed(config.seed);
    let backend = CpuTrainer::new(Weights::zeros(options.arch));
    let mut learner = Learner::new(Trainer::new(Box::new(backend), origin, config)?)?;
    if let Some(path) = &options.from {
        let mut weights = Published::origin(options.arch, origin).weights();
        weights.adopt(&read(path, options.arch)?);
        learner.trainer.start_from(&weights)?;
    }
    anyhow::ensure!(
        round >= held_out_frames + SEGMENT_FRAMES,
        "{}: {round} frames, where at least {} are needed: some to train on and some to judge by",
        options.input.display(),
        held_out_frames + SEGMENT_FRAMES
    );
    let mut rng = Rng::new(config.seed);
    let (mut began, mut frames, mut gain_db) = (None, 0, 0.0);
    let (mut camera, mut fade) = (None, Fade::NONE);
    while learner.trainer.steps() < options.steps && !stop.load(Ordering::Relaxed) {
        let Some(frame) = source.next_frame()? else { break };
        let (segment_frame, held_out) = (frames % SEGMENT_FRAMES, frames % round < held_out_frames);
        if segment_frame == 0 {
            camera = Some(open(&plan, options, &mut rng)?);
            fade = if rng.below(FADES) == 0 { Fade::drawn(&mut rng) } else { Fade::NONE };
        }
        anyhow::ensure!(
            frames < 2 * round || learner.trainer.steps() > 0,
            "{}: nothing in it that could be learned",
            options.input.display()
        );
        let first_round = frames < round;
        let known = held_out && !first_round;
        frames += 1;
        if first_round && frames.is_multiple_of(TELL_EVERY_FRAMES) {
            eprintln!("{frames:7} of {round} frames looked at");
        }
        let Some(camera) = camera.as_mut().filter(|_| !known) else { continue };
        let frame =
            fade.apply(fit(frame, plan.hr, plan.scale)?, segment_frame as f32 / SEGMENT_FRAMES as f32);
        let packet = camera.frame(&frame, false)?;
        learner.video(&packet.data, packet.pts_us)?;
        let purpose = if held_out { Purpose::Judge } else { Purpose::Learn };
        if (!held_out || segment_frame.is_multiple_of(FRAMES_PER_HELD_OUT))
            && let Some((pts_us, message)) = camera.patch(purpose)?
        {
            learner.patch(pts_us, message)?;
        }
        if first_round || held_out {
            continue;
        }
        if began.is_none() && options.from.is_some() {
            eprintln!("      0 steps  {:+.3} dB held out", learner.trainer.gain_db()?);
        }
        let began = *began.get_or_insert_with(Instant::now);
        for _ in 0..STEPS_PER_FRAME {
            let event = learner.trainer.step()?;
            if let Event::Published(publication) = &event {
                gain_db = publication.gain_db;
                // At once, so that an end of any kind loses nothing.
                write(&options.out, origin, learner.trainer.published(), gain_db)?;
            }
            let steps = learner.trainer.steps();
            if steps.is_multiple_of(EVALUATE_EVERY) && !matches!(event, Event::Idle(_)) {
                let left = began.elapsed().as_secs_f64() * (options.steps as f64 / steps as f64 - 1.0);
                eprintln!("{steps:7} steps  {gain_db:+.3} dB held out  {left:.0} s left");
            }
        }
    }
    anyhow::ensure!(gain_db > 0.0, "nothing better than bicubic was found; train longer");
    Ok(gain_db)
}

/// Light at the start and at the end of a segment; 1 as it was filmed, 0 black.
struct Fade(f32, f32);

impl Fade {
    const NONE: Self = Self(1.0, 1.0);

    /// Half of them begin or end in black.
    fn drawn(rng: &mut Rng) -> Self {
        let (dark, light) = (0.3 * rng.below(2) as f32 * rng.unit() as f32, rng.unit() as f32);
        if rng.below(2) == 0 { Self(dark, light) } else { Self(light, dark) }
    }

    /// `at` in 0..=1 of the segment.
    fn apply(&self, mut frame: Frame, at: f32) -> Frame {
        let light = self.0 + (self.1 - self.0) * at;
        if light < 1.0 {
            let black = if frame.colour.range == Range::Full { 0.0 } else { 16.0 };
            let dim = |plane: &mut [u8], zero: f32| {
                plane.iter_mut().for_each(|v| *v = (zero + (f32::from(*v) - zero) * light).round() as u8);
            };
            let image = Arc::make_mut(&mut frame.image);
            dim(image.y_mut(), black);
            dim(image.u_mut(), 128.0);
            dim(image.v_mut(), 128.0);
        }
        frame
    }
}

fn open(plan: &Plan, options: &Options, rng: &mut Rng) -> Result<Camera> {
    let (low, high) = options.bits_per_pixel;
    let bits = low * (high / low).powf(rng.unit());
    let kbps = (bits * f64::from(plan.lr.0 * plan.lr.1) * plan.fps / 1e3).clamp(8.0, 100_000.0);
    let encode = encode::Config { gop_frames: SEGMENT_FRAMES as u32, ..plan.encode(plan.lr, kbps) };
    let scale = options.arch.scale();
    Ok(Camera::new(camera::Config { scale, encode, patch_quality: 98, seed: rng.next_u64() })?)
}

/// The weights of a model update for `arch` or a smaller network, at any scale.
fn read(path: &Path, arch: Arch) -> Result<Weights> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let id = update::header(&bytes).with_context(|| format!("{} is no model", path.display()))?.arch_id;
    let theirs = (1..=arch.blocks)
        .flat_map(|blocks| (8..=arch.features).step_by(8).map(move |features| (blocks, features)))
        .flat_map(|(blocks, features)| (1..=4).map(move |scale| (blocks, features, scale)))
        .filter_map(|(blocks, features, scale)| Arch::new(arch.family, blocks, features, scale).ok())
        .find(|arch| arch.id() == id)
        .with_context(|| {
            format!("{} is no model of {arch}, or of a smaller network, at any scale", path.display())
        })?;
    // A snapshot applies to anything of its architecture.
    let held = update::apply(&Published::origin(theirs, Origin::Seed(0)), &bytes)
        .with_context(|| format!("{} is damaged, or no model that stands alone", path.display()))?;
    Ok(held.weights())
}

fn write(path: &Path, origin: Origin, published: &Published, gain_db: f64) -> Result<()> {
    let from = Published::origin(published.arch(), origin);
    let bytes = update::encode(origin, &from, published, gain_db as f32);
    std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}
