//! Every upscaler that this machine has, through its whole life.

use super::*;
use hone_model::colour::{Matrix, Range};
use hone_model::{Colour, rng::Rng};

const SOFTWARE: Preference = Preference::Gpu { allow_software: true };

/// Any adapter, without the time that choosing a variant takes.
fn software() -> Options {
    Options { device: SOFTWARE, variant: Some(Variant::F32), ..Options::default() }
}

fn arch() -> Arch {
    "live-1x8-x2".parse().unwrap()
}

fn weights(seed: u64) -> Weights {
    let mut rng = Rng::new(seed);
    let params = (0..arch().params()).map(|_| (rng.unit() * 0.4 - 0.2) as f32).collect();
    Weights::from_params(arch(), params)
}

fn frame(upscaler: &mut Upscaler, size: (usize, usize), mode: Mode) -> Result<Vec<u8>, Error> {
    let mut rgba = Vec::new();
    with_picture(size, |picture| upscaler.upscale(picture, mode, &mut rgba))?;
    assert_eq!(rgba.len(), 4 * 2 * size.0 * 2 * size.1);
    Ok(rgba)
}

/// One of each shader variant that the adapter has.
fn variants() -> Vec<Upscaler> {
    let gpu = match Gpu::open(&AdapterChoice { allow_software: true, adapter: None }) {
        Ok(gpu) => gpu,
        Err(Error::NoAdapter { .. }) => {
            eprintln!("SKIPPED: no wgpu adapter");
            return Vec::new();
        }
        Err(error) => panic!("{error}"),
    };
    let (there, lacking): (Vec<_>, Vec<_>) =
        Variant::ALL.into_iter().partition(|&variant| gpu.lacks(variant.into()).is_none());
    lacking.iter().for_each(|variant| eprintln!("SKIPPED: {} has no {variant}", gpu.name()));
    let open = |variant| {
        let upscaler = Upscaler::new(arch(), &Options { variant: Some(variant), ..software() }).unwrap();
        assert_eq!(upscaler.variant(), Some(variant));
        upscaler
    };
    there.into_iter().map(open).collect()
}

/// Every upscaler that this machine has: the CPU's, and a GPU's if there is any adapter.
fn upscalers() -> Vec<Upscaler> {
    let gpu = match Upscaler::new(arch(), &software()) {
        Err(Error::NoAdapter { .. }) => {
            eprintln!("SKIPPED: no wgpu adapter");
            None
        }
        other => Some(other.unwrap()),
    };
    [Upscaler::new(arch(), &Preference::Cpu.into()).unwrap()].into_iter().chain(gpu).collect()
}

#[test]
fn without_weights_the_network_is_bicubic() {
    for mut upscaler in upscalers() {
        let bicubic = frame(&mut upscaler, (6, 8), Mode::Bicubic).unwrap();
        assert_eq!(frame(&mut upscaler, (6, 8), Mode::Network).unwrap(), bicubic);
        upscaler.set_weights(&weights(1)).unwrap();
        assert_ne!(frame(&mut upscaler, (6, 8), Mode::Network).unwrap(), bicubic);
        assert_eq!(frame(&mut upscaler, (6, 8), Mode::Bicubic).unwrap(), bicubic);
    }
}

#[test]
fn the_size_may_change_and_change_back() {
    for mut upscaler in upscalers() {
        upscaler.set_weights(&weights(1)).unwrap();
        let first = frame(&mut upscaler, (6, 8), Mode::Network).unwrap();
        frame(&mut upscaler, (34, 18), Mode::Network).unwrap();
        frame(&mut upscaler, (2, 2), Mode::Network).unwrap();
        assert_eq!(frame(&mut upscaler, (6, 8), Mode::Network).unwrap(), first);
    }
}

/// Calls `with` with a picture of this size, always the same.
fn with_picture<T>((h, w): (usize, usize), with: impl FnOnce(&Yuv420) -> T) -> T {
    let mut rng = Rng::new((h * w) as u64);
    let mut plane = |len: usize| -> Vec<u8> { (0..len).map(|_| rng.below(256) as u8).collect() };
    let (y, u, v) = (plane(h * w), plane(h * w / 4), plane(h * w / 4));
    let colour = Colour { matrix: Matrix::Bt709, range: Range::Limited };
    with(&Yuv420 { h, w, y: &y, u: &u, v: &v, colour, quantiser: 30 })
}

