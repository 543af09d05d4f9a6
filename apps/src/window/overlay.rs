//! What lies over the picture: the state, always; statistics, shortcuts and devices, when asked for.

use egui::{Align2, Color32, RichText};
use hone_runtime::{Mode, Options};

use super::keys::{Action, SHORTCUTS};
use super::view::{Fit, View};
use crate::viewer::{State, Stats};

/// All that the overlay shows.
pub struct Facts<'a> {
    /// The state.
    pub state: State,
    /// The last second.
    pub stats: &'a Stats,
    /// What went wrong, if anything did.
    pub notice: Option<&'a str>,
    /// A short word that goes away again.
    pub toast: Option<&'a str>,
    /// How the picture that is drawn was upscaled, if there is one.
    pub mode: Option<Mode>,
    /// Where it lies, in physical pixels.
    pub fit: Option<Fit>,
    /// Devices to choose from.
    pub devices: &'a [(String, Options)],
    /// What is wanted of them.
    pub device: &'a Options,
}

/// What the overlay asks for.
#[derive(Default)]
pub struct Asked {
    /// A button was pressed.
    pub action: Option<Action>,
    /// A device was chosen.
    pub device: Option<Options>,
}

const GOOD: Color32 = Color32::from_rgb(80, 200, 120);
const FAIR: Color32 = Color32::from_rgb(240, 190, 70);
const BAD: Color32 = Color32::from_rgb(240, 90, 80);

fn colour(state: State) -> Color32 {
    match state {
        State::Active => GOOD,
        State::Damaged | State::Stalled | State::Lost => BAD,
        _ => FAIR,
    }
}

/// Dark and half transparent, whatever the system prefers: the picture is what counts.
fn frame() -> egui::Frame {
    egui::Frame::new().fill(Color32::from_black_alpha(215)).corner_radius(6.0).inner_margin(8.0)
}

/// Draws it all.
pub fn show(context: &egui::Context, view: &View, facts: &Facts) -> Asked {
    let mut asked = Asked::default();
    chip(context, view, facts, &mut asked);
    banner(context, view, facts);
    if let Some(fit) = facts.fit.filter(|_| view.compare) {
        labels(context, view, facts, &fit);
        if view.dragging || (view.over_divider(&fit) && !context.egui_wants_pointer_input()) {
            context.set_cursor_icon(egui::CursorIcon::ResizeHorizontal);
        }
    }
    if view.statistics {
        statistics(context, facts);
    }
    if view.help {
        help(context);
    }
    if view.devices {
        devices(context, facts, &mut asked);
    }
    asked
}

fn area(context: &egui::Context, name: &str, at: Align2, offset: [f32; 2], fill: impl FnOnce(&mut egui::Ui)) {
    egui::Area::new(egui::Id::unique(name)).anchor(at, offset).fade_in(false).show(context, |ui| {
        ui.visuals_mut().override_text_color = Some(Color32::from_gray(200));
        frame().show(ui, fill)
    });
}

/// One line that is always there: whether the network upscales, and if not, why.
fn chip(context: &egui::Context, view: &View, facts: &Facts, asked: &mut Asked) {
    area(context, "chip", Align2::RIGHT_TOP, [-10.0, 10.0], |ui| {
        ui.horizontal(|ui| {
            let (dot, _) = ui.allocate_exact_size(egui::vec2(10.0, 10.0), egui::Sense::hover());
            ui.painter().circle_filled(dot.center(), 5.0, colour(facts.state));
            let mut text = facts.state.sentence().to_owned();
            if let (State::Active | State::Reusing, Some(gain_db)) = (facts.state, facts.stats.gain_db) {
                text = format!("{text}, version {}, {gain_db:+.2} dB", facts.stats.version);
            }
            if view.paused {
                text = format!("paused ({text})");
            }
            if view.muted {
                text.push_str(", muted");
            }
            ui.label(RichText::new(text).color(Color32::WHITE));
            if ui.small_button("?").clicked() {
                asked.action = Some(Action::Help);
            }
        });
    });
}

/// In the middle, as long as there is nothing live to look at.
fn banner(context: &egui::Context, view: &View, facts: &Facts) {
    if !facts.state.live() && !view.paused && !view.help && !view.devices {
        area(context, "banner", Align2::CENTER_CENTER, [0.0, 0.0], |ui| {
            ui.set_max_width(520.0);
            ui.vertical_centered(|ui| {
                ui.label(RichText::new(facts.state.sentence()).heading().color(Color32::WHITE));
                if facts.state == State::Lost {
                    ui.label("trying again");
                }
            });
        });
    }
    let line = facts.toast.or(facts.notice);
    if let Some(line) = line {
        area(context, "notice", Align2::CENTER_TOP, [0.0, 10.0], |ui| {
            ui.set_max_width(640.0);
            ui.label(RichText::new(line).color(Color32::WHITE));
        });
    }
}

