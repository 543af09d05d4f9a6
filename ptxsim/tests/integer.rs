//! Integer and bit instructions against values worked out by hand from the PTX ISA.
#![allow(clippy::unwrap_used, reason = "tests fail by panic")]

mod support;

use support::{double, kernel, parse, word, words};

#[track_caller]
fn all32(cases: &[(&str, u32)]) {
    for (body, wanted) in cases {
        assert_eq!(word(body), *wanted, "{body}: {:#x} and not {wanted:#x}", word(body));
    }
}

#[track_caller]
fn all64(cases: &[(&str, u64)]) {
    for (body, wanted) in cases {
        assert_eq!(double(body), *wanted, "{body}: {:#x} and not {wanted:#x}", double(body));
    }
}

#[test]
fn arithmetic_of_32_bits() {
    all32(&[
        ("add.s32 %r0, 2147483647, 1;", 0x8000_0000),
        ("sub.u32 %r0, 1, 2;", 0xffff_ffff),
        ("mul.lo.s32 %r0, -3, 7;", 0xffff_ffeb),
        // -2 * 3 = -6: the upper word is all ones.
        ("mul.hi.s32 %r0, -2, 3;", 0xffff_ffff),
        // 0xfffffffe * 3 = 0x2_fffffffa.
        ("mul.hi.u32 %r0, 0xfffffffe, 3;", 2),
        ("mad.lo.s32 %r0, 5, -6, 7;", 0xffff_ffe9),
        ("mad.hi.u32 %r0, 0x80000000, 6, 10;", 13),
        ("div.s32 %r0, -7, 2;", 0xffff_fffd),
        ("div.u32 %r0, 0xfffffff9, 2;", 0x7fff_fffc),
        ("rem.s32 %r0, -7, 2;", 0xffff_ffff),
        ("rem.u32 %r0, 7, 4;", 3),
        ("min.s32 %r0, -1, 1;", 0xffff_ffff),
        ("min.u32 %r0, -1, 1;", 1),
        ("max.s32 %r0, -1, 1;", 1),
        ("max.u32 %r0, -1, 1;", 0xffff_ffff),
        ("abs.s32 %r0, -5;", 5),
        ("neg.s32 %r0, 5;", 0xffff_fffb),
        ("sad.u32 %r0, 3, 10, 100;", 107),
    ]);
}

#[test]
fn arithmetic_of_16_bits_keeps_to_16_bits() {
    let with = |op: &str, a: i32, b: i32| {
        word(&format!("mov.u16 %h1, {a}; mov.u16 %h2, {b}; {op} %h0, %h1, %h2; cvt.u32.u16 %r0, %h0;"))
    };
    for (op, a, b, wanted) in [
        ("add.u16", 65535, 2, 1),
        ("sub.s16", 0, 1, 0xffff),
        ("mul.lo.u16", 256, 257, 256),
        ("mul.hi.u16", 0x8000, 4, 2),
        // -32768 * 4 = -131072: the upper half is -2.
        ("mul.hi.s16", -32768, 4, 0xfffe),
        ("min.s16", -1, 1, 0xffff),
        ("min.u16", -1, 1, 1),
        ("max.s16", -1, 1, 1),
        ("div.s16", -7, 2, 0xfffd),
        ("rem.s16", -7, 2, 0xffff),
    ] {
        assert_eq!(with(op, a, b), wanted, "{op} {a} {b}");
    }
    all32(&[
        ("mov.u16 %h1, -3; mov.u16 %h2, 5; mul.wide.s16 %r0, %h1, %h2;", 0xffff_fff1),
        ("mov.u16 %h1, -3; mov.u16 %h2, 2; mul.wide.u16 %r0, %h1, %h2;", 131_066),
        ("mov.u16 %h1, 0x8001; shr.s16 %h0, %h1, 1; cvt.u32.u16 %r0, %h0;", 0xc000),
        ("mov.u16 %h1, 0x8001; shr.u16 %h0, %h1, 1; cvt.u32.u16 %r0, %h0;", 0x4000),
        ("mov.b16 %h1, 0x8001; shl.b16 %h0, %h1, 1; cvt.u32.u16 %r0, %h0;", 2),
        ("mov.b16 %h1, 0x00ff; not.b16 %h0, %h1; cvt.u32.u16 %r0, %h0;", 0xff00),
    ]);
}

