//! What frames that reuse the network's detail are worth: a clip is streamed and learned in one process, and every second
//! frame is made in all three ways and compared with the camera's own.
//!
//!     cargo run --release -p hone-apps --example reuse_quality -- CLIP.mp4 [KBPS 250] [SECONDS 10] [LR_HEIGHT 270] [STEPS 4]

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use hone_apps::camera::{self, Camera};
use hone_apps::learner::Learner;
use hone_apps::patch::Purpose;
use hone_apps::picture;
use hone_apps::quality::Truth;
use hone_apps::screen::Screen;
use hone_apps::sender::{Plan, Rate, fit};
use hone_cpu::CpuTrainer;
use hone_media::frame::Frame;
use hone_media::source::{Mp4Source, Source};
use hone_model::{Arch, Origin, Published};
use hone_runtime::{Mode, Preference, Upscaler};
use hone_trainer::{Config, Event, Trainer};

const NET: &str = "live-4x16-x2";
/// Frames from patch to patch to learn from; judged by is half as often.
const PATCH_EVERY: usize = 4;

/// Sums over the frames that were made in all ways.
#[derive(Default)]
struct Sums {
    frames: f64,
    /// PSNR-Y, dB: bicubic, reused, network.
    psnr_db: [f64; 3],
    /// Least time of each, ms.
    least_ms: [f64; 3],
    /// Share of the picture that stands still.
    still: f64,
    /// Frames that are worse than bicubic by more than a hundredth of a dB.
    worse: f64,
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let clip = args.first().context("which clip?")?;
    let number = |i: usize, default: f64| args.get(i).map_or(Ok(default), |text| text.parse::<f64>());
    let (kbps, seconds) = (number(1, 250.0)?, number(2, 10.0)?);
    let (lr_height, steps) = (number(3, 270.0)? as u32, number(4, 4.0)? as usize);

    let mut source = Mp4Source::open(Path::new(clip))?;
    let info = *source.info();
    let arch: Arch = NET.parse()?;
    let scale = arch.scale() as u32;
    let plan = Plan::new(&info, scale, Some(lr_height), Rate::Video(kbps))?;
    let encode = plan.encode(plan.lr, plan.video_kbps);
    let patch_quality = camera::PATCH_QUALITY;
    let mut camera = Camera::new(camera::Config { scale: arch.scale(), encode, patch_quality, seed: 1 })?;
    let origin = Origin::best(arch, 1);
    let backend = CpuTrainer::new(Published::origin(arch, origin).weights());
    let mut learner = Learner::new(Trainer::new(Box::new(backend), origin, Config::default())?)?;
    let mut screen = Screen::new(arch, Preference::Cpu)?;
    // The network on every frame, beside the screen, which has it on every second.
    let mut full = Upscaler::new(arch, &Preference::Cpu.into())?;
    screen.keep(true);

    let mut sums = Sums { least_ms: [f64::INFINITY; 3], ..Sums::default() };
    let (mut last, mut rgba): (Option<Frame>, Vec<u8>) = (None, vec![]);
    for index in 0..(seconds * plan.fps) as usize {
        let Some(frame) = source.next_frame()? else { break };
        let frame = fit(frame, plan.hr, plan.scale)?;
        let packet = camera.frame(&frame, false)?;
        for (purpose, every) in [(Purpose::Learn, PATCH_EVERY), (Purpose::Judge, 2 * PATCH_EVERY)] {
            if index.is_multiple_of(every)
                && let Some((pts_us, message)) = camera.patch(purpose)?
            {
                learner.patch(pts_us, message)?;
            }
        }
        learner.video(&packet.data, packet.pts_us)?;
        for _ in 0..steps {
            if let Event::Published(publication) = learner.trainer.step()? {
                screen.update(&publication.update)?;
                full.set_weights(&screen.held().weights())?;
            }
        }
        for shown in screen.decode(&packet.data, packet.pts_us)? {
            anyhow::ensure!(shown.pts_us == frame.pts_us, "a frame was held back");
            if screen.mode(&shown) == Mode::Bicubic
                || screen.possible(&shown, Mode::Reuse) != Mode::Reuse
                || last.is_none()
            {
                screen.upscale(&shown, Mode::Network, &mut rgba)?;
                last = Some(shown);
                continue;
            }
            let before = last.take().context("there is one")?;
            let (now, before) = (picture::yuv420(&shown), picture::yuv420(&before));
            let truth = Truth::new(&frame);
            let mut psnr_db = [0.0; 3];
            for (i, mode) in [Mode::Bicubic, Mode::Reuse, Mode::Network].into_iter().enumerate() {
                let start = Instant::now();
                match mode {
                    Mode::Network => full.upscale(&now, mode, &mut rgba)?,
                    _ => screen.upscale(&shown, mode, &mut rgba)?,
                }
                sums.least_ms[i] = sums.least_ms[i].min(start.elapsed().as_secs_f64() * 1e3);
                psnr_db[i] = truth.quality(&rgba, 4).psnr_y_db;
                sums.psnr_db[i] += psnr_db[i];
            }
            let weights = hone_cpu::stillness(now.y, before.y, now.h, now.w);
            sums.still += weights.iter().map(|&v| f64::from(v)).sum::<f64>() / weights.len() as f64;
            sums.worse += f64::from(u8::from(psnr_db[1] < psnr_db[0] - 0.01));
            sums.frames += 1.0;
        }
    }
    anyhow::ensure!(sums.frames > 0.0, "the network was never in force");
    let mean = |v: f64| v / sums.frames;
    let [bicubic, reused, network] = sums.psnr_db.map(mean);
    println!(
        "{clip}, {}x{} at {kbps} kbit/s, {} steps learned, {} frames reused",
        plan.lr.0,
        plan.lr.1,
        learner.trainer.steps(),
        sums.frames
    );
    println!("PSNR-Y, dB: bicubic {bicubic:.2}, reused {reused:.2}, network {network:.2}");
    println!(
        "reused over bicubic {:+.2}, against the network {:+.2}; {:.0}% still; {:.1}% of the frames worse than bicubic",
        reused - bicubic,
        reused - network,
        100.0 * mean(sums.still),
        100.0 * mean(sums.worse)
    );
    let [bicubic, reused, network] = sums.least_ms;
    println!("least ms a frame on the CPU: bicubic {bicubic:.1}, reused {reused:.1}, network {network:.1}");
    Ok(())
}
