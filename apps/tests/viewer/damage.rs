//! Streams that are damaged, and updates that are not for them.

use hone_apps::viewer::State;
use hone_media::encode::Packet;
use hone_runtime::{Mode, Preference};

use crate::stream::{ARCH, SIZE, Scene, an_update, how, plain, times, view};

#[test]
fn after_a_damaged_picture_nothing_is_shown_until_a_keyframe() {
    let mut scene = Scene::new(SIZE, plain());
    let groups = [scene.group(0, 10), scene.group(10, 20), scene.group(20, 30)];
    let clean = view(&[], &groups, how(Preference::Cpu));
    assert_eq!(clean.times(), times(&[&groups[0], &groups[1], &groups[2]]));
    assert_eq!(clean.states.last(), Some(&State::NoModel), "{:?}", clean.states);

    // In turn: noise, a unit cut short, and nothing at all.
    let noise =
        |packet: &mut Packet| packet.data.iter_mut().skip(5).for_each(|byte| *byte = byte.wrapping_mul(7));
    let cut: fn(&mut Packet) = |packet| packet.data.truncate(9);
    let none: fn(&mut Packet) = |packet| packet.data.clear();
    let damages: [fn(&mut Packet); 3] = [noise, cut, none];
    for (name, damage) in ["noise", "cut", "none"].into_iter().zip(damages) {
        let mut damaged = groups.clone();
        damage(&mut damaged[0][4]);
        let viewed = view(&[], &damaged, how(Preference::Cpu));
        let received = viewed.received.as_ref().unwrap();
        let expected = times(&[&groups[0][..4], &groups[1], &groups[2]]);
        assert_eq!(viewed.times(), expected, "{name}");
        assert_eq!((received.frames, received.dropped), (24, 6), "{name}");
        assert!(viewed.states.contains(&State::Damaged), "{name}: {:?}", viewed.states);
        assert_eq!(viewed.states.last(), Some(&State::NoModel), "{name}: {:?}", viewed.states);
        // What is shown is what an undamaged stream shows: nothing stale, nothing green.
        for seen in &viewed.seen {
            let same = clean.seen.iter().find(|clean| clean.pts_us == seen.pts_us).unwrap();
            assert!(seen.rgba == same.rgba, "{name}: the picture at {} us differs", seen.pts_us);
        }
    }
    // A keyframe is damaged: its whole group is missing.
    let mut damaged = groups.clone();
    noise(&mut damaged[1][0]);
    let viewed = view(&[], &damaged, how(Preference::Cpu));
    assert_eq!(viewed.times(), times(&[&groups[0], &groups[2]]));
    // The stream begins in the middle of a group.
    let viewed = view(&[], &[groups[0][3..].to_vec(), groups[1].clone()], how(Preference::Cpu));
    assert_eq!(viewed.times(), times(&[&groups[1]]));
}

#[test]
fn weights_for_another_network_are_refused_and_the_video_goes_on() {
    let mut scene = Scene::new(SIZE, plain());
    let groups = [scene.group(0, 10)];
    let viewed = view(&[an_update("live-1x16-x2", 1.0)], &groups, how(Preference::Cpu));
    let received = viewed.received.as_ref().unwrap();
    assert_eq!((received.frames, received.updates, received.version), (10, 0, 0));
    assert!(viewed.seen.iter().all(|seen| seen.mode == Mode::Bicubic));
    assert!(!viewed.states.contains(&State::Active), "{:?}", viewed.states);
    // After the right ones: those stay in force.
    let updates = [an_update(ARCH, 1.0), an_update("live-1x16-x2", 1.0)];
    let viewed = view(&updates, &groups, how(Preference::Cpu));
    let received = viewed.received.as_ref().unwrap();
    assert_eq!((received.frames, received.updates, received.version), (10, 1, 1));
    assert_eq!(viewed.states.last(), Some(&State::Active), "{:?}", viewed.states);
    // The right ones: the network, or bicubic where the server says that is better.
    for (gain_db, mode, state) in
        [(1.0, Mode::Network, State::Active), (-1.0, Mode::Bicubic, State::Learning)]
    {
        let viewed = view(&[an_update(ARCH, gain_db)], &groups, how(Preference::Cpu));
        assert!(viewed.seen.iter().all(|seen| seen.mode == mode));
        assert_eq!(viewed.states.last(), Some(&state));
    }
}
