//! The server's end of one stream: its own decode, patches matched to it, and the trainer.

use std::collections::VecDeque;

use hone_media::decode::{self, Decoder};
use hone_media::frame::Frame;
use hone_trainer::{AddError, Pair, Trainer};

use crate::demand::Demand;
use crate::patch::{self, PatchError};
use crate::scene::{Change, Scenes};

/// Bytes of decoded frames kept for patches that are still under way: 5 s of 540p at 24 fps,
const FRAME_BYTES_MAX: usize = 96 << 20;
/// and microseconds of them: no later patch comes, transport keeps none for longer.
const FRAMES_US_MAX: i64 = 10_000_000;
/// Patches kept until their frame has been decoded: tracks are independent streams.
const PATCHES_WAITING_MAX: usize = 16;

/// What became of a patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The trainer has it.
    Taken,
    /// Its frame is not decoded yet.
    Waits,
    /// Its frame is gone.
    Late,
}

/// Why a patch was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The message is malformed.
    #[error(transparent)]
    Patch(#[from] PatchError),
    /// The trainer cannot use it.
    #[error(transparent)]
    Add(#[from] AddError),
}

/// Turns a stream and its patches into training pairs.
pub struct Learner {
    decoder: Decoder,
    frames: VecDeque<Frame>,
    frame_bytes: usize,
    waiting: VecDeque<(i64, Vec<u8>)>,
    /// Why waiting patches were refused, until that is asked for.
    refused: Vec<Error>,
    scale: usize,
    scenes: Scenes,
    demand: Demand,
    /// Learns and publishes.
    pub trainer: Trainer,
}

impl Learner {
    /// Opens the decoder.
    ///
    /// # Errors
    /// If the codec cannot be opened.
    pub fn new(trainer: Trainer) -> Result<Self, decode::Error> {
        Self::with_limits(trainer, decode::Limits::default())
    }

    /// The same, for a stream that may not have the decoder do everything that it can.
    ///
    /// # Errors
    /// If the codec cannot be opened.
    pub fn with_limits(trainer: Trainer, limits: decode::Limits) -> Result<Self, decode::Error> {
        Ok(Self {
            decoder: Decoder::new(limits)?,
            frames: VecDeque::new(),
            frame_bytes: 0,
            waiting: VecDeque::new(),
            refused: Vec::new(),
            scale: trainer.published().arch().scale(),
            scenes: Scenes::default(),
            demand: Demand::default(),
            trainer,
        })
    }

    /// Decodes one access unit of the stream and tries the waiting patches.
    ///
    /// # Errors
    /// [`decode::Error`]: the picture is missing, decoding goes on.
    pub fn video(&mut self, data: &[u8], pts_us: i64) -> Result<(), decode::Error> {
        self.demand.video(pts_us, data.len());
        for frame in self.decoder.decode(data, pts_us)? {
            let settled = self.scenes.settled();
            let change = self.scenes.see(&frame.image, frame.pts_us);
            if let Some(change) = change {
                tracing::debug!(pts_us = frame.pts_us, ?change, dark = self.scenes.dark(), "scene");
            }
            if let Some(Change::Cut | Change::Drifted) = change {
                self.demand.new_scene(self.trainer.learned_db());
            }
            match change {
                Some(Change::Begun) if self.scenes.dark() => {}
                Some(Change::Cut) if !settled || self.scenes.dark() => self.trainer.new_scene_unknown(),
                Some(Change::Cut) => self.trainer.new_scene(),
                Some(Change::Drifted) => self.trainer.drifted(),
                Some(Change::Begun | Change::Settled) => self.trainer.known(),
                None => {}
            }
            if change == Some(Change::Settled) {
                self.trainer.looks_like(self.scenes.view());
            }
            self.frame_bytes += frame.image.y().len() * 3 / 2;
            let newest_us = frame.pts_us;
            self.frames.push_back(frame);
            while self.frames.len() > 1
                && (self.frame_bytes > FRAME_BYTES_MAX
                    || self.frames.front().is_some_and(|oldest| newest_us - oldest.pts_us > FRAMES_US_MAX))
            {
                let gone = self.frames.pop_front();
                self.frame_bytes -= gone.map_or(0, |frame| frame.image.y().len() * 3 / 2);
            }
        }
        // Nobody may have asked why: only the newest reasons are kept.
        self.refused.clear();
        for (pts_us, message) in std::mem::take(&mut self.waiting) {
            let refused = self.patch(pts_us, message).err();
            self.refused.extend(refused);
        }
        Ok(())
    }

    /// Why patches were refused that had waited for the last picture.
    pub fn refused(&mut self) -> Vec<Error> {
        std::mem::take(&mut self.refused)
    }

    /// Takes a patch message for the frame at `pts_us`.
    ///
    /// # Errors
    /// [`Error`]: the patch is dropped.
    pub fn patch(&mut self, pts_us: i64, message: Vec<u8>) -> Result<Fate, Error> {
        let Some(frame) = self.frames.iter().rev().find(|frame| frame.pts_us <= pts_us) else {
            return Ok(if self.frames.is_empty() { self.wait(pts_us, message) } else { Fate::Late });
        };
        if frame.pts_us < pts_us {
            return Ok(self.wait(pts_us, message));
        }
        self.demand.patch(message.len(), patch::worth(&message));
        let (place, purpose) = patch::header(&message, frame.image.width(), frame.image.height())?;
        let hr = patch::hr(&message, place, self.scale)?;
        self.trainer.add(patch::pair(frame, place, purpose, hr))?;
        Ok(Fate::Taken)
    }

    /// Takes a pair that was cut where the full resolution is.
    ///
    /// # Errors
    /// [`Error::Add`].
    pub fn pair(&mut self, pair: Pair) -> Result<(), Error> {
        Ok(self.trainer.add(pair)?)
    }

    /// Whether more patches are worth their bits.
    pub fn asks_for_patches(&mut self) -> bool {
        self.demand.asks(self.trainer.learned_db())
    }

    fn wait(&mut self, pts_us: i64, message: Vec<u8>) -> Fate {
        // Only a patch that is ahead of the newest frame can still find its own.
        if self.frames.back().is_some_and(|newest| pts_us <= newest.pts_us) {
            return Fate::Late;
        }
        if self.waiting.len() == PATCHES_WAITING_MAX {
            self.waiting.pop_front();
        }
        self.waiting.push_back((pts_us, message));
        Fate::Waits
    }
}
