//! The server's figures, and their text for Prometheus (exposition format 0.0.4).
//!
//! A label holds a stream's name and nothing else of a peer's. There are at most as many as streams at a time,
//! `endpoint.limits.broadcasts_max`; a stream's series end with it.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use hone_trainer::State;
use hone_transport::{Server, Viewers};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Sets it.
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Adds, or takes away.
    pub fn add(&self, n: i64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Its value.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The figures of one stream.
#[derive(Debug, Default)]
pub struct Stream {
    /// Payload that came from the sender.
    pub video_bytes: Counter,
    /// Pictures that came from the sender.
    pub pictures: Counter,
    /// Payload of audio that came from the sender.
    pub audio_bytes: Counter,
    /// Payload of patches that came from the sender.
    pub patch_bytes: Counter,
    /// Patches that came from the sender.
    pub patches: Counter,
    /// Patches that were malformed, or beyond the rate.
    pub patches_refused: Counter,
    /// Payload of model updates, once, however many viewers there are.
    pub model_bytes: Counter,
    /// Model updates.
    pub updates: Counter,
    /// Messages that the learner was too slow to take.
    pub learner_dropped: Counter,
    /// Pictures that could not be decoded for training.
    pub pictures_missing: Counter,
    /// Messages that wait for the learner.
    pub learner_queue: Gauge,
    /// Their payload, bytes.
    pub learner_bytes: Gauge,
    /// Updates that wait for the relay.
    pub update_queue: Gauge,
    /// Version that viewers hold.
    pub version: Gauge,
    /// Held-out gain of that version, thousandths of dB.
    pub gain_mdb: Gauge,
    /// Steps of the optimiser.
    pub steps: Counter,
    /// Time of the training device, microseconds.
    pub training_us: Counter,
    /// Media time of the newest picture, microseconds,
    pub relayed_pts_us: Gauge,
    /// and of the newest that the learner has seen.
    pub learned_pts_us: Gauge,
    /// Age of the newest picture when it was relayed, microseconds; below zero where nothing is known of it. As good
    /// as the clocks of both machines agree.
    pub age_us: Gauge,
    state: AtomicU64,
}

const STATES: [(State, &str); 3] =
    [(State::Starved, "starved"), (State::Training, "training"), (State::Paused, "paused")];

impl Stream {
    /// Why the trainer works or waits.
    pub fn set_state(&self, state: State) {
        let index = STATES.iter().position(|(known, _)| *known == state).unwrap_or(0);
        self.state.store(index as u64, Ordering::Relaxed);
    }

    /// A picture was relayed now. `start_unix_us` is when media time 0 was, if that is known.
    pub fn relayed(&self, pts_us: i64, bytes: usize, start_unix_us: Option<i64>) {
        self.pictures.add(1);
        self.video_bytes.add(bytes as u64);
        self.relayed_pts_us.set(pts_us);
        let now_us = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_micros());
        let now_us = i64::try_from(now_us).unwrap_or(i64::MAX);
        let age_us = start_unix_us.map_or(-1, |start| now_us.saturating_sub(start.saturating_add(pts_us)));
        self.age_us.set(age_us.max(-1));
    }
}

/// All figures of a server.
#[derive(Debug)]
pub struct Metrics {
    streams: Mutex<BTreeMap<String, Arc<Stream>>>,
    started: Instant,
    draining: AtomicBool,
    /// Times that settings were read again: with success, and without.
    pub reloads: Counter,
    /// See `reloads`.
    pub reloads_failed: Counter,
    /// Models that were saved.
    pub models_saved: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            streams: Mutex::default(),
            started: Instant::now(),
            draining: AtomicBool::new(false),
            reloads: Counter::default(),
            reloads_failed: Counter::default(),
            models_saved: Counter::default(),
        }
    }
}

/// A stream's figures, shown until this is dropped.
pub struct Shown {
    metrics: Arc<Metrics>,
    name: String,
    /// The figures.
    pub stream: Arc<Stream>,
}

impl Shown {
    /// Its model was written to disk.
    pub fn saved(&self) {
        self.metrics.models_saved.add(1);
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        let mut streams = self.metrics.streams();
        // A newer stream may have taken the name over.
        if streams.get(&self.name).is_some_and(|shown| Arc::ptr_eq(shown, &self.stream)) {
            streams.remove(&self.name);
        }
    }
}

