//! The two families of networks, as one short program over the same primitives.
//!
//! Every backend interprets [`Arch::ops`]; none knows a family by name. Source: Lim et al. 2017
//! (EDSR), arXiv:1707.02921, fig. 3 and table 1; the `live` family keeps its body and replaces the
//! upsampler by one convolution at LR size, a pixel shuffle and an image-space base.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Mean of the DIV2K training set, RGB in 0..=1: subtracted before the first convolution.
///
/// Source: EDSR-PyTorch, `MeanShift`.
pub const RGB_MEAN: [f32; 3] = [0.4488, 0.4371, 0.4040];

/// What the fourth input channel holds all over a picture: how coarsely H.264 coded it, from -0.5 to 0.5.
///
/// A network that knows can be bold on a fine picture and careful on a coarse one, as FFDNet is with noise (Zhang et al.
/// 2018, arXiv:1710.04026).
pub fn quantiser_input(quantiser: u8) -> f32 {
    (f32::from(quantiser) - f32::from(QUANTISER_UNKNOWN)) / 52.0
}

/// The quantiser (0 to 51) to assume where a stream does not tell.
pub const QUANTISER_UNKNOWN: u8 = 26;

/// Most residual blocks that an [`Arch`] may have (EDSR's largest has 32).
pub const BLOCKS_MAX: u16 = 64;
/// Most features that an [`Arch`] may have (EDSR's largest has 256).
pub const FEATURES_MAX: u16 = 256;

/// Which layers follow the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// As in the paper: upsampler of conv + pixel shuffle stages, then a convolution at HR size.
    Edsr,
    /// Knows the quantiser; one tail convolution to 3·s² at LR size, pixel shuffle, added to a bicubic upscale.
    Live,
}

/// What the network's output is added to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// [`RGB_MEAN`].
    Mean,
    /// The input, upscaled by [`crate::reference::bicubic()`] (the input itself at scale 1).
    Bicubic,
}

/// A network architecture: everything but its weights. Written `live-4x16-x2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Arch {
    /// Which layers follow the body.
    pub family: Family,
    /// Residual blocks in the body.
    pub blocks: u16,
    /// Channels of the body.
    pub features: u16,
    /// HR size over LR size: 1 to 4.
    pub scale: u8,
}

/// One 3x3 convolution with bias, stride 1, zero padding 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// EDSR-PyTorch's name for it, without `.weight` or `.bias`.
    pub name: String,
    /// Input channels.
    pub cin: usize,
    /// Output channels.
    pub cout: usize,
    /// Index of the first weight in [`Weights::params`](crate::Weights::params): (Cout, Cin, 3, 3), then Cout biases.
    pub offset: usize,
    /// Whether training starts with this layer at zero, so that the first output equals the base.
    pub zero_init: bool,
}

impl Layer {
    /// Weights and biases together.
    pub fn params(&self) -> usize {
        self.weights() + self.cout
    }

    /// Weights alone: 9·Cin·Cout.
    pub fn weights(&self) -> usize {
        9 * self.cin * self.cout
    }
}

/// One step of the network. Value 0 is the input minus [`RGB_MEAN`] and, in the `live` family, [`quantiser_input`] as a
/// fourth channel; the op at index `i` writes value `i + 1`.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// `y = scale · relu?(conv3x3(value[src])) + value[add]`, with ReLU and `add` optional.
    Conv3x3 {
        /// Index into [`Arch::layers`].
        layer: usize,
        /// Value read.
        src: usize,
        /// Whether negative outputs become zero.
        relu: bool,
        /// Value added after scaling (never together with `relu`).
        add: Option<usize>,
        /// EDSR's residual scaling; 1 elsewhere.
        scale: f32,
    },
    /// (N, C·s², H, W) -> (N, C, s·H, s·W).
    PixelShuffle {
        /// Value read.
        src: usize,
        /// Factor on each side.
        s: usize,
    },
}

/// Why an [`Arch`] was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArchError {
    /// Not of the form `family-BLOCKSxFEATURES-xSCALE`.
    #[error("`{0}` is no architecture: expected one like live-4x16-x2 or edsr-16x64-x4")]
    Syntax(String),
    /// A number is out of range.
    #[error(
        "architecture `{0}`: blocks 1 to {BLOCKS_MAX}, features 8 to {FEATURES_MAX} in steps of 8, scale 1 to 4"
    )]
    Range(String),
}