#[test]
fn two_frames_in_flight_come_back_in_order_whatever_their_sizes() {
    for mut upscaler in upscalers() {
        upscaler.set_weights(&weights(1)).unwrap();
        let sizes = [(6, 8), (6, 10), (6, 10), (34, 18), (6, 8), (6, 8)];
        let want = sizes.map(|size| frame(&mut upscaler, size, Mode::Network).unwrap());
        let mut got = Vec::new();
        let mut read = |upscaler: &mut Upscaler| {
            let mut rgba = vec![7; 3];
            upscaler.read(&mut rgba).unwrap();
            got.push(rgba);
        };
        for size in sizes {
            if upscaler.in_flight() == 2 {
                read(&mut upscaler);
            }
            with_picture(size, |picture| upscaler.submit(picture, Mode::Network)).unwrap();
        }
        while upscaler.in_flight() > 0 {
            read(&mut upscaler);
        }
        assert!(got == want, "{}", upscaler.backend());
    }
}

/// What [`Upscaler::present`] left on the device, or handed out.
fn presented(output: Output, gpu: Option<Gpu>) -> Vec<u8> {
    let texture = match output {
        Output::Cpu { rgba, .. } => return rgba.to_vec(),
        Output::Gpu(texture) => texture,
    };
    let (device, queue) = gpu.as_ref().map(|gpu| (gpu.device(), gpu.queue())).unwrap();
    let (w, h) = (texture.width(), texture.height());
    let pitch = (4 * w).next_multiple_of(wgpu::COPY_BYTES_PER_ROW_ALIGNMENT);
    let buffer = device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: u64::from(pitch * h),
        usage: wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ,
        mapped_at_creation: false,
    });
    let mut encoder = device.create_command_encoder(&Default::default());
    let layout = wgpu::TexelCopyBufferLayout { bytes_per_row: Some(pitch), ..Default::default() };
    let target = wgpu::TexelCopyBufferInfo { buffer: &buffer, layout };
    encoder.copy_texture_to_buffer(texture.as_image_copy(), target, texture.size());
    queue.submit([encoder.finish()]);
    buffer.map_async(wgpu::MapMode::Read, .., |_| ());
    device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
    let view = buffer.get_mapped_range(..).unwrap();
    view.chunks_exact(pitch as usize).flat_map(|row| row[..4 * w as usize].to_vec()).collect()
}

#[test]
fn a_presented_frame_is_the_one_that_would_be_read() {
    for mut upscaler in upscalers() {
        upscaler.set_weights(&weights(1)).unwrap();
        for (size, mode) in [
            ((6, 8), Mode::Network),
            ((6, 8), Mode::Bicubic),
            ((34, 18), Mode::Network),
            ((34, 18), Mode::Network),
            ((34, 18), Mode::Bicubic),
        ] {
            let want = frame(&mut upscaler, size, mode).unwrap();
            let gpu = upscaler.gpu().cloned();
            let got = with_picture(size, |picture| presented(upscaler.present(picture, mode).unwrap(), gpu));
            assert!(got == want, "{} {size:?} {mode:?}", upscaler.backend());
        }
    }
}

/// A picture of one grey.
fn with_grey<T>((h, w): (usize, usize), grey: u8, with: impl FnOnce(&Yuv420) -> T) -> T {
    let (y, u, v) = (vec![grey; h * w], vec![128; h * w / 4], vec![128; h * w / 4]);
    let colour = Colour { matrix: Matrix::Bt709, range: Range::Limited };
    with(&Yuv420 { h, w, y: &y, u: &u, v: &v, colour, quantiser: 30 })
}

#[test]
fn both_versions_of_a_picture_hold_until_the_second_after_it() {
    for mut upscaler in upscalers() {
        let Some(gpu) = upscaler.gpu().cloned() else {
            assert!(upscaler.beside().unwrap().is_none(), "the CPU leaves nothing on a device");
            continue;
        };
        upscaler.set_weights(&weights(1)).unwrap();
        let (size, greys) = ((18, 34), [60, 160]);
        let mut want = Vec::new();
        for (grey, mode) in greys.into_iter().flat_map(|grey| [(grey, Mode::Network), (grey, Mode::Bicubic)])
        {
            let mut rgba = Vec::new();
            with_grey(size, grey, |picture| upscaler.upscale(picture, mode, &mut rgba)).unwrap();
            assert!(!want.contains(&rgba), "the pictures and their versions differ");
            want.push(rgba);
        }
        // More than once, for the first time makes what the others find.
        for round in 0..3 {
            let mut held = Vec::new();
            for grey in greys {
                let made = with_grey(size, grey, |picture| match upscaler.present(picture, Mode::Network) {
                    Ok(Output::Gpu(texture)) => texture,
                    _ => panic!("it stays on the device"),
                });
                held.extend([made, upscaler.beside().unwrap().unwrap()]);
            }
            let got = held.into_iter().map(|texture| presented(Output::Gpu(texture), Some(gpu.clone())));
            assert!(got.eq(want.iter().cloned()), "round {round}");
        }
    }
}

