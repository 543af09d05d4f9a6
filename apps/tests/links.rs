//! Links that break: every leg finds its way back, and nothing that was learned is lost.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/live.rs"]
mod live;

use std::time::Duration;

use hone_apps::viewer::State;
use hone_transport::link;
use live::Rig;

/// Longer than a silent connection lives.
const OUTAGE: Duration = Duration::from_secs(5);
/// What a busy machine may take; `cargo xtask live-bench` measures it.
const PATIENCE: Duration = Duration::from_secs(10);

fn some_milliseconds() -> link::Config {
    link::Config { delay: Duration::from_millis(15), ..link::Config::default() }
}

/// Until a model is in force: the base model, once the stream has settled.
async fn begin() -> Rig {
    let rig = Rig::start((320, 192), 300.0, some_milliseconds()).await;
    rig.until("weights", Duration::from_secs(30), |seen| seen.frames.last().is_some_and(|(.., v)| *v > 0))
        .await;
    rig
}

/// The same stream to its end: it began once, media times rose, and the weights never went back.
fn one_stream(seen: &live::Seen) {
    assert_eq!(seen.starts, 1, "the viewer took it for another stream");
    assert!(seen.frames.is_sorted_by(|a, b| a.1 < b.1), "media times rise");
    assert!(seen.frames.is_sorted_by_key(|(.., version)| *version), "the weights went back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_camera_that_was_cut_off_goes_on_where_it_was() {
    let rig = begin().await;
    let recovery = rig.outage(&rig.up, OUTAGE).await;
    assert!(recovery < PATIENCE, "{recovery:?}");
    let seen = rig.seen.clone();
    let ended = rig.end().await;
    assert!(ended.sent.passed_by > 0, "the outage was too short to be one");
    one_stream(&seen.lock().unwrap());
    assert!(ended.received.version > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_that_was_cut_off_keeps_its_picture_and_its_weights() {
    let rig = begin().await;
    rig.down.cut(true);
    let lost = |_: &live::Seen| rig.monitor.state() == State::Lost;
    rig.until("the state `lost`", Duration::from_secs(20), lost).await;
    let recovery = rig.outage(&rig.down, Duration::ZERO).await;
    assert!(recovery < PATIENCE, "{recovery:?}");
    assert!(rig.monitor.state().live());
    let seen = rig.seen.clone();
    rig.end().await;
    one_stream(&seen.lock().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_address_interrupts_nothing() {
    let rig = begin().await;
    for _ in 0..3 {
        let frames = rig.seen.lock().unwrap().frames.len();
        rig.up.rebind();
        rig.down.rebind();
        rig.until("30 frames more", Duration::from_secs(20), |seen| seen.frames.len() > frames + 30).await;
    }
    let seen = rig.seen.clone();
    let ended = rig.end().await;
    one_stream(&seen.lock().unwrap());
    assert_eq!(ended.sent.passed_by, 0, "the camera has dialled again");
}
