//! The exported file, read back field by field and computed by plain loops, against the oracle; and, where Python has
//! it, by onnxruntime.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::HashMap;
use std::process::Command;

use hone_model::arch::{RGB_MEAN, quantiser_input};
use hone_model::onnx::{INPUT, OUTPUT, Part, export};
use hone_model::reference::{Tensor, bicubic, forward, pixel_shuffle};
use hone_model::rng::Rng;
use hone_model::{Arch, Base, Weights};

const ARCHS: [&str; 7] = [
    "live-1x8-x1",
    "live-2x8-x2",
    "live-1x16-x3",
    "live-2x8-x4",
    "edsr-1x8-x1",
    "edsr-1x8-x4",
    "edsr-1x256-x2",
];

/// What one field of a protobuf message holds.
enum Value<'a> {
    Int(u64),
    Bytes(&'a [u8]),
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut v = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        v |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return v;
        }
    }
    panic!("a number without an end");
}

fn fields(mut bytes: &[u8]) -> Vec<(u64, Value<'_>)> {
    let mut fields = vec![];
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        fields.push(match key & 7 {
            0 => (key >> 3, Value::Int(varint(&mut bytes))),
            2 => {
                let length = varint(&mut bytes) as usize;
                let (value, rest) = bytes.split_at(length);
                bytes = rest;
                (key >> 3, Value::Bytes(value))
            }
            kind => panic!("wire type {kind}"),
        });
    }
    fields
}

fn all(message: &[u8], number: u64) -> Vec<&[u8]> {
    let mut found = vec![];
    for (n, value) in fields(message) {
        if let Value::Bytes(value) = value
            && n == number
        {
            found.push(value);
        }
    }
    found
}

fn ints(message: &[u8], number: u64) -> Vec<u64> {
    let mut found = vec![];
    for (n, value) in fields(message) {
        if let Value::Int(value) = value
            && n == number
        {
            found.push(value);
        }
    }
    found
}

fn one(message: &[u8], number: u64) -> &[u8] {
    let found = all(message, number);
    assert_eq!(found.len(), 1, "field {number}");
    found[0]
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A constant: its shape and, in f64, what it holds.
struct Constant {
    dims: Vec<usize>,
    data: Vec<f64>,
}

fn constant(tensor: &[u8]) -> (String, Constant) {
    let dims: Vec<usize> = ints(tensor, 1).into_iter().map(|d| d as usize).collect();
    let raw = one(tensor, 9);
    let data: Vec<f64> = match ints(tensor, 2)[..] {
        [1] => raw.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()).into()).collect(),
        [7] => raw.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f64).collect(),
        ref kind => panic!("data type {kind:?}"),
    };
    assert_eq!(data.len(), dims.iter().product::<usize>());
    (text(one(tensor, 8)), Constant { dims, data })
}

/// A convolution of any odd size, zeros around.
fn conv(x: &Tensor, weight: &Constant, bias: Option<&Constant>, pad: usize) -> Tensor {
    let [cout, cin, k, _] = weight.dims[..] else { panic!("{:?}", weight.dims) };
    assert_eq!(x.c, cin);
    let mut y = Tensor::zeros(1, cout, x.h + 2 * pad + 1 - k, x.w + 2 * pad + 1 - k);
    for co in 0..cout {
        for row in 0..y.h {
            for col in 0..y.w {
                let mut sum = bias.map_or(0.0, |b| b.data[co]);
                for (i, weight) in weight.data[co * cin * k * k..][..cin * k * k].iter().enumerate() {
                    let (ci, y, x_) = (i / (k * k), row + i / k % k, col + i % k);
                    if (pad..x.h + pad).contains(&y) && (pad..x.w + pad).contains(&x_) {
                        sum += weight * x.data[x.at(0, ci, y - pad, x_ - pad)];
                    }
                }
                let at = y.at(0, co, row, col);
                y.data[at] = sum;
            }
        }
    }
    y
}

fn repeat_edge(x: &Tensor, pads: &[f64]) -> Tensor {
    let edge = pads[2] as usize;
    assert_eq!(pads, [0.0, 0.0, pads[2], pads[2], 0.0, 0.0, pads[2], pads[2]]);
    let clamp = |i: usize, len: usize| i.saturating_sub(edge).min(len - 1);
    let mut y = Tensor::zeros(1, x.c, x.h + 2 * edge, x.w + 2 * edge);
    for c in 0..y.c {
        for row in 0..y.h {
            for col in 0..y.w {
                let at = y.at(0, c, row, col);
                y.data[at] = x.data[x.at(0, c, clamp(row, x.h), clamp(col, x.w))];
            }
        }
    }
    y
}

