//! The window itself: its events, and when it is drawn.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hone_runtime::Preference;
use winit::application::ApplicationHandler;
use winit::dpi::LogicalSize;
use winit::event::{ElementState, MouseButton, MouseScrollDelta, WindowEvent};
use winit::event_loop::{ActiveEventLoop, ControlFlow, EventLoopProxy};
use winit::window::{Fullscreen, Window, WindowId};

use super::graphics::{Graphics, Overlay};
use super::keys::{self, Action};
use super::mailbox::{Mailbox, Picture};
use super::overlay;
use super::present::Look;
use super::screenshot::Screenshot;
use super::view::{Fit, View};
use super::{Setup, Wake};
use crate::viewer::Monitor;

/// The window is drawn at least this often, so that statistics move although no picture comes.
const TICK: Duration = Duration::from_millis(500);
/// How long a word stays.
const TOAST: Duration = Duration::from_secs(4);
/// Two clicks within this time are a double click.
const DOUBLE_CLICK: Duration = Duration::from_millis(400);
/// How far an arrow key moves the divider, as a share of the width.
const DIVIDER_STEP: f32 = 0.02;
/// How long closing waits for the recordings to be finished.
const END_MAX: Duration = Duration::from_secs(10);

/// The window and all that it shows.
pub struct App {
    name: String,
    mailbox: Arc<Mailbox>,
    monitor: Arc<Monitor>,
    stop: Arc<AtomicBool>,
    proxy: EventLoopProxy<Wake>,
    drawing: Option<Drawing>,
    view: View,
    device: Preference,
    /// The picture that is drawn.
    picture: Option<Picture>,
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
    fn new(event_loop: &ActiveEventLoop, window: Arc<Window>) -> Result<Self> {
        let graphics = Graphics::new(window.clone())?;
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
        setup: &Setup,
        mailbox: Arc<Mailbox>,
        monitor: Arc<Monitor>,
        stop: Arc<AtomicBool>,
        proxy: EventLoopProxy<Wake>,
    ) -> Self {
        Self {
            name: setup.name.clone(),
            mailbox,
            monitor,
            stop,
            proxy,
            drawing: None,
            view: View::default(),
            device: setup.options.device,
            picture: None,
            toast: None,
            last_click: None,
            ending: None,
            ended: None,
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
        self.drawing = Some(Drawing::new(event_loop, window)?);
        Ok(())
    }

    /// Asks the viewer to end; the window goes when it has.
    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.ending.get_or_insert_with(Instant::now);
        if let Some(drawing) = &self.drawing {
            drawing.window.set_visible(false);
        }
    }

