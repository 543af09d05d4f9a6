//! `hone demo`: camera, server and viewer over loopback QUIC, and a report of what that showed.

mod measure;

use std::collections::VecDeque;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hone_media::frame::Frame;
use hone_media::source::Info;
use hone_model::{Arch, Colour, Published, Yuv420};
use hone_runtime::{Mode, Preference, Upscaler};
use hone_trainer::{Publication, State};
use hone_transport::config::{Certificate, EndpointConfig, Trust};
use hone_transport::{Client, Server, hex};

use self::measure::Measure;
use crate::auto_scale::Scale;
use crate::clip;
use crate::page;
use crate::picture;
use crate::plain;
use crate::quality::Truth;
use crate::report::{Backends, Report, Run};
use crate::sender::{self, Pace, Plan, Rate, STOP_POLL};
use crate::server::{self, Watch};
use crate::uplink::Uplink;
use crate::viewer::{self, Monitor};

/// Name of the broadcast.
const STREAM: &str = "demo";
/// Frames between capture and showing: bounds memory, and what [`hone_transport`] has to keep.
const AHEAD_MAX: usize = 6;

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The clip; none for the bundled one.
    pub input: Option<PathBuf>,
    /// HR size over LR size.
    pub scale: Scale,
    /// Rows of the stream; none for the source's rows over `scale`.
    pub lr_height: Option<u32>,
    /// The uplink.
    pub rate: Rate,
    /// Media time; the clip is repeated or cut to it. None for the clip's own.
    pub seconds: Option<f64>,
    /// Folder for the results.
    pub out: PathBuf,
    /// Network and learning.
    pub learn: server::Options,
    /// The viewer's device.
    pub device: Preference,
    /// How many times slower than life; none to choose.
    pub slowdown: Option<f64>,
    /// Seconds that the stream may take at most, where `slowdown` is chosen.
    pub wall_seconds: Option<f64>,
}