/// One node, by its operator's definition.
fn node(node: &[u8], values: &HashMap<String, Tensor>, constants: &HashMap<String, Constant>) -> Tensor {
    let inputs: Vec<String> = all(node, 1).into_iter().map(text).collect();
    let attributes: HashMap<String, &[u8]> = all(node, 5).into_iter().map(|a| (text(one(a, 1)), a)).collect();
    let x = values.get(&inputs[0]).unwrap_or_else(|| panic!("{} is not computed yet", inputs[0]));
    // The other operand: a value of the same size, or a constant for each channel or for all.
    let other = |i: usize| match values.get(&inputs[1]) {
        Some(other) => other.data[i],
        None => {
            let data = &constants[&inputs[1]].data;
            data[i / (x.h * x.w) % data.len()]
        }
    };
    let each = |f: &dyn Fn(usize, f64) -> f64| Tensor {
        data: x.data.iter().enumerate().map(|(i, v)| f(i, *v)).collect(),
        ..*x
    };
    match &*text(one(node, 4)) {
        "Sub" => each(&|i, v| v - other(i)),
        "Add" => each(&|i, v| v + other(i)),
        "Mul" => each(&|i, v| v * other(i)),
        "Identity" => x.clone(),
        "Relu" => each(&|_, v| v.max(0.0)),
        "Pad" => {
            assert_eq!(one(attributes["mode"], 4), b"edge");
            repeat_edge(x, &constants[&inputs[1]].data)
        }
        "Conv" => {
            let weight = &constants[&inputs[1]];
            let kernel: Vec<u64> = weight.dims[2..].iter().map(|d| *d as u64).collect();
            assert_eq!(ints(attributes["kernel_shape"], 8), kernel);
            let pads = attributes.get("pads").map_or(vec![0; 4], |a| ints(a, 8));
            assert_eq!(pads, [pads[0]; 4]);
            conv(x, weight, inputs.get(2).map(|b| &constants[b]), pads[0] as usize)
        }
        "DepthToSpace" => {
            assert_eq!(one(attributes["mode"], 4), b"CRD");
            pixel_shuffle(x, ints(attributes["blocksize"], 3)[0] as usize)
        }
        kind => panic!("operator {kind}"),
    }
}

/// Computes a file's graph.
fn run(file: &[u8], input: &Tensor) -> Tensor {
    assert_eq!(ints(file, 1), [8], "IR version");
    assert_eq!(ints(one(file, 8), 2), [17], "opset");
    let graph = one(file, 7);
    let constants: HashMap<String, Constant> = all(graph, 5).into_iter().map(constant).collect();
    let mut values = HashMap::from([(text(one(one(graph, 11), 1)), input.clone())]);
    for message in all(graph, 1) {
        let y = node(message, &values, &constants);
        values.insert(text(one(message, 2)), y);
    }
    values.remove(&text(one(one(graph, 12), 1))).unwrap()
}

fn weights(arch: Arch, rng: &mut Rng) -> Weights {
    Weights::from_params(arch, (0..arch.params()).map(|_| (rng.unit() * 0.3 - 0.15) as f32).collect())
}

/// A ragged picture; the quantiser's plane, if there is one, holds one value.
fn input(arch: Arch, rng: &mut Rng) -> Tensor {
    let (c, h, w) = (arch.layers()[0].cin, 5, 3);
    let mut data: Vec<f64> = (0..c * h * w).map(|_| (rng.unit() as f32).into()).collect();
    data[3 * h * w..].fill(quantiser_input(41).into());
    Tensor { n: 1, c, h, w, data }
}

fn oracle(weights: &Weights, input: &Tensor) -> Tensor {
    let params: Vec<f64> = weights.params().iter().map(|&p| p.into()).collect();
    forward(weights.arch(), &params, input)
}

/// `tolerance` is relative to the largest value, at least 1.
fn check(arch: Arch, got: &[f64], expected: &Tensor, tolerance: f64) {
    assert_eq!(got.len(), expected.data.len(), "{arch}");
    let size = expected.data.iter().fold(1.0, |max: f64, v| max.max(v.abs()));
    for (i, (got, expected)) in got.iter().zip(&expected.data).enumerate() {
        let error = (got - expected).abs() / size;
        assert!(error <= tolerance, "{arch}, value {i}: {got} against {expected}");
    }
}