    fn fail(&mut self, event_loop: &ActiveEventLoop, error: anyhow::Error) {
        self.ended.get_or_insert(Err(error));
        self.stop.store(true, Ordering::Relaxed);
        self.ending.get_or_insert_with(Instant::now);
        self.drawing = None;
        if self.ended.is_some() && self.ending.is_some_and(|since| since.elapsed() > END_MAX) {
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
            Action::Pause => view.paused = !view.paused,
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
        self.draw_again();
    }

    fn full_screen(&self) {
        if let Some(drawing) = &self.drawing {
            let full = drawing.window.fullscreen().is_none().then_some(Fullscreen::Borderless(None));
            drawing.window.set_fullscreen(full);
        }
    }

    fn screenshot(&mut self) {
        let Some(picture) = self.picture.as_ref() else {
            return self.say("there is no picture yet".into());
        };
        let screenshot = Screenshot {
            name: self.name.clone(),
            frame: picture.frame.clone(),
            size: picture.size,
            mode: picture.mode,
            shown: picture.shown.clone(),
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

    /// Takes the newest picture, unless it is to stand still.
    fn take_picture(&mut self) {
        if self.view.paused && self.picture.is_some() {
            return;
        }
        if let (Some(picture), Some(drawing)) = (self.mailbox.take(), &mut self.drawing) {
            drawing.graphics.upload(&picture);
            if let Some(old) = self.picture.replace(picture) {
                self.mailbox.give_back(old);
            }
        }
    }

    fn redraw(&mut self, event_loop: &ActiveEventLoop) -> Result<()> {
        self.take_picture();
        if self.drawing.as_ref().is_some_and(|drawing| drawing.graphics.lost()) {
            self.recover(event_loop)?;
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
            devices: &DEVICES.map(|(name, device)| (name.to_owned(), device)),
            device: self.device,
        };
        let output = context.run_ui(input, |ui| {
            let now = overlay::show(ui.ctx(), &self.view, &facts);
            asked.action = asked.action.or(now.action);
            asked.device = asked.device.or(now.device);
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
        if let Some(action) = asked.action {
            self.act(action);
        }
        if let Some(device) = asked.device {
            self.device = device;
            self.mailbox.choose(device);
            self.say("the device changes with the next picture".into());
        }
        Ok(())
    }

    /// After the device that draws was lost: opens what there is now.
    fn recover(&mut self, event_loop: &ActiveEventLoop) -> Result<()> {
        tracing::warn!("the graphics device was lost, opening it again");
        let Some(old) = self.drawing.take() else { return Ok(()) };
        let window = old.window.clone();
        // A window has one surface at a time.
        drop(old);
        let mut drawing = Drawing::new(event_loop, window)?;
        if let Some(picture) = &self.picture {
            drawing.graphics.upload(picture);
        }
        self.drawing = Some(drawing);
        self.say("the graphics device was lost and opened again".into());
        Ok(())
    }

    fn pointer_button(&mut self, button: MouseButton, state: ElementState) {
        let pressed = state == ElementState::Pressed;
        match button {
            MouseButton::Left if !pressed => self.view.dragging = false,
            MouseButton::Left => {
                if self.fit().is_some_and(|fit| self.view.over_divider(&fit)) {
                    self.view.dragging = true;
                    self.last_click = None;
                } else if self.last_click.replace(Instant::now()).is_some_and(|at| at.elapsed() < DOUBLE_CLICK) {
                    self.last_click = None;
                    self.full_screen();
                }
            }
            MouseButton::Right => self.view.loupe = pressed,
            _ => {}
        }
    }

    fn input(&mut self, event: &WindowEvent) {
        match event {
            WindowEvent::KeyboardInput { event, .. } if event.state == ElementState::Pressed => {
                let repeats = |action| {
                    matches!(
                        action,
                        Action::DividerLeft | Action::DividerRight | Action::ZoomIn | Action::ZoomOut
                    )
                };
                if let Some(action) = keys::action(&event.logical_key)
                    && (!event.repeat || repeats(action))
                {
                    self.act(action);
                }
            }
            WindowEvent::CursorMoved { position, .. } => {
                self.view.pointer = Some([position.x as f32, position.y as f32]);
                if let Some(fit) = self.fit() {
                    self.view.drag(&fit);
                }
            }
            WindowEvent::CursorLeft { .. } if !self.view.dragging => self.view.pointer = None,
            WindowEvent::MouseInput { state, button, .. } => self.pointer_button(*button, *state),
            WindowEvent::MouseWheel { delta, .. } if self.view.loupe => self.view.zoom_by(match delta {
                MouseScrollDelta::LineDelta(_, lines) => *lines,
                MouseScrollDelta::PixelDelta(pixels) => pixels.y as f32 / 40.0,
            }),
            _ => return,
        }
        self.draw_again();
    }
}

/// Devices to choose from.
const DEVICES: [(&str, Preference); 3] = [
    ("GPU if there is one, else CPU", Preference::Auto),
    ("any GPU adapter, also in software", Preference::Gpu { allow_software: true }),
    ("CPU", Preference::Cpu),
];

impl ApplicationHandler<Wake> for App {
    fn resumed(&mut self, event_loop: &ActiveEventLoop) {
        if self.drawing.is_none()
            && let Err(error) = self.open(event_loop)
        {
            self.fail(event_loop, error);
        }
    }

    fn user_event(&mut self, event_loop: &ActiveEventLoop, wake: Wake) {
        match wake {
            Wake::Draw => {
                self.draw_again();
                // Nobody draws a window that cannot be seen: its newest picture waits in the mailbox.
            }
            Wake::Toast(word) => self.say(word),
            Wake::Ended(result) => {
                self.ended.get_or_insert(result);
                event_loop.exit();
            }
        }
    }

    fn window_event(&mut self, event_loop: &ActiveEventLoop, _: WindowId, event: WindowEvent) {
        let Some(drawing) = &mut self.drawing else { return };
        let response = drawing.egui.on_window_event(&drawing.window, &event);
        if response.repaint && !matches!(event, WindowEvent::RedrawRequested) {
            drawing.window.request_redraw();
        }
        match &event {
            WindowEvent::CloseRequested => self.end(),
            WindowEvent::Resized(_) => {
                drawing.graphics.resize();
                drawing.window.request_redraw();
            }
            WindowEvent::Occluded(occluded) => {
                drawing.visible = !occluded;
                drawing.window.request_redraw();
            }
            WindowEvent::RedrawRequested if drawing.visible => {
                if let Err(error) = self.redraw(event_loop) {
                    self.fail(event_loop, error);
                }
            }
            // A divider that is held is let go of wherever that happens.
            WindowEvent::MouseInput { state: ElementState::Released, .. } => self.input(&event),
            _ if response.consumed => {}
            event => self.input(event),
        }
    }

    fn about_to_wait(&mut self, event_loop: &ActiveEventLoop) {
        if self.ending.is_some_and(|since| since.elapsed() > END_MAX) {
            tracing::warn!("the viewer does not end, leaving");
            return event_loop.exit();
        }
        let now = Instant::now();
        let again = self.drawing.as_ref().and_then(|drawing| drawing.again);
        if let Some(drawing) = &mut self.drawing
            && drawing.again.is_none_or(|again| again <= now)
        {
            drawing.again = Some(now + TICK);
            drawing.window.request_redraw();
        }
        let next = again.filter(|again| *again > now).map_or(now + TICK, |again| again.min(now + TICK));
        event_loop.set_control_flow(ControlFlow::WaitUntil(next));
    }
}

