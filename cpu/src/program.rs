//! The network's program on maps: which op reads which map, and how the last one becomes an image.

use hone_model::arch::{Base, RGB_MEAN};
use hone_model::backend::Images;
use hone_model::{Arch, Layer, Op, Weights};

use crate::bicubic::Taps;
use crate::conv3x3::{Epilogue, Packed, Threads, conv3x3};
use crate::map::{GROUP, GROUP_RGB, Map};
use crate::pixel_shuffle::pixel_shuffle;
use crate::yuv_rgb::quantise;

/// An [`Arch`] prepared for running: a pixel shuffle at the end is left to [`Output`].
pub struct Program {
    pub arch: Arch,
    pub layers: Vec<Layer>,
    pub ops: Vec<Op>,
    /// Factor of the shuffle that [`Output`] does; 1 if none.
    pub last_shuffle: usize,
    base: Option<Taps>,
}

impl Program {
    pub fn new(arch: Arch) -> Self {
        let mut ops = arch.ops();
        let last_shuffle = match ops.last() {
            Some(&Op::PixelShuffle { s, .. }) => {
                ops.pop();
                s
            }
            _ => 1,
        };
        let base = (arch.base() == Base::Bicubic).then(|| Taps::new(arch.scale()));
        Self { arch, layers: arch.layers(), ops, last_shuffle, base }
    }

    pub fn pack(&self, weights: &Weights) -> Vec<Packed> {
        self.layers
            .iter()
            .map(|layer| {
                let (weight, bias) = weights.layer(layer);
                Packed::new(layer, weight, bias)
            })
            .collect()
    }

    /// One map for each value, for an input of `h` x `w`.
    pub fn maps(&self, h: usize, w: usize) -> Vec<Map> {
        let mut maps = vec![Map::new(3, GROUP_RGB, h, w)];
        for op in &self.ops {
            maps.push(match *op {
                Op::Conv3x3 { layer, src, .. } => {
                    Map::new(self.layers[layer].cout, GROUP, maps[src].h, maps[src].w)
                }
                Op::PixelShuffle { src, s } => {
                    Map::new(maps[src].c / (s * s), GROUP, maps[src].h * s, maps[src].w * s)
                }
            });
        }
        maps
    }

    /// For each value, the buffer that holds it, and how many buffers that takes: a buffer is used again
    /// once nobody will read its value and the sizes agree.
    pub fn reuse(&self) -> (Vec<usize>, usize) {
        let sizes: Vec<_> = self.maps(1, 1).iter().map(|map| (map.c, map.group, map.h)).collect();
        let last_read = |value: usize| {
            let reads = self.ops.iter().enumerate().filter(|(_, op)| match **op {
                Op::Conv3x3 { src, add, .. } => src == value || add == Some(value),
                Op::PixelShuffle { src, .. } => src == value,
            });
            // The input is read once more, as the base of the output; so is the last value.
            if value == 0 || value == self.ops.len() {
                usize::MAX
            } else {
                reads.map(|(i, _)| i).max().unwrap_or(0)
            }
        };
        let mut holders: Vec<usize> = vec![];
        let mut buffers = vec![];
        for value in 0..=self.ops.len() {
            let free = holders
                .iter()
                .position(|&held| sizes[held] == sizes[value] && last_read(held).saturating_add(1) < value);
            let buffer = free.unwrap_or_else(|| {
                holders.push(value);
                holders.len() - 1
            });
            holders[buffer] = value;
            buffers.push(buffer);
        }
        (buffers, holders.len())
    }

    /// Runs all ops; value `v` lives in `maps[at(v)]`, value 0 is loaded.
    pub fn run(&self, packed: &[Packed], maps: &mut [Map], at: impl Fn(usize) -> usize, threads: Threads) {
        for (i, op) in self.ops.iter().enumerate() {
            // Taken out while it is written; an empty map takes no memory.
            let mut dst = std::mem::replace(&mut maps[at(i + 1)], Map::new(0, GROUP, 0, 0));
            match *op {
                Op::Conv3x3 { layer, src, relu, add, scale } => {
                    let epilogue =
                        Epilogue { relu, scale: Some(scale), add: add.map(|add| &maps[at(add)]), gate: None };
                    conv3x3(&maps[at(src)], &packed[layer], epilogue, &mut dst, threads);
                }
                Op::PixelShuffle { src, s } => pixel_shuffle(&maps[at(src)], s, &mut dst),
            }
            maps[at(i + 1)] = dst;
        }
    }

    /// How the last value and the input become the image.
    pub fn output<'a>(&'a self, last: &'a Map) -> Output<'a> {
        Output::Network { last, s: self.last_shuffle, base: self.base.as_ref() }
    }
}

/// The last stage: pixel shuffle, base, mean.
pub enum Output<'a> {
    /// The base alone.
    Base(&'a Taps),
    /// The network's last value, shuffled, on its base ([`RGB_MEAN`] if none).
    Network { last: &'a Map, s: usize, base: Option<&'a Taps> },
}

impl Output<'_> {
    /// Row `y` of the image as (s·W, 4) f32; the fourth channel is unspecified. `input` is value 0.
    #[inline(always)]
    pub fn row(&self, input: &Map, y: usize, out: &mut [f32]) {
        let base = match *self {
            Output::Base(taps) => Some(taps),
            Output::Network { base, .. } => base,
        };
        match base {
            Some(taps) => taps.row(input, y, out),
            None => out.fill(0.0),
        }
        for pixel in out.chunks_exact_mut(GROUP_RGB) {
            for (v, mean) in pixel.iter_mut().zip(RGB_MEAN) {
                *v += mean;
            }
        }
        if let Output::Network { last, s, .. } = *self {
            let row = last.padded_row(y / s + 1);
            for c in 0..3 {
                for dx in 0..s {
                    let from = row[last.at((c * s + y % s) * s + dx, 0)..].iter().step_by(last.group);
                    let to = out[dx * GROUP_RGB + c..].iter_mut().step_by(s * GROUP_RGB);
                    for (to, from) in to.zip(from) {
                        *to += from;
                    }
                }
            }
        }
    }
}

/// (W, 4) f32 -> (W, 4) u8, alpha 255.
#[inline(always)]
pub fn store_rgba(line: &[f32], rgba: &mut [u8]) {
    for (to, from) in rgba.chunks_exact_mut(4).zip(line.chunks_exact(GROUP_RGB)) {
        for c in 0..3 {
            to[c] = quantise(from[c]);
        }
        to[3] = 255;
    }
}

/// One image of a batch, minus the mean, as the network's input.
pub fn load_image(images: &Images, n: usize, map: &mut Map) {
    let rgb = &images.rgb[n * images.h * images.w * 3..][..images.h * images.w * 3];
    for (row, rgb) in map.rows_mut().zip(rgb.chunks_exact(images.w * 3)) {
        for (pixel, rgb) in row[GROUP_RGB..].chunks_exact_mut(GROUP_RGB).zip(rgb.chunks_exact(3)) {
            for c in 0..3 {
                pixel[c] = rgb[c] - RGB_MEAN[c];
            }
        }
    }
}
