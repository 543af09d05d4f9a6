//! The window's surface and the device that draws on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use egui_wgpu::wgpu;
use winit::window::Window;

use super::mailbox::Picture;
use super::present::{Look, Present};

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
    device: wgpu::Device,
    queue: wgpu::Queue,
    config: wgpu::SurfaceConfiguration,
    present: Present,
    overlay: egui_wgpu::Renderer,
    lost: Arc<AtomicBool>,
}

impl Graphics {
    /// Opens the adapter that can draw to this window: hardware before software.
    ///
    /// # Errors
    /// If there is none, or it does not open.
    pub fn new(window: Arc<Window>) -> Result<Self> {
        let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
        descriptor.backends = wgpu::Backends::PRIMARY;
        let instance = wgpu::Instance::new(descriptor);
        let surface = instance.create_surface(window.clone()).context("cannot draw to this window")?;
        let options = wgpu::RequestAdapterOptions {
            power_preference: wgpu::PowerPreference::HighPerformance,
            compatible_surface: Some(&surface),
            ..Default::default()
        };
        let adapter = pollster::block_on(instance.request_adapter(&options))
            .context("no graphics adapter can draw to this window: use --headless")?;
        let limits = wgpu::Limits::default().using_resolution(adapter.limits());
        let descriptor = wgpu::DeviceDescriptor { required_limits: limits, ..Default::default() };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor))
            .context("the graphics adapter does not open")?;
        let lost = Arc::new(AtomicBool::new(false));
        let (on_loss, on_error) = (lost.clone(), lost.clone());
        device.set_device_lost_callback(move |_, _| on_loss.store(true, Ordering::Relaxed));
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            tracing::warn!(%error, "drawing failed");
            on_error.store(true, Ordering::Relaxed);
        }));
        let size = window.inner_size();
        let mut config = surface
            .get_default_config(&adapter, size.width.max(1), size.height.max(1))
            .context("no graphics adapter can draw to this window: use --headless")?;
        // Code values go to the screen as they are: formats that convert come last.
        let formats = surface.get_capabilities(&adapter).formats;
        config.format = formats.iter().copied().find(|f| !f.is_srgb()).unwrap_or(config.format);
        config.present_mode = wgpu::PresentMode::AutoVsync;
        config.desired_maximum_frame_latency = 1;
        let info = adapter.get_info();
        tracing::info!(adapter = info.name, backend = info.backend.to_str(), format = ?config.format, "window");
        let present = Present::new(&device, config.format);
        let overlay = egui_wgpu::Renderer::new(&device, config.format, Default::default());
        let mut graphics =
            Self { window, instance, surface, device, queue, config, present, overlay, lost };
        graphics.resize();
        Ok(graphics)
    }

    /// Whether the device failed: everything on it is gone.
    pub fn lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// Gives the device up, as a driver may at any time: for tests.
    pub fn destroy(&self) {
        self.device.destroy();
    }

    /// Longest side of a texture.
    pub fn side_max(&self) -> u32 {
        self.device.limits().max_texture_dimension_2d
    }

    /// Takes the window's size.
    pub fn resize(&mut self) {
        let size = self.window.inner_size();
        if size.width > 0 && size.height > 0 {
            self.config.width = size.width.min(self.side_max());
            self.config.height = size.height.min(self.side_max());
            self.surface.configure(&self.device, &self.config);
        }
    }

    /// Columns and rows drawn.
    pub fn size(&self) -> [f32; 2] {
        [self.config.width as f32, self.config.height as f32]
    }

    /// Uploads a picture: it is drawn until the next.
    pub fn upload(&mut self, picture: &Picture) {
        self.present.upload(&self.device, &self.queue, picture);
    }

    /// Draws the picture and the overlay. Does nothing where the window cannot be seen.
    ///
    /// # Errors
    /// If the surface is lost and cannot be made again.
    pub fn draw(&mut self, look: &Look, overlay: Overlay) -> Result<()> {
        for (id, delta) in &overlay.textures.set {
            self.overlay.update_texture(&self.device, &self.queue, *id, delta);
        }
        if let Some(frame) = self.acquire()? {
            self.render(&frame, look, &overlay);
            self.window.pre_present_notify();
            self.queue.present(frame);
        }
        for id in &overlay.textures.free {
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
        let mut encoder = self.device.create_command_encoder(&Default::default());
        let screen = egui_wgpu::ScreenDescriptor {
            size_in_pixels: [self.config.width, self.config.height],
            pixels_per_point: overlay.pixels_per_point,
        };
        let prepared = self.overlay.update_buffers(
            &self.device,
            &self.queue,
            &mut encoder,
            &overlay.shapes,
            &screen,
        );
        self.present.prepare(&self.queue, look, self.size());
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
        self.queue.submit(prepared.into_iter().chain([encoder.finish()]));
    }
}