#[test]
fn a_frame_is_reused_only_as_long_as_it_is_kept_and_fits() {
    for mut upscaler in upscalers() {
        let (size, other) = ((18, 34), (34, 18));
        upscaler.set_weights(&weights(1)).unwrap();
        let network = frame(&mut upscaler, size, Mode::Network).unwrap();
        let bicubic = frame(&mut upscaler, size, Mode::Bicubic).unwrap();
        let possible = |upscaler: &Upscaler, (h, w)| upscaler.possible(h, w, Mode::Reuse);
        assert_eq!(possible(&upscaler, size), Mode::Network);
        upscaler.keep(true);
        assert_eq!(possible(&upscaler, size), Mode::Network, "nothing is kept yet");
        assert!(frame(&mut upscaler, size, Mode::Reuse).unwrap() == network);
        // A picture that stands still shows what the network made of it, also after others, and where it was made.
        assert_eq!(possible(&upscaler, size), Mode::Reuse);
        for _ in 0..2 {
            assert!(frame(&mut upscaler, size, Mode::Bicubic).unwrap() == bicubic);
            assert!(frame(&mut upscaler, size, Mode::Reuse).unwrap() == network);
        }
        let gpu = upscaler.gpu().cloned();
        let got = with_picture(size, |p| presented(upscaler.present(p, Mode::Reuse).unwrap(), gpu));
        assert!(got == network, "{}", upscaler.backend());
        // Newer weights count from the network's next frame on.
        upscaler.set_weights(&weights(2)).unwrap();
        assert!(frame(&mut upscaler, size, Mode::Reuse).unwrap() == network);
        let newer = frame(&mut upscaler, size, Mode::Network).unwrap();
        assert!(newer != network && frame(&mut upscaler, size, Mode::Reuse).unwrap() == newer);
        // A picture of another size has nothing to reuse, and nor has the next of the first size.
        for size in [other, size] {
            assert_eq!(possible(&upscaler, size), Mode::Network);
            let made = frame(&mut upscaler, size, Mode::Reuse).unwrap();
            assert!(made == frame(&mut upscaler, size, Mode::Network).unwrap());
        }
        upscaler.keep(false);
        assert_eq!(possible(&upscaler, size), Mode::Network);
    }
}

#[test]
fn frames_in_flight_on_a_device_that_is_lost_are_whole_or_errors_and_the_next_come_from_the_cpu() {
    for mut upscaler in variants() {
        upscaler.fall_back = true;
        upscaler.set_weights(&weights(1)).unwrap();
        let whole = frame(&mut upscaler, (6, 8), Mode::Network).unwrap();
        for _ in 0..2 {
            with_picture((6, 8), |picture| upscaler.submit(picture, Mode::Network)).unwrap();
        }
        upscaler.gpu().unwrap().destroy();
        let mut rgba = Vec::new();
        for left in [1, 0] {
            match upscaler.read(&mut rgba) {
                // It was done before the device went.
                Ok(()) => assert!(rgba == whole),
                Err(error) => assert!(matches!(error, Error::Lost { .. }), "{error}"),
            }
            assert_eq!(upscaler.in_flight(), left);
        }
        let mut cpu = Upscaler::new(arch(), &Preference::Cpu.into()).unwrap();
        cpu.set_weights(&weights(1)).unwrap();
        let want = frame(&mut cpu, (6, 8), Mode::Network).unwrap();
        with_picture((6, 8), |picture| upscaler.submit(picture, Mode::Network)).unwrap();
        upscaler.read(&mut rgba).unwrap();
        assert!(rgba == want);
        assert!(upscaler.backend() == "cpu" && upscaler.gpu().is_none() && upscaler.variant().is_none());
    }
}

#[test]
fn a_windows_device_in_software_is_used_only_if_it_was_asked_for() {
    let gpu = match Gpu::open(&AdapterChoice { allow_software: true, adapter: None }) {
        Ok(gpu) if gpu.software() => gpu,
        Ok(_) | Err(Error::NoAdapter { .. }) => {
            return eprintln!("SKIPPED: no adapter in software is the best one");
        }
        Err(error) => panic!("{error}"),
    };
    let upscaler = Upscaler::on(gpu.clone(), arch(), &Options::default()).unwrap();
    assert_eq!((upscaler.backend(), upscaler.variant()), ("cpu", None));
    let upscaler = Upscaler::on(gpu.clone(), arch(), &software()).unwrap();
    assert_eq!((upscaler.backend(), upscaler.variant()), (gpu.name(), Some(Variant::F32)));
}

