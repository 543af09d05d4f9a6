//! A camera, a server and a viewer in one process, with a link that can be cut on each leg.

#![allow(dead_code, reason = "each user takes its own part")]
#![allow(clippy::unwrap_used, reason = "tests and benchmarks fail by panicking")]

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use hone_apps::dial::Dialer;
use hone_apps::screen::Screen;
use hone_apps::sender::{self, Beside, Lesson, Plan, Rate, Scout, Sent};
use hone_apps::server::limits::Limits;
use hone_apps::server::{self, Options, Setup, UPDATE_FORMAT, Unwatched};
use hone_apps::uplink::Uplink;
use hone_apps::viewer::{self, Monitor, Received, Session, Shown, Sink, Stream, Until};
use hone_media::source::{Looped, Mp4Source, Pattern, Source};
use hone_model::Arch;
use hone_runtime::Preference;
use hone_transport::config::{Certificate, Trust};
use hone_transport::link::{self, Link};
use hone_transport::{EndpointConfig, Server, hex};
use tokio::task::JoinHandle;

/// What a viewer saw.
#[derive(Default)]
pub struct Seen {
    /// Streams that began.
    pub starts: u32,
    /// When each frame was shown, its media time, and the version of the weights held.
    pub frames: Vec<(Instant, i64, u64)>,
    /// Media time from which a network was in use, it, and the size that was shown.
    pub networks: Vec<(i64, Arch, (u32, u32))>,
}

impl Seen {
    /// Share of the frames that were never shown, of a stream of `fps` and from the first that was.
    pub fn lost(&self, fps: f64) -> f64 {
        let [first, last] = [self.frames.first(), self.frames.last()].map(|frame| frame.unwrap().1);
        let sent = ((last - first) as f64 * fps / 1e6).round() + 1.0;
        1.0 - self.frames.len() as f64 / sent
    }

    /// The most that one of the newest frames was behind the youngest of all, s: a queue makes it old.
    pub fn age_s(&self, newest: usize) -> f64 {
        let first = self.frames[0];
        let aged = |(at, pts_us, _): &(Instant, i64, u64)| {
            at.duration_since(first.0).as_secs_f64() - (pts_us - first.1) as f64 / 1e6
        };
        let youngest = self.frames.iter().map(aged).fold(f64::INFINITY, f64::min);
        self.frames.iter().rev().take(newest).map(|frame| aged(frame) - youngest).fold(0.0, f64::max)
    }
}

struct Watch(Arc<Mutex<Seen>>);

impl Sink for Watch {
    fn start(&mut self, _stream: &Stream) -> anyhow::Result<()> {
        self.0.lock().unwrap().starts += 1;
        Ok(())
    }

    fn shown(&mut self, shown: &Shown, screen: &mut Screen) -> anyhow::Result<()> {
        let (version, arch, pts_us) = (screen.held().version(), screen.held().arch(), shown.frame.pts_us);
        let mut seen = self.0.lock().unwrap();
        seen.frames.push((Instant::now(), pts_us, version));
        if seen.networks.last().is_none_or(|(_, last, size)| (*last, *size) != (arch, shown.size)) {
            seen.networks.push((pts_us, arch, shown.size));
        }
        Ok(())
    }
}

/// What to run.
pub struct Setting {
    /// Columns and rows of the test pattern.
    pub hr: (u32, u32),
    /// Or a clip, over and over.
    pub clip: Option<PathBuf>,
    /// Frames a second of media.
    pub fps: f64,
    /// The uplink.
    pub kbps: f64,
    /// Each leg's link.
    pub link: link::Config,
    /// What a stream may cost the server.
    pub limits: Limits,
    /// How many times faster than life the camera runs.
    pub times: f64,
    /// Whether the sender learns, not the server.
    pub learn_at_sender: bool,
    /// Whether the server learns a tiny network, and is soon content with itself.
    pub early_verdicts: bool,
    /// Whether the sender finds out what its uplink carries, whatever `kbps` says.
    pub auto: bool,
    /// Whether every frame is shown that arrives, however late.
    pub every_frame: bool,
    /// When the sender changes its scale.
    pub scout: Option<Box<dyn Scout>>,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            hr: (320, 192),
            clip: None,
            fps: 30.0,
            kbps: 300.0,
            link: link::Config::default(),
            limits: Limits::default(),
            times: 1.0,
            learn_at_sender: false,
            early_verdicts: false,
            auto: false,
            every_frame: false,
            scout: None,
        }
    }
}

