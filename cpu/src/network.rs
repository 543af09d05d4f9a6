//! Inference.

use hone_model::backend::Images;
use hone_model::{Op, Weights, Yuv420};
use rayon::prelude::*;

use crate::bicubic::Line;
use crate::conv3x3::{Packed, Threads};
use crate::map::Map;
use crate::program::{Program, load_image, store_rgb, store_rgba};
use crate::simd::simd;
use crate::yuv_rgb::load_picture;

/// A network with its weights, ready for pictures of any size.
pub struct Network {
    program: Program,
    packed: Vec<Packed>,
    /// Buffer of each value.
    buffers: Vec<usize>,
    buffer_count: usize,
    maps: Vec<Map>,
}

impl Network {
    /// Packs the weights.
    pub fn new(weights: &Weights) -> Self {
        let program = Program::new(weights.arch());
        let (buffers, buffer_count) = program.reuse();
        Self { packed: program.pack(weights), program, buffers, buffer_count, maps: vec![] }
    }

    /// The architecture.
    pub fn arch(&self) -> hone_model::Arch {
        self.program.arch
    }

    /// Packs other weights of the same architecture.
    ///
    /// # Panics
    /// If the architecture differs.
    pub fn set_weights(&mut self, weights: &Weights) {
        assert_eq!(weights.arch(), self.arch(), "weights of another network");
        self.packed = self.program.pack(weights);
    }

    fn allocate(&mut self, h: usize, w: usize) {
        if self.maps.first().is_none_or(|map| (map.h, map.w) != (h, w)) {
            let mut slots: Vec<Option<Map>> = (0..self.buffer_count).map(|_| None).collect();
            // For one pixel, a map's sides are its scale. Most values share a buffer: theirs is not even allocated.
            for (value, map) in self.program.maps(1, 1).into_iter().enumerate() {
                let sized = || Map::new(map.c, map.group, map.h * h, map.w * w);
                slots[self.buffers[value]].get_or_insert_with(sized);
            }
            self.maps = slots.into_iter().flatten().collect();
        }
    }

    /// Runs on what is loaded and calls `store(line, s, out)` for each output row, `line` being its [`Line::values`], on all
    /// cores.
    fn run<T: Send>(
        &mut self,
        out: &mut [T],
        channels: usize,
        store: impl Fn(&[f32], usize, &mut [T]) + Sync,
        mut after: impl FnMut(&str),
    ) {
        let Program { layers, .. } = &self.program;
        let buffer = |value| self.buffers[value];
        self.program.run(&self.packed, &mut self.maps, buffer, Threads::All, |op| match *op {
            Op::Conv3x3 { layer, .. } => after(&layers[layer].name),
            Op::PixelShuffle { .. } => after("pixel_shuffle"),
        });
        let input = &self.maps[self.buffers[0]];
        let output = self.program.output(&self.maps[self.buffers[self.program.ops.len()]]);
        let width = input.w * self.program.arch.scale();
        assert_eq!(out.len(), input.h * self.program.arch.scale() * width * channels, "size of the output");
        let rows = out.par_chunks_exact_mut(width * channels).enumerate();
        rows.for_each(|(y, out)| {
            Line::with(input.w, self.program.arch.scale(), |line| {
                simd(
                    (line, out),
                    #[inline(always)]
                    |(line, out)| {
                        output.row(input, y, line);
                        store(&line.values, self.program.last_shuffle, out);
                    },
                );
            });
        });
        after("bicubic");
    }

    /// Picture -> (s·H, s·W, 4) 8-bit RGBA, rounded and clamped, alpha 255.
    ///
    /// # Panics
    /// If `rgba` has another length.
    pub fn upscale(&mut self, picture: &Yuv420, rgba: &mut [u8]) {
        self.upscale_watched(picture, rgba, |_| ());
    }

    /// As [`Self::upscale`]; calls `after` with the name of each pass when it is done: `yuv_rgb`, the layers,
    /// `bicubic`.
    ///
    /// # Panics
    /// If `rgba` has another length.
    pub fn upscale_watched(&mut self, picture: &Yuv420, rgba: &mut [u8], mut after: impl FnMut(&str)) {
        self.allocate(picture.h, picture.w);
        load_picture(picture, &mut self.maps[0]);
        after("yuv_rgb");
        self.run(rgba, 4, store_rgba, after);
    }

    /// (N, H, W, 3) -> (N, s·H, s·W, 3), not clamped.
    pub fn forward(&mut self, lr: &Images) -> Images {
        let s = self.program.arch.scale();
        let mut hr = Images::zeros(lr.n, lr.h * s, lr.w * s);
        self.allocate(lr.h, lr.w);
        for (n, out) in hr.rgb.chunks_exact_mut(lr.h * lr.w * s * s * 3).enumerate() {
            load_image(lr, n, &mut self.maps[0]);
            self.run(out, 3, store_rgb, |_| ());
        }
        hr
    }
}
