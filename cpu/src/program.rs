//! The network's program on maps: which op reads which map, and how the last one becomes an image.

use hone_model::arch::{Base, RGB_MEAN, quantiser_input};
use hone_model::backend::Images;
use hone_model::{Arch, Layer, Op, Weights};

use crate::bicubic::{Line, Taps};
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
        let mut maps = vec![Map::new(self.layers[0].cin, GROUP_RGB, h, w)];
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

    /// Runs all ops and calls `after(op)` when each is done; value `v` lives in `maps[at(v)]`, value 0 is loaded.
    pub fn run(
        &self,
        packed: &[Packed],
        maps: &mut [Map],
        at: impl Fn(usize) -> usize,
        threads: Threads,
        mut after: impl FnMut(&Op),
    ) {
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
            after(op);
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
    /// Row `y` of the image. `input` is value 0.
    #[inline(always)]
    pub fn row(&self, input: &Map, y: usize, out: &mut Line) {
        let base = match *self {
            Output::Base(taps) => Some(taps),
            Output::Network { base, .. } => base,
        };
        match base {
            Some(taps) => taps.row(input, y, out),
            None => out.values.fill(0.0),
        }
        let out = &mut out.values[..];
        for (plane, mean) in out.chunks_exact_mut(out.len() / 3).zip(RGB_MEAN) {
            plane.iter_mut().for_each(|v| *v += mean);
        }
        if let Output::Network { last, s, .. } = *self {
            match s {
                1 => add_shuffled::<1>(last, y, out),
                2 => add_shuffled::<2>(last, y, out),
                3 => add_shuffled::<3>(last, y, out),
                _ => add_shuffled::<4>(last, y, out),
            }
        }
    }
}

/// Adds row `y` of `last`, pixel-shuffled by S, to (3, S, W).
#[inline(always)]
fn add_shuffled<const S: usize>(last: &Map, y: usize, out: &mut [f32]) {
    let row = last.padded_row(y / S + 1);
    let mut planes = out.chunks_exact_mut(last.w);
    for c in 0..3 {
        let channel = (c * S + y % S) * S;
        let phases: [&mut [f32]; S] = std::array::from_fn(|_| planes.next().unwrap_or_default());
        let from: [&[f32]; S] = std::array::from_fn(|p| &row[last.at(channel + p, 0)..]);
        for x in 0..last.w {
            for p in 0..S {
                phases[p][x] += from[p][x * last.group];
            }
        }
    }
}

/// (3, s, W) f32 -> (s·W, 4) u8, alpha 255.
#[inline(always)]
pub fn store_rgba(line: &[f32], s: usize, rgba: &mut [u8]) {
    const BLOCK: usize = 64;
    let w = line.len() / (3 * s);
    let mut packed = [0u32; BLOCK];
    for phase in 0..s {
        let [r, g, b]: [&[f32]; 3] = std::array::from_fn(|c| &line[(c * s + phase) * w..][..w]);
        let blocks = r.chunks(BLOCK).zip(g.chunks(BLOCK)).zip(b.chunks(BLOCK));
        for (((r, g), b), rgba) in blocks.zip(rgba.chunks_mut(4 * s * BLOCK)) {
            for (((packed, r), g), b) in packed.iter_mut().zip(r).zip(g).zip(b) {
                let [r, g, b] = [r, g, b].map(|v| u32::from(quantise(*v)));
                *packed = r | g << 8 | b << 16 | 255 << 24;
            }
            for (pixels, packed) in rgba.chunks_exact_mut(4 * s).zip(&packed) {
                pixels[4 * phase..4 * phase + 4].copy_from_slice(&packed.to_le_bytes());
            }
        }
    }
}

/// (3, s, W) f32 -> (s·W, 3) f32.
#[inline(always)]
pub fn store_rgb(line: &[f32], s: usize, rgb: &mut [f32]) {
    for (plane, line) in line.chunks_exact(line.len() / (3 * s)).enumerate() {
        let (c, phase) = (plane / s, plane % s);
        rgb[3 * phase + c..].iter_mut().step_by(3 * s).zip(line).for_each(|(to, from)| *to = *from);
    }
}

/// One image of a batch as the network's input: RGB minus the mean, quantiser.
pub fn load_image(images: &Images, n: usize, map: &mut Map) {
    let rgb = &images.rgb[n * images.h * images.w * 3..][..images.h * images.w * 3];
    let quantiser = quantiser_input(images.quantisers[n]);
    for (row, rgb) in map.rows_mut().zip(rgb.chunks_exact(images.w * 3)) {
        for (pixel, rgb) in row[GROUP_RGB..].chunks_exact_mut(GROUP_RGB).zip(rgb.chunks_exact(3)) {
            for c in 0..3 {
                pixel[c] = rgb[c] - RGB_MEAN[c];
            }
            pixel[3] = quantiser;
        }
    }
}
