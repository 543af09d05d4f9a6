//! The one upscaler that a viewer holds, whatever the machine has.

use hone_model::{Arch, Weights, Yuv420};
use tracing::{debug, info, warn};

use crate::error::SIDE_MAX;
use crate::{Error, gpu};

/// Which device to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preference {
    /// A real GPU if there is one, else the CPU; the CPU too if the GPU fails later.
    #[default]
    Auto,
    /// A GPU or an error.
    Gpu {
        /// Whether a software adapter will do.
        allow_software: bool,
    },
    /// The CPU.
    Cpu,
}

/// How to upscale one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// By the network; by bicubic as long as there are no weights.
    Network,
    /// By bicubic interpolation: the floor that always keeps up.
    Bicubic,
}

/// Upscales decoded pictures with one network.
pub struct Upscaler {
    arch: Arch,
    engine: Engine,
    name: String,
    /// The newest weights: what another engine would start from.
    weights: Option<Weights>,
    /// Whether the CPU takes over from a GPU that fails.
    fall_back: bool,
}

enum Engine {
    Gpu(Box<gpu::Network>),
    Cpu(Box<Cpu>),
}

struct Cpu {
    network: Option<hone_cpu::Network>,
    /// Newer weights, swapped in before the next frame.
    spare: Option<hone_cpu::Network>,
}

impl Engine {
    fn cpu(weights: Option<&Weights>) -> Self {
        Self::Cpu(Box::new(Cpu { network: None, spare: weights.map(hone_cpu::Network::new) }))
    }
}

impl Upscaler {
    /// Opens a device and compiles what `arch` needs; without weights yet.
    ///
    /// # Errors
    /// With [`Preference::Gpu`] only: [`Error::NoAdapter`], or what the device said.
    pub fn new(arch: Arch, preference: Preference) -> Result<Self, Error> {
        let opened = match preference {
            Preference::Cpu => None,
            Preference::Auto => match gpu_network(arch, false) {
                Ok(network) => Some(network),
                Err(Error::NoAdapter { .. }) => None,
                Err(error) => {
                    warn!(%error, "the GPU cannot be used");
                    None
                }
            },
            Preference::Gpu { allow_software } => Some(gpu_network(arch, allow_software)?),
        };
        let (engine, name) = match opened {
            Some(network) => {
                let name = network.gpu().name().to_owned();
                (Engine::Gpu(Box::new(network)), name)
            }
            None => (Engine::cpu(None), "cpu".to_owned()),
        };
        info!(backend = name, %arch, "upscaler ready");
        Ok(Self { arch, engine, name, weights: None, fall_back: preference == Preference::Auto })
    }

    /// The network.
    pub fn arch(&self) -> Arch {
        self.arch
    }

    /// `cpu`, or the API and the adapter, such as `wgpu vulkan: NVIDIA GeForce RTX 4060`.
    pub fn backend(&self) -> &str {
        &self.name
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
            Engine::Cpu(cpu) => cpu.spare = Some(hone_cpu::Network::new(weights)),
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
    /// If the picture's planes do not have the length that its size asks for.
    pub fn upscale(&mut self, picture: &Yuv420, mode: Mode, rgba: &mut Vec<u8>) -> Result<(), Error> {
        picture.check();
        let (h, w, s) = (picture.h, picture.w, self.arch.scale());
        if h.max(w) > SIDE_MAX / s {
            return Err(Error::Side { w, h });
        }
        let mode = if self.has_weights() { mode } else { Mode::Bicubic };
        if let Engine::Gpu(network) = &mut self.engine {
            match network.submit(picture, mode).and_then(|()| network.read(rgba)) {
                Err(error) if self.fall_back => {
                    warn!(%error, "the GPU failed, going on with the CPU");
                    self.engine = Engine::cpu(self.weights.as_ref());
                    self.name = "cpu".to_owned();
                }
                result => return result,
            }
        }
        if let Engine::Cpu(cpu) = &mut self.engine {
            if let Some(spare) = cpu.spare.take() {
                cpu.network = Some(spare);
            }
            rgba.resize(4 * s * h * s * w, 0);
            match &mut cpu.network {
                Some(network) if mode == Mode::Network => network.upscale(picture, rgba),
                _ => hone_cpu::upscale_bicubic(picture, s, rgba),
            }
        }
        Ok(())
    }
}

fn gpu_network(arch: Arch, allow_software: bool) -> Result<gpu::Network, Error> {
    gpu::Network::new(gpu::Gpu::open(allow_software)?, arch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hone_model::colour::{Matrix, Range};
    use hone_model::{Colour, rng::Rng};

    const SOFTWARE: Preference = Preference::Gpu { allow_software: true };

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
        let gpu = match Upscaler::new(arch(), SOFTWARE) {
            Err(Error::NoAdapter { .. }) => {
                eprintln!("SKIPPED: no wgpu adapter");
                None
            }
            other => Some(other.unwrap()),
        };
        [Upscaler::new(arch(), Preference::Cpu).unwrap()].into_iter().chain(gpu).collect()
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
                        let mut cpu = Upscaler::new(arch(), Preference::Cpu).unwrap();
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
        let upscaler = Upscaler::new(arch(), Preference::Auto).unwrap();
        assert!(!upscaler.backend().contains("llvmpipe") && !upscaler.backend().contains("SwiftShader"));
        match Upscaler::new(arch(), Preference::Gpu { allow_software: false }) {
            Ok(gpu) => assert_eq!(gpu.backend(), upscaler.backend()),
            Err(error) => {
                assert!(matches!(error, Error::NoAdapter { software: false }), "{error}");
                assert_eq!(upscaler.backend(), "cpu");
            }
        }
    }
}
