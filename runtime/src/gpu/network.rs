//! One network on one device, frame by frame.

use std::collections::VecDeque;
use std::sync::Arc;

use hone_model::arch::RGB_MEAN;
use hone_model::{Arch, Weights, Yuv420};
use wgpu::{SubmissionIndex, Texture};

use super::choice;
use super::plan::{FRAMES, Plan, Slot};
use super::program::program;
use super::timing::{PassTime, Timing};
use super::{Gpu, Kernel, Size, WeightsBuffer, WeightsLayout};
use crate::{Error, Mode, Options, Variant};

/// Size of the plan that compiles the pipelines before the first picture is known.
const WARM_UP: Size = Size { h: 2, w: 2 };

/// A network: two weight buffers of which one is in force, and the plan for the current picture size.
pub struct Network {
    gpu: Gpu,
    kernel: Kernel,
    arch: Arch,
    layout: WeightsLayout,
    weights: [WeightsBuffer; 2],
    current: usize,
    /// Whether the spare buffer holds newer weights.
    pending: bool,
    plan: Plan,
    /// The slot of the next frame.
    next: usize,
    /// The newest submission of each slot.
    busy: [Option<SubmissionIndex>; FRAMES],
    /// Frames to be read, the oldest first; a slot may be one of an earlier plan.
    in_flight: VecDeque<(Arc<Slot>, SubmissionIndex)>,
    timing: Option<Timing>,
    times: Vec<PassTime>,
    /// Whether the network's last frame is kept.
    keep: bool,
}

impl Network {
    /// Chooses how to compute and compiles the pipelines; all weights are zero.
    ///
    /// # Errors
    /// [`Error::Variant`] for one that was asked for and that the device computes wrongly, [`Error::Wrong`] if
    /// it computes all of them wrongly, [`Error::Buffer`] if it cannot hold the weights, [`Error::Lost`] if it failed.
    pub fn new(gpu: Gpu, arch: Arch, options: &Options) -> Result<Self, Error> {
        let kernel = choice::choose(&gpu, arch, options)?;
        Self::with_kernel(gpu, arch, kernel)
    }

    /// As [`Network::new`], computed in a certain way.
    ///
    /// # Errors
    /// As [`Network::new`].
    pub fn with_kernel(gpu: Gpu, arch: Arch, kernel: Kernel) -> Result<Self, Error> {
        let mut layers: Vec<_> = arch.layers().into_iter().map(|layer| (layer, 1)).collect();
        for step in program(arch) {
            layers[step.layer].1 = step.shuffle;
        }
        let layout = WeightsLayout::new(kernel.precision, layers);
        let weights = || WeightsBuffer::new(&gpu, kernel, &layout);
        let weights = [weights()?, weights()?];
        let plan = Plan::new(&gpu, kernel, arch, &layout, weights.each_ref(), WARM_UP)?;
        let in_flight = VecDeque::with_capacity(FRAMES);
        let busy = [const { None }; FRAMES];
        Ok(Self {
            gpu,
            kernel,
            arch,
            layout,
            weights,
            current: 0,
            pending: false,
            plan,
            next: 0,
            busy,
            in_flight,
            timing: None,
            times: Vec::new(),
            keep: false,
        })
    }

    /// How it computes.
    pub fn variant(&self) -> Variant {
        self.kernel.precision.into()
    }

    /// The device it runs on.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Uploads weights to the spare buffer: they take force with the next frame.
    ///
    /// # Errors
    /// [`Error::Arch`] for another architecture's; those in force stay.
    pub fn set_weights(&mut self, weights: &Weights) -> Result<(), Error> {
        if weights.arch() != self.arch {
            return Err(Error::Arch { have: self.arch, got: weights.arch() });
        }
        // In order with the frames that were submitted before: a frame that still reads this buffer is done first.
        self.weights[1 - self.current].write(&self.gpu, &self.layout, &self.layout.pack(weights.params()));
        self.pending = true;
        Ok(())
    }

    /// Starts or stops to keep the network's last frame, which [`Mode::Reuse`] takes detail from.
    pub fn keep(&mut self, on: bool) {
        self.keep = on;
    }

    /// Whether a frame of (H, W) pictures is kept.
    pub fn keeps(&self, h: usize, w: usize) -> bool {
        let full = self.plan.reuse.as_ref().is_some_and(|reuse| reuse.full);
        self.keep && full && self.plan.size == Size { h, w }
    }

    /// Frames that were submitted and not read.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Starts a frame that is to be read: swaps weights if there are new ones, uploads the picture, launches. Waits
    /// only for the frame before the last.
    ///
    /// # Errors
    /// [`Error::Buffer`] if the device cannot hold the picture, [`Error::Lost`] if it failed.
    ///
    /// # Panics
    /// If two frames have not been [read](Network::read).
    pub fn submit(&mut self, picture: &Yuv420, mode: Mode) -> Result<(), Error> {
        assert!(self.in_flight.len() < FRAMES, "at most {FRAMES} frames in flight");
        let (slot, submission) = self.launch(picture, mode, true)?;
        slot.rgba.map();
        self.in_flight.push_back((slot, submission));
        Ok(())
    }

