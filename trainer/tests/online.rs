//! A stream's life with a real backend: deterministic, honest about its gain, and quiet when there is none.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use hone_cpu::CpuTrainer;
use hone_model::rng::Rng;
use hone_model::update::{self, UpdateError};
use hone_model::{Arch, Family, Holding, Origin, Published};
use hone_trainer::{AddError, Config, Event, Library, Pair, Publication, SIDE_MAX, State, Trainer};

const SIDE: usize = 24;

fn config() -> Config {
    Config {
        batch: 4,
        crop: 12,
        held_out_min: 3,
        evaluate_every_steps: 10,
        publish_gain_db: 0.05,
        publish_certainty: 1.0,
        pause_after: 4,
        resume_after_patches: 8,
        ..Config::default()
    }
}

fn trainer(config: Config) -> Trainer {
    let origin = Origin::Seed(config.seed);
    let arch = Arch::new(Family::Live, 1, 8, 1).unwrap();
    let backend = CpuTrainer::new(Published::origin(arch, origin).weights());
    Trainer::new(Box::new(backend), origin, config).unwrap()
}

/// How HR comes from LR, value for value: what there is to learn at scale 1.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Scene {
    /// HR is brighter by 12 in the mean.
    Brighter,
    /// HR is darker by it: the opposite.
    Darker,
    /// HR is LR: no network can be better than the base image.
    Same,
}

fn pair(index: u64, scene: Scene, held_out: bool) -> Pair {
    pair_at(1, index, scene, held_out)
}

/// At scale `s`: each value of HR comes from the LR value that it lies on.
fn pair_at(s: usize, index: u64, scene: Scene, held_out: bool) -> Pair {
    let mut rng = Rng::new(index + 1);
    let lr: Vec<u8> = (0..SIDE * SIDE * 3).map(|_| 60 + rng.below(120) as u8).collect();
    // Noise that nobody can learn, so that the gain has an end.
    let value = |i: usize| {
        let (y, x, c) = (i / 3 / (SIDE * s), i / 3 % (SIDE * s), i % 3);
        lr[(y / s * SIDE + x / s) * 3 + c]
    };
    let hr = (0..SIDE * SIDE * s * s * 3).map(value).map(|v| match scene {
        Scene::Brighter => v + 6 + rng.below(13) as u8,
        Scene::Darker => v - 18 + rng.below(13) as u8,
        Scene::Same => v,
    });
    Pair {
        pts_us: index as i64 * 40_000,
        h: SIDE,
        w: SIDE,
        quantiser: 30,
        hr: hr.collect(),
        lr: lr.iter().map(|&v| f32::from(v) / 255.0).collect(),
        held_out,
    }
}

/// Adds `n` pairs to learn from and `n` to judge by.
fn feed(trainer: &mut Trainer, scene: Scene, from: u64, n: u64) {
    for index in from..from + n {
        trainer.add(pair(2 * index, scene, false)).unwrap();
        trainer.add(pair(2 * index + 1, scene, true)).unwrap();
    }
}

/// Steps up to `steps` times; stops when idle. Gives what was published and the state at the end.
fn work(trainer: &mut Trainer, steps: usize) -> (Vec<Publication>, State) {
    let mut published = vec![];
    for _ in 0..steps {
        match trainer.step().unwrap() {
            Event::Published(publication) => published.push(publication),
            Event::Stepped { loss } => assert!(loss.is_some_and(f32::is_finite)),
            Event::Idle(state) => return (published, state),
        }
    }
    (published, trainer.state())
}

#[test]
fn the_same_calls_give_the_same_bytes_and_the_seed_matters() {
    let run = |seed| {
        let mut trainer = trainer(Config { seed, ..config() });
        feed(&mut trainer, Scene::Brighter, 0, 4);
        let (mut published, _) = work(&mut trainer, 60);
        feed(&mut trainer, Scene::Brighter, 4, 4);
        published.extend(work(&mut trainer, 60).0);
        (published, trainer.published().hash())
    };
    let first = run(1);
    assert!(first.0.len() >= 2, "{} versions", first.0.len());
    assert_eq!(first, run(1));
    assert_ne!(first.1, run(2).1);
}

