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

    /// On a device that is open, such as a window's; with [`Preference::Cpu`] on the CPU all the same.
    ///
    /// # Errors
    /// As [`Upscaler::new`].
    pub fn on(gpu: Gpu, arch: Arch, options: &Options) -> Result<Self, Error> {
        if options.device == Preference::Cpu {
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
        Self { arch, engine, name, weights: None, fall_back, lost: 0, reason: None, presented }
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

    /// Starts or stops to time the passes of frames: whether the device can. Costs a little, and is off at first.
    ///
    /// # Errors
    /// What the device says.
    pub fn time_passes(&mut self, on: bool) -> Result<bool, Error> {
        match &mut self.engine {
            Engine::Gpu(network) => network.time_passes(on),
            Engine::Cpu(_) => Ok(false),
        }
    }

    /// Times of the last frame that was timed and is done, in order; empty unless [`Upscaler::time_passes`] is on.
    pub fn pass_times(&mut self) -> &[PassTime] {
        match &mut self.engine {
            // A fault of the device is told by the next frame.
            Engine::Gpu(network) => network.pass_times().unwrap_or_default(),
            Engine::Cpu(_) => &[],
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

    /// The mode that is possible for this picture.
    fn check(&self, picture: &Yuv420, mode: Mode) -> Result<Mode, Error> {
        picture.check();
        let (h, w) = (picture.h, picture.w);
        if h.max(w) > SIDE_MAX / self.arch.scale() {
            return Err(Error::Side { w, h });
        }
        Ok(if self.has_weights() { mode } else { Mode::Bicubic })
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
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hone_model::colour::{Matrix, Range};
    use hone_model::{Colour, rng::Rng};

    const SOFTWARE: Preference = Preference::Gpu { allow_software: true };

    /// Any adapter, without the time that choosing a variant takes.
    fn software() -> Options {
        Options { device: SOFTWARE, variant: Some(Variant::F32), ..Options::default() }
    }

    fn arch() -> Arch {
        "live-1x8-x2".parse().unwrap()
    }

    fn weights(seed: u64) -> Weights {
        let mut rng = Rng::new(seed);
        let params = (0..arch().params()).map(|_| (rng.unit() * 0.4 - 0.2) as f32).collect();
        Weights::from_params(arch(), params)
    }

    fn frame(upscaler: &mut Upscaler, (h, w): (usize, usize), mode: Mode) -> Result<Vec<u8>, Error> {
        let mut rng = Rng::new((h * w) as u64);
        let mut plane = |len: usize| -> Vec<u8> { (0..len).map(|_| rng.below(256) as u8).collect() };
        let (y, u, v) = (plane(h * w), plane(h * w / 4), plane(h * w / 4));
        let colour = Colour { matrix: Matrix::Bt709, range: Range::Limited };
        let mut rgba = Vec::new();
        upscaler.upscale(&Yuv420 { h, w, y: &y, u: &u, v: &v, colour, quantiser: 30 }, mode, &mut rgba)?;
        assert_eq!(rgba.len(), 4 * 2 * h * 2 * w);
        Ok(rgba)
    }

    /// Every upscaler that this machine has: the CPU's, and a GPU's if there is any adapter.
    fn upscalers() -> Vec<Upscaler> {
        let gpu = match Upscaler::new(arch(), &software()) {
            Err(Error::NoAdapter { .. }) => {
                eprintln!("SKIPPED: no wgpu adapter");
                None
            }
            other => Some(other.unwrap()),
        };
        [Upscaler::new(arch(), &Preference::Cpu.into()).unwrap()].into_iter().chain(gpu).collect()
    }

    #[test]
    fn without_weights_the_network_is_bicubic() {
        for mut upscaler in upscalers() {
            let bicubic = frame(&mut upscaler, (6, 8), Mode::Bicubic).unwrap();
            assert_eq!(frame(&mut upscaler, (6, 8), Mode::Network).unwrap(), bicubic);
            upscaler.set_weights(&weights(1)).unwrap();
            assert_ne!(frame(&mut upscaler, (6, 8), Mode::Network).unwrap(), bicubic);
            assert_eq!(frame(&mut upscaler, (6, 8), Mode::Bicubic).unwrap(), bicubic);
        }
    }

    #[test]
    fn the_size_may_change_and_change_back() {
        for mut upscaler in upscalers() {
            upscaler.set_weights(&weights(1)).unwrap();
            let first = frame(&mut upscaler, (6, 8), Mode::Network).unwrap();
            frame(&mut upscaler, (34, 18), Mode::Network).unwrap();
            frame(&mut upscaler, (2, 2), Mode::Network).unwrap();
            assert_eq!(frame(&mut upscaler, (6, 8), Mode::Network).unwrap(), first);
        }
    }

    #[test]
    fn a_side_over_the_limit_is_refused() {
        for mut upscaler in upscalers() {
            assert!(frame(&mut upscaler, (2, SIDE_MAX / 2), Mode::Bicubic).is_ok());
            let refused = frame(&mut upscaler, (2, SIDE_MAX / 2 + 2), Mode::Bicubic);
            assert!(matches!(refused, Err(Error::Side { h: 2, w }) if w == SIDE_MAX / 2 + 2));
        }
    }

    #[test]
    fn a_lost_device_is_an_error_or_the_cpu_takes_over() {
        for fall_back in [false, true] {
            for mut upscaler in upscalers() {
                upscaler.fall_back = fall_back;
                upscaler.set_weights(&weights(1)).unwrap();
                frame(&mut upscaler, (6, 8), Mode::Network).unwrap();
                let Engine::Gpu(network) = &upscaler.engine else { continue };
                network.gpu().destroy();
                // A size of its own makes the plan anew on the dead device.
                for size in [(6, 8), (10, 12)] {
                    let frame_after = frame(&mut upscaler, size, Mode::Network);
                    if fall_back {
                        let mut cpu = Upscaler::new(arch(), &Preference::Cpu.into()).unwrap();
                        cpu.set_weights(&weights(1)).unwrap();
                        assert_eq!(frame_after.unwrap(), frame(&mut cpu, size, Mode::Network).unwrap());
                        assert_eq!(upscaler.backend(), "cpu");
                    } else {
                        assert!(matches!(frame_after, Err(Error::Lost { .. })), "{frame_after:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn auto_takes_no_software_adapter() {
        let upscaler = Upscaler::new(arch(), &Options::default()).unwrap();
        assert!(!upscaler.backend().contains("llvmpipe") && !upscaler.backend().contains("SwiftShader"));
        match Upscaler::new(arch(), &Preference::Gpu { allow_software: false }.into()) {
            Ok(gpu) => assert_eq!(gpu.backend(), upscaler.backend()),
            Err(error) => {
                assert!(matches!(error, Error::NoAdapter { software: false }), "{error}");
                assert_eq!(upscaler.backend(), "cpu");
            }
        }
    }
}
