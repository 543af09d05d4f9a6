//! Runs every case and says what was compared and what was skipped.

use std::io::Write;

use hone_parity::{Report, cases, gpu};
use hone_runtime::Preference;

const ANY_GPU: Preference = Preference::Gpu { allow_software: true };

fn report(name: &str, run: impl FnOnce(&mut Report)) {
    let mut report = Report::default();
    run(&mut report);
    // Past the capture of the test harness: a skipped case is seen in every run.
    let mut stderr = std::io::stderr().lock();
    writeln!(stderr, "{name}: {report}").expect("stderr is open");
}

#[test]
fn conv3x3() {
    report("conv3x3", |report| cases::conv3x3::run(gpu().as_ref(), report));
}

#[test]
fn pixel_shuffle() {
    report("pixel_shuffle", |report| cases::pixel_shuffle::run(gpu().as_ref(), report));
}

#[test]
fn bicubic() {
    report("bicubic", |report| cases::bicubic::run(gpu().as_ref(), report));
}

#[test]
fn yuv_rgb() {
    report("yuv_rgb", |report| cases::yuv_rgb::run(gpu().as_ref(), report));
}

#[test]
fn stillness() {
    report("stillness", |report| cases::stillness::run(gpu().as_ref(), report));
}

#[test]
fn reuse_cpu() {
    report("reuse, cpu", |report| cases::reuse::run(Preference::Cpu, report));
}

#[test]
fn reuse_wgpu() {
    report("reuse, wgpu", |report| cases::reuse::run(ANY_GPU, report));
}

#[test]
fn network_cpu() {
    report("network, cpu", cases::network::cpu);
}

#[test]
fn network_upscaler_cpu() {
    report("upscaler, cpu", |report| cases::network::upscaler(Preference::Cpu, report));
}

#[test]
fn network_upscaler_wgpu() {
    report("upscaler, wgpu", |report| cases::network::upscaler(ANY_GPU, report));
}

#[test]
fn network_kernels() {
    report("network, every kernel", cases::network::every_kernel);
}

#[test]
fn network_full_hd() {
    report("network, full HD", cases::network::full_hd);
}

#[test]
fn networks_are_told_apart() {
    assert!(cases::network::distance_between_networks() > 0.01);
}

#[test]
fn weights_during_a_frame() {
    report("weights during a frame", cases::network::weights_during_a_frame);
}

#[test]
fn swap_cpu() {
    report("swap, cpu", |report| cases::swap::run(Preference::Cpu, report));
}

#[test]
fn swap_wgpu() {
    report("swap, wgpu", |report| cases::swap::run(ANY_GPU, report));
}

#[test]
fn training_gradient_cpu() {
    report("gradient, cpu", cases::training::cpu_gradient);
}

#[test]
fn training_step_cpu() {
    report("one step, cpu", cases::training::cpu_step);
}

#[test]
fn training_average_cpu() {
    report("running average, cpu", cases::training::cpu_average);
}

#[test]
fn training_ten_steps_cpu() {
    report("ten steps, cpu", cases::training::cpu_ten_steps);
}