impl Metrics {
    fn streams(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Stream>>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows the figures of a stream that begins.
    pub fn show(self: &Arc<Self>, name: &str) -> Shown {
        let stream = Arc::new(Stream::default());
        self.streams().insert(name.to_owned(), stream.clone());
        Shown { metrics: self.clone(), name: name.to_owned(), stream }
    }

    /// The server lets nobody in any more.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether it lets nobody in any more.
    pub fn draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Everything, as text.
    pub fn text(&self, server: &Server) -> String {
        let mut out = String::new();
        self.write_server(&mut out, server);
        let streams: Vec<_> =
            self.streams().iter().map(|(name, stream)| (name.clone(), stream.clone())).collect();
        write_streams(&mut out, &streams, &server.viewers());
        out
    }

    fn write_server(&self, out: &mut String, server: &Server) {
        let stats = server.stats();
        family(out, "hone_build_info", "gauge", "Version of this program.");
        sample(out, "hone_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
        one(out, "hone_uptime_seconds", "gauge", "Time since the start.", self.started.elapsed().as_secs());
        one(out, "hone_draining", "gauge", "1 while the server ends.", u8::from(self.draining()));
        one(out, "hone_sessions", "gauge", "Senders, viewers and handshakes.", stats.sessions);
        one(out, "hone_broadcasts", "gauge", "Streams that senders have here.", stats.broadcasts);
        one(out, "hone_sessions_opened_total", "counter", "Sessions opened.", stats.opened);
        family(out, "hone_sessions_refused_total", "counter", "Sessions refused, by reason.");
        for (reason, count) in [
            ("full", stats.refused_full),
            ("token", stats.refused_token),
            ("handshake", stats.failed_handshakes),
        ] {
            sample(out, "hone_sessions_refused_total", &[("reason", reason)], count);
        }
        one(out, "hone_cache_bytes", "gauge", "Kept for slow readers.", stats.cached_bytes);
        family(out, "hone_reloads_total", "counter", "Times that settings were read again.");
        for (result, count) in [("ok", &self.reloads), ("failed", &self.reloads_failed)] {
            sample(out, "hone_reloads_total", &[("result", result)], count.get());
        }
        one(out, "hone_models_saved_total", "counter", "Models written to disk.", self.models_saved.get());
        if let Some(bytes) = resident_bytes() {
            one(out, "process_resident_memory_bytes", "gauge", "Memory in use.", bytes);
        }
    }
}

/// Memory of this process, where the system tells it as Linux does.
fn resident_bytes() -> Option<u64> {
    /// Of every Linux that we are built for.
    const PAGE_BYTES: u64 = 4096;
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(statm.split(' ').nth(1)?.parse::<u64>().ok()? * PAGE_BYTES)
}

/// A value of one stream; none leaves its sample out.
type Read = fn(&Stream, &Viewers) -> Option<f64>;

/// Name, type, help and value of each figure that a stream has once.
const STREAM: &[(&str, &str, &str, Read)] = &[
    ("hone_viewers", "gauge", "Sessions that read the stream.", |_, v| Some(v.now as f64)),
    ("hone_sent_bytes_total", "counter", "Payload handed to viewers.", |_, v| Some(v.bytes as f64)),
    ("hone_skipped_groups_total", "counter", "Groups that slow viewers left out.", |_, v| {
        Some(v.skipped_groups as f64)
    }),
    ("hone_pictures_total", "counter", "Pictures received.", |s, _| Some(s.pictures.get() as f64)),
    ("hone_patches_total", "counter", "Training patches received.", |s, _| Some(s.patches.get() as f64)),
    ("hone_patches_refused_total", "counter", "Training patches malformed or beyond the rate.", |s, _| {
        Some(s.patches_refused.get() as f64)
    }),
    ("hone_updates_total", "counter", "Model updates published.", |s, _| Some(s.updates.get() as f64)),
    ("hone_model_version", "gauge", "Version of the published weights.", |s, _| Some(s.version.get() as f64)),
    ("hone_gain_db", "gauge", "Held-out gain of the published weights over bicubic.", |s, _| {
        Some(s.gain_mdb.get() as f64 / 1e3)
    }),
    ("hone_training_steps_total", "counter", "Steps of the optimiser.", |s, _| Some(s.steps.get() as f64)),
    ("hone_training_seconds_total", "counter", "Time of the training device.", |s, _| {
        Some(s.training_us.get() as f64 / 1e6)
    }),
    ("hone_learner_queue", "gauge", "Messages that wait for the learner.", |s, _| {
        Some(s.learner_queue.get() as f64)
    }),
    ("hone_update_queue", "gauge", "Updates that wait for the relay.", |s, _| {
        Some(s.update_queue.get() as f64)
    }),
    ("hone_learner_dropped_total", "counter", "Messages that the learner was too slow for.", |s, _| {
        Some(s.learner_dropped.get() as f64)
    }),
    (
        "hone_pictures_missing_total",
        "counter",
        "Pictures that could not be decoded to learn from.",
        |s, _| Some(s.pictures_missing.get() as f64),
    ),
    ("hone_learner_lag_seconds", "gauge", "Media time from the newest picture to the learner's.", |s, _| {
        Some((s.relayed_pts_us.get() - s.learned_pts_us.get()).max(0) as f64 / 1e6)
    }),
    (
        "hone_picture_age_seconds",
        "gauge",
        "Age of the newest picture when relayed, by both clocks.",
        |s, _| (s.age_us.get() >= 0).then(|| s.age_us.get() as f64 / 1e6),
    ),
];

fn write_streams(out: &mut String, streams: &[(String, Arc<Stream>)], viewers: &BTreeMap<String, Viewers>) {
    for (name, kind, help, read) in STREAM {
        family(out, name, kind, help);
        for (stream, figures) in streams {
            let viewers = viewers.get(stream).copied().unwrap_or_default();
            if let Some(value) = read(figures, &viewers) {
                sample(out, name, &[("stream", stream)], value);
            }
        }
    }
    family(out, "hone_track_bytes_total", "counter", "Payload of each track.");
    for (stream, s) in streams {
        for (track, bytes) in [
            ("video", &s.video_bytes),
            ("audio", &s.audio_bytes),
            ("patches", &s.patch_bytes),
            ("model", &s.model_bytes),
        ] {
            sample(out, "hone_track_bytes_total", &[("stream", stream), ("track", track)], bytes.get());
        }
    }
    family(out, "hone_trainer_state", "gauge", "1 for the state that the trainer is in.");
    for (stream, s) in streams {
        let now = s.state.load(Ordering::Relaxed);
        for (index, (_, state)) in (0..).zip(STATES) {
            sample(
                out,
                "hone_trainer_state",
                &[("stream", stream), ("state", state)],
                u8::from(index == now),
            );
        }
    }
}

fn family(out: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a String does not fail.
    let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
}

fn one(out: &mut String, name: &str, kind: &str, help: &str, value: impl Display) {
    family(out, name, kind, help);
    sample(out, name, &[], value);
}

fn sample(out: &mut String, name: &str, labels: &[(&str, &str)], value: impl Display) {
    out.push_str(name);
    for (i, (label, text)) in labels.iter().enumerate() {
        // Names of streams need no escapes: letters, digits, '-', '_' and '.'.
        let _ = write!(out, "{}{label}=\"{text}\"", if i == 0 { '{' } else { ',' });
    }
    let _ = writeln!(out, "{} {value}", if labels.is_empty() { "" } else { "}" });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_shown_as_long_as_it_lives() {
        let metrics = Arc::new(Metrics::default());
        let first = metrics.show("cam");
        first.stream.relayed(1_000_000, 500, None);
        first.stream.gain_mdb.set(-120);
        first.stream.set_state(State::Paused);
        let text = |viewers: &BTreeMap<String, Viewers>| {
            let streams: Vec<_> = metrics.streams().iter().map(|(n, s)| (n.clone(), s.clone())).collect();
            let mut out = String::new();
            write_streams(&mut out, &streams, viewers);
            out
        };
        let viewers = BTreeMap::from([("cam".to_owned(), Viewers { now: 3, ..Viewers::default() })]);
        let shown = text(&viewers);
        for line in [
            "hone_viewers{stream=\"cam\"} 3\n",
            "hone_gain_db{stream=\"cam\"} -0.12\n",
            "hone_track_bytes_total{stream=\"cam\",track=\"video\"} 500\n",
            "hone_trainer_state{stream=\"cam\",state=\"paused\"} 1\n",
            "hone_trainer_state{stream=\"cam\",state=\"training\"} 0\n",
            "hone_learner_lag_seconds{stream=\"cam\"} 1\n",
            "# TYPE hone_pictures_total counter\n",
        ] {
            assert!(shown.contains(line), "{line}\n{shown}");
        }
        assert!(!shown.contains("hone_picture_age_seconds{"), "nothing is known of it");
        // A newer life of the stream: the end of the older one leaves it alone.
        let second = metrics.show("cam");
        drop(first);
        assert!(text(&viewers).contains("hone_pictures_total{stream=\"cam\"} 0\n"));
        drop(second);
        assert!(!text(&viewers).contains("stream="), "{}", text(&viewers));
    }
}
