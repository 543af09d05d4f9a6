//! The window itself: what it holds, what actions do, and how it is drawn.

mod events;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hone_runtime::{Options, Preference};
use winit::dpi::LogicalSize;
use winit::event_loop::{ActiveEventLoop, EventLoopProxy};
use winit::window::{Fullscreen, Window};

use super::graphics::{Graphics, Overlay};
use super::keys::{Action, NO_SOUND};
use super::mailbox::{Flow, Mailbox, Picture, WindowSink};
use super::overlay;
use super::present::Look;
use super::screenshot::Screenshot;
use super::view::{Fit, View};
use super::{Setup, Wake};
use crate::viewer::{self, Log, Monitor, Until};

/// How long a word stays.
const TOAST: Duration = Duration::from_secs(4);
/// How far an arrow key moves the divider, as a share of the width.
const DIVIDER_STEP: f32 = 0.02;

/// The window and all that it shows.
pub struct App {
    name: String,
    /// What the viewer begins with, until it has begun.
    setup: Option<Setup>,
    runtime: tokio::runtime::Handle,
    mailbox: Arc<Mailbox>,
    monitor: Arc<Monitor>,
    stop: Arc<AtomicBool>,
    proxy: EventLoopProxy<Wake>,
    drawing: Option<Drawing>,
    view: View,
    /// Whether nothing is to be heard.
    silent: Arc<AtomicBool>,
    /// Tells whoever plays the sound what was drawn.
    drawn: Option<Box<dyn Fn(i64) + Send>>,
    /// The device that is wanted.
    device: Options,
    /// All that there are; listed while the viewer connects, since drivers take their time.
    devices: Arc<OnceLock<Vec<(String, Options)>>>,
    /// The picture that is drawn.
    picture: Option<Picture>,
    /// Whether the next picture in host memory is to be saved, or kept because of a pause.
    save_next: bool,
    keep_next: bool,
    toast: Option<(String, Instant)>,
    last_click: Option<Instant>,
    /// Since when the viewer has been asked to end.
    ending: Option<Instant>,
    ended: Option<Result<()>>,
}

/// What depends on the window and its device.
struct Drawing {
    window: Arc<Window>,
    graphics: Graphics,
    egui: egui_winit::State,
    /// When egui wants to be drawn again.
    again: Option<Instant>,
    visible: bool,
}

impl Drawing {
    fn new(event_loop: &ActiveEventLoop, window: Arc<Window>, options: &Options) -> Result<Self> {
        let graphics = Graphics::new(window.clone(), options)?;
        let context = egui::Context::default();
        context.set_theme(egui::Theme::Dark);
        let egui = egui_winit::State::new(
            context,
            egui::ViewportId::ROOT,
            event_loop,
            Some(window.scale_factor() as f32),
            None,
            Some(graphics.side_max() as usize),
        );
        Ok(Self { window, graphics, egui, again: None, visible: true })
    }
}

impl App {
    pub(super) fn new(
        setup: Setup,
        runtime: tokio::runtime::Handle,
        stop: Arc<AtomicBool>,
        proxy: EventLoopProxy<Wake>,
    ) -> Self {
        let wake = proxy.clone();
        let devices = Arc::<OnceLock<_>>::default();
        std::thread::spawn({
            let devices = devices.clone();
            let base = setup.session.options.target.options.clone();
            move || devices.set(list_devices(&base))
        });
        Self {
            name: setup.session.name.clone(),
            device: setup.session.options.target.options.clone(),
            runtime,
            mailbox: Arc::default(),
            monitor: Arc::new(Monitor::new(move |_| drop(wake.send_event(Wake::Draw)))),
            stop,
            proxy,
            drawing: None,
            view: View { muted: setup.mute, ..View::default() },
            silent: Arc::new(AtomicBool::new(setup.mute)),
            drawn: None,
            devices,
            picture: None,
            save_next: false,
            keep_next: false,
            toast: None,
            last_click: None,
            ending: None,
            ended: None,
            setup: Some(setup),
        }
    }

    /// How the viewer ended.
    pub(super) fn ended(self) -> Result<()> {
        self.ended.unwrap_or(Ok(()))
    }

    fn open(&mut self, event_loop: &ActiveEventLoop) -> Result<()> {
        let attributes = Window::default_attributes()
            .with_title(format!("{} - Hone", self.name))
            .with_inner_size(LogicalSize::new(1280.0, 720.0))
            .with_min_inner_size(LogicalSize::new(320.0, 180.0));
        let window = Arc::new(event_loop.create_window(attributes).context("cannot open a window")?);
        let drawing = Drawing::new(event_loop, window, &self.device)?;
        if let Some(mut setup) = self.setup.take() {
            setup.session.options.target = drawing.graphics.target().clone();
            self.begin(setup);
        }
        self.drawing = Some(drawing);
        Ok(())
    }

