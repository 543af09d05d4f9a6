//! What a device keeps of the network's last frame, and the dispatches that make a frame of it.

use std::sync::Arc;

use hone_model::arch::RGB_MEAN;
use hone_model::reference::{STILL_CELL, STILL_CODES};
use hone_wgsl::{PIXEL_TILE, Precision, REUSE, STILLNESS};
use wgpu::{
    BindingResource, BufferUsages, CommandEncoder, Texture, TextureFormat, TextureUsages, TextureView,
};

use super::device::texture;
use super::pass::bind;
use super::plan::{FRAMES, Slot};
use super::{Activation, Gpu, Pass, Planes, Rgba, Size};
use crate::Error;

/// Luma that the network saw, the same as RGB, what it made of it, and the weights of the newest picture against it.
pub struct Kept {
    luma: Texture,
    rgb: Activation,
    shown: Texture,
    weights: Texture,
    views: Views,
}

struct Views {
    luma: TextureView,
    shown: TextureView,
    weights: TextureView,
}

impl Kept {
    /// For pictures of `size` and frames of `s` times that; nothing is kept yet.
    ///
    /// # Errors
    /// [`Error::Buffer`] or [`Error::Texture`] if the device cannot hold it.
    pub fn new(gpu: &Gpu, s: usize, size: Size) -> Result<Self, Error> {
        gpu.fits_sides(size.times(s), 1)?;
        let rgb = Activation::new(gpu, Precision::F32, size, 4)?;
        let make = |size, format, usage| texture(gpu.device(), size, format, usage);
        let (read, filled) = (TextureUsages::TEXTURE_BINDING, TextureUsages::COPY_DST);
        let luma = make(size, TextureFormat::R8Unorm, read | filled);
        let shown = make(size.times(s), TextureFormat::Rgba8Unorm, read | filled);
        let written = TextureUsages::STORAGE_BINDING | TextureUsages::COPY_SRC;
        let weights = make(corners(size), TextureFormat::R32Float, read | written);
        let view = |texture: &Texture| texture.create_view(&Default::default());
        let views = Views { luma: view(&luma), shown: view(&shown), weights: view(&weights) };
        Ok(Self { luma, rgb, shown, weights, views })
    }

    /// Records the copies of a frame of the network; [`Pass::yuv_rgb`] to [`Kept::rgb`] is to run beside it.
    pub(super) fn copy(&self, encoder: &mut CommandEncoder, planes: &Planes, rgba: &Rgba) {
        for (from, to) in [(planes.luma(), &self.luma), (rgba.texture(), &self.shown)] {
            encoder.copy_texture_to_texture(from.as_image_copy(), to.as_image_copy(), to.size());
        }
    }

    /// Keeps the luma of a picture and waits, for tests.
    ///
    /// # Errors
    /// [`Error::Lost`] if the device failed.
    pub fn keep_luma(&self, gpu: &Gpu, planes: &Planes) -> Result<(), Error> {
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        let to = self.luma.as_image_copy();
        encoder.copy_texture_to_texture(planes.luma().as_image_copy(), to, self.luma.size());
        gpu.wait(gpu.queue().submit([encoder.finish()]))
    }

    /// The weights, after [`Gpu::run`], for tests.
    ///
    /// # Errors
    /// [`Error::Lost`] if the device failed.
    pub fn weights(&self, gpu: &Gpu) -> Result<Vec<f32>, Error> {
        let size = self.weights.size();
        let row = 4 * size.width;
        let pitch = row.next_multiple_of(wgpu::COPY_BYTES_PER_ROW_ALIGNMENT);
        let usage = BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
        let buffer = gpu.buffer(u64::from(pitch * size.height), usage)?;
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        let layout = wgpu::TexelCopyBufferLayout { bytes_per_row: Some(pitch), ..Default::default() };
        let target = wgpu::TexelCopyBufferInfo { buffer: &buffer, layout };
        encoder.copy_texture_to_buffer(self.weights.as_image_copy(), target, size);
        gpu.queue().submit([encoder.finish()]);
        let bytes = gpu.read(&buffer)?;
        Ok(bytes
            .chunks_exact(pitch as usize)
            .flat_map(|line| bytemuck::pod_collect_to_vec(&line[..row as usize]))
            .collect())
    }

