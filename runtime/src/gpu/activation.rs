//! Activations on the device: layers of four channels with a border of zeros.

use bytemuck::{cast_slice, pod_collect_to_vec};
use half::f16;
use hone_wgsl::{CONV3X3_TILE, Precision};
use wgpu::{Buffer, BufferUsages, Texture, TextureFormat, TextureUsages, TextureView};

use super::Gpu;
use crate::Error;

/// Rows and columns of pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Rows.
    pub h: usize,
    /// Columns.
    pub w: usize,
}

impl Size {
    /// Both times `s`.
    pub fn times(self, s: usize) -> Self {
        Self { h: self.h * s, w: self.w * s }
    }

    /// With the border, whole tiles of `conv3x3.wgsl`, so that it reads without guards.
    fn padded(self) -> Self {
        let padded = |side: usize| side.next_multiple_of(CONV3X3_TILE) + 2;
        Self { h: padded(self.h), w: padded(self.w) }
    }

    /// The `Size` of the shaders.
    pub(super) fn uniform(self) -> [u32; 2] {
        // Sides are at most `SIDE_MAX`, checked where a picture comes in.
        [self.w, self.h].map(|v| v as u32)
    }

    /// Workgroups over the pixels, (rows, columns) of them each.
    pub(super) fn grid(self, tile: (usize, usize), z: usize) -> [u32; 3] {
        [self.w.div_ceil(tile.1), self.h.div_ceil(tile.0), z].map(|v| v as u32)
    }
}

/// One value of the network: (layers, H, W) texels of four channels.
#[derive(Clone)]
pub struct Activation {
    size: Size,
    layers: usize,
    precision: Precision,
    texture: Texture,
    view: TextureView,
    uniform: Buffer,
}

impl Activation {
    /// All zeros, for `channels` rounded up to whole layers.
    ///
    /// # Errors
    /// [`Error::Buffer`] if the device cannot hold it.
    pub fn new(gpu: &Gpu, precision: Precision, size: Size, channels: usize) -> Result<Self, Error> {
        let layers = channels.div_ceil(4);
        let (padded, format, texel) = (size.padded(), format(precision), texel_bytes(precision));
        // A texture has no limit in bytes of its own; what no buffer may be, it may not be either.
        gpu.fits((layers * padded.h * padded.w * texel) as u64)?;
        gpu.fits_sides(padded, layers)?;
        let texture = gpu.device().create_texture(&wgpu::TextureDescriptor {
            label: None,
            size: wgpu::Extent3d {
                width: padded.w as u32,
                height: padded.h as u32,
                depth_or_array_layers: layers as u32,
            },
            mip_level_count: 1,
            sample_count: 1,
            dimension: wgpu::TextureDimension::D2,
            format,
            usage: TextureUsages::STORAGE_BINDING
                | TextureUsages::TEXTURE_BINDING
                | TextureUsages::COPY_DST
                | TextureUsages::COPY_SRC,
            view_formats: &[],
        });
        let view = texture.create_view(&wgpu::TextureViewDescriptor {
            dimension: Some(wgpu::TextureViewDimension::D2Array),
            ..Default::default()
        });
        let uniform = gpu.uniform(cast_slice(&size.uniform()))?;
        Ok(Self { size, layers, precision, texture, view, uniform })
    }

    /// Rows and columns.
    pub fn size(&self) -> Size {
        self.size
    }

    /// Channels over four.
    pub fn layers(&self) -> usize {
        self.layers
    }

    pub(super) fn precision(&self) -> Precision {
        self.precision
    }

    pub(super) fn view(&self) -> &TextureView {
        &self.view
    }

    pub(super) fn uniform(&self) -> &Buffer {
        &self.uniform
    }

    /// Bytes from row to row in a copy: WebGPU's alignment.
    fn pitch(&self) -> usize {
        let row = self.size.padded().w * texel_bytes(self.precision);
        row.next_multiple_of(wgpu::COPY_BYTES_PER_ROW_ALIGNMENT as usize)
    }