struct Pace {
    times: f64,
    start: Option<(Instant, i64)>,
    stop: Arc<AtomicBool>,
}

impl sender::Pace for Pace {
    fn wait(&mut self, pts_us: i64) -> bool {
        let (start, first) = *self.start.get_or_insert((Instant::now(), pts_us));
        let due = start + Duration::from_micros((pts_us - first).max(0) as u64).div_f64(self.times);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        !self.stop.load(Ordering::Relaxed)
    }
}

fn view(
    session: Session,
    seen: &Arc<Mutex<Seen>>,
    monitor: &Arc<Monitor>,
    stop: &Arc<AtomicBool>,
) -> JoinHandle<anyhow::Result<Received>> {
    let (monitor, stop, sink) = (monitor.clone(), stop.clone(), Watch(seen.clone()));
    tokio::spawn(async move { session.run(Until::Ended, sink, &monitor, &stop).await.0 })
}

/// All of it, running.
pub struct Rig {
    pub up: Link,
    pub down: Link,
    pub seen: Arc<Mutex<Seen>>,
    pub monitor: Arc<Monitor>,
    session: Session,
    stop_sending: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    sending: JoinHandle<anyhow::Result<Sent>>,
    serving: JoinHandle<anyhow::Result<()>>,
    viewing: JoinHandle<anyhow::Result<Received>>,
}

/// How it ended.
pub struct Ended {
    pub sent: Sent,
    pub received: Received,
}