#[test]
fn arithmetic_of_64_bits() {
    all64(&[
        ("mov.u64 %rd1, 0xffffffff; add.s64 %rd0, %rd1, 1;", 1 << 32),
        ("mov.u64 %rd1, 0; sub.s64 %rd0, %rd1, 1;", u64::MAX),
        ("mul.wide.s32 %rd0, -2, 3;", -6i64 as u64),
        ("mul.wide.u32 %rd0, 0xfffffffe, 3;", 0x2_ffff_fffa),
        ("mad.wide.s32 %rd0, -2, 3, 10;", 4),
        ("mov.u64 %rd1, 0x100000001; mul.lo.s64 %rd0, %rd1, 3;", 0x3_0000_0003),
        ("mov.u64 %rd1, -1; mul.hi.u64 %rd0, %rd1, 2;", 1),
        ("mov.u64 %rd1, -1; mul.hi.s64 %rd0, %rd1, 2;", u64::MAX),
        ("mov.u64 %rd1, -9; div.s64 %rd0, %rd1, 2;", -4i64 as u64),
        ("mov.u64 %rd1, -9; rem.s64 %rd0, %rd1, 2;", -1i64 as u64),
        ("mov.u64 %rd1, -9; min.s64 %rd0, %rd1, 2;", -9i64 as u64),
        ("mov.u64 %rd1, -9; max.u64 %rd0, %rd1, 2;", -9i64 as u64),
        ("mov.u64 %rd1, 3; neg.s64 %rd0, %rd1;", -3i64 as u64),
        ("mov.u64 %rd1, 5; mov.u64 %rd2, 7; mad.lo.s64 %rd0, %rd1, %rd2, 1;", 36),
        ("mov.u64 %rd1, 1; shl.b64 %rd0, %rd1, 40;", 1 << 40),
        ("mov.u64 %rd1, 1; shl.b64 %rd0, %rd1, 64;", 0),
        ("mov.u64 %rd1, -16; shr.s64 %rd0, %rd1, 2;", -4i64 as u64),
        ("mov.u64 %rd1, -16; shr.s64 %rd0, %rd1, 99;", u64::MAX),
        ("mov.u64 %rd1, -16; shr.u64 %rd0, %rd1, 60;", 15),
        ("mov.u64 %rd1, 0xf0; mov.u64 %rd2, 0x3c; xor.b64 %rd0, %rd1, %rd2;", 0xcc),
        ("mov.u64 %rd1, 0xf0; not.b64 %rd0, %rd1;", !0xf0),
        ("mov.u64 %rd1, 0x123456789a; bfe.u64 %rd0, %rd1, 4, 8;", 0x89),
    ]);
    all32(&[
        ("mov.u64 %rd1, 0x100000001; popc.b64 %r0, %rd1;", 2),
        ("mov.u64 %rd1, 1; clz.b64 %r0, %rd1;", 63),
    ]);
}

#[test]
fn shifts_clamp_and_funnels_wrap() {
    all32(&[
        ("shl.b32 %r0, 1, 31;", 0x8000_0000),
        ("shl.b32 %r0, 1, 32;", 0),
        ("shr.u32 %r0, 0x80000000, 31;", 1),
        ("shr.u32 %r0, 0x80000000, 32;", 0),
        ("shr.s32 %r0, 0x80000000, 40;", 0xffff_ffff),
        // Left: the upper word of {b, a} shifted; right: the lower.
        ("shf.l.wrap.b32 %r0, 0x80000001, 0x0000000f, 4;", 0xf8),
        ("shf.l.wrap.b32 %r0, 0x80000001, 0x0000000f, 32;", 0xf),
        ("shf.l.clamp.b32 %r0, 0x80000001, 0x0000000f, 99;", 0x8000_0001),
        ("shf.r.wrap.b32 %r0, 0x80000001, 0x0000000f, 4;", 0xf800_0000),
        ("shf.r.clamp.b32 %r0, 0x80000001, 0x0000000f, 32;", 0xf),
        ("shf.r.wrap.b32 %r0, 0x80000001, 0x0000000f, 36;", 0xf800_0000),
    ]);
}

