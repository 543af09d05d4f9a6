//! The one upscaler that a viewer holds, whatever the machine has.

use hone_model::{Arch, Weights, Yuv420};
use tracing::{debug, info, warn};

use crate::cpu::Cpu;
use crate::error::SIDE_MAX;
use crate::gpu::{AdapterChoice, Gpu, Network, PassTime};
use crate::{Error, Mode, Options, Preference, Variant};

/// Upscales decoded pictures with one network.
pub struct Upscaler {
    arch: Arch,
    engine: Engine,
    name: String,
    /// The newest weights: what another engine would start from.
    weights: Option<Weights>,
    /// Whether the network's last frame is kept.
    keep: bool,
    /// Whether the CPU takes over from a GPU that fails.
    fall_back: bool,
    /// Frames that were in flight on a GPU that failed, and why it did.
    lost: usize,
    reason: Option<(String, String)>,
    /// The last picture of [`Upscaler::present`] on the CPU.
    presented: Vec<u8>,
}

enum Engine {
    Gpu(Box<Network>),
    Cpu(Box<Cpu>),
}

/// An upscaled picture where it was made.
pub enum Output<'a> {
    /// (s·H, s·W) rgba8unorm on the device of [`Upscaler::gpu`]: what is submitted to its queue from now on sees
    /// it. It holds until the second frame after it.
    Gpu(wgpu::Texture),
    /// In host memory.
    Cpu {
        /// (h, w, 4): R, G, B, 255, row-major.
        rgba: &'a [u8],
        /// Rows.
        h: usize,
        /// Columns.
        w: usize,
    },
}

impl Upscaler {
    /// Opens a device and compiles what `arch` needs; without weights yet.
    ///
    /// # Errors
    /// With [`Preference::Gpu`]: [`Error::NoAdapter`], or what the device said. With any but [`Preference::Cpu`]:
    /// [`Error::NoSuchAdapter`] and [`Error::Variant`] for what was asked for by name.
    pub fn new(arch: Arch, options: &Options) -> Result<Self, Error> {
        if options.device == Preference::Cpu {
            return Ok(Self::with(arch, None, options));
        }
        let opened =
            Gpu::open(&AdapterChoice::from(options)).and_then(|gpu| Network::new(gpu, arch, options));
        match opened {
            Ok(network) => Ok(Self::with(arch, Some(network), options)),
            Err(Error::NoAdapter { .. }) if options.device == Preference::Auto => {
                Ok(Self::with(arch, None, options))
            }
            Err(error @ (Error::NoSuchAdapter { .. } | Error::Variant { .. })) => Err(error),
            Err(error) if options.device == Preference::Auto => {
                warn!(%error, "the GPU cannot be used");
                Ok(Self::with(arch, None, options))
            }
            Err(error) => Err(error),
        }
    }

    /// On a device that is open, such as a window's. With [`Preference::Cpu`] on the CPU all the same, and with
    /// [`Preference::Auto`] if the device is one in software that nobody named.
    ///
    /// # Errors
    /// As [`Upscaler::new`].
    pub fn on(gpu: Gpu, arch: Arch, options: &Options) -> Result<Self, Error> {
        let unwanted = options.device == Preference::Auto && options.adapter.is_none() && gpu.software();
        if options.device == Preference::Cpu || unwanted {
            return Ok(Self::with(arch, None, options));
        }
        match Network::new(gpu, arch, options) {
            Err(error) if options.device == Preference::Auto && !matches!(error, Error::Variant { .. }) => {
                warn!(%error, "the GPU cannot be used");
                Ok(Self::with(arch, None, options))
            }
            network => Ok(Self::with(arch, Some(network?), options)),
        }
    }

    fn with(arch: Arch, network: Option<Network>, options: &Options) -> Self {
        let (engine, name) = match network {
            Some(network) => {
                let name = network.gpu().name().to_owned();
                (Engine::Gpu(Box::new(network)), name)
            }
            None => (Engine::Cpu(Box::new(Cpu::new(arch.scale(), None))), "cpu".to_owned()),
        };
        info!(backend = name, %arch, "upscaler ready");
        let fall_back = options.device == Preference::Auto;
        let presented = Vec::new();
        Self { arch, engine, name, weights: None, keep: false, fall_back, lost: 0, reason: None, presented }
    }

    /// The network.
    pub fn arch(&self) -> Arch {
        self.arch
    }

    /// `cpu`, or the API and the adapter, such as `wgpu vulkan: NVIDIA GeForce RTX 4060`.
    pub fn backend(&self) -> &str {
        &self.name
    }