#[test]
fn the_file_computes_what_the_oracle_computes() {
    // Only the base differs: its 16 weights are rounded to f32, each by at most 2^-25.
    const TOLERANCE: f64 = 1e-6;
    let mut rng = Rng::new(12);
    for arch in ARCHS {
        let arch: Arch = arch.parse().unwrap();
        let (weights, input) = (weights(arch, &mut rng), input(arch, &mut rng));
        let expected = oracle(&weights, &input);
        check(arch, &run(&export(&weights, Part::Whole, None), &input).data, &expected, TOLERANCE);

        let mut residual = expected;
        let (size, base) = (residual.h * residual.w, bicubic(&input.channels(3), arch.scale()));
        for (i, v) in residual.data.iter_mut().enumerate() {
            *v -= match arch.base() {
                Base::Bicubic => base.data[i],
                Base::Mean => RGB_MEAN[i / size].into(),
            };
        }
        check(arch, &run(&export(&weights, Part::Residual, None), &input).data, &residual, TOLERANCE);
    }
}

#[test]
fn sizes_are_fixed_or_free() {
    let arch: Arch = "live-1x8-x3".parse().unwrap();
    let weights = weights(arch, &mut Rng::new(1));
    let dims = |size, field| {
        let file = export(&weights, Part::Whole, size);
        let info = one(one(&file, 7), field);
        assert_eq!(text(one(info, 1)), if field == 11 { INPUT } else { OUTPUT });
        let shape = one(one(one(info, 2), 1), 2);
        let name = |dim: &[u8]| match ints(dim, 1)[..] {
            [n] => n.to_string(),
            _ => text(one(dim, 2)),
        };
        all(shape, 1).into_iter().map(name).collect::<Vec<_>>()
    };
    assert_eq!(dims(Some((270, 480)), 11), ["1", "4", "270", "480"]);
    assert_eq!(dims(Some((270, 480)), 12), ["1", "3", "810", "1440"]);
    assert_eq!(dims(None, 11), ["1", "4", "h", "w"]);
    assert_eq!(dims(None, 12), ["1", "3", "3*h", "3*w"]);
}

/// Arguments: the model, a folder with its input, the input's shape. Writes the output into the folder.
const ONNXRUNTIME: &str = "
import sys, numpy, onnxruntime
model, folder, *shape = sys.argv[1:]
x = numpy.fromfile(folder + '/input', dtype='<f4').reshape([int(n) for n in shape])
session = onnxruntime.InferenceSession(model, providers=['CPUExecutionProvider'])
session.run(['output'], {'input': x})[0].astype('<f4').tofile(folder + '/output')
";

#[test]
fn onnxruntime_computes_what_the_oracle_computes() {
    // f32 sums of up to 9 · 256 products, relative to the largest value: 6 layers, each off by about 1e-6.
    const TOLERANCE: f64 = 2e-5;
    let found = Command::new("python3").args(["-c", "import numpy, onnxruntime"]).output();
    if !found.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: no python3 with numpy and onnxruntime");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (path, model) = (folder.path(), folder.path().join("net.onnx"));
    let mut rng = Rng::new(13);
    for (i, arch) in ARCHS.iter().enumerate() {
        let arch: Arch = arch.parse().unwrap();
        let (weights, input) = (weights(arch, &mut rng), input(arch, &mut rng));
        let size = (i % 2 == 0).then_some((input.h, input.w));
        std::fs::write(&model, export(&weights, Part::Whole, size)).unwrap();
        let bytes: Vec<u8> = input.data.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect();
        std::fs::write(path.join("input"), bytes).unwrap();
        let shape = [1, input.c, input.h, input.w].map(|n| n.to_string());
        let ran = Command::new("python3")
            .args(["-c", ONNXRUNTIME])
            .arg(&model)
            .arg(path)
            .args(shape)
            .output()
            .unwrap();
        assert!(ran.status.success(), "{arch}: {}", String::from_utf8_lossy(&ran.stderr));
        let output = std::fs::read(path.join("output")).unwrap();
        let output: Vec<f64> =
            output.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()).into()).collect();
        check(arch, &output, &oracle(&weights, &input), TOLERANCE);
    }
}