#[test]
fn what_was_named_and_is_not_there_is_an_error_whatever_the_preference() {
    let options = Options { adapter: Some("no such adapter".into()), ..Options::default() };
    assert!(matches!(Upscaler::new(arch(), &options), Err(Error::NoSuchAdapter { .. })));
}

#[test]
fn a_variant_that_the_adapter_lacks_is_an_error_that_says_what_is_missing() {
    let gpu = match Gpu::open(&AdapterChoice { allow_software: true, adapter: None }) {
        Ok(gpu) => gpu,
        Err(Error::NoAdapter { .. }) => return eprintln!("SKIPPED: no wgpu adapter"),
        Err(error) => panic!("{error}"),
    };
    let mut lacking = 0;
    for variant in Variant::ALL {
        let Some(what) = gpu.lacks(variant.into()) else { continue };
        let options = Options { variant: Some(variant), ..software() };
        let refused = Upscaler::on(gpu.clone(), arch(), &options).map(|upscaler| upscaler.variant());
        let Err(error @ Error::Variant { .. }) = refused else { panic!("{variant}: {refused:?}") };
        assert!(error.to_string().ends_with(&format!("{variant}: it has no {what}")), "{error}");
        lacking += 1;
    }
    if lacking == 0 {
        eprintln!("SKIPPED: {} has every variant", gpu.name());
    }
}

#[test]
fn a_side_over_the_limit_is_refused() {
    for mut upscaler in upscalers() {
        assert!(frame(&mut upscaler, (2, SIDE_MAX / 2), Mode::Bicubic).is_ok());
        let refused = frame(&mut upscaler, (2, SIDE_MAX / 2 + 2), Mode::Bicubic);
        assert!(matches!(refused, Err(Error::Side { h: 2, w }) if w == SIDE_MAX / 2 + 2));
    }
}

#[test]
fn a_lost_device_is_an_error_or_the_cpu_takes_over() {
    for fall_back in [false, true] {
        for mut upscaler in variants() {
            upscaler.fall_back = fall_back;
            upscaler.set_weights(&weights(1)).unwrap();
            frame(&mut upscaler, (6, 8), Mode::Network).unwrap();
            let Engine::Gpu(network) = &upscaler.engine else { continue };
            network.gpu().destroy();
            // A size of its own makes the plan anew on the dead device.
            for size in [(6, 8), (10, 12)] {
                let frame_after = frame(&mut upscaler, size, Mode::Network);
                if fall_back {
                    let mut cpu = Upscaler::new(arch(), &Preference::Cpu.into()).unwrap();
                    cpu.set_weights(&weights(1)).unwrap();
                    assert_eq!(frame_after.unwrap(), frame(&mut cpu, size, Mode::Network).unwrap());
                    assert_eq!(upscaler.backend(), "cpu");
                } else {
                    assert!(matches!(frame_after, Err(Error::Lost { .. })), "{frame_after:?}");
                }
            }
        }
    }
}

#[test]
fn a_device_that_is_lost_takes_the_frame_that_it_kept_with_it() {
    for mut upscaler in upscalers() {
        let Some(gpu) = upscaler.gpu().cloned() else { continue };
        upscaler.fall_back = true;
        upscaler.set_weights(&weights(1)).unwrap();
        upscaler.keep(true);
        frame(&mut upscaler, (6, 8), Mode::Network).unwrap();
        gpu.destroy();
        let after = frame(&mut upscaler, (6, 8), Mode::Reuse).unwrap();
        let mut cpu = Upscaler::new(arch(), &Preference::Cpu.into()).unwrap();
        cpu.set_weights(&weights(1)).unwrap();
        assert!(after == frame(&mut cpu, (6, 8), Mode::Network).unwrap());
        // The CPU has kept its own.
        assert_eq!(upscaler.possible(6, 8, Mode::Reuse), Mode::Reuse);
    }
}

#[test]
fn auto_takes_no_software_adapter() {
    let upscaler = Upscaler::new(arch(), &Options::default()).unwrap();
    assert!(!upscaler.backend().contains("llvmpipe") && !upscaler.backend().contains("SwiftShader"));
    match Upscaler::new(arch(), &Preference::Gpu { allow_software: false }.into()) {
        Ok(gpu) => assert_eq!(gpu.backend(), upscaler.backend()),
        Err(error) => {
            assert!(matches!(error, Error::NoAdapter { software: false }), "{error}");
            assert_eq!(upscaler.backend(), "cpu");
        }
    }
}