    /// The device; none on the CPU.
    pub fn gpu(&self) -> Option<&Gpu> {
        match &self.engine {
            Engine::Gpu(network) => Some(network.gpu()),
            Engine::Cpu(_) => None,
        }
    }

    /// How the GPU computes; none on the CPU.
    pub fn variant(&self) -> Option<Variant> {
        match &self.engine {
            Engine::Gpu(network) => Some(network.variant()),
            Engine::Cpu(_) => None,
        }
    }

    /// Starts or stops to time the passes of frames, of the next one and of the next after each
    /// [`Upscaler::pass_times`]: whether the device can. A timed frame costs a little more; off at first.
    ///
    /// # Errors
    /// What the device says.
    pub fn time_passes(&mut self, on: bool) -> Result<bool, Error> {
        match &mut self.engine {
            Engine::Gpu(network) => network.time_passes(on),
            Engine::Cpu(_) => Ok(false),
        }
    }

    /// Times of the last frame that was timed and is done, in order; empty unless [`Upscaler::time_passes`] is on. Waits
    /// for no frame.
    pub fn pass_times(&mut self) -> &[PassTime] {
        match &mut self.engine {
            // A fault of the device is told by the next frame.
            Engine::Gpu(network) => network.pass_times().unwrap_or_default(),
            Engine::Cpu(_) => &[],
        }
    }

    /// Starts or stops to keep the network's last frame, for [`Mode::Reuse`]. Costs memory and a copy, and is off at
    /// first.
    pub fn keep(&mut self, on: bool) {
        self.keep = on;
        match &mut self.engine {
            Engine::Gpu(network) => network.keep(on),
            Engine::Cpu(cpu) => cpu.keep(on),
        }
    }

    /// How an (H, W) picture would be upscaled if `mode` were asked for: by bicubic as long as there are no weights, and
    /// by the network if there is no frame to reuse.
    pub fn possible(&self, h: usize, w: usize, mode: Mode) -> Mode {
        let keeps = match &self.engine {
            Engine::Gpu(network) => network.keeps(h, w),
            Engine::Cpu(cpu) => cpu.keeps(h, w),
        };
        match mode {
            _ if !self.has_weights() => Mode::Bicubic,
            Mode::Reuse if !keeps => Mode::Network,
            mode => mode,
        }
    }

    /// Whether weights were ever set; until then [`Mode::Network`] is bicubic.
    pub fn has_weights(&self) -> bool {
        self.weights.is_some()
    }

    /// Puts weights into the spare buffer: the next frame swaps them in, none is upscaled with a mixture.
    ///
    /// # Errors
    /// [`Error::Arch`] for another architecture's; those in force stay.
    pub fn set_weights(&mut self, weights: &Weights) -> Result<(), Error> {
        if weights.arch() != self.arch {
            return Err(Error::Arch { have: self.arch, got: weights.arch() });
        }
        match &mut self.engine {
            Engine::Gpu(network) => network.set_weights(weights)?,
            Engine::Cpu(cpu) => cpu.set_weights(weights),
        }
        self.weights = Some(weights.clone());
        debug!("new weights");
        Ok(())
    }

    /// (H, W) picture -> (s·H, s·W, 4) u8: R, G, B, 255, row-major. The size may change from call to call.
    ///
    /// # Errors
    /// [`Error::Side`] over [`SIDE_MAX`]. With [`Preference::Gpu`] also [`Error::Buffer`] and
    /// [`Error::Lost`], after which the upscaler is of no more use; [`Preference::Auto`] goes on with the CPU.
    ///
    /// # Panics
    /// If the picture's planes do not have the length that its size asks for, or a frame has not been
    /// [read](Upscaler::read).
    pub fn upscale(&mut self, picture: &Yuv420, mode: Mode, rgba: &mut Vec<u8>) -> Result<(), Error> {
        assert_eq!(self.in_flight(), 0, "frames are to be read in order");
        let mode = self.check(picture, mode)?;
        if let Engine::Gpu(network) = &mut self.engine {
            match network.submit(picture, mode).and_then(|()| network.read(rgba)) {
                Err(error) => self.fall_back(error)?,
                Ok(()) => return Ok(()),
            }
        }
        if let Engine::Cpu(cpu) = &mut self.engine {
            cpu.upscale(picture, mode, rgba);
        }
        Ok(())
    }