/// Runs the demo to its end, or until `stop` is set: then the report covers what was shown.
///
/// # Errors
/// What any part of it says; the recordings are playable up to then.
pub async fn run(options: Options, stop: Arc<AtomicBool>) -> Result<Report> {
    let open = || clip::open(options.input.as_deref(), options.seconds);
    let mut source = open()?;
    let info = *source.info();
    let plan = |scale| Plan::new(&info, scale, options.lr_height, options.rate);
    let looks = || clip::looks(options.input.as_deref(), options.seconds, None);
    let net = (options.learn.blocks, options.learn.features);
    let plan = options.scale.choose(net, plan, looks)?.steady();
    let arch = options.learn.arch(plan.scale as u8)?;
    // Refuses a backend that is not there before anything runs.
    let trainer_name = options.learn.trainer(arch)?.backend().to_owned();
    std::fs::create_dir_all(&options.out)
        .with_context(|| format!("cannot make folder {}", options.out.display()))?;
    let (slowdown, viewer_name) = choose_slowdown(&options, &plan, &info, arch)?;
    announce(&options, &plan, &info, arch, slowdown, &trainer_name, &viewer_name);

    let loopback = EndpointConfig {
        bind: ([127, 0, 0, 1], 0).into(),
        // There is no link to lose, but a machine that is busy for seconds.
        idle_timeout_ms: 30_000,
        ..EndpointConfig::default()
    };
    let server_config = EndpointConfig { certificate: Certificate::Dev, ..loopback.clone() };
    let server = Arc::new(Server::bind(&server_config).await?);
    let address = server.local_addr().to_string();
    let trust = Trust::Pinned(vec![hex(&server.certificate_hash())]);
    let client_config = EndpointConfig { trust, ..loopback };

    let shared = Arc::new(Shared::new(stop.clone()));
    let ended = Arc::new(AtomicBool::new(false));
    let serving =
        tokio::spawn(server::run(server, options.learn, shared.clone() as Arc<dyn Watch>, ended.clone()));
    let viewer_client = Client::connect(&client_config, &address).await?;
    let sink = Measure::new(&options.out, plan, shared.clone())?;
    let viewer_options =
        viewer::Options { target: options.device.into(), every_frame: true, ..Default::default() };
    let (monitor, never) = (Arc::new(Monitor::default()), Arc::new(AtomicBool::new(false)));
    let viewing = async {
        let result = viewer::run(viewer_client, STREAM, viewer_options, sink, &monitor, &never).await;
        // The sender must not wait for a viewer that is gone.
        shared.stop.store(true, Ordering::Relaxed);
        result
    };

    let sender_client = Client::connect(&client_config, &address).await?;
    let mut uplink = Uplink::new(sender_client, None, STREAM, &plan.catalog(std::time::SystemTime::now()))?;
    let sending = tokio::task::spawn_blocking({
        let shared = shared.clone();
        move || {
            let mut pace = Slowed { start: None, slowdown, shared: shared.clone() };
            let sent = sender::run(&mut uplink, source.as_mut(), &plan, &mut pace);
            (uplink, sent)
        }
    });
    let sending = async {
        let (uplink, sent) = sending.await?;
        uplink.close().await;
        sent
    };
    let progress = tokio::spawn(progress(shared.clone(), info, slowdown));
    let (sent, viewed) = tokio::join!(sending, viewing);
    progress.abort();
    ended.store(true, Ordering::Relaxed);
    eprintln!();
    let (received, measure) = viewed;
    let received = received?;
    let sent = sent?;
    serving.await??;

    let Measure { mut rows, crops, .. } = measure;
    anyhow::ensure!(!rows.is_empty(), "stopped before the first frame was shown");
    eprintln!("measuring plain H.264 with the same bits");
    let (frames, bytes) = (rows.len(), sent.video_bytes + sent.patch_bytes);
    let mut left = rows.iter_mut();
    let mut judge = |truth: &Truth, shown: &[u8]| {
        if let Some(row) = left.next() {
            row.plain = truth.quality(shown, 3);
        }
        Ok(())
    };
    let plain_bytes = tokio::task::block_in_place(|| plain::run(open, &plan, frames, bytes, &mut judge))?;
    let state = shared.lock();
    let run = Run {
        clip: clip::name(options.input.as_deref()),
        fps: info.fps,
        lr: plan.lr.into(),
        hr: plan.hr.into(),
        arch: arch.to_string(),
        backends: Backends { trainer: trainer_name, viewer: viewer_name },
        video_bytes: sent.video_bytes,
        patch_bytes: sent.patch_bytes,
        uplink_model_bytes: 0,
        model_bytes: received.model_bytes,
        plain_bytes,
        versions: received.updates,
        frames_dropped: received.dropped + sent.frames.saturating_sub(received.frames + received.dropped),
        clock_slowdown: slowdown,
        training_steps: state.steps,
    };
    drop(state);
    let report = Report::new(&run, &rows);
    write(&options.out.join("report.json"), serde_json::to_string_pretty(&report)?.as_bytes())?;
    let frames: Vec<String> = rows.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
    write(&options.out.join("frames.jsonl"), (frames.join("\n") + "\n").as_bytes())?;
    write(&options.out.join("report.html"), page::render(&report, &rows, &crops)?.as_bytes())?;
    Ok(report)
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

fn announce(
    options: &Options,
    plan: &Plan,
    info: &Info,
    arch: Arch,
    slowdown: f64,
    trainer: &str,
    viewer: &str,
) {
    let clip = options.input.as_deref().map_or_else(|| clip::name(None), |path| path.display().to_string());
    eprintln!("clip     {clip}, {}x{} at {:.2} fps", info.width, info.height, info.fps);
    eprintln!(
        "stream   {}x{}, {:.0} kbit/s video + {:.0} kbit/s patches, shown at {}x{}",
        plan.lr.0, plan.lr.1, plan.video_kbps, plan.patch_kbps, plan.hr.0, plan.hr.1
    );
    eprintln!("network  {arch}, trained on {trainer}, shown by {viewer}");
    if slowdown > 1.0 {
        eprintln!(
            "clock    slowed {slowdown:.1} times: this machine cannot show, learn and measure in real time; \
             no frame is skipped"
        );
    }
}

/// How much slower than life the clip must run so that every frame is shown and half of the machine is left for
/// learning; 1 on a GPU.
fn choose_slowdown(options: &Options, plan: &Plan, info: &Info, arch: Arch) -> Result<(f64, String)> {
    let mut upscaler = Upscaler::new(arch, &options.device.into())?;
    let name = upscaler.backend().to_owned();
    upscaler.set_weights(&Published::origin(arch, hone_model::Origin::Seed(0)).weights())?;
    if let Some(slowdown) = options.slowdown {
        return Ok((slowdown, name));
    }
    let (w, h) = (plan.lr.0 as usize, plan.lr.1 as usize);
    let (luma, chroma) = (vec![100; w * h], vec![128; w * h / 4]);
    let colour: Colour = picture::colour(plan.colour);
    let frame = Yuv420 { h, w, y: &luma, u: &chroma, v: &chroma, colour, quantiser: 30 };
    let mut rgba = vec![];
    upscaler.upscale(&frame, Mode::Network, &mut rgba)?;
    // The best of a few: one may be held up by whatever else the machine does.
    let mut upscale_s = f64::INFINITY;
    for _ in 0..3 {
        let start = Instant::now();
        upscaler.upscale(&frame, Mode::Network, &mut rgba)?;
        upscale_s = upscale_s.min(start.elapsed().as_secs_f64());
    }
    let measuring_s = MEASURE_NS_PER_PIXEL * f64::from(plan.hr.0 * plan.hr.1) * 1e-9;
    let busy = (upscale_s + measuring_s) * info.fps;
    let comfortable = (2.0 * busy).max(1.0);
    let Some(wall) = options.wall_seconds else { return Ok((round_up(comfortable), name)) };
    let duration = options.seconds.or(info.duration_us.map(|us| us as f64 / 1e6)).unwrap_or(1.0);
    Ok((round_up(comfortable.min((wall / duration).max(busy)).max(1.0)), name))
}

/// Cost of everything but the network for one shown pixel, on two cores with an assembler for openh264:
/// decoding, conversion, two comparisons, recording.
const MEASURE_NS_PER_PIXEL: f64 = 20.0;

fn round_up(v: f64) -> f64 {
    (v * 10.0).ceil() / 10.0
}

/// What the three ends tell each other outside the stream, for pacing and measuring.
struct Shared {
    state: Mutex<Progress>,
    moved: Condvar,
    stop: Arc<AtomicBool>,
}

#[derive(Default)]
struct Progress {
    /// Captured and not shown yet.
    captured: VecDeque<(Frame, Instant)>,
    shown: u64,
    media_s: f64,
    steps: u64,
    version: u64,
    gain_db: f64,
    training: Option<State>,
}

impl Shared {
    fn new(stop: Arc<AtomicBool>) -> Self {
        Self { state: Mutex::default(), moved: Condvar::new(), stop }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

impl Watch for Shared {
    fn published(&self, _stream: &str, publication: &Publication) {
        let mut state = self.lock();
        (state.version, state.gain_db) = (publication.version, publication.gain_db);
    }

    fn training(&self, _stream: &str, training: State, steps: u64) {
        let mut state = self.lock();
        (state.training, state.steps) = (Some(training), steps);
        // The viewer comes first: while it is behind, training waits for it to show a frame.
        if state.captured.len() >= AHEAD_MAX && !self.stopped() {
            let _ = self.moved.wait_timeout(state, Duration::from_secs(1));
        }
    }
}

/// The clip's clock, slowed, and never more than a few frames ahead of the viewer.
struct Slowed {
    start: Option<(Instant, i64)>,
    slowdown: f64,
    shared: Arc<Shared>,
}

impl Pace for Slowed {
    fn wait(&mut self, pts_us: i64) -> bool {
        let (start, first) = *self.start.get_or_insert((Instant::now(), pts_us));
        let due = start + Duration::from_micros((pts_us - first).max(0) as u64).mul_f64(self.slowdown);
        let mut state = self.shared.lock();
        while !self.shared.stopped() {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() && state.captured.len() < AHEAD_MAX {
                return true;
            }
            let nap = if left.is_zero() { STOP_POLL } else { left.min(STOP_POLL) };
            state = self.shared.moved.wait_timeout(state, nap).unwrap_or_else(PoisonError::into_inner).0;
        }
        false
    }

    fn captured(&mut self, frame: &Frame) {
        self.shared.lock().captured.push_back((frame.clone(), Instant::now()));
    }
}

/// Draws the progress line until it is aborted; in a file, a line now and then.
async fn progress(shared: Arc<Shared>, info: Info, slowdown: f64) {
    const WIDTH: usize = 24;
    let terminal = std::io::stderr().is_terminal();
    let every = Duration::from_millis(if terminal { 500 } else { 10_000 });
    let total = info.duration_us.map_or(0.0, |us| us as f64 / 1e6);
    let start = Instant::now();
    loop {
        tokio::time::sleep(every).await;
        let line = {
            let state = shared.lock();
            let done = (state.media_s / total.max(1e-9)).clamp(0.0, 1.0);
            let bar = (done * WIDTH as f64) as usize;
            let left = if done > 0.02 {
                format!("{:.0} s left", start.elapsed().as_secs_f64() * (1.0 / done - 1.0))
            } else {
                format!("about {:.0} s", total * slowdown)
            };
            let model = match (state.training, state.version) {
                (None | Some(State::Starved), 0) => "waiting for patches".to_owned(),
                (_, 0) => "learning".to_owned(),
                (_, v) if state.gain_db <= 0.0 => format!("version {v}, bicubic is better here"),
                (Some(State::Paused), v) => format!("version {v}, {:+.2} dB held out, paused", state.gain_db),
                (_, v) => format!("version {v}, {:+.2} dB held out", state.gain_db),
            };
            format!(
                "[{}{}] {:5.1} of {total:.1} s  {} steps  {model}  {left}",
                "#".repeat(bar),
                " ".repeat(WIDTH - bar),
                state.media_s,
                state.steps
            )
        };
        if terminal {
            eprint!("\r{line:<110}");
        } else {
            eprintln!("{line}");
        }
    }
}
