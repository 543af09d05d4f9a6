//! Another scale while a stream runs: the next network is made ready beside what is shown, and taken with its first picture.

use std::time::{Duration, Instant};

use anyhow::Result;
use hone_runtime::Preference;
use hone_transport::Message;

use super::device::{Opening, open};
use super::{Show, budget};
use crate::screen::Target;
use crate::viewer::{Sink, Stream};

/// Changes that come faster than this are no stream's: each opens a device.
const CHANGES_EVERY: Duration = Duration::from_millis(500);
/// Updates that come before the first picture that they are for.
const UPDATES_MAX: usize = 64;

/// What a stream will be.
pub(super) struct Coming {
    stream: Stream,
    opening: Opening,
    updates: Vec<Message>,
}

impl<S: Sink> Show<'_, S> {
    /// Takes note of what the stream will be.
    pub(super) fn announced(&mut self, stream: Stream) {
        if stream.arch == self.stream.arch {
            self.coming = None;
            return;
        }
        if self.announced.replace(Instant::now()).is_some_and(|last| last.elapsed() < CHANGES_EVERY) {
            tracing::debug!(arch = %stream.arch, "the scale changes all the time: left out");
            return;
        }
        tracing::info!(arch = %stream.arch, lr = ?stream.lr, "the scale changes");
        let opening = open(&stream, self.target.clone());
        self.coming = Some(Coming { stream, opening, updates: vec![] });
    }

    /// Whether an update is of the network to come: then it is kept for that.
    pub(super) fn keep_update(&mut self, arch_id: u64, message: &Message) -> bool {
        let Some(coming) = self.coming.as_mut().filter(|coming| coming.stream.arch.id() == arch_id) else {
            return false;
        };
        if message.index == 0 || coming.updates.len() == UPDATES_MAX {
            // A snapshot makes up for those before it; without one the next does.
            coming.updates.clear();
        }
        coming.updates.push(message.clone());
        true
    }

    /// Becomes what was announced, if the picture of `pts_us` is of that.
    pub(super) fn change(&mut self, pts_us: i64) -> Result<()> {
        let Some(coming) = self.coming.take_if(|coming| coming.stream.from_us <= pts_us) else {
            return Ok(());
        };
        let arch = coming.stream.arch;
        let opened = match self.options.every_frame {
            true => coming.opening.recv().ok(),
            false => coming.opening.try_recv().ok(),
        };
        self.opening = None;
        let upscaler = match opened {
            Some(Err(error)) if !(self.chosen || self.options.fall_back) => return Err(error.into()),
            Some(Ok(upscaler)) => upscaler,
            not_yet => {
                if let Some(Err(error)) = &not_yet {
                    self.monitor.notify(format!("{error}: the CPU goes on"));
                }
                // The CPU shows what comes, as it does when a stream begins, until the device is there.
                self.opening = not_yet.is_none().then_some(coming.opening);
                Target::from(Preference::Cpu).upscaler(arch)?
            }
        };
        self.screen.change(arch, upscaler);
        if self.options.time_passes {
            self.screen.time_passes()?;
        }
        self.stream =
            Stream { arch, lr: coming.stream.lr, from_us: coming.stream.from_us, ..self.stream.clone() };
        self.budget = budget(&self.stream);
        self.monitor.changed();
        self.monitor.backend(self.screen.backend(), self.screen.variant());
        for message in coming.updates {
            self.update(&message);
        }
        Ok(())
    }
}
