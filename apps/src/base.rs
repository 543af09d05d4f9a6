//! `hone train-base`: a generic start for every stream, from clips of many things.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hone_cpu::CpuTrainer;
use hone_media::encode;
use hone_media::source::{Looped, Mp4Source, Source};
use hone_model::rng::Rng;
use hone_model::{Arch, Origin, Published, Weights, update};
use hone_trainer::{Event, Trainer};

use crate::camera::{self, Camera};
use crate::learner::Learner;
use crate::patch::Purpose;
use crate::sender::{Plan, Rate, fit};

/// Frames coded at one bitrate, then the encoder starts anew at another.
const SEGMENT_FRAMES: u64 = 12;
/// Optimiser steps for each coded frame, which brings one patch of either kind.
const STEPS_PER_FRAME: usize = 2;
/// Patches kept: several rounds of a clip of a hundred scenes.
const PATCHES_MAX: usize = 3000;

/// What to train.
#[derive(Clone, Debug)]
pub struct Options {
    /// H.264 in an MP4 file: many scenes, high quality.
    pub input: PathBuf,
    /// The network.
    pub arch: Arch,
    /// Bits a pixel of the LR stream, least and most: drawn anew for each segment, evenly in the logarithm.
    pub bits_per_pixel: (f64, f64),
    /// How long to train.
    pub wall: Duration,
    /// The model update to write.
    pub out: PathBuf,
}

/// Trains until the time is up or `stop` is set, and writes the best weights. Returns their held-out gain, dB.
///
/// # Errors
/// What the source, the codecs or the file say; or if nothing better than bicubic was found.
pub fn run(options: &Options, stop: &AtomicBool) -> Result<f64> {
    let input = options.input.clone();
    let mut source = Looped::new(move || Mp4Source::open(&input), i64::MAX / 4)?;
    let info = *source.info();
    let plan = Plan::new(&info, options.arch.scale() as u32, None, Rate::Video(100.0))?;
    let config = hone_trainer::Config {
        patches_max: PATCHES_MAX,
        held_out_max: 160,
        held_out_min: 40,
        learning_rate_half_steps: 2500.0,
        learning_rate_min: 1e-4,
        average_steps: 300.0,
        evaluate_every_steps: 250,
        publish_gain_db: 0.005,
        publish_certainty: 0.0,
        pause_after: u32::MAX,
        ..hone_trainer::Config::default()
    };
    let origin = Origin::Seed(config.seed);
    let backend = CpuTrainer::new(Weights::zeros(options.arch));
    let mut learner = Learner::new(Trainer::new(Box::new(backend), origin, config)?)?;
    let mut rng = Rng::new(config.seed);
    let mut camera = None;
    let (start, mut frames, mut gain_db) = (Instant::now(), 0, 0.0);
    while start.elapsed() < options.wall && !stop.load(Ordering::Relaxed) {
        let Some(frame) = source.next_frame()? else { break };
        let frame = fit(frame, plan.hr, plan.scale)?;
        if u64::is_multiple_of(frames, SEGMENT_FRAMES) {
            camera = Some(open(&plan, options, &mut rng)?);
        }
        frames += 1;
        let Some(camera) = &mut camera else { break };
        let packet = camera.frame(&frame, false)?;
        learner.video(&packet.data, packet.pts_us)?;
        for purpose in [Purpose::Learn, Purpose::Judge] {
            if let Some((pts_us, message)) = camera.patch(purpose)? {
                learner.patch(pts_us, message)?;
            }
        }
        for _ in 0..STEPS_PER_FRAME {
            if let Event::Published(publication) = learner.trainer.step()?
                // A run of places that the network does not help says nothing of the whole.
                && publication.gain_db > 0.0
            {
                gain_db = publication.gain_db;
                let (steps, left) = (learner.trainer.steps(), options.wall.saturating_sub(start.elapsed()));
                eprintln!("{steps:7} steps  {gain_db:+.3} dB held out  {:.0} s left", left.as_secs_f64());
                // At once, so that an end of any kind loses nothing.
                write(&options.out, origin, learner.trainer.published(), gain_db)?;
            }
        }
    }
    anyhow::ensure!(gain_db > 0.0, "nothing better than bicubic was found; train longer");
    Ok(gain_db)
}

fn open(plan: &Plan, options: &Options, rng: &mut Rng) -> Result<Camera> {
    let (low, high) = options.bits_per_pixel;
    let bits = low * (high / low).powf(rng.unit());
    let kbps = (bits * f64::from(plan.lr.0 * plan.lr.1) * plan.fps / 1e3).clamp(8.0, 100_000.0);
    let encode = encode::Config { gop_frames: SEGMENT_FRAMES as u32, ..plan.encode(plan.lr, kbps) };
    let config =
        camera::Config { scale: options.arch.scale(), encode, patch_quality: 98, seed: rng.next_u64() };
    Ok(Camera::new(config)?)
}

fn write(path: &Path, origin: Origin, published: &Published, gain_db: f64) -> Result<()> {
    let from = Published::origin(published.arch(), origin);
    let bytes = update::encode(origin, &from, published, gain_db as f32);
    std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}
