//! A network as an ONNX file: the same arithmetic for any other engine, to compare with or to run elsewhere.
//!
//! The input is what [`reference::input`](crate::reference::input) makes: RGB in 0..=1 and, in the `live` family, a
//! fourth plane of [`quantiser_input`](crate::arch::quantiser_input). The output is what
//! [`reference::forward`](crate::reference::forward()) gives. Colour conversion and 8 bits are left to the caller.
//!
//! Source: ONNX's `onnx.proto` (IR version 8) and `Operators.md` (opset 17), github.com/onnx/onnx; the encoding is
//! protobuf's, protobuf.dev/programming-guides/encoding. Fields are numbered as there.

use crate::arch::RGB_MEAN;
use crate::reference::bicubic_taps;
use crate::{Arch, Base, Op, Weights};

/// `ModelProto.ir_version` that goes with [`OPSET`].
const IR_VERSION: i64 = 8;
/// Version of the operators: `Pad`, `Conv`, `Relu`, `Sub`, `Add`, `Mul`, `DepthToSpace` and `Identity` mean the same in all later ones.
const OPSET: i64 = 17;
/// Name of the input, (1, 4, H, W) f32; three channels in the `edsr` family.
pub const INPUT: &str = "input";
/// Name of the output, (1, 3, s·H, s·W) f32 RGB, not clamped.
pub const OUTPUT: &str = "output";

/// What the file computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The picture.
    Whole,
    /// What is to be added to [`Arch::base`]: for who has an upscaler of his own.
    Residual,
}

/// Writes the network for pictures of `size` (rows, columns), or of any size where an engine can take that.
pub fn export(weights: &Weights, part: Part, size: Option<(usize, usize)>) -> Vec<u8> {
    let arch = weights.arch();
    let graph = graph(weights, part)
        .bytes(2, arch.to_string().as_bytes())
        .bytes(11, &value_info(INPUT, arch.layers()[0].cin, size, 1).0)
        .bytes(12, &value_info(OUTPUT, 3, size, arch.scale()).0);
    let opset = Message::default().bytes(1, b"").int(2, OPSET);
    Message::default()
        .int(1, IR_VERSION)
        .bytes(2, b"hone")
        .bytes(3, env!("CARGO_PKG_VERSION").as_bytes())
        .bytes(7, &graph.0)
        .bytes(8, &opset.0)
        .0
}

/// A protobuf message as it is written.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut v: u64) {
        while v >= 0x80 {
            self.0.push(v as u8 | 0x80);
            v >>= 7;
        }
        self.0.push(v as u8);
    }

    fn int(mut self, field: u64, v: i64) -> Self {
        self.varint(field << 3);
        self.varint(v as u64);
        self
    }

    /// Bytes, text or another message.
    fn bytes(mut self, field: u64, v: &[u8]) -> Self {
        self.varint(field << 3 | 2);
        self.varint(v.len() as u64);
        self.0.extend_from_slice(v);
        self
    }
}

/// `ValueInfoProto` of (1, `channels`, `factor`·H, `factor`·W) f32.
fn value_info(name: &str, channels: usize, size: Option<(usize, usize)>, factor: usize) -> Message {
    let value = |n: usize| Message::default().int(1, n as i64);
    let side = |n: Option<usize>, letter: &str| match n {
        Some(n) => value(n * factor),
        None => Message::default().bytes(2, format!("{factor}*{letter}").replace("1*", "").as_bytes()),
    };
    let dims = [value(1), value(channels), side(size.map(|s| s.0), "h"), side(size.map(|s| s.1), "w")];
    let shape = dims.iter().fold(Message::default(), |shape, dim| shape.bytes(1, &dim.0));
    let tensor = Message::default().int(1, FLOAT).bytes(2, &shape.0);
    Message::default().bytes(1, name.as_bytes()).bytes(2, &Message::default().bytes(1, &tensor.0).0)
}

/// `TensorProto.DataType`.
const FLOAT: i64 = 1;
const INT64: i64 = 7;

/// `AttributeProto`.
fn int_attribute(name: &str, v: i64) -> Message {
    Message::default().bytes(1, name.as_bytes()).int(3, v).int(20, 2)
}

fn text_attribute(name: &str, v: &str) -> Message {
    Message::default().bytes(1, name.as_bytes()).bytes(4, v.as_bytes()).int(20, 3)
}

fn ints_attribute(name: &str, v: &[i64]) -> Message {
    v.iter().fold(Message::default().bytes(1, name.as_bytes()), |a, &v| a.int(8, v)).int(20, 7)
}

/// `GraphProto`, field by field.
impl Message {
    fn tensor(self, name: &str, kind: i64, dims: &[usize], data: &[u8]) -> Self {
        let tensor = dims.iter().fold(Self::default(), |tensor, &dim| tensor.int(1, dim as i64));
        self.bytes(5, &tensor.int(2, kind).bytes(8, name.as_bytes()).bytes(9, data).0)
    }

    fn floats(self, name: &str, dims: &[usize], values: &[f32]) -> Self {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.tensor(name, FLOAT, dims, &bytes)
    }

    fn node(self, kind: &str, inputs: &[&str], output: &str, attributes: &[Message]) -> Self {
        let node = inputs.iter().fold(Self::default(), |node, input| node.bytes(1, input.as_bytes()));
        let node = node.bytes(2, output.as_bytes()).bytes(3, output.as_bytes()).bytes(4, kind.as_bytes());
        let node = attributes.iter().fold(node, |node, attribute| node.bytes(5, &attribute.0));
        self.bytes(1, &node.0)
    }

