//! What a viewer knows of itself: its state, and statistics second by second, for the window, files and logs alike.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hone_runtime::gpu::PassTime;
use hone_runtime::{Mode, Rung, Variant};

use super::state::{Facts, Link, State};
use super::stats::{Pass, Stats, ms, round};

/// No video for so long, and the picture is called stalled: longer than any jitter, and than a slow camera's frames.
const SILENT_AFTER: Duration = Duration::from_secs(2);

/// How long a notice is shown beside a live picture.
const NOTICE: Duration = Duration::from_secs(10);

/// One frame as it was shown.
#[derive(Clone, Copy, Debug)]
pub struct ShownFrame {
    /// Columns and rows on the screen.
    pub size: (u32, u32),
    /// How it was upscaled.
    pub mode: Mode,
    /// What the device affords.
    pub rung: Rung,
    /// Time to upscale it.
    pub upscale: Duration,
    /// Time to hand it on.
    pub output: Duration,
    /// From capture to now, where the clocks agree.
    pub latency: Option<Duration>,
    /// What the playout adds for jitter.
    pub jitter_delay: Duration,
}

/// Shared by the parts of a viewer: they tell it what happens, the window and the log ask it.
pub struct Monitor {
    inner: Mutex<Inner>,
    /// Is called when the state has changed: a window draws again.
    changed: Box<dyn Fn(State) + Send + Sync>,
}

#[derive(Default)]
struct Inner {
    facts: Facts,
    /// Sums, and what is not counted.
    stats: Stats,
    /// The last whole second.
    last: Stats,
    second: Second,
    start: Option<Instant>,
    last_video: Option<Instant>,
    /// Why the connection was lost, or what went wrong with the device.
    notice: Option<(String, Instant)>,
}

/// Sums of the second that runs.
#[derive(Default)]
struct Second {
    start: Option<Instant>,
    frames: u32,
    network: u32,
    reused: u32,
    decoded: u32,
    decode: Duration,
    upscale: Duration,
    output: Duration,
    video_bytes: u64,
    model_bytes: u64,
    latency: Duration,
    latencies: u32,
}

impl Default for Monitor {
    fn default() -> Self {
        Self::new(|_| ())
    }
}

