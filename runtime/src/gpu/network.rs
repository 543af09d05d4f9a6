//! One network on one device, frame by frame.

use hone_model::arch::RGB_MEAN;
use hone_model::{Arch, Weights, Yuv420};

use super::plan::Plan;
use super::{Gpu, Size, WeightsBuffer, WeightsLayout};
use crate::{Error, Mode};

/// Size of the plan that compiles the pipelines before the first picture is known.
const WARM_UP: Size = Size { h: 2, w: 2 };

/// A network: two weight buffers of which one is in force, and the plan for the current picture size.
pub struct Network {
    gpu: Gpu,
    arch: Arch,
    layout: WeightsLayout,
    weights: [WeightsBuffer; 2],
    current: usize,
    /// Whether the spare buffer holds newer weights.
    pending: bool,
    plan: Plan,
    in_flight: Option<wgpu::SubmissionIndex>,
}

impl Network {
    /// Compiles the pipelines; all weights are zero.
    ///
    /// # Errors
    /// [`Error::Buffer`] if the device cannot hold the weights, [`Error::Lost`] if it failed.
    pub fn new(mut gpu: Gpu, arch: Arch) -> Result<Self, Error> {
        let layout = WeightsLayout::new(arch.layers());
        let weights = [WeightsBuffer::new(&gpu, &layout)?, WeightsBuffer::new(&gpu, &layout)?];
        let plan = Plan::new(&mut gpu, arch, &layout, weights.each_ref(), WARM_UP)?;
        Ok(Self { gpu, arch, layout, weights, current: 0, pending: false, plan, in_flight: None })
    }

    /// The device it runs on.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Uploads weights to the spare buffer: they take force with the next [`Network::submit`].
    ///
    /// # Errors
    /// [`Error::Arch`] for another architecture's; those in force stay.
    pub fn set_weights(&mut self, weights: &Weights) -> Result<(), Error> {
        if weights.arch() != self.arch {
            return Err(Error::Arch { have: self.arch, got: weights.arch() });
        }
        self.weights[1 - self.current].write(&self.gpu, &self.layout.pack(weights.params()));
        self.pending = true;
        Ok(())
    }

    /// Starts a frame: swaps weights if there are new ones, uploads the picture, launches. Does not wait.
    ///
    /// # Errors
    /// [`Error::Buffer`] if the device cannot hold the picture, [`Error::Lost`] if it failed.
    ///
    /// # Panics
    /// If the frame before has not been [read](Network::read).
    pub fn submit(&mut self, picture: &Yuv420, mode: Mode) -> Result<(), Error> {
        assert!(self.in_flight.is_none(), "one frame at a time");
        let size = Size { h: picture.h, w: picture.w };
        if size != self.plan.size {
            let weights = self.weights.each_ref();
            self.plan = Plan::new(&mut self.gpu, self.arch, &self.layout, weights, size)?;
        }
        if std::mem::take(&mut self.pending) {
            self.current = 1 - self.current;
        }
        self.plan.planes.write(&self.gpu, picture, RGB_MEAN);
        let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
        self.plan.encode(&mut encoder, mode, self.current);
        self.in_flight = Some(self.gpu.queue().submit([encoder.finish()]));
        self.plan.rgba.map();
        Ok(())
    }

    /// Waits for the frame that was submitted and takes it: (s·H, s·W, 4) u8.
    ///
    /// # Errors
    /// [`Error::Lost`] if the device failed or does not answer.
    ///
    /// # Panics
    /// If no frame was submitted.
    pub fn read(&mut self, rgba: &mut Vec<u8>) -> Result<(), Error> {
        let submission = self.in_flight.take().expect("a frame was submitted");
        self.gpu.wait(submission)?;
        self.plan.rgba.take(&self.gpu, rgba)
    }
}
