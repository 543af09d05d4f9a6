//! What happens to the window, and what follows from it.

use std::time::{Duration, Instant};

use winit::application::ApplicationHandler;
use winit::event::{ElementState, MouseButton, MouseScrollDelta, WindowEvent};
use winit::event_loop::{ActiveEventLoop, ControlFlow};
use winit::window::WindowId;

use super::App;
use crate::window::Wake;
use crate::window::keys::{self, Action};

/// The window is drawn at least this often, so that statistics move although no picture comes.
const TICK: Duration = Duration::from_millis(500);
/// Two clicks within this time are a double click.
const DOUBLE_CLICK: Duration = Duration::from_millis(400);
/// How long closing waits for the recordings to be finished.
const END_MAX: Duration = Duration::from_secs(10);

impl App {
    fn pointer_button(&mut self, button: MouseButton, state: ElementState) {
        let pressed = state == ElementState::Pressed;
        match button {
            MouseButton::Left if !pressed => self.view.dragging = false,
            MouseButton::Left => {
                if self.fit().is_some_and(|fit| self.view.over_divider(&fit)) {
                    self.view.dragging = true;
                    self.last_click = None;
                } else if self
                    .last_click
                    .replace(Instant::now())
                    .is_some_and(|at| at.elapsed() < DOUBLE_CLICK)
                {
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
            Wake::Draw => self.draw_again(),
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
