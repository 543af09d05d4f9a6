//! A viewer against streams that are damaged, change their mind, or lose their device: whatever is shown is right.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod audio;
mod colour;
#[path = "../common/mod.rs"]
mod common;
mod damage;
mod device;
mod record;
mod stream;

use std::time::{Duration, Instant};

use hone_apps::viewer::State;
use hone_runtime::{Mode, Preference};

use stream::{How, SIZE, Scene, an_update, how, plain, view};

#[test]
fn a_live_viewer_shows_frames_at_their_time() {
    let mut scene = Scene::new(SIZE, plain());
    let groups = [scene.group(0, 25), scene.group(25, 50)];
    let start = Instant::now();
    let viewed = view(&[], &groups, How { live: true, ..how(Preference::Cpu) });
    let received = viewed.received.as_ref().unwrap();
    // Two seconds of video take two seconds; a busy machine may drop a frame, and says so.
    assert!(start.elapsed() >= Duration::from_millis(1900), "{:?}", start.elapsed());
    assert_eq!(received.frames + received.dropped, 50, "{received:?}");
    assert!(viewed.times().is_sorted_by(|a, b| a < b));
    assert!(received.frames >= 25, "{received:?}");
}

/// 11 GFLOP a frame, 240 times a second: no CPU does that.
#[test]
fn a_device_that_is_too_slow_steps_down_and_says_so() {
    const HEAVY: &str = "live-4x64-x2";
    let mut scene = Scene::new((160, 96), plain());
    let groups = [scene.group(0, 60), scene.group(60, 120)];
    let updates = [an_update(HEAVY, 1.0)];
    let says = Some((HEAVY, 240.0));
    let viewed = view(&updates, &groups, How { live: true, says, ..how(Preference::Cpu) });
    viewed.received.unwrap();
    let modes: Vec<Mode> = viewed.seen.iter().map(|seen| seen.mode).collect();
    // The first picture comes at once; then the network is tried.
    assert_eq!(modes[..2], [Mode::Bicubic, Mode::Network], "{modes:?}");
    assert!(viewed.states.contains(&State::Active), "{:?}", viewed.states);
    match viewed.states.last() {
        Some(State::TooSlow) => assert_eq!(modes.last(), Some(&Mode::Bicubic), "{modes:?}"),
        Some(State::Reusing) => assert!(modes.contains(&Mode::Reuse), "{modes:?}"),
        _ => panic!("{:?}", viewed.states),
    }
}
