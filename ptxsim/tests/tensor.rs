//! Tensor-core instructions against products of small integers, which are exact, and fragments as the ISA draws them.
#![allow(clippy::unwrap_used, reason = "tests fail by panic")]

mod support;

use half::f16;
use hone_ptxsim::{FaultKind, LaunchError, Options};
use support::{Outcome, kernel, launch};

fn run(body: &str, threads: u32, shared: u32, input: &[u8]) -> Outcome {
    launch(&kernel(body), threads, shared, input, &Options::default()).unwrap_or_else(|e| panic!("{e}"))
}

fn halves(values: &[i32]) -> Vec<u8> {
    values.iter().flat_map(|value| f16::from_f32(*value as f32).to_bits().to_le_bytes()).collect()
}

/// Small numbers without a pattern.
fn numbers(count: usize, seed: usize) -> Vec<i32> {
    (0..count).map(|i| ((i + seed) * 7919 / 13 % 11) as i32 - 5).collect()
}

/// Loads the fragments of one `mma` element by element as the ISA draws them: row = lane / 4, columns 2 (lane % 4) and
/// the next; a as (16, k), b as (k, 8) and c as (16, 8), all row by row, at the start of the input.
fn mma(k: usize) -> Vec<f32> {
    let (a, b) = (numbers(16 * k, 0), numbers(8 * k, 100));
    let mut body = String::from("shr.u32 %r1, %lane, 2; and.b32 %r2, %lane, 3; shl.b32 %r2, %r2, 1;");
    // Element (row, column) of a matrix of that width at a base, both in halves: into %h1.
    let element = |base: usize,
                   width: usize,
                   row: &str,
                   row_add: usize,
                   column: &str,
                   column_add: usize,
                   to: &str| {
        format!(
            "add.u32 %r3, {row}, {row_add}; mul.lo.u32 %r3, %r3, {width}; add.u32 %r3, %r3, {column};
             add.u32 %r3, %r3, {}; mul.wide.u32 %rd1, %r3, 2; add.s64 %rd1, %rd1, %in; ld.global.u16 {to}, [%rd1];",
            base + column_add
        )
    };
    for q in 0..k / 4 {
        for (half, to) in [(0, "%h1"), (1, "%h2")] {
            body += &element(0, k, "%r1", q % 2 * 8, "%r2", q / 2 * 8 + half, to);
        }
        body += &format!("mov.b32 %r{}, {{%h1, %h2}};", 10 + q);
    }
    for q in 0..k / 8 {
        for (half, to) in [(0, "%h1"), (1, "%h2")] {
            body += &element(16 * k, 8, "%r2", q * 8 + half, "%r1", 0, to);
        }
        body += &format!("mov.b32 %r{}, {{%h1, %h2}};", 20 + q);
    }
    // c: 1 in its first row, 1000 elsewhere, to tell rows apart.
    body += "setp.eq.u32 %p1, %r1, 0; selp.f32 %f1, 0f3F800000, 0f447A0000, %p1;";
    let (a_names, b_names) =
        if k == 16 { ("{%r10,%r11,%r12,%r13}", "{%r20,%r21}") } else { ("{%r10,%r11}", "{%r20}") };
    body += &format!(
        "mov.f32 %f2, 0f447A0000;
         mma.sync.aligned.m16n8k{k}.row.col.f32.f16.f16.f32 {{%f10,%f11,%f12,%f13}}, {a_names}, {b_names}, {{%f1,%f1,%f2,%f2}};"
    );
    // Stored into the input as f32 behind the operands: rows of 8.
    let base = (24 * k * 2).next_multiple_of(16);
    body += &format!(
        "shl.b32 %r3, %r1, 3; add.u32 %r3, %r3, %r2; mul.wide.u32 %rd1, %r3, 4; add.s64 %rd1, %rd1, %in;
         st.global.v2.f32 [%rd1+{base}], {{%f10, %f11}}; st.global.v2.f32 [%rd1+{}], {{%f12, %f13}};",
        base + 8 * 8 * 4
    );
    let mut input = halves(&[a, b].concat());
    input.resize(base + 16 * 8 * 4, 0);
    let left = run(&body, 32, 0, &input).input;
    left[base..].chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

#[test]
fn mma_multiplies_tiles() {
    for k in [8, 16] {
        let (a, b) = (numbers(16 * k, 0), numbers(8 * k, 100));
        let got = mma(k);
        for row in 0..16 {
            for column in 0..8 {
                let product: i32 = (0..k).map(|i| a[row * k + i] * b[i * 8 + column]).sum();
                let wanted = product + if row == 0 { 1 } else { 1000 };
                assert_eq!(got[row * 8 + column], wanted as f32, "k {k}, row {row}, column {column}");
            }
        }
    }
}

/// Fills shared memory with halves 0, 1, 2, ... as rows of 8, and leaves the lane's row address in %r2.
const ROWS: &str = "
    mov.u32 %r1, dynamic;
    shl.b32 %r2, %lane, 4;
    add.s32 %r2, %r2, %r1;
    shl.b32 %r3, %lane, 3;
    mov.u32 %r4, 0;
FILL:
    add.s32 %r5, %r3, %r4;
    cvt.u16.u32 %h1, %r5;
    shl.b32 %r6, %r4, 1;
    add.s32 %r6, %r6, %r2;
    st.shared.u16 [%r6], %h1;
    add.s32 %r4, %r4, 1;
    setp.lt.u32 %p1, %r4, 8;
    @%p1 bra FILL;
    bar.warp.sync -1;";

#[test]
fn ldmatrix_hands_out_rows_or_columns() {
    // Matrix q is rows 8q to 8q + 7; element (row, column) of it is 64 q + 8 row + column.
    let load = |what: &str, q: u32| {
        let registers = ["{%r10}", "{%r10,%r11}", "{%r10,%r11,%r12,%r13}"];
        let names = registers[if what.contains("x4") { 2 } else { usize::from(what.contains("x2")) }];
        run(
            &format!(
                "{ROWS} ldmatrix.sync.aligned.m8n8.{what}.b16 {names}, [%r2]; mov.b32 %r0, %r{};",
                10 + q
            ),
            32,
            512,
            &[],
        )
    };
    for (what, count) in [("x1.shared", 1), ("x2.shared", 2), ("x4.shared::cta", 4)] {
        for q in 0..count {
            let outcome = load(what, q);
            let wanted: Vec<u32> = (0..32)
                .map(|lane| {
                    let first = 64 * q + 8 * (lane / 4) + 2 * (lane % 4);
                    first | (first + 1) << 16
                })
                .collect();
            assert_eq!(outcome.words, wanted, "{what} {q}");
            let (_, ideal, cycles) = outcome.stats.banks.values().last().unwrap();
            assert_eq!((*ideal, *cycles), (u64::from(count), u64::from(count)), "{what}");
        }
    }
    for q in 0..4 {
        let wanted: Vec<u32> = (0..32)
            .map(|lane| {
                let first = 64 * q + 8 * (2 * (lane % 4)) + lane / 4;
                first | (first + 8) << 16
            })
            .collect();
        assert_eq!(load("x4.trans.shared", q).words, wanted, "trans {q}");
    }
    // Rows 128 bytes apart all begin in bank 0.
    let slow =
        "shl.b32 %r1, %lane, 7; st.shared.v4.u32 [%r1], {%lane, %lane, %lane, %lane}; bar.warp.sync -1;
        ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r0}, [%r1];";
    let stats = run(slow, 32, 4096, &[]).stats;
    assert_eq!(
        stats
            .banks
            .values()
            .map(|(_, ideal, cycles)| (*ideal, *cycles))
            .fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1)),
        (5, 40)
    );
}