#[test]
fn bits_and_fields() {
    all32(&[
        ("and.b32 %r0, 0xff00ff00, 0x0ff00ff0;", 0x0f00_0f00),
        ("or.b32 %r0, 0xff00, 0x00f0;", 0xfff0),
        ("xor.b32 %r0, 0xff, 0x0f;", 0xf0),
        ("not.b32 %r0, 0xf;", 0xffff_fff0),
        ("popc.b32 %r0, 0xf0f0;", 8),
        ("clz.b32 %r0, 0x00010000;", 15),
        ("clz.b32 %r0, 0;", 32),
        ("brev.b32 %r0, 0x00000003;", 0xc000_0000),
        ("bfe.u32 %r0, 0x12345678, 8, 8;", 0x56),
        ("bfe.s32 %r0, 0x0000f800, 11, 5;", 0xffff_ffff),
        ("bfe.u32 %r0, 0x12345678, 28, 16;", 1),
        // Beyond the word, a signed field repeats the word's sign.
        ("bfe.s32 %r0, 0x80000000, 28, 16;", 0xffff_fff8),
        ("bfe.u32 %r0, 0x12345678, 8, 0;", 0),
        ("bfi.b32 %r0, 0xab, 0x12345678, 8, 8;", 0x1234_ab78),
        ("bfi.b32 %r0, 0xffffffff, 0, 28, 16;", 0xf000_0000),
        ("bfi.b32 %r0, 0xff, 0x12345678, 8, 0;", 0x1234_5678),
        // Bytes of {b, a} = 77665544 33221100 by four selectors; a selector with bit 3 spreads the sign.
        ("prmt.b32 %r0, 0x33221100, 0x77665544, 0x7531;", 0x7755_3311),
        ("prmt.b32 %r0, 0x33228100, 0x77665544, 0x0009;", 0x0000_00ff),
        ("prmt.b32.f4e %r0, 0x33221100, 0x77665544, 1;", 0x4433_2211),
        ("prmt.b32.rc16 %r0, 0x33221100, 0x77665544, 1;", 0x3322_3322),
        ("prmt.b32.ecr %r0, 0x33221100, 0x77665544, 1;", 0x1111_1100),
    ]);
    // 0xca chooses b where a is set, else c; 0x96 is the parity of all three (ISA: the table of 0xF0, 0xCC, 0xAA).
    all32(&[
        ("lop3.b32 %r0, 0xff00ff00, 0x12345678, 0x9abcdef0, 0xca;", 0x12bc_56f0),
        ("lop3.b32 %r0, 0xf, 0x3, 0x5, 0x96;", 0xf ^ 0x3 ^ 0x5),
        ("lop3.b32 %r0, 0xf, 0x3, 0x5, 0x80;", 1),
    ]);
}

#[test]
fn comparisons_and_selection() {
    let compare = |what: &str| word(&format!("{what} selp.u32 %r0, 1, 0, %p1;"));
    for (what, wanted) in [
        ("setp.lt.s32 %p1, -1, 1;", 1),
        ("setp.lt.u32 %p1, -1, 1;", 0),
        ("setp.lo.u32 %p1, 1, 2;", 1),
        ("setp.hs.u32 %p1, 1, 2;", 0),
        ("setp.eq.b32 %p1, 5, 5;", 1),
        ("setp.ge.s32 %p1, 5, 5;", 1),
        ("setp.ne.s32 %p2, 1, 1; setp.eq.or.s32 %p1, 1, 2, %p2;", 0),
        ("setp.ne.s32 %p2, 1, 1; setp.eq.or.s32 %p1, 1, 2, !%p2;", 1),
        ("setp.ne.s32 %p2, 1, 1; setp.eq.xor.s32 %p1, 1, 1, %p2;", 1),
        ("setp.eq.s32 %p2|%p1, 1, 2;", 1),
        ("setp.eq.s32 %p2, 1, 1; setp.eq.and.s32 %p3|%p1, 1, 2, %p2;", 1),
        ("mov.u64 %rd1, -1; setp.gt.s64 %p1, %rd1, 0;", 0),
        ("mov.u64 %rd1, -1; setp.gt.u64 %p1, %rd1, 0;", 1),
        ("mov.u16 %h1, -1; setp.lt.s16 %p1, %h1, 0;", 1),
        ("mov.u16 %h1, -1; setp.lt.u16 %p1, %h1, 0;", 0),
        ("setp.eq.s32 %p2, 1, 1; not.pred %p1, %p2;", 0),
        ("setp.eq.s32 %p2, 1, 1; setp.eq.s32 %p3, 1, 2; or.pred %p1, %p2, %p3;", 1),
        ("setp.eq.s32 %p2, 1, 1; setp.eq.s32 %p3, 1, 2; and.pred %p1, %p2, %p3;", 0),
        ("setp.eq.s32 %p2, 1, 1; setp.eq.s32 %p3, 1, 2; xor.pred %p1, %p2, !%p3;", 0),
    ] {
        assert_eq!(compare(what), wanted, "{what}");
    }
    all32(&[
        ("set.lt.u32.s32 %r0, -1, 1;", 0xffff_ffff),
        ("set.lt.f32.s32 %f1, -1, 1; mov.b32 %r0, %f1;", 0x3f80_0000),
        ("set.gt.u32.s32 %r0, -1, 1;", 0),
    ]);
    all64(&[("setp.eq.s32 %p1, 1, 1; selp.b64 %rd0, 7, 8, !%p1;", 8)]);
}

