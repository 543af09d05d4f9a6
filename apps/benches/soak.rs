//! An hour of a live stream, ten times as fast as life: does memory grow, does latency?
//!
//! ```text
//! cargo bench -p hone-apps --bench soak                    an hour of media in six minutes
//! cargo bench -p hone-apps --bench soak -- --minutes 600   a working day and more
//! ```
//!
//! Camera, server with its trainer, and viewer in one process, a test pattern of 320x192 at 10 frames a second, so that two
//! cores can upscale each of them ten times as fast as life; two links of 15 ms. Prints
//! six parts of equal length: resident memory of the process at the end of each, and how late frames were shown in it,
//! against the promptest one of all. Fails if memory grew by more than a tenth after the second part (what nobody reads is
//! kept for a minute of life), or the median latency by more than 100 ms.
#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

#[path = "../tests/common/live.rs"]
mod live;

use std::time::{Duration, Instant};

use hone_apps::server::limits::Limits;
use hone_transport::link;
use live::{Rig, Setting};

/// Faster than life.
const TIMES: f64 = 10.0;
const FPS: f64 = 10.0;
const PARTS: u32 = 6;
const MEMORY_GROWTH_MAX: f64 = 1.1;
const LATENCY_GROWTH_MAX_MS: f64 = 100.0;

fn main() {
    if let Ok(filter) = tracing_subscriber::EnvFilter::try_from_env("HONE_LOG") {
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    }
    let arguments: Vec<String> = std::env::args().collect();
    let minutes =
        arguments.iter().position(|a| a == "--minutes").map(|at| arguments[at + 1].parse().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(soak(minutes.unwrap_or(60.0)));
}

/// kB.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

async fn soak(minutes: f64) {
    let link = link::Config { delay: Duration::from_millis(15), ..link::Config::default() };
    // The server counts by its own clock.
    let times = |limit: u32| limit * TIMES as u32;
    let usual = Limits::default();
    let limits = Limits {
        pictures_per_second_max: times(usual.pictures_per_second_max),
        patches_per_second_max: times(usual.patches_per_second_max),
        ..usual
    };
    let rig = Rig::set_up(Setting { link, limits, fps: FPS, times: TIMES, ..Setting::default() }).await;
    rig.until("the first frame", Duration::from_secs(30), |seen| !seen.frames.is_empty()).await;
    println!("minutes of media   memory MB   shown late, ms: p50   p95   frames   model");
    let part = Duration::from_secs_f64(minutes * 60.0 / TIMES / f64::from(PARTS));
    let (start, mut first, mut promptest) = (Instant::now(), None, f64::INFINITY);
    let mut figures = vec![];
    for number in 1..=PARTS {
        tokio::time::sleep((start + part * number).saturating_duration_since(Instant::now())).await;
        let frames = std::mem::take(&mut rig.seen.lock().unwrap().frames);
        assert!(!frames.is_empty(), "the stream stands still");
        let (began, began_us) = *first.get_or_insert((frames[0].0, frames[0].1));
        let mut late: Vec<f64> = frames
            .iter()
            .map(|(at, pts_us, _)| {
                at.duration_since(began).as_secs_f64() * 1e3 - (pts_us - began_us) as f64 / 1e3 / TIMES
            })
            .collect();
        late.sort_by(f64::total_cmp);
        promptest = promptest.min(late[0]);
        let percentile = |percent: usize| late[(late.len() - 1) * percent / 100];
        let (p50, p95, memory) = (percentile(50), percentile(95), resident());
        println!(
            "{:16.0}   {:9.1}   {:19.0} {:5.0}   {:6}   {:5}",
            minutes * f64::from(number) / f64::from(PARTS),
            memory / 1e3,
            p50 - promptest,
            p95 - promptest,
            frames.len(),
            frames[frames.len() - 1].2
        );
        figures.push((memory, p50));
    }
    rig.end().await;
    let (before, after) = (figures[1], figures[figures.len() - 1]);
    assert!(after.0 < MEMORY_GROWTH_MAX * before.0, "memory grew from {} to {} kB", before.0, after.0);
    assert!(after.1 < before.1 + LATENCY_GROWTH_MAX_MS, "latency grew from {} to {} ms", before.1, after.1);
}
