//! Floating point against bit patterns worked out by hand from IEEE 754 and the PTX ISA.
#![allow(clippy::unwrap_used, reason = "tests fail by panic")]

mod support;

use support::{double, word};

/// Runs `op` on f32 constants given by value, result as bits.
fn f32s(op: &str, args: &[f32]) -> u32 {
    let args: Vec<String> = args.iter().map(|value| format!("0f{:08X}", value.to_bits())).collect();
    word(&format!("{op} %f1, {}; mov.b32 %r0, %f1;", args.join(", ")))
}

fn halves(op: &str, args: &[u16]) -> u32 {
    let names = ["%h1", "%h2", "%h3"];
    let load: String =
        args.iter().zip(names).map(|(bits, name)| format!("mov.b16 {name}, {bits};")).collect();
    word(&format!("{load} {op} %h0, {}; cvt.u32.u16 %r0, %h0;", names[..args.len()].join(", ")))
}

const NAN: u32 = 0x7fff_ffff;

#[test]
fn f32_arithmetic_is_ieee() {
    for (op, args, wanted) in [
        ("add.f32", &[1.0, 2.0][..], 3.0f32.to_bits()),
        ("add.rn.f32", &[16_777_216.0, 1.0], 0x4b80_0000),
        ("sub.f32", &[1.0, 1.5], 0xbf00_0000),
        ("mul.f32", &[3.0, -0.5], 0xbfc0_0000),
        // (1 + 2^-12)^2 = 1 + 2^-11 + 2^-24: the last term is lost by mul, kept by fma.
        ("mul.f32", &[1.000_244_1, 1.000_244_1], 0x3f80_1000),
        ("fma.rn.f32", &[1.000_244_1, 1.000_244_1, -1.000_488_3], 0x3380_0000),
        ("div.rn.f32", &[1.0, 3.0], 0x3eaa_aaab),
        ("sqrt.rn.f32", &[2.0], 0x3fb5_04f3),
        ("rcp.rn.f32", &[-4.0], 0xbe80_0000),
        ("neg.f32", &[0.0], 0x8000_0000),
        ("abs.f32", &[-2.0], 0x4000_0000),
        ("add.sat.f32", &[0.75, 0.75], 0x3f80_0000),
        ("fma.rn.sat.f32", &[1.0, -1.0, 0.5], 0),
        // Subnormals stay without .ftz and become zero with it.
        ("mul.f32", &[1.175_494_4e-38, 0.5], 0x0040_0000),
        ("mul.ftz.f32", &[1.175_494_4e-38, 0.5], 0),
        ("add.ftz.f32", &[-1e-39, 0.0], 0),
    ] {
        assert_eq!(f32s(op, args), wanted, "{op} {args:?}: {:#x}", f32s(op, args));
    }
}

#[test]
fn minima_prefer_numbers_and_order_zeros() {
    for (op, args, wanted) in [
        ("min.f32", [1.0, f32::NAN], 1.0f32.to_bits()),
        ("max.f32", [f32::NAN, -1.0], (-1.0f32).to_bits()),
        ("max.f32", [f32::NAN, f32::NAN], NAN),
        ("min.NaN.f32", [1.0, f32::NAN], NAN),
        ("max.NaN.f32", [1.0, 2.0], 2.0f32.to_bits()),
        ("min.f32", [0.0, -0.0], 0x8000_0000),
        ("max.f32", [-0.0, 0.0], 0),
    ] {
        assert_eq!(f32s(op, &args), wanted, "{op} {args:?}");
    }
}

#[test]
fn approximations_are_within_the_error_of_the_isa() {
    // Largest relative error of the ISA's table, or the absolute one for lg2 and ex2 near these points: 2^-20 covers.
    for (op, x, wanted) in [
        ("rcp.approx.f32", 3.0f32, 1.0 / 3.0),
        ("sqrt.approx.f32", 2.0, std::f64::consts::SQRT_2),
        ("rsqrt.approx.f32", 4.0, 0.5),
        ("ex2.approx.f32", 0.5, std::f64::consts::SQRT_2),
        ("ex2.approx.ftz.f32", -1.0, 0.5),
        ("lg2.approx.f32", 8.0, 3.0),
        ("sin.approx.f32", 0.5, 0.479_425_538_604_203),
        ("cos.approx.f32", 0.5, 0.877_582_561_890_373),
        ("tanh.approx.f32", 0.5, 0.462_117_157_260_010),
    ] {
        let got = f64::from(f32::from_bits(f32s(op, &[x])));
        assert!((got - wanted).abs() <= wanted.abs() / f64::from(1 << 20), "{op} {x}: {got}");
    }
    assert_eq!(f32s("div.approx.f32", &[1.0, 4.0]), 0x3e80_0000);
    assert_eq!(f32s("div.full.f32", &[6.0, 3.0]), 0x4000_0000);
    assert_eq!(f32s("ex2.approx.ftz.f32", &[-140.0]), 0);
    assert_eq!(f32s("rsqrt.approx.f32", &[0.0]), 0x7f80_0000);
    assert_eq!(f32s("lg2.approx.f32", &[0.0]), 0xff80_0000);
}

