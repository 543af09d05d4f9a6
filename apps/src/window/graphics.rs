//! The window's surface and the device that draws on it.

use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use hone_runtime::gpu::{AdapterChoice, Gpu, instance};
use hone_runtime::{Options, Preference, wgpu};
use winit::window::Window;

use super::mailbox::Picture;
use super::present::{Look, Present};
use crate::screen::Target;

const NOTHING_DRAWS: &str = "no graphics driver can draw to this window: use --headless";

/// What egui wants drawn.
pub struct Overlay {
    /// Its shapes as triangles.
    pub shapes: Vec<egui::ClippedPrimitive>,
    /// Font atlas and the like that have changed.
    pub textures: egui::TexturesDelta,
    /// Physical pixels in a unit of egui's.
    pub pixels_per_point: f32,
}

/// Surface, device and passes. If the device is lost, all of it is made anew.
pub struct Graphics {
    window: Arc<Window>,
    instance: wgpu::Instance,
    surface: wgpu::Surface<'static>,
    gpu: Gpu,
    /// What is to be upscaled on.
    target: Target,
    config: wgpu::SurfaceConfiguration,
    present: Present,
    overlay: egui_wgpu::Renderer,
}

impl Graphics {
    /// Opens a device that can draw to this window: the one that `options` ask to upscale on, if that can draw, and
    /// else any.
    ///
    /// # Errors
    /// If there is none, or it does not open.
    pub fn new(window: Arc<Window>, options: &Options) -> Result<Self> {
        let instance = instance();
        // Its own words fill several lines.
        let surface = instance.create_surface(window.clone()).map_err(|_| anyhow!(NOTHING_DRAWS))?;
        let wanted = (options.device != Preference::Cpu)
            .then(|| Gpu::for_surface(&instance, &surface, &AdapterChoice::from(options)).ok())
            .flatten();
        let target = Target { options: options.clone(), gpu: wanted.clone() };
        let any = AdapterChoice { allow_software: true, adapter: None };
        let gpu =
            wanted.map_or_else(|| Gpu::for_surface(&instance, &surface, &any), Ok).context(NOTHING_DRAWS)?;
        let size = window.inner_size();
        let mut config = surface
            .get_default_config(gpu.adapter(), size.width.max(1), size.height.max(1))
            .context(NOTHING_DRAWS)?;
        // Code values go to the screen as they are: formats that convert come last.
        let formats = surface.get_capabilities(gpu.adapter()).formats;
        config.format = formats.iter().copied().find(|format| !format.is_srgb()).unwrap_or(config.format);
        config.present_mode = wgpu::PresentMode::AutoVsync;
        config.desired_maximum_frame_latency = 1;
        tracing::info!(adapter = gpu.name(), format = ?config.format, "window");
        let present = Present::new(gpu.device(), config.format);
        let overlay = egui_wgpu::Renderer::new(gpu.device(), config.format, Default::default());
        let mut graphics = Self { window, instance, surface, gpu, target, config, present, overlay };
        graphics.resize();
        Ok(graphics)
    }

    /// What to upscale on: the device that draws, if it is the one that was asked for.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Whether the device failed: everything on it is gone.
    pub fn lost(&self) -> bool {
        self.gpu.check().is_err()
    }

    /// Longest side of a texture.
    pub fn side_max(&self) -> u32 {
        self.gpu.device().limits().max_texture_dimension_2d
    }

    /// Takes the window's size.
    pub fn resize(&mut self) {
        let size = self.window.inner_size();
        if size.width > 0 && size.height > 0 {
            self.config.width = size.width.min(self.side_max());
            self.config.height = size.height.min(self.side_max());
            self.surface.configure(self.gpu.device(), &self.config);
        }
    }

    /// Columns and rows drawn.
    pub fn size(&self) -> [f32; 2] {
        [self.config.width as f32, self.config.height as f32]
    }

    /// Takes a picture: it is drawn until the next.
    pub fn take(&mut self, picture: &Picture) {
        self.present.take(self.gpu.device(), self.gpu.queue(), picture);
    }

    /// Draws the picture and the overlay. Does nothing where the window cannot be seen.
    ///
    /// # Errors
    /// If the surface is lost and cannot be made again.
    pub fn draw(&mut self, look: &Look, mut overlay: Overlay) -> Result<()> {
        for (id, deltas) in &overlay.textures.set {
            for delta in deltas {
                self.overlay.update_texture(self.gpu.device(), self.gpu.queue(), *id, delta);
            }
        }
        let free = std::mem::take(&mut overlay.textures.free);
        // It panics if it is dropped with changes in it.
        overlay.textures.clear();
        if let Some(frame) = self.acquire()? {
            self.render(&frame, look, &overlay);
            self.window.pre_present_notify();
            self.gpu.queue().present(frame);
        }
        for id in &free {
            self.overlay.free_texture(id);
        }
        Ok(())
    }

    /// The surface's next picture; none if there is nothing to draw to now.
    fn acquire(&mut self) -> Result<Option<wgpu::SurfaceTexture>> {
        use wgpu::CurrentSurfaceTexture as Current;
        // Once more after the surface was configured or made anew.
        for _ in 0..2 {
            match self.surface.get_current_texture() {
                Current::Success(frame) => return Ok(Some(frame)),
                Current::Suboptimal(frame) => {
                    // It must not be alive when the surface is configured.
                    drop(frame);
                    self.resize();
                }
                Current::Outdated => self.resize(),
                Current::Lost => {
                    if self.lost() {
                        return Ok(None);
                    }
                    self.surface =
                        self.instance.create_surface(self.window.clone()).context("the window is lost")?;
                    self.resize();
                }
                Current::Timeout | Current::Occluded | Current::Validation => return Ok(None),
            }
        }
        Ok(None)
    }

    fn render(&mut self, frame: &wgpu::SurfaceTexture, look: &Look, overlay: &Overlay) {
        let view = frame.texture.create_view(&Default::default());
        let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
        let screen = egui_wgpu::ScreenDescriptor {
            size_in_pixels: [self.config.width, self.config.height],
            pixels_per_point: overlay.pixels_per_point,
        };
        let prepared = self.overlay.update_buffers(
            self.gpu.device(),
            self.gpu.queue(),
            &mut encoder,
            &overlay.shapes,
            &screen,
        );
        self.present.prepare(self.gpu.queue(), look, self.size());
        {
            let pass = encoder.begin_render_pass(&wgpu::RenderPassDescriptor {
                label: Some("window"),
                color_attachments: &[Some(wgpu::RenderPassColorAttachment {
                    view: &view,
                    depth_slice: None,
                    resolve_target: None,
                    ops: wgpu::Operations {
                        load: wgpu::LoadOp::Clear(wgpu::Color::BLACK),
                        store: wgpu::StoreOp::Store,
                    },
                })],
                ..Default::default()
            });
            let mut pass = pass.forget_lifetime();
            self.present.draw(&mut pass);
            self.overlay.render(&mut pass, &overlay.shapes, &screen);
        }
        self.gpu.queue().submit(prepared.into_iter().chain([encoder.finish()]));
    }
}
