//! A decoded picture on its way in, an upscaled one on its way out, each with the mapped buffer between it and us.

use bytemuck::bytes_of;
use hone_model::Yuv420;
use hone_model::arch::quantiser_input;
use wgpu::{
    Buffer, BufferUsages, CommandEncoder, MapMode, Texture, TextureFormat, TextureUsages, TextureView,
};

use super::device::texture;
use super::mapped::Mapped;
use super::{Gpu, Size};
use crate::Error;

/// Bytes from row to row in a copy between buffer and texture: WebGPU's alignment.
fn pitch(row_bytes: usize) -> usize {
    row_bytes.next_multiple_of(wgpu::COPY_BYTES_PER_ROW_ALIGNMENT as usize)
}

/// Where texels of a buffer lie.
fn layout(offset: usize, pitch: usize) -> wgpu::TexelCopyBufferLayout {
    wgpu::TexelCopyBufferLayout {
        offset: offset as u64,
        bytes_per_row: Some(pitch as u32),
        rows_per_image: None,
    }
}

/// The planes of one decoded picture as textures, and how to read them.
pub struct Planes {
    size: Size,
    textures: [Texture; 3],
    views: [TextureView; 3],
    matrix: Buffer,
    upload: Mapped,
    /// Where each plane begins in `upload`; the matrix comes first.
    offsets: [usize; 3],
    /// The `Size` of the shaders.
    uniform: Buffer,
}

/// Bytes of the matrix at the start of an upload, rounded up so that planes begin where copies may.
const MATRIX_BYTES: usize = 256;

impl Planes {
    /// For pictures of `size`, even in rows and columns.
    ///
    /// # Errors
    /// [`Error::Buffer`] if the device cannot hold them.
    pub fn new(gpu: &Gpu, size: Size) -> Result<Self, Error> {
        let Size { h, w } = size;
        let usage = TextureUsages::TEXTURE_BINDING | TextureUsages::COPY_DST | TextureUsages::COPY_SRC;
        let half = Size { h: h / 2, w: w / 2 };
        let plane_bytes = |size: Size| pitch(size.w) * size.h;
        let luma_end = MATRIX_BYTES + plane_bytes(size);
        let bytes = luma_end + 2 * plane_bytes(half);
        let upload = Mapped::new(gpu, bytes, MapMode::Write)?;
        let textures =
            [size, half, half].map(|size| texture(gpu.device(), size, TextureFormat::R8Unorm, usage));
        Ok(Self {
            size,
            views: textures.each_ref().map(|t| t.create_view(&Default::default())),
            textures,
            matrix: gpu.buffer(64, BufferUsages::UNIFORM | BufferUsages::COPY_DST)?,
            upload,
            offsets: [MATRIX_BYTES, luma_end, luma_end + plane_bytes(half)],
            uniform: gpu.uniform(bytes_of(&size.uniform()))?,
        })
    }

    /// Puts a picture into the mapped buffer and records its way to the planes; `mean` is what its RGB shall be
    /// lowered by. [`Planes::map`] is to follow once that is submitted.
    ///
    /// # Errors
    /// [`Error::Lost`] if the buffer is not mapped.
    ///
    /// # Panics
    /// If the picture has another size.
    pub(super) fn write(
        &self,
        gpu: &Gpu,
        encoder: &mut CommandEncoder,
        picture: &Yuv420,
        mean: [f32; 3],
    ) -> Result<(), Error> {
        picture.check();
        assert_eq!(self.size, Size { h: picture.h, w: picture.w });
        let [r, g, b] = picture.colour.rgb_from_yuv();
        let mut matrix = [r, g, b, [0.0, 0.0, 0.0, f64::from(quantiser_input(picture.quantiser))]];
        for (row, mean) in matrix.iter_mut().zip(mean) {
            // The texture unit divides samples by 255.
            row[..3].iter_mut().for_each(|v| *v *= 255.0);
            row[3] -= f64::from(mean);
        }
        let matrix = matrix.map(|row| row.map(|v| v as f32));
        self.upload.take(gpu)?;
        {
            let mut view =
                self.upload.buffer.get_mapped_range_mut(..).map_err(|e| gpu.lost(e.to_string()))?;
            view.slice(..64).copy_from_slice(bytes_of(&matrix));
            for (i, data) in [picture.y, picture.u, picture.v].into_iter().enumerate() {
                let w = self.textures[i].width() as usize;
                for (k, row) in data.chunks_exact(w).enumerate() {
                    let at = self.offsets[i] + k * pitch(w);
                    view.slice(at..at + w).copy_from_slice(row);
                }
            }
        }
        self.upload.buffer.unmap();
        encoder.copy_buffer_to_buffer(&self.upload.buffer, 0, &self.matrix, 0, 64);
        for (texture, offset) in self.textures.iter().zip(self.offsets) {
            let source = wgpu::TexelCopyBufferInfo {
                buffer: &self.upload.buffer,
                layout: layout(offset, pitch(texture.width() as usize)),
            };
            encoder.copy_buffer_to_texture(source, texture.as_image_copy(), texture.size());
        }
        Ok(())
    }

