//! Links that break: every leg finds its way back, and nothing that was learned is lost.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
#[path = "common/live.rs"]
mod live;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hone_apps::sender::{Plan, Scout};
use hone_apps::server::limits::Limits;
use hone_apps::viewer::State;
use hone_media::frame::Frame;
use hone_transport::link;
use live::{Rig, Setting};

/// Longer than a silent connection lives.
const OUTAGE: Duration = Duration::from_secs(5);
/// What a busy machine may take; `cargo xtask live-bench` measures it.
const PATIENCE: Duration = Duration::from_secs(20);

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
async fn a_sender_that_learns_was_cut_off_and_viewers_have_what_it_learned() {
    let folder = tempfile::tempdir().unwrap();
    let clip = folder.path().join("clip.mp4");
    common::clip(&clip, (256, 144), 250, 25.0);
    let link = some_milliseconds();
    let setting = Setting { clip: Some(clip), link, learn_at_sender: true, ..Setting::default() };
    let rig = Rig::set_up(setting).await;
    let learned = |seen: &live::Seen| seen.frames.last().is_some_and(|(.., v)| *v > 1);
    rig.until("learned weights", Duration::from_secs(60), learned).await;
    let recovery = rig.outage(&rig.up, OUTAGE).await;
    assert!(recovery < PATIENCE, "{recovery:?}");
    let before = rig.seen.lock().unwrap().frames.last().map_or(0, |(.., version)| *version);
    let more = |seen: &live::Seen| seen.frames.last().is_some_and(|(.., v)| *v > before);
    rig.until("more of what was learned", Duration::from_secs(60), more).await;
    let seen = rig.seen.clone();
    let ended = rig.end().await;
    one_stream(&seen.lock().unwrap());
    assert!(ended.sent.passed_by > 0, "the outage was too short to be one");
    assert_eq!(ended.sent.patches, 0);
    assert!(ended.received.version > before, "it stands at version {before}");
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

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_coded_for_nobody_and_at_once_for_somebody() {
    let limits = Limits { on_demand: true, ..Limits::default() };
    let rig = Rig::set_up(Setting { link: some_milliseconds(), limits, ..Setting::default() }).await;
    let shown = |more: usize| move |seen: &live::Seen| seen.frames.len() > more;
    rig.until("a second of video", Duration::from_secs(30), shown(30)).await;
    // The only viewer is missed after 3 s of silence.
    rig.down.cut(true);
    tokio::time::sleep(Duration::from_secs(10)).await;
    rig.down.cut(false);
    let before = rig.seen.lock().unwrap().frames.len();
    rig.until("video again", PATIENCE, shown(before + 30)).await;
    let seen = rig.seen.clone();
    let ended = rig.end().await;
    one_stream(&seen.lock().unwrap());
    // 30 frames a second, for most of 10 s; the camera's own link was never cut.
    assert!((90..300).contains(&ended.sent.passed_by), "{} frames were not coded", ended.sent.passed_by);
}

/// What the viewer gets in the next 3 s.
async fn video_kbps(rig: &Rig) -> f64 {
    rig.monitor.sample(Instant::now());
    tokio::time::sleep(Duration::from_secs(3)).await;
    rig.monitor.sample(Instant::now()).video_kbps
}

#[tokio::test(flavor = "multi_thread")]
async fn video_gives_way_to_a_link_that_becomes_thin_and_takes_what_it_offers_again() {
    let link = link::Config { rate_bps: 2e6, ..some_milliseconds() };
    let rig = Rig::start((640, 384), 900.0, link).await;
    rig.frames(180, Duration::from_secs(60)).await;
    rig.up.set_rate_bps(300e3);
    tokio::time::sleep(Duration::from_secs(12)).await;
    // Its queue alone holds 1.3 s of video, and at the old rate would never be empty again.
    rig.frames(60, Duration::from_secs(20)).await;
    let thin = rig.seen.lock().unwrap().age_s(30);
    let kbps = rig.monitor.stats().video_kbps;
    assert!(thin < 0.8, "video is {thin} s old");
    assert!(kbps < 400.0, "{kbps} kbit/s through 300");
    rig.up.set_rate_bps(2e6);
    let mut risen = 0.0;
    for _ in 0..20 {
        risen = video_kbps(&rig).await;
        if risen > 500.0 {
            break;
        }
    }
    assert!(risen > 500.0, "{risen} kbit/s through 2,000, a minute after it was thin");
    rig.end().await;
}

/// The goal for a link that loses a tenth of all packets, share of the frames.
const LOST_MAX: f64 = 0.02;

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_plays_on_where_every_tenth_packet_is_lost_and_others_overtake() {
    let link = link::Config {
        delay: Duration::from_millis(15),
        jitter: Duration::from_millis(20),
        loss: 0.1,
        seed: 11,
        ..link::Config::default()
    };
    let rig = Rig::set_up(Setting { link, every_frame: true, ..Setting::default() }).await;
    rig.frames(450, Duration::from_secs(90)).await;
    let (seen, dropped) = (rig.seen.clone(), rig.up.dropped() + rig.down.dropped());
    rig.end().await;
    let seen = seen.lock().unwrap();
    one_stream(&seen);
    assert!(dropped > 100, "the links lost only {dropped} packets");
    let lost = seen.lost(30.0);
    println!("{dropped} packets lost on both legs, {:.2}% of the frames", 100.0 * lost);
    assert!(lost < LOST_MAX, "{lost}");
}

#[tokio::test(flavor = "multi_thread")]
async fn patches_and_models_arrive_where_every_fiftieth_packet_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let clip = folder.path().join("clip.mp4");
    common::clip(&clip, (256, 144), 250, 25.0);
    let link = link::Config {
        delay: Duration::from_millis(15),
        jitter: Duration::from_millis(10),
        loss: 0.02,
        seed: 12,
        ..link::Config::default()
    };
    let setting =
        Setting { clip: Some(clip), link, early_verdicts: true, every_frame: true, ..Setting::default() };
    let rig = Rig::set_up(setting).await;
    let learned = |seen: &live::Seen| seen.frames.last().is_some_and(|(.., version)| *version > 2);
    rig.until("several versions", Duration::from_secs(90), learned).await;
    let seen = rig.seen.clone();
    let ended = rig.end().await;
    let seen = seen.lock().unwrap();
    one_stream(&seen);
    let lost = seen.lost(25.0);
    println!("version {}, {} patches, {lost} of the frames lost", ended.received.version, ended.sent.patches);
    assert!(ended.sent.patches > 0);
    assert!(lost < LOST_MAX, "{lost}");
}

