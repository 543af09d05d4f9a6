//! A decoded picture on its way in, an upscaled one on its way out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytemuck::cast_slice;
use hone_model::Yuv420;
use hone_model::arch::quantiser_input;
use wgpu::{Buffer, BufferUsages};

use super::{Gpu, Size};
use crate::Error;

/// The planes of one decoded picture as textures, and how to read them.
pub struct Planes {
    size: Size,
    textures: [wgpu::Texture; 3],
    matrix: Buffer,
}

impl Planes {
    /// For pictures of `size`, even in rows and columns.
    ///
    /// # Errors
    /// [`Error::Buffer`] if the device cannot hold them.
    pub fn new(gpu: &Gpu, size: Size) -> Result<Self, Error> {
        let texture = |h: usize, w: usize| {
            gpu.device().create_texture(&wgpu::TextureDescriptor {
                label: None,
                // Sides are at most `SIDE_MAX`, checked where a picture comes in.
                size: wgpu::Extent3d { width: w as u32, height: h as u32, depth_or_array_layers: 1 },
                mip_level_count: 1,
                sample_count: 1,
                dimension: wgpu::TextureDimension::D2,
                format: wgpu::TextureFormat::R8Unorm,
                usage: wgpu::TextureUsages::TEXTURE_BINDING | wgpu::TextureUsages::COPY_DST,
                view_formats: &[],
            })
        };
        let Size { h, w } = size;
        let textures = [texture(h, w), texture(h / 2, w / 2), texture(h / 2, w / 2)];
        Ok(Self { size, textures, matrix: gpu.uniform(&[0; 64])? })
    }

    /// Uploads a picture; `mean` is what its RGB shall be lowered by.
    ///
    /// # Panics
    /// If the picture has another size.
    pub fn write(&self, gpu: &Gpu, picture: &Yuv420, mean: [f32; 3]) {
        picture.check();
        assert_eq!(self.size, Size { h: picture.h, w: picture.w });
        for (texture, data) in self.textures.iter().zip([picture.y, picture.u, picture.v]) {
            let layout = wgpu::TexelCopyBufferLayout {
                offset: 0,
                bytes_per_row: Some(texture.width()),
                rows_per_image: None,
            };
            gpu.queue().write_texture(texture.as_image_copy(), data, layout, texture.size());
        }
        let [r, g, b] = picture.colour.rgb_from_yuv();
        let mut matrix = [r, g, b, [0.0, 0.0, 0.0, f64::from(quantiser_input(picture.quantiser))]];
        for (row, mean) in matrix.iter_mut().zip(mean) {
            // The texture unit divides samples by 255.
            row[..3].iter_mut().for_each(|v| *v *= 255.0);
            row[3] -= f64::from(mean);
        }
        gpu.queue().write_buffer(&self.matrix, 0, cast_slice(&matrix.map(|row| row.map(|v| v as f32))));
    }

    pub(super) fn size(&self) -> Size {
        self.size
    }

    pub(super) fn textures(&self) -> &[wgpu::Texture; 3] {
        &self.textures
    }

    pub(super) fn matrix(&self) -> &Buffer {
        &self.matrix
    }
}

/// The upscaled picture, (H, W, 4) u8, and the mapped buffer that brings it back.
pub struct Rgba {
    size: Size,
    buffer: Buffer,
    readback: Buffer,
    mapped: Arc<AtomicBool>,
}

impl Rgba {
    /// For output pictures of `size`.
    ///
    /// # Errors
    /// [`Error::Buffer`] if the device cannot hold it.
    pub fn new(gpu: &Gpu, size: Size) -> Result<Self, Error> {
        let bytes = 4 * (size.h * size.w) as u64;
        let buffer = gpu.buffer(bytes, BufferUsages::STORAGE | BufferUsages::COPY_SRC)?;
        let readback = gpu.buffer(bytes, BufferUsages::COPY_DST | BufferUsages::MAP_READ)?;
        Ok(Self { size, buffer, readback, mapped: Arc::default() })
    }

    pub(super) fn size(&self) -> Size {
        self.size
    }

    pub(super) fn buffer(&self) -> &Buffer {
        &self.buffer
    }

    /// Records the copy to the mapped buffer.
    pub(super) fn copy(&self, encoder: &mut wgpu::CommandEncoder) {
        encoder.copy_buffer_to_buffer(&self.buffer, 0, &self.readback, 0, self.buffer.size());
    }

    /// Asks for the mapping; to be called once after the copy was submitted.
    pub(super) fn map(&self) {
        let mapped = Arc::clone(&self.mapped);
        self.readback.map_async(wgpu::MapMode::Read, .., move |result| {
            mapped.store(result.is_ok(), Ordering::Release);
        });
    }

    /// Takes the picture, once the device has been waited for.
    ///
    /// # Errors
    /// [`Error::Lost`] if it was not mapped.
    pub(super) fn take(&self, gpu: &Gpu, rgba: &mut Vec<u8>) -> Result<(), Error> {
        if !self.mapped.swap(false, Ordering::Acquire) {
            return Err(gpu.lost("the picture could not be mapped".into()));
        }
        rgba.clear();
        {
            let view = self.readback.get_mapped_range(..).map_err(|e| gpu.lost(e.to_string()))?;
            rgba.extend_from_slice(&view);
        }
        self.readback.unmap();
        Ok(())
    }

    /// Reads the picture back after [`Gpu::run`]: a copy of its own, for tests.
    ///
    /// # Errors
    /// [`Error::Lost`] if the device failed.
    pub fn read(&self, gpu: &Gpu) -> Result<Vec<u8>, Error> {
        gpu.read(&self.buffer)
    }
}
