//! How much a frame may cost: the network while it keeps up, else every second frame without it, else bicubic.

use std::fmt;
use std::time::Duration;

use crate::Mode;

/// Share of the frame interval that upscaling may take; the rest is for decoding and showing.
const SHARE: f64 = 0.8;
/// Late frames, less those in time since, that make a step down.
const MISSES_MAX: u32 = 8;
/// Late frames that end a trial: enough to forgive one hiccup.
const TRIAL_MISSES_MAX: u32 = 3;
/// Frames that a step up is on trial.
const TRIAL_FRAMES: u32 = 60;
/// Frames on a rung before the first step up is tried: some seconds.
const WAIT_FRAMES: u32 = 120;
/// The network's frame and the one that reuses it.
const PAIR_FRAMES: u32 = 2;
/// Longest wait, in frames: each failed trial doubles the wait up to this, some minutes.
const WAIT_FRAMES_MAX: u32 = 7_680;

/// What a device affords, the best first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rung {
    /// The network on every frame.
    #[default]
    Network,
    /// The network on every second frame, [`Mode::Reuse`] on those between.
    Reuse,
    /// Bicubic on all of them.
    Bicubic,
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Network => "network",
            Self::Reuse => "reuse",
            Self::Bicubic => "bicubic",
        })
    }
}

/// Decides each frame's [`Mode`] from what the frames before took. Has no clock of its own.
///
/// It steps down after some late frames, and over [`Rung::Reuse`] if half of what the network took was too long
/// already. A step up comes only after a wait, for a trial; each trial that fails doubles the wait. Where the network's
/// frames are measured anyway, on [`Rung::Reuse`], the wait begins anew with each that would have been late by itself.
#[derive(Clone, Debug)]
pub struct Budget {
    limit: Duration,
    rung: Rung,
    /// On [`Rung::Reuse`]: what the network's frame of this pair took, if that is done.
    pair: Option<Duration>,
    misses: u32,
    /// The least that a late frame took since there were no misses.
    least: Duration,
    /// Frames left of the trial that a step up began; 0 without one.
    trial: u32,
    /// Frames left before a step up is tried.
    left: u32,
    /// How many these are at first, on [`Rung::Reuse`] and on [`Rung::Bicubic`].
    wait: [u32; 2],
}

impl Budget {
    /// A budget that starts with the network. `interval` is the time from frame to frame.
    pub fn new(interval: Duration) -> Self {
        Self {
            limit: interval.mul_f64(SHARE),
            rung: Rung::Network,
            pair: None,
            misses: 0,
            least: Duration::ZERO,
            trial: 0,
            left: 0,
            wait: [WAIT_FRAMES; 2],
        }
    }

    /// What the device affords now.
    pub fn rung(&self) -> Rung {
        self.rung
    }

    /// How the next frame is to be upscaled.
    pub fn mode(&self) -> Mode {
        match self.rung {
            Rung::Network => Mode::Network,
            Rung::Reuse if self.pair.is_none() => Mode::Network,
            Rung::Reuse => Mode::Reuse,
            Rung::Bicubic => Mode::Bicubic,
        }
    }

    /// Notes how a frame was upscaled and what that took. What was not made as [`Budget::mode`] says tells nothing of the
    /// rung and does not count.
    pub fn record(&mut self, mode: Mode, took: Duration) {
        match (self.rung, mode) {
            (Rung::Network, Mode::Network) => self.judge(took, 1),
            // A network that is asked for again, since there was nothing to reuse, is judged by itself.
            (Rung::Reuse, Mode::Network) if self.pair.is_some() => self.judge(took, 1),
            (Rung::Reuse, Mode::Network) => self.pair = Some(took),
            (Rung::Reuse, Mode::Reuse) => {
                let Some(network) = self.pair.take() else { return };
                if network > self.limit {
                    // After this pair, which does not count.
                    self.left = self.wait[0] + PAIR_FRAMES;
                }
                self.judge((network + took) / PAIR_FRAMES, PAIR_FRAMES);
            }
            (Rung::Bicubic, Mode::Bicubic) => self.judge(Duration::ZERO, 1),
            _ => {}
        }
    }

    /// Counts frames that took so long each.
    fn judge(&mut self, took: Duration, frames: u32) {
        let late = took > self.limit;
        if late {
            self.least = if self.misses == 0 { took } else { self.least.min(took) };
            self.misses += frames;
        } else if self.trial == 0 {
            self.misses = self.misses.saturating_sub(frames);
        }
        let misses_max = if self.trial > 0 { TRIAL_MISSES_MAX } else { MISSES_MAX };
        if self.misses >= misses_max {
            return self.step_down();
        }
        if self.trial > 0 {
            self.trial = self.trial.saturating_sub(frames);
            if self.trial == 0 {
                self.misses = 0;
                self.wait[self.rung as usize] = WAIT_FRAMES;
            }
        }
        self.left = self.left.saturating_sub(frames);
        if self.rung > Rung::Network && self.trial == 0 && self.left == 0 {
            let up = if self.rung == Rung::Bicubic { Rung::Reuse } else { Rung::Network };
            self.enter(up);
            self.trial = TRIAL_FRAMES;
        }
    }

    fn step_down(&mut self) {
        let hopeless = self.trial == 0 && self.least / 2 > self.limit;
        let down = if self.rung == Rung::Network && !hopeless { Rung::Reuse } else { Rung::Bicubic };
        if self.trial > 0 {
            let wait = &mut self.wait[self.rung as usize];
            *wait = (2 * *wait).min(WAIT_FRAMES_MAX);
        }
        self.enter(down);
    }

    fn enter(&mut self, rung: Rung) {
        self.rung = rung;
        (self.pair, self.misses, self.trial) = (None, 0, 0);
        self.left = match rung {
            Rung::Network => 0,
            Rung::Reuse => self.wait[0],
            Rung::Bicubic => self.wait[1],
        };
    }
}

#[cfg(test)]
mod tests;