#[test]
fn updates_lead_a_viewer_to_what_the_trainer_holds() {
    let mut trainer = trainer(config());
    let mut held = trainer.published().clone();
    feed(&mut trainer, Scene::Brighter, 0, 6);
    let (published, _) = work(&mut trainer, 200);
    assert!(!published.is_empty());
    for publication in &published {
        assert!(publication.gain_db > 0.0, "{}", publication.gain_db);
        held = update::apply(&held, &publication.update).unwrap();
        assert_eq!(held.version(), publication.version);
    }
    assert_eq!(held.hash(), trainer.published().hash());
}

#[test]
fn without_patches_of_both_kinds_it_waits() {
    let mut trainer = trainer(config());
    assert_eq!(work(&mut trainer, 5), (vec![], State::Starved));
    for index in 0..5 {
        trainer.add(pair(index, Scene::Brighter, false)).unwrap();
    }
    assert_eq!(work(&mut trainer, 5), (vec![], State::Starved));
    for index in 5..7 {
        trainer.add(pair(index, Scene::Brighter, true)).unwrap();
    }
    assert_eq!(work(&mut trainer, 5), (vec![], State::Starved));
    assert_eq!(trainer.steps(), 0);
    trainer.add(pair(7, Scene::Brighter, true)).unwrap();
    assert_eq!(work(&mut trainer, 5).1, State::Training);
    assert_eq!(trainer.steps(), 5);
}

#[test]
fn nothing_worse_than_the_base_image_is_published_and_saturation_pauses() {
    let mut trainer = trainer(config());
    feed(&mut trainer, Scene::Same, 0, 6);
    let (published, state) = work(&mut trainer, 1000);
    assert_eq!((published, state), (vec![], State::Paused));
    // Four verdicts without gain, ten steps each.
    assert_eq!(trainer.steps(), 40);
    assert_eq!(trainer.published().version(), 0);

    // Patches to learn from do not end the pause, so many held-out ones do.
    let resume = u64::from(config().resume_after_patches);
    for index in 0..3 * resume {
        trainer.add(pair(100 + index, Scene::Same, false)).unwrap();
    }
    for index in 0..resume {
        assert_eq!(work(&mut trainer, 1), (vec![], State::Paused), "after {index} patches");
        trainer.add(pair(200 + index, Scene::Same, true)).unwrap();
    }
    assert_eq!(work(&mut trainer, 1).1, State::Training);
    assert_eq!(trainer.steps(), 41);
}

#[test]
fn a_drift_ends_a_pause_and_keeps_what_was_learned() {
    let mut trainer = trainer(Config { follow_scenes: true, ..config() });
    feed(&mut trainer, Scene::Brighter, 0, 8);
    let (published, state) = work(&mut trainer, 5000);
    assert_eq!(state, State::Paused);
    assert!(!published.is_empty() && trainer.learned_db() > 1.0, "{} dB", trainer.learned_db());
    let (version, steps) = (trainer.published().version(), trainer.steps());
    trainer.drifted();
    assert_eq!(work(&mut trainer, 1).1, State::Training);
    assert_eq!((trainer.published().version(), trainer.steps()), (version, steps + 1));
}

