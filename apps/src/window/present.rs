//! The pass that draws the picture: `present.wgsl`.

use hone_runtime::wgpu;

use super::mailbox::{Picture, Pixels};
use super::view::{Fit, View};

const SHADER: &str = include_str!("present.wgsl");
/// Bytes of the shader's uniform.
const UNIFORM_BYTES: u64 = 48;
/// Light of a picture that stands still: nobody takes it for live.
const STALE_LIGHT: f32 = 0.25;

/// How the picture is to be drawn.
pub struct Look<'a> {
    /// What is chosen.
    pub view: &'a View,
    /// Whether the picture is live, or paused by the one who watches.
    pub live: bool,
}

/// Pipeline, and the picture in force.
pub struct Present {
    pipeline: wgpu::RenderPipeline,
    uniform: wgpu::Buffer,
    samplers: [wgpu::Sampler; 2],
    linear: bool,
    drawn: Option<Drawn>,
    /// For pictures that come from host memory: what is shown, and bicubic.
    uploads: [Option<wgpu::Texture>; 2],
}

struct Drawn {
    size: (u32, u32),
    bind: wgpu::BindGroup,
}

impl Present {
    /// Compiles for a target of this format.
    pub fn new(device: &wgpu::Device, format: wgpu::TextureFormat) -> Self {
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some("present"),
            source: wgpu::ShaderSource::Wgsl(SHADER.into()),
        });
        let pipeline = device.create_render_pipeline(&wgpu::RenderPipelineDescriptor {
            label: Some("present"),
            layout: None,
            vertex: wgpu::VertexState {
                module: &module,
                entry_point: Some("vertex"),
                compilation_options: Default::default(),
                buffers: &[],
            },
            primitive: Default::default(),
            depth_stencil: None,
            multisample: Default::default(),
            fragment: Some(wgpu::FragmentState {
                module: &module,
                entry_point: Some("fragment"),
                compilation_options: Default::default(),
                targets: &[Some(format.into())],
            }),
            multiview_mask: None,
            cache: None,
        });
        let uniform = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("view"),
            size: UNIFORM_BYTES,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let samplers = [wgpu::FilterMode::Linear, wgpu::FilterMode::Nearest].map(|filter| {
            device.create_sampler(&wgpu::SamplerDescriptor {
                mag_filter: filter,
                min_filter: filter,
                ..Default::default()
            })
        });
        Self { pipeline, uniform, samplers, linear: format.is_srgb(), drawn: None, uploads: [None, None] }
    }

    /// Takes a picture to be drawn from now on; not one that lies on another device, which may be lost.
    pub fn take(&mut self, device: &wgpu::Device, queue: &wgpu::Queue, picture: &Picture) {
        let Some(shown) = self.texture(device, queue, 0, picture.size, &picture.shown) else { return };
        let bicubic =
            picture.bicubic.as_ref().and_then(|pixels| self.texture(device, queue, 1, picture.size, pixels));
        let views = [&shown, bicubic.as_ref().unwrap_or(&shown)]
            .map(|texture| texture.create_view(&Default::default()));
        let entry = |binding, resource| wgpu::BindGroupEntry { binding, resource };
        let bind = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("picture"),
            layout: &self.pipeline.get_bind_group_layout(0),
            entries: &[
                entry(0, self.uniform.as_entire_binding()),
                entry(1, wgpu::BindingResource::TextureView(&views[0])),
                entry(2, wgpu::BindingResource::TextureView(&views[1])),
                entry(3, wgpu::BindingResource::Sampler(&self.samplers[0])),
                entry(4, wgpu::BindingResource::Sampler(&self.samplers[1])),
            ],
        });
        self.drawn = Some(Drawn { size: picture.size, bind });
    }

    /// A picture as a texture: where it lies, or uploaded to place `at`.
    fn texture(
        &mut self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        at: usize,
        (width, height): (u32, u32),
        pixels: &Pixels,
    ) -> Option<wgpu::Texture> {
        let rgba = match pixels {
            Pixels::Device(texture, on) => return Some(texture.clone()).filter(|_| on == device),
            Pixels::Host(rgba) => rgba,
        };
        let size = wgpu::Extent3d { width, height, depth_or_array_layers: 1 };
        let texture = self.uploads[at].take().filter(|texture| texture.size() == size).unwrap_or_else(|| {
            device.create_texture(&wgpu::TextureDescriptor {
                label: Some("picture"),
                size,
                mip_level_count: 1,
                sample_count: 1,
                dimension: wgpu::TextureDimension::D2,
                format: wgpu::TextureFormat::Rgba8Unorm,
                usage: wgpu::TextureUsages::TEXTURE_BINDING | wgpu::TextureUsages::COPY_DST,
                view_formats: &[],
            })
        });
        let layout =
            wgpu::TexelCopyBufferLayout { offset: 0, bytes_per_row: Some(4 * width), rows_per_image: None };
        queue.write_texture(texture.as_image_copy(), rgba, layout, size);
        self.uploads[at] = Some(texture.clone());
        Some(texture)
    }

    /// Sets what the next [`Present::draw`] shows.
    pub fn prepare(&self, queue: &wgpu::Queue, look: &Look, window: [f32; 2]) {
        let Some(drawn) = &self.drawn else { return };
        let fit = Fit::new(window, [drawn.size.0 as f32, drawn.size.1 as f32]);
        let ([x, y], radius) = look.view.loupe_at(window).unwrap_or(([0.0; 2], 0.0));
        let divider = if look.view.compare { look.view.divider } else { -1.0 };
        let light = if look.live { 1.0 } else { STALE_LIGHT };
        let values = [
            [fit.origin[0], fit.origin[1], fit.size[0], fit.size[1]],
            [x, y, radius, look.view.zoom],
            [divider, light, f32::from(u8::from(self.linear)), 0.0],
        ];
        let bytes: Vec<u8> = values.as_flattened().iter().flat_map(|v| v.to_le_bytes()).collect();
        queue.write_buffer(&self.uniform, 0, &bytes);
    }

    /// Draws over the whole target; nothing before the first picture.
    pub fn draw(&self, pass: &mut wgpu::RenderPass) {
        if let Some(drawn) = &self.drawn {
            pass.set_pipeline(&self.pipeline);
            pass.set_bind_group(0, &drawn.bind, &[]);
            pass.draw(0..3, 0..1);
        }
    }
}
