//! The command line, as a user calls it.
#![allow(clippy::unwrap_used, reason = "tests fail by panic")]

use std::process::{Command, Output};

const KERNEL: &str = "
.version 8.0
.target sm_80
.address_size 64
.visible .entry scale(.param .u64 x, .param .f32 by)
{
    .reg .b32 %r<2>;
    .reg .f32 %f<4>;
    .reg .b64 %rd<4>;
    ld.param.u64 %rd1, [x];
    ld.param.f32 %f1, [by];
    mov.u32 %r1, %tid.x;
    mul.wide.u32 %rd2, %r1, 4;
    add.s64 %rd3, %rd1, %rd2;
    ld.global.f32 %f2, [%rd3];
    mul.f32 %f3, %f1, %f2;
    st.global.f32 [%rd3], %f3;
    ret;
}";

fn ptxsim(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ptxsim")).args(args).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn a_kernel_is_listed_run_and_faulted() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(at("scale.ptx"), KERNEL).unwrap();
    std::fs::write(at("x.bin"), [1.5f32, -2.0].map(f32::to_le_bytes).as_flattened()).unwrap();

    let listed = ptxsim(&["list", &at("scale.ptx")]);
    assert!(listed.status.success());
    assert!(text(&listed).contains("scale(.u64:8, .f32:4): 10 instructions"), "{}", text(&listed));

    let x = format!("f32:{}", at("x.bin"));
    let out = format!("0={}", at("y.bin"));
    let file = at("scale.ptx");
    let ran =
        ptxsim(&["run", &file, "--block", "2", "--arg", &x, "--arg", "f32=3", "--out", &out, "--show", "2"]);
    assert!(ran.status.success(), "{}", text(&ran));
    assert!(text(&ran).contains("argument 0: 4.5 -6"), "{}", text(&ran));
    assert_eq!(std::fs::read(at("y.bin")).unwrap(), [4.5f32, -6.0].map(f32::to_le_bytes).as_flattened());

    let beyond = ptxsim(&["run", &file, "--block", "3", "--arg", &x, "--arg", "f32=3"]);
    assert_eq!(beyond.status.code(), Some(1));
    assert!(text(&beyond).contains("thread [2, 0, 0]"), "{}", text(&beyond));

    for (args, what) in [
        (vec!["run", &file, "--arg", &x], "takes 2 arguments"),
        (vec!["run", &file, "--arg", &x, "--arg", "f64=3"], "argument 1 has 8 bytes"),
        (vec!["run", &file, "--arg", "f33=1", "--arg", "f32=3"], "--arg f33=1"),
        (vec!["run", &file, "--kernel", "other"], "no kernel other"),
        (vec!["list", "no such file"], "cannot read"),
    ] {
        let refused = ptxsim(&args);
        assert_eq!(refused.status.code(), Some(2), "{args:?}");
        assert!(text(&refused).contains(what), "{args:?}: {}", text(&refused));
    }
    assert!(text(&ptxsim(&["run", "--help"])).contains("ptxsim run saxpy.ptx"));
}
