//! The pass that draws the picture: `present.wgsl`.

use egui_wgpu::wgpu;

use super::mailbox::Picture;
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

/// Pipeline and textures.
pub struct Present {
    pipeline: wgpu::RenderPipeline,
    uniform: wgpu::Buffer,
    samplers: [wgpu::Sampler; 2],
    linear: bool,
    drawn: Option<Drawn>,
}

/// The picture in force.
struct Drawn {
    size: (u32, u32),
    /// What is shown, and bicubic.
    textures: [wgpu::Texture; 2],
    /// Whether the second texture holds this picture: else the first is shown on both sides.
    compares: bool,
    bind: [wgpu::BindGroup; 2],
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
        Self { pipeline, uniform, samplers, linear: format.is_srgb(), drawn: None }
    }

    /// Takes a picture to be drawn from now on.
    pub fn upload(&mut self, device: &wgpu::Device, queue: &wgpu::Queue, picture: &Picture) {
        if self.drawn.as_ref().is_none_or(|drawn| drawn.size != picture.size) {
            self.drawn = Some(self.textures(device, picture.size));
        }
        let Some(drawn) = &mut self.drawn else { return };
        drawn.compares = !picture.bicubic.is_empty();
        let (width, height) = picture.size;
        let layout =
            wgpu::TexelCopyBufferLayout { offset: 0, bytes_per_row: Some(4 * width), rows_per_image: None };
        let extent = wgpu::Extent3d { width, height, depth_or_array_layers: 1 };
        let planes = [Some(&picture.shown), Some(&picture.bicubic).filter(|_| drawn.compares)];
        for (texture, bytes) in drawn.textures.iter().zip(planes) {
            if let Some(bytes) = bytes {
                queue.write_texture(texture.as_image_copy(), bytes, layout, extent);
            }
        }
    }

    fn textures(&self, device: &wgpu::Device, size: (u32, u32)) -> Drawn {
        let texture = || {
            device.create_texture(&wgpu::TextureDescriptor {
                label: Some("picture"),
                size: wgpu::Extent3d { width: size.0, height: size.1, depth_or_array_layers: 1 },
                mip_level_count: 1,
                sample_count: 1,
                dimension: wgpu::TextureDimension::D2,
                format: wgpu::TextureFormat::Rgba8Unorm,
                usage: wgpu::TextureUsages::TEXTURE_BINDING | wgpu::TextureUsages::COPY_DST,
                view_formats: &[],
            })
        };
        let textures = [texture(), texture()];
        let views = textures.each_ref().map(|texture| texture.create_view(&Default::default()));
        let bind = [0, 1].map(|second: usize| {
            let entry = |binding, resource| wgpu::BindGroupEntry { binding, resource };
            device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: None,
                layout: &self.pipeline.get_bind_group_layout(0),
                entries: &[
                    entry(0, self.uniform.as_entire_binding()),
                    entry(1, wgpu::BindingResource::TextureView(&views[0])),
                    entry(2, wgpu::BindingResource::TextureView(&views[second])),
                    entry(3, wgpu::BindingResource::Sampler(&self.samplers[0])),
                    entry(4, wgpu::BindingResource::Sampler(&self.samplers[1])),
                ],
            })
        });
        Drawn { size, textures, compares: false, bind }
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
            pass.set_bind_group(0, &drawn.bind[usize::from(drawn.compares)], &[]);
            pass.draw(0..3, 0..1);
        }
    }
}
