//! Devices that are lost.

use hone_apps::screen::Target;
use hone_runtime::{Mode, Options, Preference};

use crate::stream::{ARCH, How, SIZE, Scene, an_update, how, plain, software, view};

#[test]
fn a_device_that_is_lost_is_replaced_by_the_cpu() {
    if let Err(error) = software().upscaler(ARCH.parse().unwrap()) {
        eprintln!("SKIPPED: {error}");
        return;
    }
    let mut scene = Scene::new(SIZE, plain());
    let groups = [scene.group(0, 10)];
    let updates = [an_update(ARCH, 1.0)];
    let cpu = view(&updates, &groups, how(Preference::Cpu));
    let viewed = view(&updates, &groups, How { break_at: Some(4), ..how(software()) });
    assert_eq!(viewed.times(), cpu.times());
    assert_eq!(viewed.backend, "cpu");
    let notice = viewed.notice.expect("a word on what happened");
    assert!(notice.contains("the CPU goes on"), "{notice}");
    for (index, (seen, cpu)) in viewed.seen.iter().zip(&cpu.seen).enumerate() {
        assert_eq!(seen.mode, Mode::Network);
        let most = seen.rgba.iter().zip(&cpu.rgba).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(most <= if index < 4 { 1 } else { 0 }, "frame {index} is off by {most}");
    }
}

#[test]
fn a_device_that_is_not_there_is_an_error_or_the_cpu_goes_on() {
    let options = Options { adapter: Some("no such adapter".into()), ..Options::default() };
    let target = Target { options, gpu: None };
    let mut scene = Scene::new(SIZE, plain());
    let groups = [scene.group(0, 10), scene.group(10, 20)];
    // In a window, where another can be chosen.
    let viewed = view(&[], &groups, How { live: true, ..how(target.clone()) });
    let received = viewed.received.unwrap();
    assert_eq!(received.frames + received.dropped, 20, "{received:?}");
    assert_eq!(viewed.backend, "cpu");
    assert!(viewed.notice.is_some_and(|notice| notice.contains("no adapter `no such adapter`")));
    // And without one.
    let viewed = view(&[], &groups, How { live: true, strict: true, ..how(target) });
    let error = format!("{:#}", viewed.received.unwrap_err());
    assert_eq!(error, "no adapter `no such adapter`");
}

/// Each part of a stream that changes its size is what a viewer shows who sees only that part.
#[test]
fn a_stream_that_changes_its_size_shows_nothing_of_before_on_any_device() {
    let updates = [an_update(ARCH, 1.0)];
    let sizes = [SIZE, (64, 96), SIZE];
    let groups: Vec<_> =
        (0..).zip(sizes).map(|(k, size)| Scene::new(size, plain()).group(5 * k, 5 * k + 5)).collect();
    for target in [Preference::Cpu.into(), software()] {
        if let Err(error) = target.upscaler(ARCH.parse().unwrap()) {
            eprintln!("SKIPPED: {error}");
            continue;
        }
        let whole = view(&updates, &groups, how(target.clone()));
        assert_eq!(whole.received.unwrap().frames, 15);
        for (k, size) in sizes.into_iter().enumerate() {
            let part = view(&updates, &groups[k..=k], how(target.clone()));
            for (seen, alone) in whole.seen[5 * k..5 * k + 5].iter().zip(&part.seen) {
                assert_eq!((seen.pts_us, seen.mode), (alone.pts_us, Mode::Network));
                assert_eq!(seen.size, (2 * size.0, 2 * size.1));
                assert!(seen.rgba == alone.rgba, "{}: the picture at {} us", whole.backend, seen.pts_us);
            }
        }
    }
}
