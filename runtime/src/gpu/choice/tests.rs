//! The choice, also where a driver lies about a variant or does not compile it.

use std::borrow::Cow;

use hone_wgsl::Shader;

use super::*;
use crate::gpu::AdapterChoice;
use crate::gpu::device::Source;
use crate::{Preference, Upscaler};

fn kernel(precision: Precision) -> Kernel {
    Kernel { precision, tall: false }
}

#[test]
fn another_variant_must_save_enough() {
    let (wide, half) = (kernel(Precision::F32), kernel(Precision::F16Storage));
    assert_eq!(fastest(&[(wide, Some(10.0)), (half, Some(9.5))]), Some(wide));
    assert_eq!(fastest(&[(wide, Some(10.0)), (half, Some(8.0))]), Some(half));
    assert_eq!(fastest(&[(half, Some(10.0))]), Some(half));
    assert_eq!(fastest(&[(wide, None), (half, None)]), Some(wide), "nothing to choose by");
    assert_eq!(fastest(&[]), None);
}

#[test]
fn choices_are_kept_and_what_is_no_choice_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/choices");
    assert_eq!(recall(&path, "a"), None);
    remember(&path, "a", Variant::F16Storage).unwrap();
    remember(&path, "b", Variant::F32).unwrap();
    remember(&path, "a", Variant::F32).unwrap();
    assert_eq!(["a", "b", "c"].map(|key| recall(&path, key)), [Some(Variant::F32), Some(Variant::F32), None]);
    std::fs::write(&path, "fastest\ta\nno line\nf16-storage\tb\n\t\t\n").unwrap();
    assert_eq!(["a", "b"].map(|key| recall(&path, key)), [None, Some(Variant::F16Storage)]);
    std::fs::write(&path, [0xff, 0xfe, 0x00]).unwrap();
    assert_eq!(recall(&path, "b"), None);
    for k in 0..2 * CHOICES_MAX {
        remember(&path, &format!("key {k}"), Variant::F32).unwrap();
    }
    assert_eq!(lines(&path).len(), CHOICES_MAX);
}

const ARCH: &str = "live-1x8-x2";

/// Any adapter whose compiler is as bad as `source`.
fn gpu(source: Source) -> Option<Gpu> {
    match Gpu::open(&AdapterChoice { allow_software: true, adapter: None }) {
        Ok(gpu) => Some(gpu.with_source(source).unwrap()),
        Err(Error::NoAdapter { .. }) => {
            eprintln!("SKIPPED: no wgpu adapter");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn lying(shader: &Shader, precision: Precision) -> Cow<'static, str> {
    shader.of(precision).replace("v *= SCALE;", "v *= 1.25 * SCALE;").into()
}

fn lying_in_f32(shader: &Shader, precision: Precision) -> Cow<'static, str> {
    if precision == Precision::F32 { lying(shader, precision) } else { shader.of(precision) }
}

fn f16_storage_does_not_compile(shader: &Shader, precision: Precision) -> Cow<'static, str> {
    let source = shader.of(precision);
    if precision == Precision::F16Storage { format!("{source} fn fault(").into() } else { source }
}

fn arch() -> Arch {
    ARCH.parse().unwrap()
}

fn options() -> Options {
    Preference::Gpu { allow_software: true }.into()
}

fn outcome(gpu: &Gpu, precision: Precision) -> Attempt {
    attempt(gpu, arch(), Kernel::of(gpu, precision)).unwrap()
}

#[test]
fn a_variant_that_deviates_is_passed_over() {
    let Some(gpu) = gpu(lying_in_f32) else { return };
    let Attempt::Wrong(reason) = outcome(&gpu, Precision::F32) else { panic!("f32 must be found out") };
    assert!(reason.contains("code values off"), "{reason}");
    let chosen = choose(&gpu, arch(), &options()).unwrap();
    assert_ne!(chosen.precision, Precision::F32);
    gpu.check().unwrap();
}

#[test]
fn a_device_that_computes_all_wrongly_is_not_used() {
    let Some(gpu) = gpu(lying) else { return };
    // With leave to, the CPU takes over; without, the caller is told.
    let upscaler = |device| {
        let options = Options { adapter: Some(gpu.name().to_owned()), device, ..Options::default() };
        Upscaler::on(gpu.clone(), arch(), &options)
    };
    assert_eq!(upscaler(Preference::Auto).unwrap().backend(), "cpu");
    assert!(matches!(upscaler(Preference::Gpu { allow_software: true }), Err(Error::Wrong { .. })));
}

#[test]
fn a_variant_that_does_not_compile_is_lost_alone() {
    let Some(gpu) = gpu(f16_storage_does_not_compile) else { return };
    let Attempt::Wrong(reason) = outcome(&gpu, Precision::F16Storage) else { panic!("it cannot compile") };
    assert!(reason.contains("conv3x3"), "{reason}");
    gpu.check().unwrap();
    assert!(matches!(outcome(&gpu, Precision::F32), Attempt::Right(_)), "the device is whole");
    // By name it is an error that says why, and remembered from better days it is passed over.
    let named = Options { variant: Some(Variant::F16Storage), ..options() };
    let Err(Error::Variant { variant, reason, .. }) = choose(&gpu, arch(), &named) else {
        panic!("no error")
    };
    assert!(variant == Variant::F16Storage && reason.contains("conv3x3"), "{reason}");
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("choices");
    remember(&cache, &key(&gpu, arch()), Variant::F16Storage).unwrap();
    let remembered = Options { cache: Some(cache), ..options() };
    assert_eq!(choose(&gpu, arch(), &remembered).unwrap().precision, Precision::F32);
    Network::with_kernel(gpu, arch(), kernel(Precision::F32)).unwrap();
}