impl Arch {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`ArchError::Range`] outside blocks 1..=64, features 8..=256 in steps of 8, scale 1..=4.
    pub fn new(family: Family, blocks: u16, features: u16, scale: u8) -> Result<Self, ArchError> {
        let arch = Self { family, blocks, features, scale };
        let ok = (1..=BLOCKS_MAX).contains(&blocks)
            && (8..=FEATURES_MAX).contains(&features)
            && features.is_multiple_of(8)
            && (1..=4).contains(&scale);
        if ok { Ok(arch) } else { Err(ArchError::Range(arch.to_string())) }
    }

    /// HR size over LR size.
    pub fn scale(&self) -> usize {
        self.scale.into()
    }

    /// What the output is added to.
    pub fn base(&self) -> Base {
        match self.family {
            Family::Edsr => Base::Mean,
            Family::Live => Base::Bicubic,
        }
    }

    /// EDSR's residual scaling: 0.1 in its 256-feature network, 1 otherwise.
    ///
    /// Source: arXiv:1707.02921, section 3.3.
    pub fn residual_scale(&self) -> f32 {
        if self.family == Family::Edsr && self.features >= 256 { 0.1 } else { 1.0 }
    }

    /// Factors of the upsampler's pixel shuffles, in order.
    fn shuffles(&self) -> &'static [usize] {
        match (self.family, self.scale) {
            (_, 1) => &[],
            (_, 2) => &[2],
            (_, 3) => &[3],
            (Family::Edsr, _) => &[2, 2],
            (Family::Live, _) => &[4],
        }
    }

    /// All convolutions, in the order of their parameters.
    pub fn layers(&self) -> Vec<Layer> {
        let f = usize::from(self.features);
        let blocks = usize::from(self.blocks);
        let mut layers: Vec<Layer> = Vec::with_capacity(2 * blocks + 5);
        let mut offset = 0;
        let mut push = |name: String, cin, cout, zero_init| {
            let layer = Layer { name, cin, cout, offset, zero_init };
            offset += layer.params();
            layers.push(layer);
        };
        let input = match self.family {
            Family::Live => 4,
            Family::Edsr => 3,
        };
        push("head.0".into(), input, f, false);
        for b in 0..blocks {
            push(format!("body.{b}.body.0"), f, f, false);
            push(format!("body.{b}.body.2"), f, f, false);
        }
        push(format!("body.{blocks}"), f, f, false);
        match self.family {
            Family::Live => push("tail".into(), f, 3 * self.scale() * self.scale(), true),
            Family::Edsr => {
                for (i, s) in self.shuffles().iter().enumerate() {
                    // EDSR-PyTorch's upsampler is a Sequential of conv, shuffle, conv, shuffle.
                    push(format!("tail.0.{}", 2 * i), f, f * s * s, false);
                }
                push("tail.1".into(), f, 3, false);
            }
        }
        layers
    }

    /// The network as a program; its last value plus [`Arch::base`] is the output.
    pub fn ops(&self) -> Vec<Op> {
        let mut ops = Vec::new();
        let mut layer = 0;
        let mut conv = |ops: &mut Vec<Op>, src, relu, add, scale| {
            ops.push(Op::Conv3x3 { layer, src, relu, add, scale });
            layer += 1;
            ops.len()
        };
        let head = conv(&mut ops, 0, false, None, 1.0);
        let mut body = head;
        for _ in 0..self.blocks {
            let hidden = conv(&mut ops, body, true, None, 1.0);
            body = conv(&mut ops, hidden, false, Some(body), self.residual_scale());
        }
        let mut value = conv(&mut ops, body, false, Some(head), 1.0);
        if self.family == Family::Live {
            value = conv(&mut ops, value, false, None, 1.0);
        }
        for &s in self.shuffles() {
            if self.family == Family::Edsr {
                value = conv(&mut ops, value, false, None, 1.0);
            }
            ops.push(Op::PixelShuffle { src: value, s });
            value = ops.len();
        }
        if self.family == Family::Edsr {
            conv(&mut ops, value, false, None, 1.0);
        }
        ops
    }

    /// Number of parameters: weights and biases of all layers.
    pub fn params(&self) -> usize {
        self.layers().iter().map(Layer::params).sum()
    }

    /// Multiply-adds times two for one frame of `h` x `w` LR pixels, convolutions only.
    pub fn flops(&self, h: usize, w: usize) -> u64 {
        let layers = self.layers();
        let mut size = vec![(h * w) as u64];
        let mut total = 0;
        for op in self.ops() {
            let pixels = match op {
                Op::Conv3x3 { layer, src, .. } => {
                    total += 2 * size[src] * layers[layer].weights() as u64;
                    size[src]
                }
                Op::PixelShuffle { src, s } => size[src] * (s * s) as u64,
            };
            size.push(pixels);
        }
        total
    }

    /// Names the architecture on the wire: an FNV-1a hash of its written form and number of parameters.
    pub fn id(&self) -> u64 {
        format!("{self} {}", self.params()).bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = match self.family {
            Family::Edsr => "edsr",
            Family::Live => "live",
        };
        write!(f, "{family}-{}x{}-x{}", self.blocks, self.features, self.scale)
    }
}