    /// Asks for the buffer back, for the next picture.
    pub(super) fn map(&self) {
        self.upload.map();
    }

    /// Uploads a picture and waits, for tests.
    ///
    /// # Errors
    /// [`Error::Lost`] if the device failed.
    pub fn upload(&self, gpu: &Gpu, picture: &Yuv420, mean: [f32; 3]) -> Result<(), Error> {
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        self.write(gpu, &mut encoder, picture, mean)?;
        let submission = gpu.queue().submit([encoder.finish()]);
        self.map();
        gpu.wait(submission)
    }

    pub(super) fn size(&self) -> Size {
        self.size
    }

    pub(super) fn uniform(&self) -> &Buffer {
        &self.uniform
    }

    pub(super) fn views(&self) -> [&TextureView; 3] {
        self.views.each_ref()
    }

    pub(super) fn luma(&self) -> &Texture {
        &self.textures[0]
    }

    pub(super) fn matrix(&self) -> &Buffer {
        &self.matrix
    }
}

/// The upscaled picture, (H, W) rgba8unorm, and the mapped buffer that brings it back.
pub struct Rgba {
    size: Size,
    texture: Texture,
    view: TextureView,
    readback: Mapped,
}

impl Rgba {
    /// For output pictures of `size`.
    ///
    /// # Errors
    /// [`Error::Buffer`] if the device cannot hold it.
    pub fn new(gpu: &Gpu, size: Size) -> Result<Self, Error> {
        gpu.fits_sides(size, 1)?;
        let readback = Mapped::new(gpu, pitch(4 * size.w) * size.h, MapMode::Read)?;
        let usage = TextureUsages::STORAGE_BINDING | TextureUsages::TEXTURE_BINDING | TextureUsages::COPY_SRC;
        let texture = texture(gpu.device(), size, TextureFormat::Rgba8Unorm, usage);
        let view = texture.create_view(&Default::default());
        Ok(Self { size, texture, view, readback })
    }

    pub(super) fn size(&self) -> Size {
        self.size
    }

    pub(super) fn view(&self) -> &TextureView {
        &self.view
    }

    pub(super) fn texture(&self) -> &Texture {
        &self.texture
    }

    /// Records the copy to the mapped buffer. [`Rgba::map`] is to follow once that is submitted.
    pub(super) fn copy(&self, encoder: &mut CommandEncoder) {
        let target = wgpu::TexelCopyBufferInfo {
            buffer: &self.readback.buffer,
            layout: layout(0, pitch(4 * self.size.w)),
        };
        encoder.copy_texture_to_buffer(self.texture.as_image_copy(), target, self.texture.size());
    }

    pub(super) fn map(&self) {
        self.readback.map();
    }

    /// Takes the picture, once the device has been waited for.
    ///
    /// # Errors
    /// [`Error::Lost`] if it was not mapped.
    pub(super) fn take(&self, gpu: &Gpu, rgba: &mut Vec<u8>) -> Result<(), Error> {
        self.readback.take(gpu)?;
        rgba.clear();
        {
            let view = self.readback.buffer.get_mapped_range(..).map_err(|e| gpu.lost(e.to_string()))?;
            let row = 4 * self.size.w;
            view.chunks_exact(pitch(row)).for_each(|line| rgba.extend_from_slice(&line[..row]));
        }
        self.readback.buffer.unmap();
        Ok(())
    }

    /// Reads the picture back after [`Gpu::run`], for tests.
    ///
    /// # Errors
    /// [`Error::Lost`] if the device failed.
    pub fn read(&self, gpu: &Gpu) -> Result<Vec<u8>, Error> {
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        self.copy(&mut encoder);
        let submission = gpu.queue().submit([encoder.finish()]);
        self.map();
        gpu.wait(submission)?;
        let mut rgba = Vec::new();
        self.take(gpu, &mut rgba)?;
        Ok(rgba)
    }
}