/// Waits until `done` holds of what a viewer was shown.
pub async fn until(seen: &Mutex<Seen>, what: &str, patience: Duration, done: impl Fn(&Seen) -> bool) {
    let start = Instant::now();
    while !done(&seen.lock().unwrap()) {
        let seen = seen.lock().unwrap().frames.len();
        assert!(start.elapsed() < patience, "{what}: not after {patience:?}, {seen} frames seen");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

impl Rig {
    /// A test pattern of `hr` at half the size, `kbps` in all, over two links like `link`.
    pub async fn start(hr: (u32, u32), kbps: f64, link: link::Config) -> Self {
        Self::set_up(Setting { hr, kbps, link, ..Setting::default() }).await
    }

    pub async fn set_up(setting: Setting) -> Self {
        let Setting { hr, clip, fps, kbps, link, limits, times, .. } = setting;
        let Setting { learn_at_sender, early_verdicts, auto, every_frame, scout, .. } = setting;
        let mut endpoint = EndpointConfig {
            bind: ([127, 0, 0, 1], 0).into(),
            certificate: Certificate::Dev,
            ..EndpointConfig::default()
        };
        // It is media time that is kept, while a machine's hiccups take as long as in life.
        endpoint.limits.kept_ms = (endpoint.limits.kept_ms as f64 * times.min(3.0)) as u64;
        let server = Server::bind(&endpoint).await.unwrap();
        let trust = Trust::Pinned(vec![hex(&server.certificate_hash())]);
        let client = EndpointConfig { trust, ..endpoint };
        let up = Link::start(server.local_addr(), link).await.unwrap();
        let down = link::Config { seed: link.seed + 1, ..link };
        let down = Link::start(server.local_addr(), down).await.unwrap();
        let (stop, stop_sending) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let trainer = Options { backend: server::Backend::Cpu, ..Options::default() };
        // Of no base model, and soon content with itself.
        let learn = hone_trainer::Config {
            batch: 4,
            pause_after: 1000,
            held_out_min: 2,
            evaluate_every_steps: 10,
            publish_gain_db: 0.01,
            publish_certainty: 0.0,
            ..trainer.learn
        };
        let tiny = Options { blocks: 1, features: 8, learn, ..trainer };
        let trainer = if early_verdicts { tiny } else { trainer };
        let serving = tokio::spawn(server::run(
            Arc::new(server),
            Setup { trainer, limits: Arc::new(RwLock::new(limits)), ..Setup::default() },
            Arc::new(Unwatched),
            stop.clone(),
        ));

        let dialer = Dialer::new(client.clone(), up.addr().to_string());
        let first = dialer.connect().await.unwrap();
        let sending = tokio::task::spawn_blocking({
            let stop = stop_sending.clone();
            move || {
                let mut source: Box<dyn Source> = match clip {
                    Some(clip) => Box::new(Looped::new(move || Mp4Source::open(&clip), i64::MAX / 4)?),
                    None => Box::new(Pattern::new(hr.0, hr.1, fps, Box::new(|| 0))?),
                };
                let rate = if auto { Rate::Auto } else { Rate::Total(kbps) };
                let mut plan = Plan::new(source.info(), 2, None, rate).unwrap();
                let mut catalog = plan.catalog(std::time::SystemTime::now());
                let mut lesson = None;
                if learn_at_sender {
                    let arch = tiny.arch(2)?;
                    plan = plan.without_patches();
                    catalog.hone =
                        catalog.hone.map(|hone| hone.learned_here(&arch.to_string(), UPDATE_FORMAT));
                    lesson = Some(Lesson::start(tiny.trainer(arch)?)?);
                }
                let mut uplink = Uplink::new(first, Some(dialer), "cam", &catalog)?;
                let mut pace = Pace { times, start: None, stop };
                let beside = Beside { lesson, scout };
                let sent = sender::run_with(&mut uplink, source.as_mut(), &plan, &mut pace, beside);
                tokio::runtime::Handle::current().block_on(uplink.close());
                sent
            }
        });

        let seen = Arc::new(Mutex::new(Seen::default()));
        let monitor = Arc::new(Monitor::default());
        let dialer = Dialer::new(client, down.addr().to_string());
        let options = viewer::Options {
            target: Preference::Cpu.into(),
            // Media time is no guide to when a frame is due where it runs faster.
            every_frame: every_frame || times != 1.0,
            ..viewer::Options::default()
        };
        let session = Session { dialer, name: "cam".into(), options };
        let viewing = view(session.clone(), &seen, &monitor, &stop);
        Self { up, down, seen, monitor, session, stop_sending, stop, sending, serving, viewing }
    }

    /// One more viewer, who comes now. What it sees, and how it ends.
    pub fn join(&self) -> (Arc<Mutex<Seen>>, JoinHandle<anyhow::Result<Received>>) {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let viewing = view(self.session.clone(), &seen, &Arc::new(Monitor::default()), &self.stop);
        (seen, viewing)
    }

    /// Waits until `done` holds of what was seen.
    pub async fn until(&self, what: &str, patience: Duration, done: impl Fn(&Seen) -> bool) {
        until(&self.seen, what, patience, done).await;
    }

    /// Waits until the viewer was shown so many frames more.
    pub async fn frames(&self, more: usize, patience: Duration) {
        let before = self.seen.lock().unwrap().frames.len();
        self.until("more frames", patience, |seen| seen.frames.len() >= before + more).await;
    }

    /// Cuts one leg for a while. Returns how long after its return the first new frame was shown.
    pub async fn outage(&self, leg: &Link, outage: Duration) -> Duration {
        leg.cut(true);
        tokio::time::sleep(outage).await;
        leg.cut(false);
        let back = Instant::now();
        let shown = |seen: &Seen| seen.frames.last().is_some_and(|(at, ..)| *at > back);
        self.until("a frame after the outage", Duration::from_secs(30), shown).await;
        back.elapsed()
    }

    /// The camera stops; everything is delivered.
    pub async fn end(self) -> Ended {
        self.stop_sending.store(true, Ordering::Relaxed);
        let sent = self.sending.await.unwrap().unwrap();
        let received = self.viewing.await.unwrap().unwrap();
        self.stop.store(true, Ordering::Relaxed);
        self.serving.await.unwrap().unwrap();
        Ended { sent, received }
    }
}