impl FromStr for Arch {
    type Err = ArchError;

    fn from_str(s: &str) -> Result<Self, ArchError> {
        let parse = || {
            let (family, rest) = s.split_once('-')?;
            let (net, scale) = rest.split_once("-x")?;
            let (blocks, features) = net.split_once('x')?;
            let family = match family {
                "edsr" => Family::Edsr,
                "live" => Family::Live,
                _ => return None,
            };
            Some((family, blocks.parse().ok()?, features.parse().ok()?, scale.parse().ok()?))
        };
        let (family, blocks, features, scale) = parse().ok_or_else(|| ArchError::Syntax(s.into()))?;
        Self::new(family, blocks, features, scale)
    }
}

impl TryFrom<String> for Arch {
    type Error = ArchError;

    fn try_from(s: String) -> Result<Self, ArchError> {
        s.parse()
    }
}

impl From<Arch> for String {
    fn from(arch: Arch) -> Self {
        arch.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_form_round_trips_and_refuses() {
        for s in ["live-4x16-x2", "edsr-16x64-x4", "live-1x8-x1", "edsr-32x256-x3"] {
            assert_eq!(s.parse::<Arch>().unwrap().to_string(), s);
        }
        for s in ["", "live", "live-4x16", "live-4x16-2", "fast-4x16-x2", "live-4x16-x2x", "live--4x16-x2"] {
            assert!(matches!(s.parse::<Arch>(), Err(ArchError::Syntax(_))), "{s}");
        }
        for s in ["live-0x16-x2", "live-4x12-x2", "live-4x16-x5", "live-65x16-x2", "live-4x264-x2"] {
            assert!(matches!(s.parse::<Arch>(), Err(ArchError::Range(_))), "{s}");
        }
    }

    #[test]
    fn counts_match_hand_counts() {
        let live: Arch = "live-4x16-x2".parse().unwrap();
        // head 592, 8 body convs and the body's end 2,320 each, tail 1,740
        assert_eq!(live.params(), 592 + 9 * 2320 + 1740);
        assert_eq!(live.flops(270, 480), 2 * 129_600 * (576 + 9 * 2304 + 1728));
        // EDSR-baseline x2 has 1,369,859 trainable parameters (EDSR-PyTorch prints 1,370 K)
        assert_eq!("edsr-16x64-x2".parse::<Arch>().unwrap().params(), 1_369_859);
    }

    #[test]
    fn ops_read_only_earlier_values_and_use_each_layer_once() {
        for family in ["live", "edsr"] {
            for scale in 1..=4 {
                let arch: Arch = format!("{family}-2x8-x{scale}").parse().unwrap();
                let mut used = vec![0; arch.layers().len()];
                for (i, op) in arch.ops().iter().enumerate() {
                    match *op {
                        Op::Conv3x3 { layer, src, add, relu, .. } => {
                            used[layer] += 1;
                            assert!(src <= i && add.is_none_or(|a| a <= i) && !(relu && add.is_some()));
                        }
                        Op::PixelShuffle { src, .. } => assert!(src <= i),
                    }
                }
                assert!(used.iter().all(|&n| n == 1), "{arch}: {used:?}");
            }
        }
    }
}