/// Which side of the divider is which.
fn labels(context: &egui::Context, view: &View, facts: &Facts, fit: &Fit) {
    let points = context.pixels_per_point();
    let at = egui::pos2(
        (fit.origin[0] + view.divider * fit.size[0]) / points,
        (fit.origin[1] + fit.size[1]) / points - 34.0,
    );
    let right = match facts.mode {
        Some(Mode::Network) => "network",
        Some(Mode::Reuse) => "the network's detail of the last frame, where nothing moves",
        _ => "bicubic: the network is not in use",
    };
    for (name, text, pivot, x) in
        [("left", "bicubic", Align2::RIGHT_CENTER, -8.0), ("right", right, Align2::LEFT_CENTER, 8.0)]
    {
        egui::Area::new(egui::Id::unique(name))
            .fixed_pos(at + egui::vec2(x, 0.0))
            .pivot(pivot)
            .constrain(false)
            .interactable(false)
            .fade_in(false)
            .show(context, |ui| {
                frame().inner_margin(4.0).show(ui, |ui| {
                    let text = RichText::new(text).color(Color32::WHITE);
                    ui.add(egui::Label::new(text).wrap_mode(egui::TextWrapMode::Extend));
                });
            });
    }
}

fn statistics(context: &egui::Context, facts: &Facts) {
    let stats = facts.stats;
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".into());
    let rows = [
        ("picture", format!("{} x {}", stats.width, stats.height)),
        ("frames", format!("{:.0} a second", stats.fps)),
        ("by the network", format!("{:.0}%", stats.network_share * 100.0)),
        ("with its detail reused", format!("{:.0}%", stats.reused_share * 100.0)),
        ("device affords", or_dash(stats.rung.clone())),
        (
            "device",
            [Some(stats.backend.clone()), stats.variant.clone()]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(", "),
        ),
        ("decode", format!("{:.1} ms", stats.decode_ms)),
        ("upscale", format!("{:.1} ms", stats.upscale_ms)),
        ("output", format!("{:.1} ms", stats.output_ms)),
        ("model", format!("version {}", stats.version)),
        ("gain at the server", or_dash(stats.gain_db.map(|gain_db| format!("{gain_db:+.2} dB")))),
        ("video", format!("{:.0} kbit/s", stats.video_kbps)),
        ("model updates", format!("{:.0} kbit/s", stats.model_kbps)),
        ("capture to screen", or_dash(stats.latency_ms.map(|ms| format!("{ms:.0} ms")))),
        ("of it for jitter", format!("{:.0} ms", stats.jitter_delay_ms)),
        ("dropped", format!("{} of {}", stats.dropped, stats.frames + stats.dropped)),
    ];
    let rows = rows.map(|(name, value)| (name.to_owned(), value));
    let passes = stats.passes.iter().map(|pass| (pass.name.clone(), format!("{:.2} ms", pass.ms)));
    area(context, "statistics", Align2::LEFT_TOP, [10.0, 10.0], |ui| {
        egui::Grid::new("rows").num_columns(2).spacing([16.0, 3.0]).show(ui, |ui| {
            for (name, value) in rows.into_iter().chain(passes) {
                ui.label(name);
                ui.label(RichText::new(value).color(Color32::WHITE));
                ui.end_row();
            }
        });
    });
}

fn help(context: &egui::Context) {
    area(context, "help", Align2::CENTER_CENTER, [0.0, 0.0], |ui| {
        egui::Grid::new("shortcuts").num_columns(2).spacing([20.0, 4.0]).show(ui, |ui| {
            for shortcut in SHORTCUTS {
                ui.label(RichText::new(shortcut.name).strong().color(Color32::WHITE));
                ui.label(shortcut.meaning);
                ui.end_row();
            }
        });
    });
}

fn devices(context: &egui::Context, facts: &Facts, asked: &mut Asked) {
    area(context, "devices", Align2::CENTER_CENTER, [0.0, 0.0], |ui| {
        ui.label(RichText::new("Upscale on").strong().color(Color32::WHITE));
        for (name, device) in facts.devices {
            if ui.radio(facts.device == device, name).clicked() {
                asked.device = Some(device.clone());
            }
        }
        ui.label(format!("in use: {}", facts.stats.backend));
    });
}