#[test]
fn comparisons_know_unordered() {
    let compare = |what: &str, a: f32, b: f32| {
        let (a, b) = (a.to_bits(), b.to_bits());
        word(&format!("setp.{what}.f32 %p1, 0f{a:08X}, 0f{b:08X}; selp.u32 %r0, 1, 0, %p1;")) == 1
    };
    let nan = f32::NAN;
    assert!(compare("lt", 1.0, 2.0) && !compare("lt", nan, 2.0) && compare("ltu", nan, 2.0));
    assert!(!compare("ne", nan, nan) && compare("neu", nan, nan) && compare("neu", 1.0, 2.0));
    assert!(compare("eq", 0.0, -0.0) && compare("equ", nan, 1.0) && !compare("eq", nan, nan));
    assert!(compare("num", 1.0, 2.0) && !compare("num", 1.0, nan) && compare("nan", 1.0, nan));
    assert!(compare("ge", 2.0, 2.0) && !compare("geu", 1.0, 2.0) && compare("leu", nan, 2.0));
}

#[test]
fn f16_is_rounded_once() {
    for (op, args, wanted) in [
        ("add.f16", &[0x3c00, 0x3c00][..], 0x4000),
        // 2048 + 1 is a tie between 2048 and 2050, and goes to the even 2048; 2050 + 1 to 2052.
        ("add.rn.f16", &[0x6800, 0x3c00], 0x6800),
        ("add.f16", &[0x6801, 0x3c00], 0x6802),
        ("sub.f16", &[0x3c00, 0x4000], 0xbc00),
        ("mul.f16", &[0x3c01, 0x3c01], 0x3c02),
        // 65504 + 32 overflows, 65504 + 15 does not.
        ("add.f16", &[0x7bff, 0x5000], 0x7c00),
        ("add.f16", &[0x7bff, 0x4b80], 0x7bff),
        // (1 + 2^-10)^2 - 1 = 2^-9 + 2^-20, exact in f16's subnormal-free range to 11 bits: 0x1801 would keep 2^-19.
        ("fma.rn.f16", &[0x3c01, 0x3c01, 0xbc00], 0x1801 - 1),
        // 2048 * 1 + 1.0009765625: above the tie of 2048 and 2050, so 2050. Two roundings would give 2048.
        ("fma.rn.f16", &[0x6800, 0x3c00, 0x3c01], 0x6801),
        ("min.f16", &[0x3c00, 0x7e00], 0x3c00),
        ("max.f16", &[0x8000, 0x0000], 0x0000),
        ("neg.f16", &[0x3c00], 0xbc00),
        ("abs.f16", &[0xbc00], 0x3c00),
    ] {
        assert_eq!(halves(op, args), wanted, "{op} {args:x?}: {:#x}", halves(op, args));
    }
}

#[test]
fn packed_f16_are_two() {
    // Lower half 1.0, upper half 2.0, plus lower 0.5, upper -2.0.
    assert_eq!(word("add.f16x2 %r0, 0x40003c00, 0xc0003800;"), 0x0000_3e00);
    assert_eq!(word("mul.f16x2 %r0, 0x40003c00, 0xc0003800;"), 0xc400_3800);
    assert_eq!(word("sub.f16x2 %r0, 0x40003c00, 0x3c003c00;"), 0x3c00_0000);
    assert_eq!(word("fma.rn.f16x2 %r0, 0x40003c00, 0x40003c00, 0x3c003c00;"), 0x4500_4000);
    assert_eq!(word("max.f16x2 %r0, 0x40003c00, 0xc0004200;"), 0x4000_4200);
    assert_eq!(word("min.f16x2 %r0, 0x40003c00, 0xc0004200;"), 0xc000_3c00);
    assert_eq!(word("neg.f16x2 %r0, 0x40003c00;"), 0xc000_bc00);
    let low = "setp.gt.f16x2 %p1|%p2, %r1, %r2; selp.u32 %r0, 1, 0,";
    assert_eq!(word(&format!("mov.b32 %r1, 0x40003c00; mov.b32 %r2, 0xc0004200; {low} %p1;")), 0);
    assert_eq!(word(&format!("mov.b32 %r1, 0x40003c00; mov.b32 %r2, 0xc0004200; {low} %p2;")), 1);
    // The first source becomes the upper half.
    assert_eq!(word("cvt.rn.f16x2.f32 %r0, 0f40000000, 0f3F800000;"), 0x4000_3c00);
}