#[test]
fn stmatrix_is_the_inverse_of_ldmatrix() {
    for trans in ["", ".trans"] {
        let body = format!(
            "{ROWS} ldmatrix.sync.aligned.m8n8.x4{trans}.shared.b16 {{%r10,%r11,%r12,%r13}}, [%r2];
             st.shared.v4.u32 [%r2], {{0, 0, 0, 0}}; bar.warp.sync -1;
             stmatrix.sync.aligned.m8n8.x4{trans}.shared.b16 [%r2], {{%r10,%r11,%r12,%r13}}; bar.warp.sync -1;
             ld.shared.v4.u32 {{%r5, %r6, %r7, %r0}}, [%r2];"
        );
        let wanted: Vec<u32> = (0..32).map(|lane| (8 * lane + 6) | (8 * lane + 7) << 16).collect();
        assert_eq!(run(&body, 32, 512, &[]).words, wanted, "{trans}");
    }
}

/// One wgmma of 64 x n x 16 on operands that the test lays out in shared memory itself.
struct Wgmma {
    n: usize,
    trans_a: bool,
    trans_b: bool,
    /// Bytes of the swizzle: 0, 32, 64 or 128.
    swizzle: usize,
}

impl Wgmma {
    /// Where element (row, k) lies, and the leading and stride offsets: the canonical layouts of the ISA, tightly packed.
    fn place(&self, row: usize, k: usize, rows: usize, trans: bool) -> usize {
        let width = self.swizzle;
        let plain = match (trans, width) {
            // 8 x 8 core matrices of 128 bytes; those of one k next to each other.
            (false, 0) => k / 8 * (rows * 16) + row / 8 * 128 + row % 8 * 16 + k % 8 * 2,
            (true, 0) => k / 8 * (rows * 16) + row / 8 * 128 + k % 8 * 16 + row % 8 * 2,
            (false, width) => row * width + k * 2,
            // Atoms of width / 2 rows by 8 k; those of one k next to each other.
            (true, width) => {
                let per = width / 2;
                k / 8 * (rows / per * 8 * width) + row / per * 8 * width + k % 8 * width + row % per * 2
            }
        };
        let mask = match width {
            128 => 7,
            64 => 3,
            32 => 1,
            _ => 0,
        };
        plain ^ (plain >> 7 & mask) << 4
    }