    /// Lets the viewer connect and show, on threads of its own.
    fn begin(&mut self, setup: Setup) {
        let (proxy, ended) = (self.proxy.clone(), self.proxy.clone());
        let wake = move || drop(proxy.send_event(Wake::Draw));
        let Setup { session, outputs, stats, mute: _ } = setup;
        let heard = viewer::heard(&self.silent);
        let (sound, drawn) = heard.map(|heard| (heard.sink, heard.drawn)).unzip();
        self.drawn = drawn;
        let sink =
            WindowSink::new(outputs, sound, self.mailbox.clone(), session.options.target.clone(), wake);
        let (monitor, stop) = (self.monitor.clone(), self.stop.clone());
        let viewing = self.runtime.spawn(async move {
            let log = Log::start(stats.as_deref(), monitor.clone())?;
            let (viewed, _) = session.run(Until::Stopped, sink, &monitor, &stop).await;
            log.end().await;
            viewed.map(drop)
        });
        self.runtime.spawn(async move {
            let result =
                viewing.await.unwrap_or_else(|panic| Err(anyhow::anyhow!("the viewer failed: {panic}")));
            // Fails only if the window is gone already.
            drop(ended.send_event(Wake::Ended(result)));
        });
    }

    /// Asks the viewer to end; the window goes when it has.
    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.ending.get_or_insert_with(Instant::now);
        if let Some(drawing) = &self.drawing {
            drawing.window.set_visible(false);
        }
    }

    /// Ends with an error: at once if nothing has begun, else when the recordings are finished.
    fn fail(&mut self, event_loop: &ActiveEventLoop, error: anyhow::Error) {
        self.ended.get_or_insert(Err(error));
        self.end();
        self.drawing = None;
        if self.setup.is_some() {
            event_loop.exit();
        }
    }

    fn draw_again(&self) {
        if let Some(drawing) = &self.drawing {
            drawing.window.request_redraw();
        }
    }

    fn say(&mut self, word: String) {
        self.toast = Some((word, Instant::now()));
        self.draw_again();
    }

    fn fit(&self) -> Option<Fit> {
        let (drawing, picture) = self.drawing.as_ref().zip(self.picture.as_ref())?;
        Some(Fit::new(drawing.graphics.size(), [picture.size.0 as f32, picture.size.1 as f32]))
    }

    fn act(&mut self, action: Action) {
        let view = &mut self.view;
        match action {
            Action::Help => view.help = !view.help,
            Action::Compare => {
                view.compare = !view.compare;
                self.mailbox.compare(view.compare);
            }
            Action::DividerLeft => view.move_divider(-DIVIDER_STEP),
            Action::DividerRight => view.move_divider(DIVIDER_STEP),
            Action::Loupe => view.loupe = !view.loupe,
            Action::ZoomIn => view.zoom_by(1.0),
            Action::ZoomOut => view.zoom_by(-1.0),
            Action::Pause => {
                view.paused = !view.paused;
                self.keep_next = view.paused;
                self.mailbox.flow(if view.paused { Flow::Pause } else { Flow::Live });
            }
            Action::Mute if cfg!(feature = "sound") => view.muted = !view.muted,
            Action::Mute => self.say(NO_SOUND.into()),
            Action::Screenshot => self.screenshot(),
            Action::Statistics => view.statistics = !view.statistics,
            Action::Devices => view.devices = !view.devices,
            Action::FullScreen => self.full_screen(),
            Action::Back if view.help => view.help = false,
            Action::Back if view.devices => view.devices = false,
            Action::Back => {
                if self.drawing.as_ref().is_some_and(|drawing| drawing.window.fullscreen().is_some()) {
                    self.full_screen();
                }
            }
            Action::Quit => self.end(),
        }
        // A picture that stands still says nothing.
        self.silent.store(self.view.muted || self.view.paused, Ordering::Relaxed);
        self.draw_again();
    }

    fn full_screen(&self) {
        if let Some(drawing) = &self.drawing {
            let full = drawing.window.fullscreen().is_none().then_some(Fullscreen::Borderless(None));
            drawing.window.set_fullscreen(full);
        }
    }

    fn screenshot(&mut self) {
        match &self.picture {
            None => self.say("there is no picture yet".into()),
            Some(picture) if picture.shown.host().is_some() => self.save(),
            // It may be written over while it is read: the next one comes where it is safe.
            Some(_) => {
                self.save_next = true;
                self.mailbox.flow(Flow::Keep);
            }
        }
    }

    /// Saves the picture that is drawn, which lies in host memory.
    fn save(&self) {
        let Some(picture) = &self.picture else { return };
        let Some(shown) = picture.shown.host() else { return };
        let screenshot = Screenshot {
            name: self.name.clone(),
            frame: picture.frame.clone(),
            size: picture.size,
            mode: picture.mode,
            shown: shown.to_vec(),
        };
        let proxy = self.proxy.clone();
        // Coding a PNG takes longer than a frame.
        std::thread::spawn(move || {
            let word = match screenshot.save(Path::new(".")) {
                Ok(files) => {
                    let names: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
                    format!("saved {}", names.join(" and "))
                }
                Err(error) => format!("{error:#}"),
            };
            tracing::info!("{word}");
            drop(proxy.send_event(Wake::Toast(word)));
        });
    }

    /// Takes the newest picture, unless it is to stand still. Its media time.
    fn take_picture(&mut self) -> Option<i64> {
        if self.view.paused && !self.keep_next {
            return None;
        }
        let (picture, drawing) = self.mailbox.take().zip(self.drawing.as_mut())?;
        let pts_us = picture.frame.pts_us;
        drawing.graphics.take(&picture);
        let host = picture.shown.host().is_some();
        if let Some(old) = self.picture.replace(picture) {
            self.mailbox.give_back(old);
        }
        self.keep_next &= !host;
        if self.save_next && host {
            self.save_next = false;
            self.save();
        }
        Some(pts_us)
    }

    fn redraw(&mut self, event_loop: &ActiveEventLoop) -> Result<()> {
        let new_us = self.take_picture();
        if self.drawing.as_ref().is_some_and(|drawing| drawing.graphics.lost()) {
            tracing::warn!("the device that draws was lost, opening one again");
            self.reopen(event_loop)?;
            self.say("the graphics device was lost and opened again".into());
        }
        let state = self.monitor.state();
        let (stats, notice, fit) = (self.monitor.stats(), self.monitor.notice(), self.fit());
        self.toast = self.toast.take().filter(|(_, since)| since.elapsed() < TOAST);
        let Some(drawing) = &mut self.drawing else { return Ok(()) };
        let input = drawing.egui.take_egui_input(&drawing.window);
        let mut asked = overlay::Asked::default();
        let context = drawing.egui.egui_ctx().clone();
        let facts = overlay::Facts {
            state,
            stats: &stats,
            notice: notice.as_deref(),
            toast: self.toast.as_ref().map(|(word, _)| word.as_str()),
            mode: self.picture.as_ref().map(|picture| picture.mode),
            fit,
            devices: self.devices.get().map_or(&[], Vec::as_slice),
            device: &self.device,
        };
        let output = context.run_ui(input, |ui| {
            let now = overlay::show(ui.ctx(), &self.view, &facts);
            asked.action = asked.action.or(now.action);
            asked.device = asked.device.take().or(now.device);
        });
        drawing.egui.handle_platform_output(&drawing.window, output.platform_output);
        let wait = output.viewport_output.values().map(|viewport| viewport.repaint_delay).min();
        drawing.again = wait.and_then(|wait| Instant::now().checked_add(wait));
        let overlay = Overlay {
            shapes: context.tessellate(output.shapes, output.pixels_per_point),
            textures: output.textures_delta,
            pixels_per_point: output.pixels_per_point,
        };
        // A paused picture stands still because it was asked to.
        let live = state.live() || self.view.paused;
        drawing.graphics.draw(&Look { view: &self.view, live }, overlay)?;
        if let Some((drawn, new_us)) = self.drawn.as_ref().zip(new_us) {
            drawn(new_us);
        }
        if let Some(action) = asked.action {
            self.act(action);
        }
        if let Some(device) = asked.device {
            self.device = device;
            self.reopen(event_loop)?;
            self.say("the device changes with the next picture".into());
        }
        Ok(())
    }

    /// Opens the device that is wanted, to draw on and to upscale on.
    fn reopen(&mut self, event_loop: &ActiveEventLoop) -> Result<()> {
        let Some(old) = self.drawing.take() else { return Ok(()) };
        let window = old.window.clone();
        // A window has one surface at a time.
        drop(old);
        let mut drawing = Drawing::new(event_loop, window, &self.device)?;
        if let Some(picture) = &self.picture {
            drawing.graphics.take(picture);
        }
        self.mailbox.choose(drawing.graphics.target().clone());
        self.drawing = Some(drawing);
        self.draw_again();
        Ok(())
    }
}

/// Devices to choose from.
fn list_devices(base: &Options) -> Vec<(String, Options)> {
    let kind = |device| Options { device, adapter: None, ..base.clone() };
    let adapters = hone_runtime::gpu::adapters().into_iter().enumerate().map(|(index, adapter)| {
        let software = if adapter.software { ", in software" } else { "" };
        let name = format!("{} ({}{software})", adapter.name, adapter.backend);
        (name, Options { adapter: Some(index.to_string()), ..kind(Preference::Auto) })
    });
    let first = [("automatic".to_owned(), kind(Preference::Auto))];
    first.into_iter().chain(adapters).chain([("CPU".to_owned(), kind(Preference::Cpu))]).collect()
}