#[test]
fn a_change_of_scene_ends_a_pause_and_takes_a_harmful_network_out_of_force() {
    // To unlearn takes more verdicts without gain than to saturate.
    let patient = Config { pause_after: 30, resume_after_patches: 1000, held_out_max: 8, ..config() };
    let mut trainer = trainer(patient);
    feed(&mut trainer, Scene::Brighter, 0, 8);
    let (published, state) = work(&mut trainer, 5000);
    assert_eq!(state, State::Paused, "{} steps", trainer.steps());
    let best = published.last().expect("a version").clone();
    assert!(best.gain_db > 3.0, "{} dB", best.gain_db);

    // The same patches go on to come: nothing to resume for.
    feed(&mut trainer, Scene::Brighter, 8, 8);
    assert_eq!(work(&mut trainer, 10), (vec![], State::Paused));

    // The opposite: what viewers hold now doubles the error.
    let weights = trainer.published().weights();
    feed(&mut trainer, Scene::Darker, 100, 8);
    let off = match trainer.step().unwrap() {
        Event::Published(publication) => publication,
        other => panic!("{other:?}"),
    };
    assert!(off.gain_db <= 0.0 && off.version == best.version + 1, "{} dB", off.gain_db);
    assert!(update::header(&off.update).unwrap().gain_db <= 0.0);
    assert_eq!(trainer.published().weights().params(), weights.params(), "only the verdict changes");

    // It learns again, and what it publishes then helps the new scene.
    let steps = trainer.steps();
    feed(&mut trainer, Scene::Darker, 200, 24);
    let (published, _) = work(&mut trainer, 3000);
    assert!(trainer.steps() > steps);
    let back = published.last().expect("a version for the new scene");
    assert!(back.gain_db > 1.0, "{} dB", back.gain_db);
}

#[test]
fn after_a_cut_a_network_is_not_shown_until_patches_of_the_new_scene_say_that_it_helps() {
    let mut trainer = trainer(Config { pause_after: 1000, ..config() });
    feed(&mut trainer, Scene::Brighter, 0, 8);
    let (published, _) = work(&mut trainer, 500);
    let best = published.last().expect("a version");
    trainer.new_scene();
    let off = work(&mut trainer, 1).0.remove(0);
    assert!(off.gain_db <= 0.0 && off.version == best.version + 1);
    assert_eq!(work(&mut trainer, 3), (vec![], State::Starved), "nothing of the new scene to judge by");
    // The new scene is like the old one: the same weights come back into force, for a few bytes.
    let weights = trainer.published().weights();
    feed(&mut trainer, Scene::Brighter, 100, 8);
    let on = work(&mut trainer, 1).0.remove(0);
    assert!(on.gain_db > 1.0 && on.update.len() < 100, "{} dB, {} bytes", on.gain_db, on.update.len());
    assert_eq!(trainer.published().weights().params(), weights.params());
}

#[test]
fn patches_of_a_new_scene_do_not_count_as_training_that_brought_nothing() {
    let mut trainer = trainer(config());
    feed(&mut trainer, Scene::Brighter, 0, 8);
    assert_eq!(work(&mut trainer, 5000).1, State::Paused);
    trainer.new_scene();
    // What was learned is tried with each of them, and helps none: more often than a pause would take.
    for index in 100..100 + 3 * u64::from(config().pause_after) {
        trainer.add(pair(index, Scene::Darker, true)).unwrap();
        work(&mut trainer, 1);
    }
    assert_eq!(work(&mut trainer, 1), (vec![], State::Training));
}

/// A scene that looks like `view` begins; gives what is published until `steps` are done or it waits.
fn begin(trainer: &mut Trainer, view: f32, scene: Scene, from: u64, steps: usize) -> Vec<Publication> {
    trainer.new_scene();
    let mut published = work(trainer, 1).0;
    trainer.looks_like(&[view; 64]);
    feed(trainer, scene, from, 8);
    published.extend(work(trainer, steps).0);
    published
}

/// What a viewer does with an update.
fn take(viewer: &mut Holding, update: &[u8]) -> Result<(), UpdateError> {
    let next = viewer.follow(update)?;
    viewer.take(next, &update::header(update)?);
    Ok(())
}