    /// A square convolution, stride 1, `pad` zeros on each side.
    fn conv(self, [input, name, output]: [&str; 3], pad: i64, bias: bool) -> Self {
        let (weight, bias_name) = (format!("{name}.weight"), format!("{name}.bias"));
        let attributes =
            [ints_attribute("kernel_shape", &[2 * pad + 1; 2]), ints_attribute("pads", &[pad; 4])];
        let inputs = [input, &weight, &bias_name];
        self.node("Conv", &inputs[..2 + usize::from(bias)], output, &attributes)
    }

    fn pixel_shuffle(self, input: &str, output: &str, s: usize) -> Self {
        // Depth is (channel, row, column), as in PyTorch.
        let attributes = [int_attribute("blocksize", s as i64), text_attribute("mode", "CRD")];
        self.node("DepthToSpace", &[input], output, &attributes)
    }
}

/// The bicubic base as one convolution on the input with its edge repeated: (3·s², channels, k, k) weights, k, and the
/// edge. Its output is to be shuffled. ONNX's `Resize` would do too, but several engines have no other cubic than
/// their own.
fn base_weights(s: usize, channels: usize) -> (Vec<f32>, usize, usize) {
    // Taps reach from i - 2 to i + 2; at scale 1 there is only i.
    let edge = if s == 1 { 0 } else { 2 };
    let k = 2 * edge + 1;
    let mut weights = vec![0.0; 3 * s * s * channels * k * k];
    for output in 0..3 * s * s {
        let (c, dy, dx) = (output / (s * s), output / s % s, output % s);
        let ((first_y, taps_y), (first_x, taps_x)) = (bicubic_taps(s, dy), bicubic_taps(s, dx));
        for (y, ty) in (first_y + edge as isize..).zip(taps_y).filter(|(_, tap)| *tap != 0.0) {
            for (x, tx) in (first_x + edge as isize..).zip(taps_x).filter(|(_, tap)| *tap != 0.0) {
                weights[((output * channels + c) * k + y as usize) * k + x as usize] = (ty * tx) as f32;
            }
        }
    }
    (weights, k, edge)
}

fn graph(weights: &Weights, part: Part) -> Message {
    let arch: Arch = weights.arch();
    let layers = arch.layers();
    let channels = layers[0].cin;
    let mut graph = Message::default();
    for layer in &layers {
        let (weight, bias) = weights.layer(layer);
        graph = graph
            .floats(&format!("{}.weight", layer.name), &[layer.cout, layer.cin, 3, 3], weight)
            .floats(&format!("{}.bias", layer.name), &[layer.cout], bias);
    }
    let mean: Vec<f32> = (0..channels).map(|c| RGB_MEAN.get(c).copied().unwrap_or(0.0)).collect();
    graph = graph.floats("mean", &[1, channels, 1, 1], &mean).node("Sub", &[INPUT, "mean"], "centred", &[]);

    // In the live family the base is added before the last shuffle, where both are at LR size.
    let mut ops = arch.ops();
    let last_shuffle = match (arch.base(), ops.last()) {
        (Base::Bicubic, Some(&Op::PixelShuffle { s, .. })) => {
            ops.pop();
            Some(s)
        }
        _ => None,
    };
    let mut values = vec!["centred".to_owned()];
    for op in &ops {
        let (next, last) = match *op {
            Op::Conv3x3 { layer, src, relu, add, scale } => {
                let name = &layers[layer].name;
                graph = graph.conv([&values[src], name, name], 1, true);
                let mut last = name.clone();
                let mut step = |graph: Message, kind: &str, other: Option<&str>| {
                    let output = format!("{name}.{}", kind.to_lowercase());
                    let graph = match other {
                        Some(other) => graph.node(kind, &[&last, other], &output, &[]),
                        None => graph.node(kind, &[&last], &output, &[]),
                    };
                    last = output;
                    graph
                };
                if relu {
                    graph = step(graph, "Relu", None);
                }
                if scale != 1.0 {
                    let factor = format!("{name}.scale");
                    graph = step(graph.floats(&factor, &[], &[scale]), "Mul", Some(&factor));
                }
                if let Some(add) = add {
                    graph = step(graph, "Add", Some(&values[add]));
                }
                (graph, last)
            }
            Op::PixelShuffle { src, s } => {
                let output = format!("{}.shuffled", values[src]);
                (graph.pixel_shuffle(&values[src], &output, s), output)
            }
        };
        graph = next;
        values.push(last);
    }
    let mut last = values.last().map_or(INPUT, String::as_str);
    if part == Part::Whole && arch.base() == Base::Bicubic {
        let s = arch.scale();
        let (weights, k, edge) = base_weights(s, channels);
        let pads = [0, 0, edge, edge, 0, 0, edge, edge].map(|pad| pad as i64);
        let pads: Vec<u8> = pads.into_iter().flat_map(i64::to_le_bytes).collect();
        let kernel = ints_attribute("kernel_shape", &[k as i64; 2]);
        graph = graph
            .tensor("edge", INT64, &[8], &pads)
            .node("Pad", &[INPUT, "edge"], "padded", &[text_attribute("mode", "edge")])
            .floats("base.weight", &[3 * s * s, channels, k, k], &weights)
            .node("Conv", &["padded", "base.weight"], "base", &[kernel])
            .node("Add", &[last, "base"], "sum", &[]);
        last = "sum";
    }
    if part == Part::Whole && arch.base() == Base::Mean {
        graph =
            graph.floats("mean.rgb", &[1, 3, 1, 1], &RGB_MEAN).node("Add", &[last, "mean.rgb"], "sum", &[]);
        last = "sum";
    }
    match last_shuffle {
        Some(s) => graph.pixel_shuffle(last, OUTPUT, s),
        None => graph.node("Identity", &[last], OUTPUT, &[]),
    }
}
