//! One run: the stream and its measuring side by side, then the opponents that need its bits.

use std::io::IsTerminal;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use hone_media::frame::Frame;
use hone_media::source::{Info, Item, Source, Thinned};
use hone_model::{Arch, Family};

use super::ffmpeg::Ffmpeg;
use super::judge::{BICUBIC, FROZEN, HONE, Judge, OPENH264, X264, has_frozen, live};
use super::report::{LabReport, Machine, backends};
use super::settings::{Part, Settings};
use super::stream::{Shown, Stream, Totals};
use super::vmaf::Vmaf;
use super::{judge, x264};
use crate::clip;
use crate::crop::Crop;
use crate::plain;
use crate::report::Run;
use crate::sender::{Plan, fit};

/// Frames between two threads.
const FRAMES_AHEAD: usize = 3;

/// A run that is over.
pub struct Outcome {
    /// What it comes to.
    pub report: LabReport,
    /// All frames.
    pub rows: Vec<judge::Row>,
    /// Some places.
    pub crops: Vec<Crop>,
}

/// Streams a clip; none is the bundled one. When `stop` is set, the outcome covers what was done by then.
///
/// # Errors
/// What the clip, the codecs or ffmpeg say.
pub fn run(
    input: Option<&Path>,
    settings: &Settings,
    ffmpeg: Option<&Ffmpeg>,
    stop: &AtomicBool,
) -> Result<Outcome> {
    let start = Instant::now();
    settings.check()?;
    let open = || -> Result<Box<dyn Source>> {
        let clip = clip::open(input, settings.seconds)?;
        Ok(match settings.fps {
            Some(fps) => Box::new(Thinned::new(clip, fps)),
            None => clip,
        })
    };
    let source = open()?;
    let info = *source.info();
    let (plan, trace) = settings.plan(&info, || clip::looks(input, settings.seconds, settings.fps))?;
    let arch = Arch::new(Family::Live, settings.blocks, settings.features, plan.scale as u8)?;
    let duration_s = info.duration_us.map_or(0.0, |us| us as f64 / 1e6);
    let progress = Progress::new(clip::name(input), &plan, arch, duration_s);
    let vmaf = |contenders: usize| -> Result<Option<Vmaf>> {
        let ffmpeg = ffmpeg.filter(|ffmpeg| ffmpeg.vmaf && settings.has(Part::Vmaf));
        ffmpeg.map(|ffmpeg| Vmaf::start(ffmpeg, plan.hr, plan.fps, contenders)).transpose()
    };
    let frozen = has_frozen(settings, arch);
    let mut judge = Judge::new(settings, arch, vmaf(live(frozen).len())?, duration_s)?;
    let mut stream = Stream::new(settings, plan, arch, trace)?;
    play(source, &plan, &mut stream, &mut judge, stop, &progress)?;
    judge.end_live()?;
    ensure!(!judge.rows.is_empty(), "stopped before the first frame was shown");

    let totals = stream.totals();
    drop(stream);
    let (frames, bytes) =
        (judge.rows.len(), totals.video_bytes + totals.patch_bytes + totals.uplink_model_bytes);
    let mut spent = [None; judge::CONTENDERS];
    spent[HONE] = Some(bytes);
    spent[BICUBIC] = Some(totals.video_bytes);
    spent[FROZEN] = frozen.then_some(totals.video_bytes);
    let stopped = || stop.load(Ordering::Relaxed);
    // What is stopped in the middle counts for nothing.
    let kept = |done: Result<u64>| if stopped() { Ok(None) } else { done.map(Some) };
    let open = || Ok(Box::new(Stoppable { source: open()?, stop }) as Box<dyn Source + '_>);
    if settings.has(Part::Openh264) && !stopped() {
        progress.say("plain H.264 by openh264");
        let run = |judge: &mut plain::Judge| plain::run(open, &plan, frames, bytes, judge);
        spent[OPENH264] = kept(judge.opponent(OPENH264, "plain openh264", vmaf(1)?, run))?;
    }
    let x264 = ffmpeg.filter(|ffmpeg| ffmpeg.x264 && settings.has(Part::X264));
    if let Some(ffmpeg) = x264.filter(|_| !stopped()) {
        progress.say("plain H.264 by x264");
        let run = |judge: &mut plain::Judge| x264::run(ffmpeg, open, &plan, frames, bytes, judge);
        spent[X264] = kept(judge.opponent(X264, "plain x264", vmaf(1)?, run))?;
    }
    let run = run_of(input, &plan, arch, totals, spent[OPENH264].or(spent[X264]).unwrap_or(0));
    let report = LabReport {
        complete: !stopped(),
        ffmpeg: ffmpeg.map(|ffmpeg| ffmpeg.version.clone()),
        patches: totals.patches,
        machine: Some(Machine {
            version: env!("CARGO_PKG_VERSION"),
            threads: rayon::current_num_threads(),
            wall_s: start.elapsed().as_secs_f64(),
        }),
        ..LabReport::new(&run, &judge.rows, spent, settings)
    };
    progress.end();
    let crops = judge.crops.into_iter().map(|(_, crop)| crop).collect();
    Ok(Outcome { report, rows: judge.rows, crops })
}

/// A source that ends early when it is told to.
struct Stoppable<'a> {
    source: Box<dyn Source>,
    stop: &'a AtomicBool,
}

