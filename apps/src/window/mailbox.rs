//! Between the screen's thread and the window: the newest picture one way, what the user wants the other.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use hone_media::audio;
use hone_media::encode::Packet;
use hone_media::frame::Frame;
use hone_runtime::{Mode, wgpu};

use crate::screen::{Screen, Target};
use crate::viewer::{Format, Outputs, Shown, Sink, Stream, Wants};

/// One picture to be drawn.
pub struct Picture {
    /// What it was made of.
    pub frame: Frame,
    /// Columns and rows.
    pub size: (u32, u32),
    /// How it was upscaled.
    pub mode: Mode,
    /// Upscaled so.
    pub shown: Pixels,
    /// The same by bicubic, if somebody compares and `shown` is not that already.
    pub bicubic: Option<Pixels>,
}

/// Where a picture lies.
pub enum Pixels {
    /// (H, W, 4) RGBA in host memory.
    Host(Vec<u8>),
    /// (H, W) rgba8unorm on a device; it stays whole until the second picture after it.
    Device(wgpu::Texture, wgpu::Device),
}

impl Pixels {
    /// The bytes, if they are here.
    pub fn host(&self) -> Option<&[u8]> {
        match self {
            Self::Host(rgba) => Some(rgba),
            Self::Device(..) => None,
        }
    }
}

/// A place for one picture: a newer one replaces one that was not drawn in time.
#[derive(Default)]
pub struct Mailbox {
    newest: Mutex<Option<Picture>>,
    /// Memory of pictures that are drawn no more.
    spare: Mutex<Vec<Vec<u8>>>,
    wishes: Mutex<Wishes>,
}

/// What the window wants of the pictures to come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flow {
    /// Every one, wherever it was made.
    #[default]
    Live,
    /// The next one in host memory and in both versions, the others as before.
    Keep,
    /// The next one so, and then none.
    Pause,
    /// None.
    Still,
}

#[derive(Default)]
struct Wishes {
    compare: bool,
    flow: Flow,
    target: Option<Target>,
}

/// Buffers that are kept: two versions of the picture that waits, and of the one that is made.
const SPARE_MAX: usize = 4;

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
        for pixels in [Some(picture.shown), picture.bicubic].into_iter().flatten() {
            if let (Pixels::Host(bytes), true) = (pixels, spare.len() < SPARE_MAX) {
                spare.push(bytes);
            }
        }
    }

    /// Whether each picture is to come in both versions.
    pub fn compare(&self, compare: bool) {
        lock(&self.wishes).compare = compare;
    }

    /// Which pictures are to come.
    pub fn flow(&self, flow: Flow) {
        lock(&self.wishes).flow = flow;
    }

    /// Asks for another device.
    pub fn choose(&self, target: Target) {
        lock(&self.wishes).target = Some(target);
    }

    fn buffer(&self) -> Vec<u8> {
        lock(&self.spare).pop().unwrap_or_default()
    }
}

/// The viewer's sink where there is a window: files as without one, and the mailbox.
pub struct WindowSink {
    outputs: Outputs,
    /// Whoever plays the sound.
    sound: Option<Box<dyn Sink>>,
    mailbox: Arc<Mailbox>,
    /// What is upscaled on.
    target: Target,
    /// Is called for each new picture.
    wake: Box<dyn Fn() + Send>,
}

impl WindowSink {
    /// Calls `wake` for each picture that lies in the mailbox.
    pub fn new(
        outputs: Outputs,
        sound: Option<Box<dyn Sink>>,
        mailbox: Arc<Mailbox>,
        target: Target,
        wake: impl Fn() + Send + 'static,
    ) -> Self {
        Self { outputs, sound, mailbox, target, wake: Box::new(wake) }
    }
}

impl Sink for WindowSink {
    fn start(&mut self, stream: &Stream) -> Result<()> {
        self.sound.iter_mut().try_for_each(|sound| sound.start(stream))?;
        self.outputs.start(stream)
    }

    fn packet(&mut self, packet: &Packet, format: &Format) -> Result<()> {
        self.outputs.packet(packet, format)
    }

    fn audio(&mut self, packet: audio::Packet) -> Result<()> {
        if let Some(sound) = &mut self.sound {
            sound.audio(packet.clone())?;
        }
        self.outputs.audio(packet)
    }

    fn lead(&self) -> Option<Duration> {
        self.sound.as_ref()?.lead()
    }

    /// The device in use where none was chosen since.
    fn newest_target(&mut self) -> Option<Target> {
        self.target();
        Some(self.target.clone())
    }

    fn wants(&mut self) -> Wants {
        match lock(&self.mailbox.wishes).flow {
            Flow::Keep | Flow::Pause => Wants::Bytes,
            _ if self.outputs.take_frames() => Wants::Bytes,
            Flow::Live => Wants::Anywhere,
            Flow::Still => Wants::Nothing,
        }
    }

    fn shown(&mut self, shown: &Shown, screen: &mut Screen) -> Result<()> {
        self.outputs.shown(shown, screen)?;
        let host = shown.texture.is_none();
        let (flow, compare) = {
            let mut wishes = lock(&self.mailbox.wishes);
            let flow = wishes.flow;
            // A picture that was asked for in host memory is not this one, if that came in between.
            wishes.flow = match flow {
                Flow::Keep if host => Flow::Live,
                Flow::Pause if host => Flow::Still,
                flow => flow,
            };
            (flow, wishes.compare || flow != Flow::Live)
        };
        if flow == Flow::Still {
            return Ok(());
        }
        let pixels = match (&shown.texture, screen.gpu()) {
            (Some(texture), Some(gpu)) => Pixels::Device(texture.clone(), gpu.device().clone()),
            _ => {
                let mut bytes = self.mailbox.buffer();
                bytes.clear();
                bytes.extend_from_slice(shown.rgba);
                Pixels::Host(bytes)
            }
        };
        let mut bicubic = None;
        if compare && shown.mode != Mode::Bicubic {
            // On a device it has a place beside the other, so that both sides of the divider hold as long.
            let beside = if host { None } else { screen.beside()? };
            bicubic = Some(match (beside, screen.gpu()) {
                (Some(texture), Some(gpu)) => Pixels::Device(texture, gpu.device().clone()),
                _ => {
                    let mut bytes = self.mailbox.buffer();
                    screen.upscale(shown.frame, Mode::Bicubic, &mut bytes)?;
                    Pixels::Host(bytes)
                }
            });
        }
        let picture = Picture {
            frame: shown.frame.clone(),
            size: shown.size,
            mode: shown.mode,
            shown: pixels,
            bicubic,
        };
        if let Some(missed) = lock(&self.mailbox.newest).replace(picture) {
            self.mailbox.give_back(missed);
        }
        (self.wake)();
        Ok(())
    }

    fn target(&mut self) -> Option<Target> {
        let target = lock(&self.mailbox.wishes).target.take()?;
        self.target = target.clone();
        Some(target)
    }

    fn end(&mut self) -> Result<()> {
        self.sound.iter_mut().try_for_each(|sound| sound.end())?;
        self.outputs.end()
    }
}