#[test]
fn moves_take_apart_and_put_together() {
    all32(&[
        ("mov.u16 %h1, 0x1234; mov.u16 %h2, 0x5678; mov.b32 %r0, {%h1, %h2};", 0x5678_1234),
        ("mov.b32 {%h1, %h2}, 0x5678abcd; cvt.u32.u16 %r0, %h2;", 0x5678),
        ("mov.u64 %rd1, 0x1122334455667788; mov.b64 {%r1, %r0}, %rd1;", 0x1122_3344),
        (
            "mov.u64 %rd1, 0x1122334455667788; mov.b64 {%h1, %h2, %h3, %h4}, %rd1; cvt.u32.u16 %r0, %h3;",
            0x3344,
        ),
    ]);
    all64(&[("mov.b64 %rd0, {0x11223344, 0x55667788};", 0x5566_7788_1122_3344)]);
}

#[test]
fn conversions_between_integers() {
    all32(&[
        ("mov.u16 %h1, 0xfffe; cvt.s32.s16 %r0, %h1;", 0xffff_fffe),
        ("mov.u16 %h1, 0xfffe; cvt.u32.u16 %r0, %h1;", 0xfffe),
        ("mov.u32 %r1, 0x12345680; cvt.s32.s8 %r0, %r1;", 0xffff_ff80),
        ("mov.u32 %r1, 0x12345680; cvt.u32.u8 %r0, %r1;", 0x80),
        ("mov.u32 %r1, 70000; cvt.sat.u16.u32 %h1, %r1; cvt.u32.u16 %r0, %h1;", 65535),
        ("mov.u32 %r1, -5; cvt.sat.u32.s32 %r0, %r1;", 0),
        ("mov.u32 %r1, 300; cvt.sat.s8.s32 %r0, %r1;", 127),
        ("mov.u32 %r1, 200; cvt.s8.s32 %r0, %r1;", 0xffff_ffc8),
        ("mov.u64 %rd1, 0x1ffffffff; cvt.u32.u64 %r0, %rd1;", 0xffff_ffff),
        ("mov.u64 %rd1, 0x1ffffffff; cvt.sat.s32.s64 %r0, %rd1;", 0x7fff_ffff),
        ("mov.u64 %rd1, 0x12345678; cvt.u16.u64 %h1, %rd1; cvt.u32.u16 %r0, %h1;", 0x5678),
    ]);
    all64(&[
        ("mov.u32 %r1, -2; cvt.s64.s32 %rd0, %r1;", -2i64 as u64),
        ("mov.u32 %r1, -2; cvt.u64.u32 %rd0, %r1;", 0xffff_fffe),
        ("mov.u16 %h1, -2; cvt.s64.s16 %rd0, %h1;", -2i64 as u64),
        ("mov.u16 %h1, -2; cvt.u64.u16 %rd0, %h1;", 0xfffe),
    ]);
}