#[test]
fn a_scene_that_returns_is_shown_what_was_learned_of_it_for_a_few_bytes() {
    let mut trainer = trainer(Config { pause_after: 30, held_out_max: 8, ..config() });
    let mut viewer = Holding::new(trainer.published().clone());
    for publication in begin(&mut trainer, 180.0, Scene::Brighter, 0, 1000) {
        take(&mut viewer, &publication.update).unwrap();
    }
    let brighter = trainer.published().clone();
    let elsewhere = begin(&mut trainer, 60.0, Scene::Darker, 100, 3000);
    assert!(elsewhere.last().is_some_and(|last| last.gain_db > 1.0));
    for publication in elsewhere {
        take(&mut viewer, &publication.update).unwrap();
    }
    let mut late = Holding::new(viewer.published().clone());

    let returned = begin(&mut trainer, 178.0, Scene::Brighter, 200, 1000);
    let [off, recall, ..] = &returned[..] else { panic!("{returned:?}") };
    assert!(off.gain_db <= 0.0);
    assert!(recall.gain_db > 1.0 && recall.update.len() < 60, "{} bytes", recall.update.len());
    for publication in [off, recall] {
        take(&mut viewer, &publication.update).unwrap();
    }
    assert_eq!(viewer.published().grid(), brighter.grid());
    assert_eq!(viewer.published().version(), recall.version);

    // Who was not there when it was learned says so, and the next version stands alone.
    take(&mut late, &off.update).unwrap();
    let shown = late.published().clone();
    assert_eq!(take(&mut late, &recall.update), Err(UpdateError::NotKept { version: recall.version }));
    assert_eq!(*late.published(), shown);
    assert!(returned.get(2).is_some_and(|next| next.snapshot), "{} versions", returned.len());
    for publication in &returned[2..] {
        take(&mut viewer, &publication.update).unwrap();
        take(&mut late, &publication.update).unwrap();
    }
    assert_eq!(
        (late.published().hash(), viewer.published().hash()),
        (trainer.published().hash(), late.published().hash())
    );
}

#[test]
fn what_was_learned_of_every_scene_outlives_the_trainer() {
    let patient = Config { pause_after: 30, held_out_max: 8, ..config() };
    let mut before = trainer(patient);
    begin(&mut before, 180.0, Scene::Brighter, 0, 1000);
    let brighter = before.published().clone();
    begin(&mut before, 60.0, Scene::Darker, 100, 3000);
    let darker = before.published().clone();
    let learned = before.learned().expect("it has learned");

    let mut after = trainer(patient);
    assert_eq!(after.learned(), None);
    after.resume(Library::from_bytes(darker.arch(), &learned).unwrap()).unwrap();
    assert_eq!((after.published().version(), after.state()), (darker.version(), State::Starved));
    let mut viewer = Holding::new(after.published().clone());
    // What viewers never had is sent whole, the first time.
    for (view, scene, learned, bytes) in [
        (180.0, Scene::Brighter, &brighter, 100..100_000),
        (60.0, Scene::Darker, &darker, 100..100_000),
        (180.0, Scene::Brighter, &brighter, 56..57),
    ] {
        let from = 1000 * after.published().version();
        let published = begin(&mut after, view, scene, from, 1);
        for publication in &published {
            take(&mut viewer, &publication.update).unwrap();
        }
        let last = published.last().unwrap();
        assert_eq!(viewer.published().grid(), learned.grid(), "{view}");
        assert!(last.gain_db > 1.0 && bytes.contains(&last.update.len()), "{} bytes", last.update.len());
    }
    assert!(viewer.published().version() > darker.version());
}

#[test]
fn a_scene_that_only_looks_like_an_earlier_one_is_learned_anew() {
    let mut trainer = trainer(Config { pause_after: 30, held_out_max: 8, ..config() });
    begin(&mut trainer, 180.0, Scene::Brighter, 0, 1000);
    let published = begin(&mut trainer, 180.0, Scene::Darker, 100, 3000);
    let first = published.iter().find(|publication| publication.gain_db > 0.0).expect("it learns");
    assert!(first.update.len() > 100, "not recalled: {} bytes", first.update.len());
    // And where it looks like nothing that was, what helped elsewhere is not tried.
    let published = begin(&mut trainer, 20.0, Scene::Brighter, 300, 3000);
    let first = published.iter().find(|publication| publication.gain_db > 0.0).expect("it learns");
    assert!(first.update.len() > 100, "{} bytes", first.update.len());
}