    fn descriptor(&self, address: usize, rows: usize, trans: bool) -> u64 {
        let width = self.swizzle;
        let (leading, stride) = match (trans, width) {
            (_, 0) => (rows * 16, 128),
            (false, width) => (16, 8 * width),
            (true, width) => (8 * width, rows / (width / 2) * 8 * width),
        };
        let mode = match width {
            128 => 1u64,
            64 => 2,
            32 => 3,
            _ => 0,
        };
        (address >> 4) as u64 | (leading as u64 >> 4) << 16 | (stride as u64 >> 4) << 32 | mode << 62
    }

    /// The product, and the wanted one.
    fn run(
        &self,
        from_registers: bool,
        edit: impl Fn(String) -> String,
    ) -> Result<(Vec<f32>, Vec<f32>), LaunchError> {
        let n = self.n;
        let (a, b) = (numbers(64 * 16, 5), numbers(n * 16, 77));
        let bytes = 16384;
        let mut shared = vec![0u8; 2 * bytes];
        for (values, base, rows, trans) in [(&a, 0, 64, self.trans_a), (&b, bytes, n, self.trans_b)] {
            for row in 0..rows {
                for k in 0..16 {
                    let at = base + self.place(row, k, rows, trans);
                    shared[at..at + 2].copy_from_slice(&halves(&[values[row * 16 + k]]));
                }
            }
        }
        let sums = n / 2;
        let names: Vec<String> = (0..sums).map(|i| format!("%s{i}")).collect();
        let zero: String = names.iter().map(|name| format!("mov.f32 {name}, 0f40000000;")).collect();
        let (a_operand, flags) = if from_registers {
            ("{%r10, %r11, %r12, %r13}".to_owned(), format!("1, 1, {}", u8::from(self.trans_b)))
        } else {
            ("%rd10".to_owned(), format!("1, 1, {}, {}", u8::from(self.trans_a), u8::from(self.trans_b)))
        };
        let fragments: String = (0..4)
            .map(|q| {
                // Row g + 8 (q % 2) of the warp's 16, k 2t + 8 (q / 2), read from global memory behind the image.
                format!(
                    "shr.u32 %r1, %lane, 5; shl.b32 %r1, %r1, 4; and.b32 %r2, %lane, 31; shr.u32 %r3, %r2, 2; add.u32 %r1, %r1, %r3;
                     add.u32 %r1, %r1, {}; shl.b32 %r1, %r1, 4; and.b32 %r2, %lane, 3; shl.b32 %r2, %r2, 1; add.u32 %r1, %r1, %r2;
                     add.u32 %r1, %r1, {}; mul.wide.u32 %rd1, %r1, 2; add.s64 %rd1, %rd1, %in; ld.global.u32 %r{}, [%rd1+{}];",
                    q % 2 * 8,
                    q / 2 * 8,
                    10 + q,
                    2 * bytes
                )
            })
            .collect();
        let list = names.join(", ");
        let body = format!(
            ".reg .f32 %s<{sums}>;
             mov.u32 %r1, dynamic; shl.b32 %r2, %lane, 4; cvt.u64.u32 %rd1, %r2; add.s64 %rd1, %rd1, %in; add.s32 %r2, %r2, %r1;
             mov.u32 %r3, 0;
         FILL:
             ld.global.v4.u32 {{%r4, %r5, %r6, %r7}}, [%rd1]; st.shared.v4.u32 [%r2], {{%r4, %r5, %r6, %r7}};
             add.s64 %rd1, %rd1, 2048; add.s32 %r2, %r2, 2048; add.s32 %r3, %r3, 1; setp.lt.u32 %p1, %r3, 16;
             @%p1 bra FILL;
             fence.proxy.async;
             bar.sync 0;
             {zero} {fragments}
             mov.u64 %rd10, {}; mov.u64 %rd11, {};
             wgmma.fence.sync.aligned;
             wgmma.mma_async.sync.aligned.m64n{n}k16.f32.f16.f16 {{{list}}}, {a_operand}, %rd11, 1, {flags};
             wgmma.commit_group.sync.aligned;
             wgmma.wait_group.sync.aligned 0;",
            self.descriptor(0, 64, self.trans_a),
            self.descriptor(bytes, n, self.trans_b),
        );
        let mut body = edit(body);
        let out = 2 * bytes + 2048;
        // Accumulator i of lane 4 g + t of warp w: row 16 w + g + 8 (i / 2 % 2), column 8 (i / 4) + 2 t + i % 2.
        for (i, name) in names.iter().enumerate() {
            body += &format!(
                "shr.u32 %r1, %lane, 5; shl.b32 %r1, %r1, 4; and.b32 %r2, %lane, 31; shr.u32 %r3, %r2, 2; add.u32 %r1, %r1, %r3;
                 add.u32 %r1, %r1, {}; mul.lo.u32 %r1, %r1, {n}; and.b32 %r2, %lane, 3; shl.b32 %r2, %r2, 1; add.u32 %r1, %r1, %r2;
                 add.u32 %r1, %r1, {}; mul.wide.u32 %rd1, %r1, 4; add.s64 %rd1, %rd1, %in; st.global.f32 [%rd1+{out}], {name};",
                i / 2 % 2 * 8,
                i / 4 * 8 + i % 2
            );
        }
        let mut input = shared;
        input.extend(halves(&a));
        input.resize(out + 64 * n * 4, 0);
        let left = launch(&kernel(&body), 128, 2 * bytes as u32, &input, &Options::default())?.input;
        let got = left[out..].chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        let product = |i: usize| (0..16).map(|k| a[i / n * 16 + k] * b[i % n * 16 + k]).sum::<i32>();
        Ok((got, (0..64 * n).map(|i| (product(i) + 2) as f32).collect()))
    }
}