    /// Starts a frame that [`Upscaler::read`] hands out. While the device computes, the next may be submitted:
    /// two are in flight at most. The CPU computes at once.
    ///
    /// # Errors
    /// As [`Upscaler::upscale`].
    ///
    /// # Panics
    /// As [`Upscaler::upscale`], or if two frames have not been read.
    pub fn submit(&mut self, picture: &Yuv420, mode: Mode) -> Result<(), Error> {
        assert!(self.in_flight() < 2, "at most two frames in flight");
        let mode = self.check(picture, mode)?;
        if let Engine::Gpu(network) = &mut self.engine {
            match network.submit(picture, mode) {
                Err(error) => self.fall_back(error)?,
                Ok(()) => return Ok(()),
            }
        }
        if let Engine::Cpu(cpu) = &mut self.engine {
            cpu.submit(picture, mode);
        }
        Ok(())
    }

    /// Frames that were submitted and not read.
    pub fn in_flight(&self) -> usize {
        let waiting = match &self.engine {
            Engine::Gpu(network) => network.in_flight(),
            Engine::Cpu(cpu) => cpu.in_flight(),
        };
        self.lost + waiting
    }

    /// Waits for the frame that was submitted first.
    ///
    /// # Errors
    /// [`Error::Lost`]: that frame is gone with its device. With [`Preference::Auto`] the frames that are submitted
    /// from now on come from the CPU.
    ///
    /// # Panics
    /// If no frame was submitted.
    pub fn read(&mut self, rgba: &mut Vec<u8>) -> Result<(), Error> {
        if self.lost > 0 {
            self.lost -= 1;
            let (adapter, reason) = self.reason.clone().unwrap_or_default();
            return Err(Error::Lost { adapter, reason });
        }
        match &mut self.engine {
            Engine::Gpu(network) => network.read(rgba).or_else(|error| {
                let again = Error::Lost { adapter: self.name.clone(), reason: error.to_string() };
                self.fall_back(error)?;
                Err(again)
            }),
            Engine::Cpu(cpu) => {
                cpu.read(rgba).expect("a frame was submitted");
                Ok(())
            }
        }
    }

    /// Starts a frame and leaves it where it is made: on a GPU nothing is waited for but the frame before the last.
    ///
    /// # Errors
    /// As [`Upscaler::upscale`].
    ///
    /// # Panics
    /// If the picture's planes do not have the length that its size asks for.
    pub fn present(&mut self, picture: &Yuv420, mode: Mode) -> Result<Output<'_>, Error> {
        let mode = self.check(picture, mode)?;
        if let Engine::Gpu(network) = &mut self.engine {
            match network.present(picture, mode) {
                Err(error) => self.fall_back(error)?,
                Ok(texture) => return Ok(Output::Gpu(texture)),
            }
        }
        if let Engine::Cpu(cpu) = &mut self.engine {
            cpu.upscale(picture, mode, &mut self.presented);
        }
        let s = self.arch.scale();
        Ok(Output::Cpu { rgba: &self.presented, h: s * picture.h, w: s * picture.w })
    }

    /// The picture of the last [`Upscaler::present`] by bicubic, beside what was made of it and for as long; none where
    /// that did not stay on a device.
    ///
    /// # Errors
    /// As [`Upscaler::upscale`].
    pub fn beside(&mut self) -> Result<Option<wgpu::Texture>, Error> {
        let Engine::Gpu(network) = &mut self.engine else { return Ok(None) };
        match network.beside() {
            Ok(texture) => Ok(Some(texture)),
            Err(error) => self.fall_back(error).map(|()| None),
        }
    }

    /// The mode that is possible for this picture.
    fn check(&self, picture: &Yuv420, mode: Mode) -> Result<Mode, Error> {
        picture.check();
        let (h, w) = (picture.h, picture.w);
        if h.max(w) > SIDE_MAX / self.arch.scale() {
            return Err(Error::Side { w, h });
        }
        Ok(self.possible(h, w, mode))
    }

    /// Goes on with the CPU if that is allowed. Frames in flight are lost.
    fn fall_back(&mut self, error: Error) -> Result<(), Error> {
        if !self.fall_back {
            return Err(error);
        }
        warn!(%error, "the GPU failed, going on with the CPU");
        self.lost = self.in_flight();
        self.reason = Some((std::mem::replace(&mut self.name, "cpu".to_owned()), error.to_string()));
        self.engine = Engine::Cpu(Box::new(Cpu::new(self.arch.scale(), self.weights.as_ref())));
        self.keep(self.keep);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
