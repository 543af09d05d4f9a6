//! What is bound where a shader has a binding that its constants leave unused.

use hone_wgsl::Precision;
use wgpu::{Buffer, Device, TextureFormat, TextureUsages, TextureView, TextureViewDimension};

use super::Size;
use super::activation::format;
use super::device::texture;

/// Textures of one texel. One that is written by a dispatch may be bound only once in it, so each use has its own.
pub(super) struct Unused {
    read: [TextureView; Precision::ALL.len()],
    written: [TextureView; Precision::ALL.len()],
    sampled: TextureView,
    plane: TextureView,
    weights: TextureView,
    rgba: TextureView,
    matrix: Buffer,
}

impl Unused {
    pub fn new(device: &Device) -> Self {
        let view = |format, usage, dimension| {
            texture(device, Size { h: 1, w: 1 }, format, usage).create_view(&wgpu::TextureViewDescriptor {
                dimension: Some(dimension),
                ..Default::default()
            })
        };
        let (flat, array) = (TextureViewDimension::D2, TextureViewDimension::D2Array);
        let (storage, sampled) = (TextureUsages::STORAGE_BINDING, TextureUsages::TEXTURE_BINDING);
        Self {
            read: Precision::ALL.map(|p| view(format(p), storage, array)),
            written: Precision::ALL.map(|p| view(format(p), storage, array)),
            sampled: view(TextureFormat::Rgba32Float, sampled, array),
            plane: view(TextureFormat::R8Unorm, sampled, flat),
            weights: view(TextureFormat::Rgba32Float, storage, flat),
            rgba: view(TextureFormat::Rgba8Unorm, storage, flat),
            matrix: device.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: 64,
                usage: wgpu::BufferUsages::UNIFORM,
                mapped_at_creation: false,
            }),
        }
    }

    pub fn read(&self, precision: Precision) -> &TextureView {
        &self.read[precision as usize]
    }

    pub fn written(&self, precision: Precision) -> &TextureView {
        &self.written[precision as usize]
    }

    pub fn sampled(&self) -> &TextureView {
        &self.sampled
    }

    pub fn plane(&self) -> &TextureView {
        &self.plane
    }

    pub fn weights(&self) -> &TextureView {
        &self.weights
    }

    pub fn matrix(&self) -> &Buffer {
        &self.matrix
    }

    pub fn rgba(&self) -> &TextureView {
        &self.rgba
    }
}