impl Source for Stoppable<'_> {
    fn info(&self) -> &Info {
        self.source.info()
    }

    fn next(&mut self) -> Result<Option<Item>, hone_media::source::Error> {
        if self.stop.load(Ordering::Relaxed) { Ok(None) } else { self.source.next() }
    }
}

fn run_of(input: Option<&Path>, plan: &Plan, arch: Arch, totals: Totals, plain_bytes: u64) -> Run {
    Run {
        clip: clip::name(input),
        fps: plan.fps,
        lr: plan.lr.into(),
        hr: plan.hr.into(),
        arch: arch.to_string(),
        backends: backends(),
        video_bytes: totals.video_bytes,
        patch_bytes: totals.patch_bytes,
        uplink_model_bytes: totals.uplink_model_bytes,
        model_bytes: totals.model_bytes,
        plain_bytes,
        versions: totals.versions,
        frames_dropped: 0,
        clock_slowdown: 1.0,
        training_steps: totals.steps,
    }
}

/// Reads the source, streams and measures, each on a thread of its own.
fn play(
    mut source: Box<dyn Source>,
    plan: &Plan,
    stream: &mut Stream,
    judge: &mut Judge,
    stop: &AtomicBool,
    progress: &Progress,
) -> Result<()> {
    std::thread::scope(|scope| {
        let (read, frames) = mpsc::sync_channel::<Frame>(FRAMES_AHEAD);
        let reading = scope.spawn(move || -> Result<()> {
            while let Some(frame) = source.next_frame()? {
                let frame = fit(frame, plan.hr, plan.scale).context("the source changed its size")?;
                if read.send(frame).is_err() {
                    break;
                }
            }
            Ok(())
        });
        let (shown, inbox) = mpsc::sync_channel::<Shown>(FRAMES_AHEAD);
        let measuring = scope.spawn(move || inbox.into_iter().try_for_each(|shown| judge.see(shown)));
        let mut show = |frame: Shown| shown.send(frame).context("measuring has ended");
        let mut streamed = || -> Result<()> {
            for frame in &frames {
                let t_s = frame.pts_us as f64 / 1e6;
                stream.frame(frame, &mut show)?;
                progress.at(t_s, &stream.totals());
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
            stream.finish(&mut show)
        };
        let streamed = streamed();
        drop((frames, shown));
        let read = reading.join().map_err(|_| anyhow!("reading the clip failed"))?;
        // Their own errors say more than that of a channel.
        measuring.join().map_err(|_| anyhow!("measuring failed"))??;
        read?;
        streamed
    })
}

/// One line on standard error, redrawn; in a file, a line now and then.
struct Progress {
    what: String,
    duration_s: f64,
    start: Instant,
    terminal: bool,
    drawn: std::cell::Cell<Option<Instant>>,
}

impl Progress {
    fn new(clip: String, plan: &Plan, arch: Arch, duration_s: f64) -> Self {
        let kbps = plan.video_kbps + plan.patch_kbps;
        let what = format!("{clip} {kbps:.0} kbit/s {}x{} {arch}", plan.lr.0, plan.lr.1);
        let terminal = std::io::stderr().is_terminal();
        Self { what, duration_s, start: Instant::now(), terminal, drawn: None.into() }
    }

    fn at(&self, t_s: f64, totals: &Totals) {
        let every = Duration::from_millis(if self.terminal { 500 } else { 10_000 });
        if self.drawn.get().is_some_and(|drawn| drawn.elapsed() < every) {
            return;
        }
        self.drawn.set(Some(Instant::now()));
        let done = (t_s / self.duration_s.max(1e-9)).clamp(0.0, 1.0);
        let left = match done > 0.05 {
            true => format!(", {:.0} s left", self.start.elapsed().as_secs_f64() * (1.0 / done - 1.0)),
            false => String::new(),
        };
        self.line(&format!("{t_s:5.1} of {:.1} s, {} steps{left}", self.duration_s, totals.steps));
    }

    fn say(&self, text: &str) {
        self.line(text);
    }

    fn line(&self, text: &str) {
        let line = format!("{}: {text}", self.what);
        if self.terminal {
            eprint!("\r{line:<110}");
        } else {
            eprintln!("{line}");
        }
    }

    fn end(&self) {
        if self.terminal {
            eprint!("\r{:110}\r", "");
        }
    }
}
