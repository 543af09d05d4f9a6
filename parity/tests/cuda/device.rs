//! Machines without a driver, without a device, with an old driver or an old card: each a reason, none a panic.
//!
//! What stands for the driver reads its settings once a process, so each case is a process of its own: this program again,
//! with one ignored test.

use std::process::Command;

use hone_kernels::{Device, Stream, Unavailable};

/// Set for the process of a case: whether the stand-in is loaded.
const STAND_IN: &str = "HONE_TEST_STAND_IN";

/// What [`Device::open`] says in a process with these settings: `ok NAME` or `error REASON`.
fn open(stand_in: bool, settings: &[(&str, &str)], ordinal: &str) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "device::probe", "--ignored", "--nocapture", "--test-threads", "1"])
        .env(STAND_IN, if stand_in { "1" } else { "0" })
        .env("HONE_TEST_ORDINAL", ordinal)
        .envs(settings.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let answer =
        text.lines().find_map(|line| line.split_once("device: ")).map(|(_, answer)| answer.to_owned());
    answer.unwrap_or_else(|| panic!("no answer: {text}"))
}

#[test]
#[ignore = "the process of a case, run by the others"]
fn probe() {
    if std::env::var(STAND_IN).as_deref() == Ok("1") {
        hone_ptxsim_libcuda::preload().unwrap();
    }
    let ordinal = std::env::var("HONE_TEST_ORDINAL").unwrap().parse().unwrap();
    match Device::open(ordinal) {
        Ok(device) => println!("device: ok {} {:?}", device.name(), device.capability()),
        Err(error) => println!("device: error {error}"),
    }
}

#[test]
fn a_device_that_fits_opens() {
    assert_eq!(open(true, &[], "0"), "ok PTX interpreter (8, 0)");
    assert_eq!(open(true, &[("PTXSIM_DEVICE_SM", "9.0")], "0"), "ok PTX interpreter (9, 0)");
    assert_eq!(open(true, &[("PTXSIM_DEVICES", "2")], "1"), "ok PTX interpreter (8, 0)");
}

#[test]
fn every_lack_has_its_reason() {
    let old = open(true, &[("PTXSIM_DRIVER_VERSION", "11080")], "0");
    assert_eq!(old, "error the CUDA driver is too old: it knows CUDA 11.8, needed is 12.0 (R525)");
    let old = open(true, &[("PTXSIM_DEVICE_SM", "7.5")], "0");
    assert_eq!(old, "error PTX interpreter has compute capability 7.5, needed is 8.0 (Ampere)");
    let none = open(true, &[("PTXSIM_DEVICES", "0")], "0");
    assert!(none.starts_with("error the CUDA driver offers no device 0: "), "{none}");
    assert!(none.contains("NO_DEVICE"), "{none}");
    let none = open(true, &[], "1");
    assert!(none.starts_with("error the CUDA driver offers no device 1: "), "{none}");
    let none = open(true, &[], &usize::MAX.to_string());
    assert!(none.starts_with("error the CUDA driver offers no device "), "{none}");
}

#[test]
fn a_machine_without_a_driver_says_so() {
    let answer = open(false, &[], "0");
    if answer.starts_with("ok") {
        println!("SKIPPED: this machine has a CUDA driver and a device: {answer}");
        return;
    }
    let reasons =
        [Unavailable::NoDriver.to_string(), "the CUDA driver".into(), "has compute capability".into()];
    assert!(reasons.iter().any(|reason| answer.contains(reason)), "{answer}");
}

#[test]
fn memory_that_is_full_is_an_error() {
    hone_ptxsim_libcuda::preload().unwrap();
    let stream = Stream::new(&Device::open(0).unwrap()).unwrap();
    // The stand-in's device has 8 GiB.
    let error =
        hone_kernels::memory::Buffer::<f32>::zeros(&stream, 4 << 30).err().expect("no room for 16 GiB");
    assert!(error.to_string().contains("OUT_OF_MEMORY"), "{error}");
}
