//! The device: opened beside everything else, changed between two frames, replaced when it fails.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::Result;
use hone_media::frame::Frame;
use hone_runtime::{Mode, Preference, Upscaler, wgpu};

use super::{Show, budget};
use crate::screen::Target;
use crate::viewer::{Sink, Stream, Wants};

/// How often the passes of a frame are read from the device.
const PASSES_EVERY: Duration = Duration::from_secs(1);

/// A device that is being opened.
pub(super) type Opening = mpsc::Receiver<Result<Upscaler, hone_runtime::Error>>;

/// Opens a device beside everything else: drivers compile, and what they compute is checked first.
pub(super) fn open(stream: &Stream, target: Target) -> Opening {
    let (opened, opening) = mpsc::sync_channel(1);
    let arch = stream.arch;
    // Fails only if the stream is over.
    std::thread::spawn(move || drop(opened.send(target.upscaler(arch))));
    opening
}

impl<S: Sink> Show<'_, S> {
    /// Upscales a frame, and says how: if the device fails, that may be otherwise than was asked for. The texture is the
    /// frame if it stayed on the device, else `self.rgba`.
    pub(super) fn upscale(
        &mut self,
        frame: &Frame,
        mut mode: Mode,
        wants: Wants,
    ) -> Result<(Option<wgpu::Texture>, Mode)> {
        let backend = self.screen.backend().to_owned();
        let made = match wants {
            Wants::Anywhere => self.screen.present(frame, mode, &mut self.rgba),
            _ => self.screen.upscale(frame, mode, &mut self.rgba).map(|()| None),
        };
        let texture = match made {
            Err(error @ hone_runtime::Error::Side { .. }) => return Err(error.into()),
            Err(error) if self.options.fall_back => {
                tracing::warn!(%error, "the device failed, going on with the CPU");
                self.monitor.notify(format!("{error}: the CPU goes on"));
                self.target = Preference::Cpu.into();
                self.screen.adopt(self.target.upscaler(self.stream.arch)?)?;
                self.screen.upscale(frame, mode, &mut self.rgba)?;
                None
            }
            made => made?,
        };
        if self.screen.backend() != backend {
            // Another device has no frame to reuse, and a speed of its own.
            mode = if mode == Mode::Reuse { Mode::Network } else { mode };
            self.budget = budget(&self.stream);
            self.monitor.backend(self.screen.backend(), self.screen.variant());
        }
        if self.options.time_passes && self.last_passes.elapsed() > PASSES_EVERY {
            self.last_passes = Instant::now();
            self.monitor.passes(self.screen.pass_times());
        }
        Ok((texture, mode))
    }

    /// Changes the device between two frames, once another is open.
    pub(super) fn adopt(&mut self) -> Result<()> {
        let opened = match self.opening.as_ref().map(mpsc::Receiver::try_recv) {
            None | Some(Err(mpsc::TryRecvError::Empty)) => return Ok(()),
            Some(Ok(opened)) => opened,
            Some(Err(mpsc::TryRecvError::Disconnected)) => {
                self.opening = None;
                return Ok(());
            }
        };
        self.opening = None;
        let adopted = opened.and_then(|upscaler| {
            self.screen.adopt(upscaler)?;
            if self.options.time_passes { self.screen.time_passes() } else { Ok(()) }
        });
        match adopted {
            Err(error) if self.chosen || self.options.fall_back => {
                tracing::warn!(%error, "the device cannot be used");
                self.monitor.notify(error.to_string());
            }
            Err(error) => return Err(error.into()),
            Ok(()) => self.budget = budget(&self.stream),
        }
        self.monitor.backend(self.screen.backend(), self.screen.variant());
        Ok(())
    }
}
