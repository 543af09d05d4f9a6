//! The viewer's end: decode, weights, upscaling.

use hone_media::decode::{self, Decoder};
use hone_media::frame::{Colour, Frame};
use hone_model::update::{self, Header, UpdateError};
use hone_model::{Arch, Holding, Origin, Published};
use hone_runtime::gpu::{Gpu, PassTime};
use hone_runtime::{Mode, Options, Output, Preference, Upscaler, Variant};

use crate::picture;
use crate::scene::Scenes;

/// Why an update was refused. The weights in force stay, the next snapshot heals.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It is damaged, or does not follow the weights in force.
    #[error(transparent)]
    Update(#[from] UpdateError),
    /// The device did not take the weights.
    #[error(transparent)]
    Device(#[from] hone_runtime::Error),
}

/// What to upscale on.
#[derive(Clone, Default)]
pub struct Target {
    /// The device, by kind or name.
    pub options: Options,
    /// One that is open already, such as a window's: frames are drawn from where they are made.
    pub gpu: Option<Gpu>,
}

impl From<Preference> for Target {
    fn from(device: Preference) -> Self {
        Self { options: device.into(), gpu: None }
    }
}

impl Target {
    /// Opens it.
    ///
    /// # Errors
    /// What the device says.
    pub fn upscaler(&self, arch: Arch) -> Result<Upscaler, hone_runtime::Error> {
        match &self.gpu {
            Some(gpu) => Upscaler::on(gpu.clone(), arch, &self.options),
            None => Upscaler::new(arch, &self.options),
        }
    }
}

/// Shows one stream.
pub struct Screen {
    decoder: Decoder,
    upscaler: Upscaler,
    holding: Holding,
    scenes: Scenes,
}

/// Nothing yet: version 0 is named by the first update.
fn nothing(arch: Arch) -> Holding {
    Holding::new(Published::origin(arch, Origin::Seed(0)))
}

impl Screen {
    /// Opens the decoder and a device.
    ///
    /// # Errors
    /// What either says.
    pub fn new(arch: Arch, target: impl Into<Target>) -> anyhow::Result<Self> {
        Ok(Self {
            decoder: Decoder::new(decode::Limits::default())?,
            upscaler: target.into().upscaler(arch)?,
            holding: nothing(arch),
            scenes: Scenes::default(),
        })
    }

    /// Changes the device; weights and decoder stay. If the new one does not take the weights, so does the device.
    ///
    /// # Errors
    /// What the device says.
    pub fn adopt(&mut self, mut upscaler: Upscaler) -> Result<(), hone_runtime::Error> {
        if self.upscaler.has_weights() {
            upscaler.set_weights(&self.held().weights())?;
        }
        self.upscaler = upscaler;
        Ok(())
    }

    /// Changes the network, and the device with it; the decoder stays. Nothing is known of its weights yet.
    pub fn change(&mut self, arch: Arch, upscaler: Upscaler) {
        (self.upscaler, self.holding) = (upscaler, nothing(arch));
    }

    /// How the GPU computes; none on the CPU.
    pub fn variant(&self) -> Option<Variant> {
        self.upscaler.variant()
    }

    /// Starts to time the passes of frames, where the device can.
    ///
    /// # Errors
    /// What the device says.
    pub fn time_passes(&mut self) -> Result<(), hone_runtime::Error> {
        self.upscaler.time_passes(true).map(drop)
    }

    /// Times of the last frame that was timed and is done; empty where the device cannot.
    pub fn pass_times(&mut self) -> &[PassTime] {
        self.upscaler.pass_times()
    }

    /// Takes a model update; the weights change between two frames. What is older than the weights in force, as the
    /// first updates of a group are after a broken connection, changes nothing.
    ///
    /// # Errors
    /// [`Error`]: the weights in force stay, the next snapshot heals.
    pub fn update(&mut self, bytes: &[u8]) -> Result<Header, Error> {
        let header = update::header(bytes)?;
        let held = self.holding.published();
        if header.version <= held.version() && header.arch_id == held.arch().id() {
            return Ok(Header { version: held.version(), gain_db: self.holding.gain_db(), ..header });
        }
        let next = self.holding.follow(bytes)?;
        self.upscaler.set_weights(&next.weights())?;
        self.holding.take(next, &header);
        Ok(header)
    }

    /// The weights in force.
    pub fn held(&self) -> &Published {
        self.holding.published()
    }

    /// The device that frames can be left on; none on the CPU.
    pub fn gpu(&self) -> Option<&Gpu> {
        self.upscaler.gpu()
    }

    /// HR size over LR size.
    pub fn scale(&self) -> u32 {
        self.held().arch().scale() as u32
    }

    /// The device.
    pub fn backend(&self) -> &str {
        self.upscaler.backend()
    }

    /// How `frame`, the next one, is to be shown: by the network only where the server measured that it helps, and not in
    /// a scene that begins in the dark. The server will say that of it, too, but a round trip later.
    pub fn mode(&mut self, frame: &Frame) -> Mode {
        self.scenes.see(&frame.image, frame.pts_us);
        if self.holding.gain_db() > 0.0 && !self.scenes.dark() { Mode::Network } else { Mode::Bicubic }
    }

    /// Starts or stops to keep the network's last frame, for [`Mode::Reuse`].
    pub fn keep(&mut self, on: bool) {
        self.upscaler.keep(on);
    }

    /// How a frame would be upscaled if `mode` were asked for.
    pub fn possible(&self, frame: &Frame, mode: Mode) -> Mode {
        self.upscaler.possible(frame.image.height() as usize, frame.image.width() as usize, mode)
    }

    /// Decodes one access unit; frames come out in the order in which they are shown.
    ///
    /// # Errors
    /// [`decode::Error`]: the picture is missing, decoding goes on.
    pub fn decode(&mut self, data: &[u8], pts_us: i64) -> Result<Vec<Frame>, decode::Error> {
        self.decoder.decode(data, pts_us)
    }

    /// Columns, rows and colour of the stream that is decoded; None before its first keyframe.
    pub fn format(&self) -> Option<((u32, u32), Colour)> {
        self.decoder.format()
    }

    /// The last frames of a stream that has ended.
    ///
    /// # Errors
    /// [`decode::Error`].
    pub fn flush(&mut self) -> Result<Vec<Frame>, decode::Error> {
        self.decoder.flush()
    }

    /// (h, w) frame -> (s·h, s·w, 4) RGBA.
    ///
    /// # Errors
    /// What the device says.
    pub fn upscale(
        &mut self,
        frame: &Frame,
        mode: Mode,
        rgba: &mut Vec<u8>,
    ) -> Result<(), hone_runtime::Error> {
        self.upscaler.upscale(&picture::yuv420(frame), mode, rgba)
    }

    /// The frame of the last [`Screen::present`] by bicubic, beside what was made of it and for as long; none where that
    /// did not stay on a device.
    ///
    /// # Errors
    /// What the device says.
    pub fn beside(&mut self) -> Result<Option<hone_runtime::wgpu::Texture>, hone_runtime::Error> {
        self.upscaler.beside()
    }

    /// As [`Screen::upscale`], but the picture may stay on the device, and `rgba` as it is: then the texture is it.
    ///
    /// # Errors
    /// What the device says.
    pub fn present(
        &mut self,
        frame: &Frame,
        mode: Mode,
        rgba: &mut Vec<u8>,
    ) -> Result<Option<hone_runtime::wgpu::Texture>, hone_runtime::Error> {
        if self.gpu().is_none() {
            self.upscale(frame, mode, rgba)?;
            return Ok(None);
        }
        Ok(match self.upscaler.present(&picture::yuv420(frame), mode)? {
            Output::Gpu(texture) => Some(texture),
            Output::Cpu { rgba: made, .. } => {
                rgba.clear();
                rgba.extend_from_slice(made);
                None
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hone_media::frame::I420;

    use super::*;

    #[test]
    fn a_cut_to_black_is_left_alone_at_once() {
        let arch: Arch = "live-1x8-x2".parse().unwrap();
        let mut screen = Screen::new(arch, Preference::Cpu).unwrap();
        let origin = Published::origin(arch, Origin::Seed(1));
        let update = update::encode(Origin::Seed(1), &origin, &origin.next(&origin.weights()), 1.0);
        screen.update(&update).unwrap();
        let mut modes = |luma: u8, frames: std::ops::Range<i64>| -> Vec<Mode> {
            let frame = |index: i64| {
                let mut image = I420::new(64, 48).unwrap();
                image.y_mut().iter_mut().enumerate().for_each(|(i, y)| *y = luma + (i % 7) as u8);
                let (pts_us, colour) = (index * 40_000, Colour::guess(48));
                Frame { pts_us, image: Arc::new(image), colour, quantiser: None }
            };
            frames.map(|index| screen.mode(&frame(index))).collect()
        };
        assert!(modes(120, 1..30).iter().all(|mode| *mode == Mode::Network));
        assert!(modes(16, 30..40).iter().all(|mode| *mode == Mode::Bicubic));
        assert!(modes(120, 40..50).iter().all(|mode| *mode == Mode::Network));
        // A camera that looks into the dark all night is no fade: what was learned there counts.
        assert_eq!(modes(24, 50..200).last(), Some(&Mode::Network));
    }
}
