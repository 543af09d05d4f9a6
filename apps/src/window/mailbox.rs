//! Between the screen's thread and the window: the newest picture one way, what the user wants the other.

use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use hone_media::encode::Packet;
use hone_media::frame::Frame;
use hone_runtime::{Mode, Preference};

use crate::screen::Screen;
use crate::viewer::{Format, Outputs, Shown, Sink, Stream};

/// One picture to be drawn.
pub struct Picture {
    /// What it was made of.
    pub frame: Frame,
    /// Columns and rows.
    pub size: (u32, u32),
    /// How it was upscaled.
    pub mode: Mode,
    /// (H, W, 4) RGBA, upscaled so.
    pub shown: Vec<u8>,
    /// The same by bicubic; empty if nobody compares, or if `shown` is that already.
    pub bicubic: Vec<u8>,
}

/// A place for one picture: a newer one replaces one that was not drawn in time.
#[derive(Default)]
pub struct Mailbox {
    newest: Mutex<Option<Picture>>,
    /// Drawn pictures, whose memory is used again.
    spare: Mutex<Vec<Picture>>,
    wishes: Mutex<Wishes>,
}

#[derive(Default)]
struct Wishes {
    compare: bool,
    device: Option<Preference>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Mailbox {
    /// Takes the newest picture, if it was not taken yet.
    pub fn take(&self) -> Option<Picture> {
        lock(&self.newest).take()
    }

    /// Gives a picture's memory back.
    pub fn give_back(&self, picture: Picture) {
        let mut spare = lock(&self.spare);
        // One is drawn, one waits, one is being made.
        if spare.len() < 2 {
            spare.push(picture);
        }
    }

    /// Whether each picture is to come in both versions.
    pub fn compare(&self, compare: bool) {
        lock(&self.wishes).compare = compare;
    }

    /// Asks for another device.
    pub fn choose(&self, device: Preference) {
        lock(&self.wishes).device = Some(device);
    }
}

/// The viewer's sink where there is a window: files as without one, and the mailbox.
pub struct WindowSink {
    outputs: Outputs,
    mailbox: std::sync::Arc<Mailbox>,
    /// Is called for each new picture.
    wake: Box<dyn Fn() + Send>,
}

impl WindowSink {
    /// Calls `wake` for each picture that lies in the mailbox.
    pub fn new(
        outputs: Outputs,
        mailbox: std::sync::Arc<Mailbox>,
        wake: impl Fn() + Send + 'static,
    ) -> Self {
        Self { outputs, mailbox, wake: Box::new(wake) }
    }
}

impl Sink for WindowSink {
    fn start(&mut self, stream: &Stream) -> Result<()> {
        self.outputs.start(stream)
    }

    fn packet(&mut self, packet: &Packet, format: &Format) -> Result<()> {
        self.outputs.packet(packet, format)
    }

    fn shown(&mut self, shown: &Shown, screen: &mut Screen) -> Result<()> {
        self.outputs.shown(shown, screen)?;
        let (shown_bytes, mut bicubic) = match lock(&self.mailbox.spare).pop() {
            Some(picture) => (picture.shown, picture.bicubic),
            None => (vec![], vec![]),
        };
        let mut bytes = shown_bytes;
        bytes.clear();
        bytes.extend_from_slice(shown.rgba);
        if lock(&self.mailbox.wishes).compare && shown.mode == Mode::Network {
            screen.upscale(shown.frame, Mode::Bicubic, &mut bicubic)?;
        } else {
            bicubic.clear();
        }
        let picture = Picture {
            frame: shown.frame.clone(),
            size: shown.size(),
            mode: shown.mode,
            shown: bytes,
            bicubic,
        };
        if let Some(missed) = lock(&self.mailbox.newest).replace(picture) {
            self.mailbox.give_back(missed);
        }
        (self.wake)();
        Ok(())
    }

    fn device(&mut self) -> Option<Preference> {
        lock(&self.mailbox.wishes).device.take()
    }

    fn end(&mut self) -> Result<()> {
        self.outputs.end()
    }
}