    /// RGB of the picture that is kept.
    pub fn rgb(&self) -> &Activation {
        &self.rgb
    }
}

/// Corners of the cells of a picture.
fn corners(size: Size) -> Size {
    Size { h: size.h.div_ceil(STILL_CELL) + 1, w: size.w.div_ceil(STILL_CELL) + 1 }
}

impl Pass {
    /// Luma now and as it was kept -> the weights of `kept`.
    ///
    /// # Panics
    /// If sizes do not fit together.
    pub fn stillness(gpu: &Gpu, planes: &Planes, kept: &Kept) -> Self {
        let size = planes.size();
        assert!(kept.rgb.size() == size);
        let codes = [("STILL_CODES", f64::from(STILL_CODES))];
        let pipeline = gpu.pipeline(STILLNESS, Precision::F32, &codes);
        let resources = [
            planes.uniform().as_entire_binding(),
            BindingResource::TextureView(planes.views()[0]),
            BindingResource::TextureView(&kept.views.luma),
            BindingResource::TextureView(&kept.views.weights),
        ];
        let bindings = bind(gpu, &pipeline, (0..).zip(&resources));
        Self::new(STILLNESS, pipeline, bindings, corners(size).grid((PIXEL_TILE, PIXEL_TILE), 1))
    }

    /// `rgba = round(255 * clamp(bicubic(x) + mean + weight * (shown - bicubic(last) - mean)))`, upscaled by `s`.
    ///
    /// # Panics
    /// If layers or sizes do not fit together.
    pub fn reuse(gpu: &Gpu, s: usize, mean: [f32; 3], x: &Activation, kept: &Kept, rgba: &Rgba) -> Self {
        assert!(rgba.size() == x.size().times(s) && kept.rgb.size() == x.size());
        assert!(
            (kept.shown.height() as usize, kept.shown.width() as usize) == (rgba.size().h, rgba.size().w)
        );
        let constants = [
            ("S", s as f64),
            ("MEAN_R", f64::from(mean[0])),
            ("MEAN_G", f64::from(mean[1])),
            ("MEAN_B", f64::from(mean[2])),
        ];
        let pipeline = gpu.pipeline(REUSE, Precision::F32, &constants);
        let resources = [
            x.uniform().as_entire_binding(),
            BindingResource::TextureView(x.view()),
            BindingResource::TextureView(kept.rgb.view()),
            BindingResource::TextureView(&kept.views.weights),
            BindingResource::TextureView(&kept.views.shown),
            BindingResource::TextureView(rgba.view()),
        ];
        let bindings = bind(gpu, &pipeline, (0..).zip(&resources));
        Self::new(REUSE, pipeline, bindings, rgba.size().grid((PIXEL_TILE, PIXEL_TILE), 1))
    }
}

/// The dispatches that keep frames and make others of them, for the frames of a plan.
pub(super) struct Reuse {
    kept: Kept,
    /// Whether a frame was kept.
    pub full: bool,
    /// Of each slot: after the network.
    pub keep: [Pass; FRAMES],
    /// Instead of the network, after the conversion to RGB.
    pub stillness: [Pass; FRAMES],
    pub reuse: [Pass; FRAMES],
}

impl Reuse {
    /// `rgb` is where pictures are converted to.
    ///
    /// # Errors
    /// As [`Kept::new`].
    pub fn new(gpu: &Gpu, s: usize, rgb: &Activation, slots: &[Arc<Slot>; FRAMES]) -> Result<Self, Error> {
        let kept = Kept::new(gpu, s, rgb.size())?;
        let slots = slots.each_ref();
        Ok(Self {
            full: false,
            keep: slots.map(|slot| Pass::yuv_rgb(gpu, &slot.planes, &kept.rgb)),
            stillness: slots.map(|slot| Pass::stillness(gpu, &slot.planes, &kept)),
            reuse: slots.map(|slot| Pass::reuse(gpu, s, RGB_MEAN, rgb, &kept, &slot.rgba)),
            kept,
        })
    }

    /// Records that the frame of this slot is kept, beside its pass of [`Reuse::keep`].
    pub fn copy(&mut self, encoder: &mut CommandEncoder, slot: &Slot) {
        self.kept.copy(encoder, &slot.planes, &slot.rgba);
        self.full = true;
    }
}
