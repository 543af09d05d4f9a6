//! The network of each stream, and where it is trained.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use hone_cpu::CpuTrainer;
use hone_kernels::{CudaTrainer, Device, Unavailable};
use hone_model::backend::TrainBackend;
use hone_model::{Arch, Family, Origin, Published, Weights};
use hone_trainer::Trainer;
use serde::Deserialize;

/// Where training runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// CUDA where there is a device and kernels for it, else the CPU.
    #[default]
    Auto,
    /// CUDA or nothing.
    Cuda,
    /// The CPU.
    Cpu,
}

/// How streams are learned. `[trainer]` in the server's file.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Where training runs.
    pub backend: Backend,
    /// Which CUDA device, as the driver counts them.
    pub device: usize,
    /// Family of the network.
    pub family: Family,
    /// Residual blocks of the network.
    pub blocks: u16,
    /// Channels of the network.
    pub features: u16,
    /// The rest.
    pub learn: hone_trainer::Config,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            backend: Backend::Auto,
            device: 0,
            family: Family::Live,
            blocks: 4,
            features: 16,
            learn: hone_trainer::Config::default(),
        }
    }
}

impl Options {
    /// The network for a stream of this scale.
    ///
    /// # Errors
    /// If the numbers make no network.
    pub fn arch(&self, scale: u8) -> Result<Arch> {
        Ok(Arch::new(self.family, self.blocks, self.features, scale)?)
    }

    /// A trainer on the chosen backend, at version 0.
    ///
    /// # Errors
    /// If the backend was asked for by name and is not there.
    pub fn trainer(&self, arch: Arch) -> Result<Trainer> {
        let origin = Origin::best(arch, self.learn.seed);
        let weights = Published::origin(arch, origin).weights();
        let cpu = |weights| Box::new(CpuTrainer::new(weights));
        let backend: Box<dyn TrainBackend> = match self.backend {
            Backend::Cpu => cpu(weights),
            Backend::Cuda => Box::new(self.cuda(&weights).context("trainer.backend = \"cuda\"")?),
            Backend::Auto if self.why_not_cuda().is_some() => cpu(weights),
            Backend::Auto => match self.cuda(&weights) {
                Ok(trainer) => Box::new(trainer),
                Err(error) => {
                    tracing::warn!(
                        error = format!("{error:#}"),
                        "CUDA cannot take this network, the CPU trains"
                    );
                    cpu(weights)
                }
            },
        };
        Ok(Trainer::new(backend, origin, self.learn)?)
    }

    fn cuda(&self, weights: &Weights) -> Result<CudaTrainer> {
        Ok(CudaTrainer::new(&device(self.device)?, weights, hone_kernels::Options::default())?)
    }

    /// Whether CUDA trains.
    pub fn has_cuda(&self) -> bool {
        self.backend != Backend::Cpu && device(self.device).is_ok()
    }

    /// Why the CPU trains although CUDA is preferred, if that is so.
    pub fn why_not_cuda(&self) -> Option<Unavailable> {
        match self.backend {
            Backend::Auto => device(self.device).err(),
            Backend::Cuda | Backend::Cpu => None,
        }
    }
}

/// A device, opened once for all streams: the driver then compiles and holds the kernels once.
fn device(ordinal: usize) -> Result<Arc<Device>, Unavailable> {
    static OPEN: Mutex<BTreeMap<usize, Arc<Device>>> = Mutex::new(BTreeMap::new());
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    match open.get(&ordinal) {
        Some(device) => Ok(device.clone()),
        None => Ok(open.entry(ordinal).or_insert(Device::open(ordinal)?).clone()),
    }
}
