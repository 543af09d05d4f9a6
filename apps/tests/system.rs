//! Camera, learner and screen as plain objects: no sockets, no clocks, the same every time.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod common;

use hone_apps::camera::{self, Camera};
use hone_apps::learner::{Fate, Learner};
use hone_apps::patch::Purpose;
use hone_apps::quality::Truth;
use hone_apps::screen::{self, Screen};
use hone_cpu::CpuTrainer;
use hone_media::encode;
use hone_model::update::{self, UpdateError};
use hone_model::{Arch, Family, Origin, Published};
use hone_runtime::{Mode, Preference};
use hone_trainer::{Config, Event, Publication, Trainer};

const SIZE: (u32, u32) = (256, 144);
const FPS: f64 = 25.0;
const SCALE: u8 = 2;
/// Long enough that a network of this size is ahead of bicubic for the second half.
const FRAMES: u32 = 120;
const STEPS_A_FRAME: usize = 6;

fn camera() -> Camera {
    let (width, height) = (SIZE.0 / u32::from(SCALE), SIZE.1 / u32::from(SCALE));
    let encode = encode::Config::new(width, height, FPS, 1500);
    let config =
        camera::Config { scale: SCALE.into(), encode, patch_quality: camera::PATCH_QUALITY, seed: 7 };
    Camera::new(config).unwrap()
}

fn arch() -> Arch {
    Arch::new(Family::Live, 1, 8, SCALE).unwrap()
}

fn learner() -> Learner {
    let origin = Origin::Seed(3);
    let config = Config {
        batch: 4,
        held_out_min: 2,
        evaluate_every_steps: 10,
        publish_gain_db: 0.02,
        publish_certainty: 0.5,
        pause_after: 1000,
        ..Config::default()
    };
    let backend = Box::new(CpuTrainer::new(Published::origin(arch(), origin).weights()));
    Learner::new(Trainer::new(backend, origin, config).unwrap()).unwrap()
}

/// What a run leaves.
struct Outcome {
    publications: Vec<Publication>,
    /// PSNR-Y over bicubic of each frame shown, dB.
    gains_db: Vec<f64>,
    learner: Learner,
    screen: Screen,
}

fn run() -> Outcome {
    let (mut camera, mut learner) = (camera(), learner());
    let mut screen = Screen::new(arch(), Preference::Cpu).unwrap();
    let (mut publications, mut gains_db) = (vec![], vec![]);
    let (mut rgba, mut bicubic) = (vec![], vec![]);
    for index in 0..FRAMES {
        let frame = common::frame(SIZE.0, SIZE.1, index, 0, FPS);
        let packet = camera.frame(&frame, false).unwrap();
        for purpose in [Purpose::Learn, Purpose::Judge] {
            if index % 6 == 0
                && let Some((pts_us, message)) = camera.patch(purpose).unwrap()
            {
                // A patch may be there before its picture.
                let fate = learner.patch(pts_us, message).unwrap();
                assert!(matches!(fate, Fate::Waits | Fate::Taken), "{fate:?}");
            }
        }
        learner.video(&packet.data, packet.pts_us).unwrap();
        for _ in 0..STEPS_A_FRAME {
            if let Event::Published(publication) = learner.trainer.step().unwrap() {
                let header = screen.update(&publication.update).unwrap();
                assert_eq!(header.version, publication.version);
                assert_eq!(publication.snapshot, header.base == 0);
                publications.push(publication);
            }
        }
        for shown in screen.decode(&packet.data, packet.pts_us).unwrap() {
            assert_eq!(shown.pts_us, frame.pts_us, "no frame is held back");
            let truth = Truth::new(&frame);
            let mode = screen.mode(&shown);
            screen.upscale(&shown, mode, &mut rgba).unwrap();
            screen.upscale(&shown, Mode::Bicubic, &mut bicubic).unwrap();
            gains_db.push(truth.quality(&rgba, 4).psnr_y_db - truth.quality(&bicubic, 4).psnr_y_db);
        }
    }
    Outcome { publications, gains_db, learner, screen }
}

#[test]
fn what_is_published_sharpens_the_picture_and_every_run_is_the_same() {
    let first = run();
    assert_eq!(first.gains_db.len(), FRAMES as usize);
    let versions: Vec<u64> = first.publications.iter().map(|p| p.version).collect();
    assert_eq!(versions, (1..=versions.len() as u64).collect::<Vec<_>>());
    assert!(versions.len() >= 2 && first.publications[0].snapshot, "versions {versions:?}");
    let published = first.learner.trainer.published();
    assert_eq!(first.screen.held().version(), published.version());
    assert_eq!(first.screen.held().hash(), published.hash());

    let last_quarter = &first.gains_db[FRAMES as usize * 3 / 4..];
    let gain_db = last_quarter.iter().sum::<f64>() / last_quarter.len() as f64;
    assert!(gain_db > 0.1, "{gain_db} dB over bicubic");
    // Before the first version the screen shows bicubic itself.
    assert_eq!(first.gains_db[0], 0.0);

    let second = run();
    assert_eq!(first.publications, second.publications);
    assert_eq!(first.gains_db, second.gains_db);
}

#[test]
fn a_damaged_update_is_refused_and_the_next_snapshot_heals() {
    let Outcome { publications, .. } = run();
    let delta = publications.iter().position(|p| !p.snapshot).expect("a delta among the updates");
    let heal = delta + publications[delta..].iter().position(|p| p.snapshot).expect("a snapshot after it");
    let mut screen = Screen::new(arch(), Preference::Cpu).unwrap();
    for publication in &publications[..delta] {
        screen.update(&publication.update).unwrap();
    }
    let held = screen.held().hash();
    let update = &publications[delta].update;
    // In turn: magic, architecture, base, hash, increments.
    for at in [0, 5, 12, 40, 60, update.len() / 2] {
        let mut damaged = update.clone();
        damaged[at] ^= 0x10;
        let refused = screen.update(&damaged).map(|header| header.version);
        assert!(matches!(refused, Err(screen::Error::Update(_))), "byte {at}: {refused:?}");
    }
    // Wherever the damage is in what the weights are made of, they are refused or unharmed: of the five
    // bytes that close a range coder's stream, the last may say nothing.
    let whole = update::apply(screen.held(), update).unwrap();
    for at in (0..20).chain(40..update.len()) {
        let mut damaged = update.clone();
        damaged[at] ^= 0x10;
        if let Ok(next) = update::apply(screen.held(), &damaged) {
            assert!(at >= update.len() - 5 && next.hash() == whole.hash(), "byte {at}");
        }
    }
    for short in [0, 3, 55, 56, update.len() - 1] {
        assert!(screen.update(&update[..short]).is_err(), "{short} bytes");
    }
    assert_eq!(screen.held().hash(), held);
    // It is lost; what builds on it does not fit, until a snapshot comes.
    for publication in &publications[delta + 1..heal] {
        let refused = screen.update(&publication.update).map(|header| header.version);
        assert!(matches!(refused, Err(screen::Error::Update(UpdateError::Base { .. }))), "{refused:?}");
    }
    assert_eq!(screen.held().hash(), held);
    for publication in &publications[heal..] {
        screen.update(&publication.update).unwrap();
    }
    assert_eq!(screen.held().version(), publications.len() as u64);
}
