//! `--uplink-kbps auto`, from camera to viewer: it finds what the link carries, and follows it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
#[path = "common/live.rs"]
mod live;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hone_transport::link;
use live::{Rig, Setting};

/// Lines of this process's log, and when each was written.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<(Instant, String)>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = (Instant::now(), String::from_utf8_lossy(bytes).into_owned());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// How long after `since` the video first gave way.
    fn gave_way(&self, since: Instant) -> Option<Duration> {
        let lines = self.0.lock().unwrap();
        let first = lines.iter().find(|(at, line)| *at > since && line.contains("the video gives way"));
        first.map(|(at, _)| at.duration_since(since))
    }
}

/// What the viewer gets in the next 3 s.
async fn video_kbps(rig: &Rig) -> f64 {
    rig.monitor.sample(Instant::now());
    tokio::time::sleep(Duration::from_secs(3)).await;
    rig.monitor.sample(Instant::now()).video_kbps
}

/// Until what the viewer gets is as it should be.
async fn until_kbps(rig: &Rig, what: &str, good: impl Fn(f64) -> bool) -> f64 {
    let mut kbps = vec![];
    while !kbps.last().is_some_and(|kbps| good(*kbps)) {
        assert!(kbps.len() < 40, "{what}: {kbps:?} kbit/s");
        kbps.push(video_kbps(rig).await);
    }
    kbps.last().copied().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_uplink_is_filled_and_a_drop_is_answered_at_once() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).init();
    let folder = tempfile::tempdir().unwrap();
    let clip = folder.path().join("clip.mp4");
    common::clip(&clip, (960, 544), 100, 25.0);
    // It begins with 600 kbit/s, more than the link has.
    let link = link::Config { delay: Duration::from_millis(15), rate_bps: 400e3, ..link::Config::default() };
    let rig = Rig::set_up(Setting { clip: Some(clip), link, auto: true, ..Setting::default() }).await;
    rig.down.set_rate_bps(0.0);
    rig.frames(25, Duration::from_secs(60)).await;
    let narrow = until_kbps(&rig, "through 400", |kbps| (150.0..400.0).contains(&kbps)).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    rig.frames(50, Duration::from_secs(30)).await;
    let age_s = rig.seen.lock().unwrap().age_s(25);
    assert!(age_s < 1.5, "video is {age_s} s old");

    rig.up.set_rate_bps(2e6);
    let wide = until_kbps(&rig, "through 2,000", |kbps| kbps > 650.0).await;
    rig.up.set_rate_bps(300e3);
    let dropped = Instant::now();
    while log.gave_way(dropped).is_none() {
        assert!(dropped.elapsed() < Duration::from_secs(10), "a drop to 300 kbit/s is not seen");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let seen = log.gave_way(dropped).unwrap();
    println!(
        "{narrow:.0} kbit/s through 400, {wide:.0} through 2,000; a drop to 300 is answered after {seen:?}"
    );
    // Within a second, and what a busy machine makes of it.
    assert!(seen < Duration::from_millis(2_000), "{seen:?}");
    rig.end().await;
}
