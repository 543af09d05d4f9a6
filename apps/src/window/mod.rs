//! The viewer's window.
//!
//! The window's thread draws and listens to the user. It never waits for the network, the decoder or the upscaler:
//! these run on threads of their own, and pictures come through a mailbox that holds only the newest.

mod app;
mod graphics;
mod keys;
mod mailbox;
mod overlay;
mod present;
mod screenshot;
mod view;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, bail};
use winit::event_loop::EventLoop;

use self::app::App;
use crate::viewer::{Outputs, Session};

/// What to view, and how.
pub struct Setup {
    /// The stream, device and pace.
    pub session: Session,
    /// Recordings beside the window.
    pub outputs: Outputs,
    /// File of statistics.
    pub stats: Option<PathBuf>,
    /// Whether the sound is off to begin with.
    pub mute: bool,
}

/// What wakes the window.
enum Wake {
    /// A picture lies in the mailbox, or the state has changed.
    Draw,
    /// A word for the one who watches.
    Toast(String),
    /// The viewer has ended, and its recordings are finished.
    Ended(Result<()>),
}

/// Opens a window and views until it is closed or `stop` is set. To be called on the program's first thread: macOS
/// asks for that.
///
/// # Errors
/// If there is no display or nothing to draw with, and what the viewer cannot mend by another try.
pub fn run(setup: Setup, runtime: &tokio::runtime::Handle, stop: Arc<AtomicBool>) -> Result<()> {
    if cfg!(target_os = "linux") && !["DISPLAY", "WAYLAND_DISPLAY", "WAYLAND_SOCKET"].into_iter().any(is_set)
    {
        bail!("no display to open a window on: use --headless, with --record, --y4m or --stats");
    }
    let event_loop = EventLoop::<Wake>::with_user_event()
        .build()
        .context("cannot open a window: use --headless, with --record, --y4m or --stats")?;
    let mut app = App::new(setup, runtime.clone(), stop, event_loop.create_proxy());
    event_loop.run_app(&mut app).context("the window failed")?;
    app.ended()
}

fn is_set(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|value| !value.is_empty())
}