#[test]
fn conversions_round_as_they_say() {
    let to_int = |mode: &str, ty: &str, value: f32| {
        word(&format!("mov.f32 %f1, 0f{:08X}; cvt.{mode}.{ty}.f32 %r0, %f1;", value.to_bits())) as i32
    };
    for (mode, results) in
        [("rni", [2, 2, -2, 3]), ("rzi", [1, 2, -1, 2]), ("rmi", [1, 2, -2, 2]), ("rpi", [2, 3, -1, 3])]
    {
        for (value, wanted) in [1.5, 2.5, -1.5, 2.75].into_iter().zip(results) {
            assert_eq!(to_int(mode, "s32", value), wanted, "{mode} {value}");
        }
    }
    assert_eq!(to_int("rzi", "s32", 3e9), i32::MAX);
    assert_eq!(to_int("rzi", "u32", -3.0), 0);
    assert_eq!(to_int("rzi", "s32", f32::NAN), 0);
    assert_eq!(word("mov.f32 %f1, 0f437F8000; cvt.rni.sat.u8.f32 %r0, %f1;"), 255);
    let half = |mode: &str, bits: u32| {
        word(&format!("mov.f32 %f1, 0f{bits:08X}; cvt.{mode}.f16.f32 %h1, %f1; cvt.u32.u16 %r0, %h1;"))
    };
    // 1 + 2^-11: halfway between 1 and 1 + 2^-10.
    assert_eq!(half("rn", 0x3f80_1000), 0x3c00);
    assert_eq!(half("rn", 0x3f80_1001), 0x3c01);
    assert_eq!(half("rz", 0x3f80_1fff), 0x3c00);
    assert_eq!(half("rp", 0x3f80_0001), 0x3c01);
    assert_eq!(half("rm", 0xbf80_0001), 0xbc01);
    // 65520 is the tie to infinity; 2^-25 the tie to zero; 2^-24 the smallest.
    assert_eq!(half("rn", 0x477f_f000), 0x7c00);
    assert_eq!(half("rn", 0x3300_0000), 0);
    assert_eq!(half("rn", 0x3380_0000), 1);
    assert_eq!(half("rn", 0x7fc0_0000), 0x7fff);
    for (body, wanted) in [
        ("mov.b16 %h1, 0x3555; cvt.f32.f16 %f1, %h1; mov.b32 %r0, %f1;", 0x3eaa_a000),
        ("mov.b16 %h1, 0x0001; cvt.f32.f16 %f1, %h1; mov.b32 %r0, %f1;", 0x3380_0000),
        // 2^24 + 1 is a tie to even.
        ("cvt.rn.f32.s32 %f1, %r1; mov.b32 %r0, %f1;", 0x4b80_0000),
        ("cvt.rz.f32.u32 %f1, %r2; mov.b32 %r0, %f1;", 0x4f7f_ffff),
        ("cvt.rn.f32.u32 %f1, %r2; mov.b32 %r0, %f1;", 0x4f80_0000),
        ("mov.f32 %f2, 0f40200000; cvt.rni.f32.f32 %f1, %f2; mov.b32 %r0, %f1;", 0x4000_0000),
        ("mov.f32 %f2, 0fC0200000; cvt.rmi.f32.f32 %f1, %f2; mov.b32 %r0, %f1;", 0xc040_0000),
        ("mov.f32 %f2, 0f40200000; cvt.sat.f32.f32 %f1, %f2; mov.b32 %r0, %f1;", 0x3f80_0000),
        ("mov.u64 %rd1, -3; cvt.rn.f32.s64 %f1, %rd1; mov.b32 %r0, %f1;", 0xc040_0000),
        ("cvt.rn.f16.s32 %h1, %r3; cvt.u32.u16 %r0, %h1;", 0x4900),
    ] {
        let body = format!("mov.u32 %r1, 16777217; mov.u32 %r2, 0xffffffff; mov.u32 %r3, 10; {body}");
        assert_eq!(word(&body), wanted, "{body}: {:#x}", word(&body));
    }
}

#[test]
fn f64_is_there() {
    let bits = |op: &str| double(&format!("{op} mov.b64 %rd0, %fd1;"));
    assert_eq!(bits("add.f64 %fd1, 0d3FF0000000000000, 0d3FF0000000000000;"), 2.0f64.to_bits());
    assert_eq!(bits("mov.f32 %f1, 0f3F800000; cvt.f64.f32 %fd1, %f1;"), 1.0f64.to_bits());
    assert_eq!(
        bits("fma.rn.f64 %fd1, 0d4000000000000000, 0d4008000000000000, 0d3FF0000000000000;"),
        7.0f64.to_bits()
    );
    assert_eq!(bits("div.rn.f64 %fd1, 0d3FF0000000000000, 0d4000000000000000;"), 0.5f64.to_bits());
    assert_eq!(word("cvt.rn.f32.f64 %f1, 0d3FF0000010000000; mov.b32 %r0, %f1;"), 0x3f80_0000);
}