#[test]
fn a_base_model_is_shown_where_it_knows_the_kind_of_picture_and_again_after_a_cut() {
    let arch: Arch = "live-4x16-x2".parse().unwrap();
    let origin = Origin::best(arch, 1);
    assert!(matches!(origin, Origin::Base(_)));
    let base = Published::origin(arch, origin);
    let mut trainer = Trainer::new(Box::new(CpuTrainer::new(base.weights())), origin, config()).unwrap();
    assert_eq!(work(&mut trainer, 1), (vec![], State::Starved));
    trainer.known();
    let first = work(&mut trainer, 1).0.remove(0);
    assert!(first.snapshot && first.version == 1 && first.gain_db > 0.0);
    assert!(first.update.len() < 100, "both ends have it: {} bytes", first.update.len());
    assert_eq!(trainer.published().hash(), base.hash());

    for index in 0..8 {
        trainer.add(pair_at(2, 2 * index, Scene::Brighter, false)).unwrap();
        trainer.add(pair_at(2, 2 * index + 1, Scene::Brighter, true)).unwrap();
    }
    let (published, _) = work(&mut trainer, 100);
    assert!(!published.is_empty(), "it learns on from there");
    assert_ne!(trainer.published().hash(), base.hash());

    trainer.new_scene();
    let back = work(&mut trainer, 1).0.remove(0);
    assert!(back.snapshot && back.gain_db > 0.0 && back.update.len() < 100, "{} bytes", back.update.len());
    assert_eq!(trainer.published().hash(), base.hash());
    let held = update::apply(&Published::origin(arch, Origin::Seed(5)), &back.update).unwrap();
    assert_eq!(
        (held.version(), held.hash()),
        (back.version, base.hash()),
        "a viewer that joins now has it too"
    );

    // Of a kind that base models do not know: nothing is known to help until something does.
    trainer.new_scene_unknown();
    let off = work(&mut trainer, 1).0.remove(0);
    assert!(off.gain_db <= 0.0 && off.update.len() < 100, "{} dB", off.gain_db);
    trainer.new_scene_unknown();
    assert_eq!(work(&mut trainer, 1).0, []);
    trainer.known();
    let on = work(&mut trainer, 1).0.remove(0);
    assert!(on.gain_db > 0.0 && trainer.published().hash() == base.hash(), "{} dB", on.gain_db);
}

#[test]
fn a_base_model_of_small_gain_is_not_shown_before_patches_speak_for_it() {
    let origin = Origin::best("live-4x16-x1".parse().unwrap(), 1);
    assert!(matches!(origin, Origin::Base(base) if base.gain_db() < 0.2));
    let base = Published::origin("live-4x16-x1".parse().unwrap(), origin);
    let mut trainer = Trainer::new(Box::new(CpuTrainer::new(base.weights())), origin, config()).unwrap();
    trainer.known();
    assert_eq!(work(&mut trainer, 1), (vec![], State::Starved));
    trainer.new_scene();
    assert_eq!(work(&mut trainer, 1).0, []);
}

#[test]
fn pairs_that_do_not_fit_are_refused_and_leave_no_trace() {
    let mut trainer = trainer(config());
    let good = || pair(0, Scene::Same, false);
    let bad = [
        ("no pixels", Pair { h: 0, w: 0, lr: vec![], hr: vec![], ..good() }),
        ("a row missing", Pair { h: SIDE - 1, ..good() }),
        ("LR cut short", Pair { lr: good().lr[3..].to_vec(), ..good() }),
        ("HR cut short", Pair { hr: good().hr[3..].to_vec(), ..good() }),
        ("smaller than a crop", {
            let side = config().crop - 1;
            Pair { h: side, w: side, lr: vec![0.5; side * side * 3], hr: vec![0; side * side * 3], ..good() }
        }),
        ("larger than a patch may be", {
            let (h, w) = (SIDE_MAX + 1, config().crop);
            Pair { h, w, lr: vec![0.5; h * w * 3], hr: vec![0; h * w * 3], ..good() }
        }),
    ];
    for (what, pair) in bad {
        let (h, w) = (pair.h, pair.w);
        match trainer.add(pair) {
            Err(AddError::Pair(error)) => assert_eq!((error.h, error.w, error.crop), (h, w, 12), "{what}"),
            other => panic!("{what}: {other:?}"),
        }
    }
    assert_eq!(work(&mut trainer, 1), (vec![], State::Starved));
    trainer.add(good()).unwrap();
}