impl Monitor {
    /// Calls `changed` whenever the state has changed.
    pub fn new(changed: impl Fn(State) + Send + Sync + 'static) -> Self {
        Self { inner: Mutex::default(), changed: Box::new(changed) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, change: impl FnOnce(&mut Inner)) {
        let mut inner = self.lock();
        let before = inner.facts.state();
        change(&mut inner);
        let after = inner.facts.state();
        drop(inner);
        if before != after {
            tracing::info!(state = %after, "state");
            (self.changed)(after);
        }
    }

    /// The state now.
    pub fn state(&self) -> State {
        self.lock().facts.state()
    }

    /// The statistics of the last whole second.
    pub fn stats(&self) -> Stats {
        self.lock().last.clone()
    }

    /// What went wrong last, in one line; for a while, and as long as nothing live is shown.
    pub fn notice(&self) -> Option<String> {
        let inner = self.lock();
        let live = inner.facts.state().live();
        inner
            .notice
            .as_ref()
            .filter(|(_, at)| !live || at.elapsed() < NOTICE)
            .map(|(notice, _)| notice.clone())
    }

    /// Keeps a line for the one who watches.
    pub fn notify(&self, notice: impl Into<String>) {
        self.tell(|inner| inner.notice = Some((notice.into(), Instant::now())));
    }

    /// The connection changed. A new stream begins without picture and weights.
    pub fn link(&self, link: Link) {
        self.tell(|inner| {
            if matches!(link, Link::Waiting | Link::Streaming) {
                inner.notice = None;
            }
            if link == Link::Streaming {
                inner.stats.version = 0;
                inner.stats.gain_db = None;
                inner.facts = Facts::default();
                inner.last_video = None;
            }
            inner.facts.link = link;
        });
    }

    /// The connection is gone.
    pub fn lost(&self, why: impl Into<String>) {
        self.tell(|inner| {
            inner.facts.link = Link::Lost;
            inner.notice = Some((why.into(), Instant::now()));
        });
    }

    /// What upscales, and how, if that is a GPU.
    pub fn backend(&self, backend: &str, variant: Option<Variant>) {
        self.tell(|inner| {
            backend.clone_into(&mut inner.stats.backend);
            inner.stats.variant = variant.map(|variant| variant.to_string());
            inner.stats.passes.clear();
        });
    }

    /// The stream goes on at another scale: there are no weights for that yet.
    pub fn changed(&self) {
        self.tell(|inner| (inner.stats.version, inner.stats.gain_db, inner.facts.gain_db) = (0, None, None));
    }

    /// The passes of a frame.
    pub fn passes(&self, passes: &[PassTime]) {
        let pass = |pass: &PassTime| Pass { name: pass.name.clone(), ms: pass.ms };
        self.tell(|inner| inner.stats.passes = passes.iter().map(pass).collect());
    }

    /// An access unit came.
    pub fn video(&self, now: Instant, bytes: usize) {
        self.tell(|inner| {
            inner.second.video_bytes += bytes as u64;
            inner.last_video = Some(now);
            inner.facts.silent = false;
        });
    }

    /// An access unit was decoded.
    pub fn decoded(&self, took: Duration) {
        self.tell(|inner| {
            inner.second.decoded += 1;
            inner.second.decode += took;
        });
    }

    /// An update came; `applied` is its version and gain.
    pub fn update(&self, bytes: usize, applied: Option<(u64, f32)>) {
        self.tell(|inner| {
            inner.second.model_bytes += bytes as u64;
            match applied {
                Some((version, gain_db)) => {
                    inner.stats.updates += 1;
                    inner.stats.version = version;
                    inner.stats.gain_db = Some(gain_db);
                    inner.facts.gain_db = Some(gain_db);
                }
                None => inner.stats.updates_refused += 1,
            }
        });
    }

    /// A frame was shown.
    pub fn shown(&self, frame: &ShownFrame) {
        self.tell(|inner| {
            let second = &mut inner.second;
            second.frames += 1;
            second.network += u32::from(frame.mode == Mode::Network);
            second.reused += u32::from(frame.mode == Mode::Reuse);
            second.upscale += frame.upscale;
            second.output += frame.output;
            if let Some(latency) = frame.latency {
                second.latency += latency;
                second.latencies += 1;
            }
            inner.stats.frames += 1;
            (inner.stats.width, inner.stats.height) = frame.size;
            inner.stats.jitter_delay_ms = ms(frame.jitter_delay);
            inner.facts.picture = true;
            inner.facts.rung = frame.rung;
        });
    }

    /// Frames were dropped: too late or lost.
    pub fn dropped(&self, frames: u64) {
        self.tell(|inner| inner.stats.dropped += frames);
    }

    /// Old frames were passed over when joining.
    pub fn passed_over(&self, frames: u64) {
        self.tell(|inner| inner.stats.passed_over += frames);
    }

    /// An access unit could not be decoded.
    pub fn damaged(&self) {
        self.tell(|inner| {
            inner.stats.damaged += 1;
            inner.stats.dropped += 1;
        });
    }

    /// Whether a picture is missing and no keyframe has come since.
    pub fn waits_for_keyframe(&self, waits: bool) {
        self.tell(|inner| inner.facts.damaged = waits);
    }

    /// Ends the running second. To be called about once a second.
    pub fn sample(&self, now: Instant) -> Stats {
        self.tell(|inner| {
            let silent = inner.last_video.is_some_and(|last| now.duration_since(last) > SILENT_AFTER);
            inner.facts.silent = silent;
        });
        let mut inner = self.lock();
        let start = *inner.start.get_or_insert(now);
        let second = std::mem::take(&mut inner.second);
        inner.second.start = Some(now);
        let seconds = now.duration_since(second.start.unwrap_or(start)).as_secs_f64().max(1e-3);
        let rate = |count: f64| if second.start.is_some() { count / seconds } else { 0.0 };
        let mean = |sum: Duration, count: u32| ms(sum) / f64::from(count.max(1));
        let share = |frames: u32| round(f64::from(frames) / f64::from(second.frames.max(1)));
        let kbps = |bytes: u64| round(rate(bytes as f64 * 8e-3));
        inner.last = Stats {
            t_s: round(now.duration_since(start).as_secs_f64()),
            state: Some(inner.facts.state()),
            fps: round(rate(second.frames.into())),
            rung: inner.facts.picture.then(|| inner.facts.rung.to_string()),
            network_share: share(second.network),
            reused_share: share(second.reused),
            decode_ms: round(mean(second.decode, second.decoded)),
            upscale_ms: round(mean(second.upscale, second.frames)),
            output_ms: round(mean(second.output, second.frames)),
            video_kbps: kbps(second.video_bytes),
            model_kbps: kbps(second.model_bytes),
            latency_ms: (second.latencies > 0).then(|| round(mean(second.latency, second.latencies))),
            ..inner.stats.clone()
        };
        inner.last.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(mode: Mode) -> ShownFrame {
        ShownFrame {
            size: (64, 48),
            mode,
            rung: Rung::Reuse,
            upscale: Duration::from_millis(10),
            output: Duration::from_millis(2),
            latency: Some(Duration::from_millis(100)),
            jitter_delay: Duration::from_millis(30),
        }
    }

    #[test]
    fn a_second_is_counted_and_forgotten_sums_stay() {
        let monitor = Monitor::default();
        let start = Instant::now();
        monitor.sample(start);
        monitor.link(Link::Streaming);
        for k in 0..20 {
            monitor.video(start, 1000);
            monitor.decoded(Duration::from_millis(4));
            monitor.shown(&frame(match k {
                0..10 => Mode::Network,
                10..15 => Mode::Reuse,
                _ => Mode::Bicubic,
            }));
        }
        monitor.dropped(3);
        monitor.update(500, Some((7, 0.25)));
        monitor.update(10, None);
        let stats = monitor.sample(start + Duration::from_secs(1));
        assert_eq!((stats.fps, stats.network_share, stats.reused_share), (20.0, 0.5, 0.25));
        assert_eq!(stats.rung.as_deref(), Some("reuse"));
        assert_eq!((stats.decode_ms, stats.upscale_ms, stats.output_ms), (4.0, 10.0, 2.0));
        assert_eq!((stats.video_kbps, stats.model_kbps), (160.0, 4.08));
        assert_eq!((stats.latency_ms, stats.jitter_delay_ms), (Some(100.0), 30.0));
        assert_eq!((stats.version, stats.gain_db, stats.state), (7, Some(0.25), Some(State::Reusing)));
        assert_eq!((stats.frames, stats.dropped, stats.updates, stats.updates_refused), (20, 3, 1, 1));
        let stats = monitor.sample(start + Duration::from_secs(2));
        assert_eq!((stats.fps, stats.video_kbps, stats.latency_ms), (0.0, 0.0, None));
        assert_eq!((stats.frames, stats.dropped, stats.version), (20, 3, 7));
        // No video for longer than jitter explains.
        assert_eq!(monitor.sample(start + Duration::from_secs(3)).state, Some(State::Stalled));
    }

    #[test]
    fn whoever_watches_hears_of_each_change_once() {
        use std::sync::Arc;
        let heard = Arc::new(Mutex::new(vec![]));
        let ears = heard.clone();
        let monitor = Monitor::new(move |state| ears.lock().unwrap().push(state));
        monitor.link(Link::Connecting);
        monitor.link(Link::Waiting);
        monitor.link(Link::Streaming);
        monitor.shown(&frame(Mode::Bicubic));
        monitor.shown(&frame(Mode::Bicubic));
        monitor.waits_for_keyframe(true);
        monitor.waits_for_keyframe(false);
        monitor.lost("gone");
        use State::{Damaged, Lost, NoModel, Waiting};
        assert_eq!(*heard.lock().unwrap(), [Waiting, NoModel, Damaged, NoModel, Lost]);
        assert_eq!(monitor.notice().as_deref(), Some("gone"));
    }
}
