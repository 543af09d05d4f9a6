//! Activations on the device: planar groups of four channels with a border of zeros.

use bytemuck::{cast_slice, pod_collect_to_vec};
use hone_wgsl::CONV3X3_TILE;
use wgpu::{Buffer, BufferUsages};

use super::Gpu;
use crate::Error;

/// Rows and columns of pixels, and what they are padded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Rows.
    pub h: usize,
    /// Columns.
    pub w: usize,
}

impl Size {
    /// Rows with the border, whole tiles of `conv3x3.wgsl`, so that it reads without guards.
    pub fn padded_h(self) -> usize {
        self.h.next_multiple_of(CONV3X3_TILE) + 2
    }

    /// Columns with the border, as [`Size::padded_h`].
    pub fn padded_w(self) -> usize {
        self.w.next_multiple_of(CONV3X3_TILE) + 2
    }

    /// The `Size` of the shaders.
    pub(super) fn uniform(self) -> [u32; 4] {
        // Sides are at most `SIDE_MAX`, checked where a picture comes in.
        [self.w, self.h, self.padded_w(), self.padded_h()].map(|v| v as u32)
    }

    /// Workgroups over the pixels, `tile` on a side.
    pub(super) fn grid(self, tile: usize, z: usize) -> [u32; 3] {
        [self.w.div_ceil(tile), self.h.div_ceil(tile), z].map(|v| v as u32)
    }
}

/// One value of the network: (groups, HP, WP) vec4 of f32.
#[derive(Clone)]
pub struct Activation {
    size: Size,
    groups: usize,
    buffer: Buffer,
    uniform: Buffer,
}

impl Activation {
    /// All zeros, for `channels` rounded up to whole groups.
    ///
    /// # Errors
    /// [`Error::Buffer`] if the device cannot hold it.
    pub fn new(gpu: &Gpu, size: Size, channels: usize) -> Result<Self, Error> {
        let groups = channels.div_ceil(4);
        let bytes = (groups * size.padded_h() * size.padded_w()) as u64 * 16;
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_DST | BufferUsages::COPY_SRC;
        let buffer = gpu.buffer(bytes, usage)?;
        let uniform = gpu.uniform(cast_slice(&size.uniform()))?;
        Ok(Self { size, groups, buffer, uniform })
    }

    /// Rows and columns.
    pub fn size(&self) -> Size {
        self.size
    }

    /// Channels over four.
    pub fn groups(&self) -> usize {
        self.groups
    }

    pub(super) fn buffer(&self) -> &Buffer {
        &self.buffer
    }

    pub(super) fn uniform(&self) -> &Buffer {
        &self.uniform
    }

    /// Index of a value in the buffer, in floats; the border is at -1 and at `h`, `w` and beyond.
    fn at(&self, c: usize, i: usize, j: usize) -> usize {
        ((c / 4 * self.size.padded_h() + i + 1) * self.size.padded_w() + j + 1) * 4 + c % 4
    }

    /// Writes (C, H, W) values; the border and the channels beyond C become zero.
    ///
    /// # Panics
    /// If `values` are not whole channels, or more than there are.
    pub fn write(&self, gpu: &Gpu, values: &[f32]) {
        let Size { h, w } = self.size;
        assert!(values.len().is_multiple_of(h * w) && values.len() <= 4 * self.groups * h * w);
        let mut data = vec![0f32; (self.buffer.size() / 4) as usize];
        for (k, v) in values.iter().enumerate() {
            data[self.at(k / (h * w), k / w % h, k % w)] = *v;
        }
        gpu.queue().write_buffer(&self.buffer, 0, cast_slice(&data));
    }

    /// Reads back (4 * groups, H, W) values, and whether all of the border is still zero.
    ///
    /// # Errors
    /// [`Error::Lost`] if the device failed.
    pub fn read(&self, gpu: &Gpu) -> Result<(Vec<f32>, bool), Error> {
        let Size { h, w } = self.size;
        let mut data: Vec<f32> = pod_collect_to_vec(&gpu.read(&self.buffer)?);
        let mut values = Vec::with_capacity(4 * self.groups * h * w);
        for k in 0..4 * self.groups * h * w {
            values.push(std::mem::take(&mut data[self.at(k / (h * w), k / w % h, k % w)]));
        }
        Ok((values, data.iter().all(|&v| v == 0.0)))
    }
}
