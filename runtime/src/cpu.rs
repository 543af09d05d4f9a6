//! The CPU behind an upscaler: computes when a frame is submitted, hands out when it is read.

use std::collections::VecDeque;

use hone_cpu::{Bicubic, Network, Reuse};
use hone_model::{Weights, Yuv420};

use crate::Mode;

/// A network on the CPU and the frames that wait to be read.
pub(crate) struct Cpu {
    scale: usize,
    bicubic: Bicubic,
    network: Option<Network>,
    /// Newer weights, swapped in before the next frame.
    spare: Option<Network>,
    /// The network's last frame, while such are kept.
    reuse: Option<Reuse>,
    ready: VecDeque<Vec<u8>>,
    /// Buffers of frames that were read, to be used again.
    free: Vec<Vec<u8>>,
}

impl Cpu {
    pub fn new(scale: usize, weights: Option<&Weights>) -> Self {
        let spare = weights.map(Network::new);
        Self {
            scale,
            bicubic: Bicubic::new(scale),
            network: None,
            spare,
            reuse: None,
            ready: VecDeque::new(),
            free: Vec::new(),
        }
    }

    pub fn set_weights(&mut self, weights: &Weights) {
        self.spare = Some(Network::new(weights));
    }

    /// Starts or stops to keep the network's last frame.
    pub fn keep(&mut self, on: bool) {
        if on != self.reuse.is_some() {
            self.reuse = on.then(|| Reuse::new(self.scale));
        }
    }

    /// Whether a frame of (H, W) pictures is kept.
    pub fn keeps(&self, h: usize, w: usize) -> bool {
        self.reuse.as_ref().is_some_and(|reuse| reuse.fits(h, w))
    }

    /// Frames that were submitted and not read.
    pub fn in_flight(&self) -> usize {
        self.ready.len()
    }

    /// (H, W) picture -> (s·H, s·W, 4).
    pub fn upscale(&mut self, picture: &Yuv420, mode: Mode, rgba: &mut Vec<u8>) {
        if let Some(spare) = self.spare.take() {
            self.network = Some(spare);
        }
        rgba.resize(4 * self.scale * picture.h * self.scale * picture.w, 0);
        let fits = self.keeps(picture.h, picture.w);
        match (mode, &mut self.reuse, &mut self.network) {
            (Mode::Reuse, Some(reuse), _) if fits => reuse.upscale(picture, rgba),
            (Mode::Network | Mode::Reuse, reuse, Some(network)) => {
                network.upscale(picture, rgba);
                if let Some(reuse) = reuse {
                    reuse.keep(picture, rgba);
                }
            }
            _ => self.bicubic.upscale(picture, rgba),
        }
    }

    pub fn submit(&mut self, picture: &Yuv420, mode: Mode) {
        let mut rgba = self.free.pop().unwrap_or_default();
        self.upscale(picture, mode, &mut rgba);
        self.ready.push_back(rgba);
    }

    /// The frame that was submitted first; none if all were read.
    pub fn read(&mut self, rgba: &mut Vec<u8>) -> Option<()> {
        let mut ready = self.ready.pop_front()?;
        std::mem::swap(rgba, &mut ready);
        self.free.push(ready);
        Some(())
    }
}