    /// Waits for the frame that was submitted first and takes it: (s·H, s·W, 4) u8.
    ///
    /// # Errors
    /// [`Error::Lost`] if the device failed or does not answer.
    ///
    /// # Panics
    /// If no frame was submitted.
    pub fn read(&mut self, rgba: &mut Vec<u8>) -> Result<(), Error> {
        let (slot, submission) = self.in_flight.pop_front().expect("a frame was submitted");
        self.gpu.wait(submission)?;
        slot.rgba.take(&self.gpu, rgba)
    }

    /// Starts a frame that stays on the device: what is submitted to its queue from now on sees it. It holds until
    /// the second frame after it.
    ///
    /// # Errors
    /// As [`Network::submit`].
    pub fn present(&mut self, picture: &Yuv420, mode: Mode) -> Result<Texture, Error> {
        let (slot, _) = self.launch(picture, mode, false)?;
        Ok(slot.rgba.texture().clone())
    }

    /// Starts the bicubic upscale of the picture that was launched last, beside what was made of it. It holds as long.
    ///
    /// # Errors
    /// As [`Network::submit`].
    pub fn beside(&mut self) -> Result<Texture, Error> {
        self.gpu.check()?;
        let index = 1 - self.next;
        let (rgba, passes) = self.plan.beside(&self.gpu, self.arch.scale(), index)?;
        let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
        {
            let mut compute = encoder.begin_compute_pass(&Default::default());
            passes.into_iter().for_each(|pass| pass.encode(&mut compute, self.current));
        }
        self.busy[index] = Some(self.gpu.queue().submit([encoder.finish()]));
        Ok(rgba.texture().clone())
    }

    /// Starts or stops to time the dispatches of frames: of the next one, and of the next after each
    /// [`Network::pass_times`]. Whether the adapter can.
    ///
    /// # Errors
    /// [`Error::Buffer`] if the device cannot hold the timestamps.
    pub fn time_passes(&mut self, on: bool) -> Result<bool, Error> {
        self.timing = if on { Timing::new(&self.gpu)? } else { None };
        self.times.clear();
        Ok(self.timing.is_some())
    }

    /// Times of the last frame that was timed and is done, in the order of its dispatches. Waits for none.
    ///
    /// # Errors
    /// [`Error::Lost`] if the device failed.
    pub fn pass_times(&mut self) -> Result<&[PassTime], Error> {
        if let Some(timing) = &mut self.timing {
            // Runs what is to be called of frames that are done.
            self.gpu.device().poll(wgpu::PollType::Poll).map_err(|e| self.gpu.lost(e.to_string()))?;
            if timing.done() {
                self.times = timing.take(&self.gpu)?;
            }
        }
        Ok(&self.times)
    }

    fn launch(
        &mut self,
        picture: &Yuv420,
        mode: Mode,
        readback: bool,
    ) -> Result<(Arc<Slot>, SubmissionIndex), Error> {
        self.gpu.check()?;
        let size = Size { h: picture.h, w: picture.w };
        if size != self.plan.size {
            self.plan =
                Plan::new(&self.gpu, self.kernel, self.arch, &self.layout, self.weights.each_ref(), size)?;
            self.busy = [const { None }; FRAMES];
        }
        self.plan.keep(&self.gpu, self.arch.scale(), self.keep)?;
        let mode = if mode == Mode::Reuse && !self.keeps(size.h, size.w) { Mode::Network } else { mode };
        if self.in_flight.iter().any(|(slot, _)| Arc::ptr_eq(slot, &self.plan.slots[self.next])) {
            self.next = 1 - self.next;
        }
        let index = self.next;
        if let Some(submission) = self.busy[index].take() {
            self.gpu.wait(submission)?;
        }
        if std::mem::take(&mut self.pending) {
            self.current = 1 - self.current;
        }
        let slot = Arc::clone(&self.plan.slots[index]);
        let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
        slot.planes.write(&self.gpu, &mut encoder, picture, RGB_MEAN)?;
        let passes = self.plan.passes(index, mode);
        let timing = self.timing.as_mut().filter(|timing| !timing.pending());
        let timed = timing.is_some();
        match timing {
            Some(timing) => timing.encode(&mut encoder, passes, self.current),
            None => {
                let mut compute = encoder.begin_compute_pass(&Default::default());
                passes.for_each(|pass| pass.encode(&mut compute, self.current));
            }
        }
        if let (Mode::Network, Some(reuse)) = (mode, &mut self.plan.reuse) {
            reuse.copy(&mut encoder, &slot);
        }
        if readback {
            slot.rgba.copy(&mut encoder);
        }
        let submission = self.gpu.queue().submit([encoder.finish()]);
        slot.planes.map();
        if timed && let Some(timing) = &self.timing {
            timing.map();
        }
        self.busy[index] = Some(submission.clone());
        self.next = 1 - index;
        Ok((slot, submission))
    }
}