/// Changes to the scale that is asked for, if any is.
struct Asked(Arc<AtomicU32>);

impl Scout for Asked {
    fn see(&mut self, _frame: &Frame, plan: &Plan) -> Option<Plan> {
        let scale = self.0.load(Ordering::Relaxed);
        if scale == plan.scale { None } else { plan.at_scale(scale) }
    }
}

/// A stream of 384x192 at scale 2, which changes to what is asked for.
async fn rescaled(every_frame: bool) -> (Rig, Arc<AtomicU32>) {
    let scale = Arc::new(AtomicU32::new(2));
    let scout = Some(Box::new(Asked(scale.clone())) as Box<dyn Scout>);
    let link = some_milliseconds();
    let setting = Setting { hr: (384, 192), link, scout, every_frame, ..Setting::default() };
    let rig = Rig::set_up(setting).await;
    in_force(&rig.seen, 2).await;
    (rig, scale)
}

/// Until weights are in force at this scale.
async fn in_force(seen: &Mutex<live::Seen>, scale: usize) {
    let done = |seen: &live::Seen| {
        let at = seen.networks.last().is_some_and(|(_, arch, _)| arch.scale() == scale);
        at && seen.frames.last().is_some_and(|(.., version)| *version > 0)
    };
    live::until(seen, &format!("weights for scale {scale}"), Duration::from_secs(60), done).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_changes_its_scale_and_no_frame_is_missed() {
    let (rig, scale) = rescaled(true).await;
    scale.store(3, Ordering::Relaxed);
    in_force(&rig.seen, 3).await;
    // Who comes now knows nothing of what was.
    let (late, viewing) = rig.join();
    rig.frames(60, PATIENCE).await;
    scale.store(2, Ordering::Relaxed);
    in_force(&rig.seen, 2).await;
    in_force(&late, 2).await;
    let seen = rig.seen.clone();
    let ended = rig.end().await;
    viewing.await.unwrap().unwrap();
    let (seen, late) = (seen.lock().unwrap(), late.lock().unwrap());
    assert_eq!((seen.starts, late.starts), (1, 1), "a viewer took it for another stream");
    let scales = |seen: &live::Seen| -> Vec<usize> {
        assert!(seen.networks.iter().all(|(.., size)| *size == (384, 192)), "{:?}", seen.networks);
        seen.networks.iter().map(|(_, arch, _)| arch.scale()).collect()
    };
    assert_eq!((scales(&seen), scales(&late)), (vec![2, 3, 2], vec![3, 2]));
    // Of both the last words: the same weights.
    assert!(seen.frames.last().unwrap().2 > 0);
    let step = |pair: &[(Instant, i64, u64)]| pair[1].1 - pair[0].1;
    let longest = seen.frames.windows(2).map(step).max().unwrap();
    assert!(longest < 34_000, "{longest} us between two frames");
    assert_eq!(ended.received.dropped, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_scale_that_a_broken_link_hides_is_made_up_for() {
    let (rig, scale) = rescaled(false).await;
    // It is announced, and the link breaks before anybody hears of it, or before it comes.
    scale.store(3, Ordering::Relaxed);
    rig.outage(&rig.up, OUTAGE).await;
    in_force(&rig.seen, 3).await;
    // The same on the viewer's leg.
    scale.store(2, Ordering::Relaxed);
    rig.outage(&rig.down, OUTAGE).await;
    in_force(&rig.seen, 2).await;
    let seen = rig.seen.clone();
    let ended = rig.end().await;
    let seen = seen.lock().unwrap();
    assert!(seen.networks.iter().all(|(.., size)| *size == (384, 192)), "{:?}", seen.networks);
    assert!(ended.received.version > 0);
}