#[test]
fn wgmma_reads_each_layout_of_memory() {
    for swizzle in [0, 32, 64, 128] {
        for (trans_a, trans_b) in [(false, false), (true, false), (false, true), (true, true)] {
            for n in [64, 128] {
                let case = Wgmma { n, trans_a, trans_b, swizzle };
                let (got, wanted) = case.run(false, |body| body).unwrap();
                assert!(got == wanted, "swizzle {swizzle}, trans {trans_a} {trans_b}, n {n}");
            }
        }
    }
    let case = Wgmma { n: 8, trans_a: false, trans_b: false, swizzle: 128 };
    let (got, wanted) = case.run(true, |body| body).unwrap();
    assert!(got == wanted, "a in registers");
    // The wrong swizzle gives wrong numbers.
    let (got, wanted) = case
        .run(false, |body| body.replace(&case.descriptor(0, 64, false).to_string(), "4294967296"))
        .unwrap();
    assert!(got != wanted);
}

#[test]
fn wgmma_needs_its_fences_and_its_wait() {
    let case = Wgmma { n: 16, trans_a: false, trans_b: false, swizzle: 128 };
    let fault = |what: &str| match case.run(false, |body| body.replace(what, "")) {
        Err(LaunchError::Fault(fault)) => fault.kind,
        other => panic!("{what}: {other:?}"),
    };
    assert!(matches!(fault("wgmma.fence.sync.aligned;"), FaultKind::Wgmma(_)));
    assert!(matches!(fault("fence.proxy.async;"), FaultKind::Wgmma(_)));
    // Not waited for, the sums are NaN.
    let (got, _) = case
        .run(false, |body| body.replace("wait_group.sync.aligned 0", "wait_group.sync.aligned 1"))
        .unwrap();
    assert!(got.iter().all(|sum| sum.is_nan()));
    let (got, _) = case.run(false, |body| body.replace("wgmma.commit_group.sync.aligned;", "")).unwrap();
    assert!(got.iter().all(|sum| sum.is_nan()));
    // Scale-d 0 drops the 2 that the sums began with; a negated operand turns the product.
    let (got, wanted) = case.run(false, |body| body.replace("%rd11, 1, 1, 1,", "%rd11, 0, 1, 1,")).unwrap();
    assert!(got.iter().zip(&wanted).all(|(got, wanted)| *got == wanted - 2.0));
    let (got, wanted) = case.run(false, |body| body.replace("%rd11, 1, 1, 1,", "%rd11, 0, -1, 1,")).unwrap();
    assert!(got.iter().zip(&wanted).all(|(got, wanted)| *got == 2.0 - wanted));
}