#[test]
fn special_registers_and_divergence() {
    let lanes = words("mov.u32 %r0, %laneid;");
    assert_eq!(lanes, (0..32).collect::<Vec<u32>>());
    assert_eq!(words("mov.u32 %r0, %lanemask_lt;")[5], 0b1_1111);
    assert_eq!(words("mov.u32 %r0, %lanemask_ge;")[30], 0xc000_0000);
    assert_eq!(word("mov.u32 %r0, %ntid.x;"), 32);
    assert_eq!(word("mov.u32 %r0, %nctaid.z;"), 1);
    assert_eq!(word("mov.u32 %r0, WARP_SZ;"), 32);
    // Lanes part by their number, loop that often, and meet again: each counts itself, and all vote at the end.
    let body = "
        mov.u32 %r1, %lane;
    LOOP:
        setp.eq.s32 %p1, %r1, 0;
        @%p1 bra OUT;
        add.s32 %r2, %r2, 3;
        sub.s32 %r1, %r1, 1;
        bra.uni LOOP;
    OUT:
        setp.ge.u32 %p2, %lane, 16;
        vote.sync.ballot.b32 %r3, %p2, 0xffffffff;
        add.s32 %r0, %r2, %r3;";
    let body = format!("mov.u32 %r2, 0; {body}");
    let wanted: Vec<u32> = (0..32u32).map(|lane| (lane * 3).wrapping_add(0xffff_0000)).collect();
    assert_eq!(words(&body), wanted);
    // A jump table.
    let body = "
        and.b32 %r1, %lane, 3;
    TABLE: .branchtargets A, B, C, A;
        brx.idx %r1, TABLE;
    A:  mov.u32 %r0, 10; bra.uni END;
    B:  mov.u32 %r0, 20; bra.uni END;
    C:  mov.u32 %r0, 30;
    END:";
    assert_eq!(words(body)[..5], [10, 20, 30, 10, 10]);
}

#[test]
fn what_is_not_ptx_is_refused_with_its_line() {
    for body in [
        "frob.u32 %r0, 1, 2;",
        "add.u32.frob %r0, 1, 2;",
        "add.u32 %r0, 1;",
        "add.u32 %r99, 1, 2;",
        "add.u32 %rd0, 1, 2;",
        "add.u32 %f0, 1, 2;",
        "add.f32 %f0, 1, %f1;",
        "add.pred %p0, %p1, %p2;",
        "mul.u32 %r0, 1, 2;",
        "shl.u32 %r0, 1, 2;",
        "setp.ltu.u32 %p0, 1, 2;",
        "setp.lt.b32 %p0, 1, 2;",
        "cvt.f32.s32 %f0, %r0;",
        "cvt.s32.f32 %r0, %f0;",
        "fma.f32 %f0, %f1, %f2, %f3;",
        "div.f32 %f0, %f1, %f2;",
        "lop3.b32 %r0, 1, 2, 3, 256;",
        "mov.b32 %r0, {%h1};",
        "ld.global.v4.u64 {%rd0, %rd1, %rd2, %rd3}, [%in];",
        "ld.global.v2.u32 {%r0, %r1, %r2}, [%in];",
        "st.param.u32 [in], %r0;",
        "bra NOWHERE;",
        "cp.async.cg.shared.global [%r0], [%rd0], 8;",
        "cp.async.wait_group %r0;",
        "mma.sync.aligned.m16n8k16.row.row.f32.f16.f16.f32 {%f0,%f1,%f2,%f3},{%r0,%r1,%r2,%r3},{%r4,%r5},{%f0,%f1,%f2,%f3};",
        "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r0, %r1}, [%r2];",
        "wgmma.mma_async.sync.aligned.m64n12k16.f32.f16.f16 {%f0}, %rd0, %rd1, 1, 1, 1, 0, 0;",
        "red.global.cas.b32 [%rd0], %r0, %r1, %r2, %r3;",
        "call foo;",
    ] {
        let error = parse(body).unwrap_err();
        let line = kernel(body).lines().position(|line| line.contains(body)).unwrap() + 1;
        assert_eq!(error.line as usize, line, "{body}: {error}");
        assert!(error.text.starts_with(&body[..6]), "{body}: {error}");
    }
}
