//! A viewer that has settled takes no memory for a frame: what is as large as a picture is used again.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use hone_apps::screen::{Screen, Target};
use hone_media::encode::{self, Encoder, Packet};
use hone_model::{Arch, Origin, Published, update};
use hone_runtime::{Mode, Preference, Variant};

mod common;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const SIZE: (u32, u32) = (640, 360);
const ARCH: &str = "live-1x8-x2";
/// Frames until all has been taken that is needed, and frames that are counted.
const WARM: u32 = 12;
const COUNTED: u32 = 12;

/// Bytes that each mode takes for a frame.
fn bytes_a_frame(target: Target, modes: &[Mode]) -> Vec<(Mode, u64)> {
    let arch: Arch = ARCH.parse().unwrap();
    let config = encode::Config::new(SIZE.0, SIZE.1, 25.0, 300);
    let mut encoder = Encoder::new(&config).unwrap();
    let packets: Vec<Packet> = (0..WARM + COUNTED)
        .map(|index| {
            let frame = common::frame(SIZE.0, SIZE.1, index, 0, 25.0);
            encoder.encode(&frame.image, frame.pts_us, index == 0).unwrap()
        })
        .collect();
    let mut screen = Screen::new(arch, target).unwrap();
    screen.keep(modes.contains(&Mode::Reuse));
    let origin = Published::origin(arch, Origin::Seed(1));
    let first = update::encode(Origin::Seed(1), &origin, &origin.next(&origin.weights()), 1.0);
    screen.update(&first).unwrap();
    let mut rgba = vec![];
    let mut taken = vec![];
    for &mode in modes {
        let mut before = 0;
        for (index, packet) in (0..).zip(&packets) {
            if index == WARM {
                before = dhat::HeapStats::get().total_bytes;
            }
            for frame in screen.decode(&packet.data, packet.pts_us).unwrap() {
                screen.present(&frame, mode, &mut rgba).unwrap();
            }
        }
        taken.push((mode, (dhat::HeapStats::get().total_bytes - before) / u64::from(COUNTED)));
    }
    taken
}

#[test]
fn a_frame_takes_no_memory_of_its_size() {
    let _profiler = dhat::Profiler::builder().testing().build();
    // A fraction of the smallest picture that is made on the way, the decoded one. wgpu takes some for its commands.
    let [no_more, no_picture] = [8 << 10, u64::from(SIZE.0 * SIZE.1) / 2];
    let modes = [Mode::Bicubic, Mode::Network, Mode::Reuse];
    let software = Preference::Gpu { allow_software: true };
    let options =
        hone_runtime::Options { device: software, variant: Some(Variant::F32), ..Default::default() };
    let mut targets = vec![(Target::from(Preference::Cpu), no_more)];
    let arch = ARCH.parse().unwrap();
    match hone_runtime::Upscaler::new(arch, &options) {
        Ok(_) => targets.push((Target { options, gpu: None }, no_picture)),
        Err(error) => eprintln!("SKIPPED: {error}"),
    }
    for (target, most) in targets {
        let name = format!("{:?}", target.options.device);
        let taken = bytes_a_frame(target, &modes);
        eprintln!("{name}: {taken:?}");
        for (mode, bytes) in taken {
            assert!(bytes < most, "{name}, {mode:?}: {bytes} bytes a frame");
        }
    }
}