    /// Index of a value in a copy, in channels; the border is at -1 and at `h`, `w` and beyond.
    fn at(&self, c: usize, i: usize, j: usize) -> usize {
        let row_channels = self.pitch() / texel_bytes(self.precision) * 4;
        (c / 4 * self.size.padded().h + i + 1) * row_channels + (j + 1) * 4 + c % 4
    }

    fn layout(&self) -> wgpu::TexelCopyBufferLayout {
        wgpu::TexelCopyBufferLayout {
            offset: 0,
            bytes_per_row: Some(self.pitch() as u32),
            rows_per_image: Some(self.size.padded().h as u32),
        }
    }

    fn copy_bytes(&self) -> usize {
        self.pitch() * self.size.padded().h * self.layers
    }

    /// Writes (C, H, W) values; the border and the channels beyond C become zero.
    ///
    /// # Panics
    /// If `values` are not whole channels, or more than there are.
    pub fn write(&self, gpu: &Gpu, values: &[f32]) {
        let Size { h, w } = self.size;
        assert!(values.len().is_multiple_of(h * w) && values.len() <= 4 * self.layers * h * w);
        let mut data = vec![0f32; self.copy_bytes() / (texel_bytes(self.precision) / 4)];
        for (k, v) in values.iter().enumerate() {
            data[self.at(k / (h * w), k / w % h, k % w)] = *v;
        }
        let half: Vec<u16>;
        let bytes: &[u8] = if self.precision.stores_f16() {
            half = data.iter().map(|&v| f16::from_f32(v).to_bits()).collect();
            cast_slice(&half)
        } else {
            cast_slice(&data)
        };
        gpu.queue().write_texture(self.texture.as_image_copy(), bytes, self.layout(), self.texture.size());
    }

    /// Reads back (4 * layers, H, W) values, and whether all of the border is still zero.
    ///
    /// # Errors
    /// [`Error::Lost`] if the device failed.
    pub fn read(&self, gpu: &Gpu) -> Result<(Vec<f32>, bool), Error> {
        let Size { h, w } = self.size;
        let usage = BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
        let buffer = gpu.buffer(self.copy_bytes() as u64, usage)?;
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        let target = wgpu::TexelCopyBufferInfo { buffer: &buffer, layout: self.layout() };
        encoder.copy_texture_to_buffer(self.texture.as_image_copy(), target, self.texture.size());
        gpu.queue().submit([encoder.finish()]);
        let bytes = gpu.read(&buffer)?;
        let mut data: Vec<f32> = if self.precision.stores_f16() {
            let half: Vec<u16> = pod_collect_to_vec(&bytes);
            half.into_iter().map(|bits| f16::from_bits(bits).to_f32()).collect()
        } else {
            pod_collect_to_vec(&bytes)
        };
        let mut values = Vec::with_capacity(4 * self.layers * h * w);
        for k in 0..4 * self.layers * h * w {
            values.push(std::mem::take(&mut data[self.at(k / (h * w), k / w % h, k % w)]));
        }
        Ok((values, data.iter().all(|&v| v == 0.0)))
    }
}

pub(super) fn format(precision: Precision) -> TextureFormat {
    if precision.stores_f16() { TextureFormat::Rgba16Float } else { TextureFormat::Rgba32Float }
}

fn texel_bytes(precision: Precision) -> usize {
    if precision.stores_f16() { 8 } else { 16 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::AdapterChoice;

    /// 168 MB: more than the 128 MiB that many adapters let a shader have of one buffer.
    #[test]
    fn full_hd_of_a_wide_network_is_a_texture_like_others() {
        let gpu = match Gpu::open(&AdapterChoice { allow_software: true, adapter: None }) {
            Ok(gpu) => gpu,
            Err(Error::NoAdapter { .. }) => return eprintln!("SKIPPED: no wgpu adapter"),
            Err(error) => panic!("{error}"),
        };
        Activation::new(&gpu, Precision::F32, Size { h: 1080, w: 1920 }, 20).unwrap();
        gpu.check().unwrap();
        let storage = gpu.device().limits().max_storage_buffer_binding_size;
        assert!(gpu.buffer(storage + 4, BufferUsages::STORAGE).is_err());
    }
}
