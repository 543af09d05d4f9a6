//! Batches for a trainer on the device and for the oracle.

use std::sync::{Arc, OnceLock};

use hone_kernels::{CudaTrainer, Device, Options};
use hone_model::backend::{Adam, Images, Loss, TrainBackend};
use hone_model::gather::{Draw, Patch, Turn};
use hone_model::reference::{self, Gradient, Tensor};
use hone_model::rng::Rng;
use hone_model::{Arch, Weights};

/// The usual loss.
pub const CHARBONNIER: Loss = Loss::Charbonnier { eps: 1e-3 };

/// The device, with the kernels that it has compiled so far.
pub fn device() -> Arc<Device> {
    static DEVICE: OnceLock<Arc<Device>> = OnceLock::new();
    let open = || {
        crate::on_device::preload();
        Device::open(0).unwrap()
    };
    DEVICE.get_or_init(open).clone()
}

/// A network, and patches whose target keeps its distance from the network's first output: where they meet, the slope of
/// the loss jumps.
pub struct Batch {
    /// The network.
    pub arch: Arch,
    /// Its weights: activations neither grow nor fade.
    pub weights: Weights,
    lr: Images,
    hr: Images,
}

impl Batch {
    /// `n` patches of `crop` x `crop`.
    pub fn new(name: &str, n: usize, crop: usize) -> Self {
        let arch: Arch = name.parse().unwrap();
        let rng = &mut Rng::new(name.len() as u64 + 31);
        let mut weights = Weights::zeros(arch);
        for layer in arch.layers() {
            let amplitude = (3.0 / (9 * layer.cin) as f64).sqrt() * if layer.zero_init { 0.3 } else { 1.0 };
            for v in &mut weights.params_mut()[layer.offset..layer.offset + layer.params()] {
                *v = ((rng.unit() * 2.0 - 1.0) * amplitude) as f32;
            }
        }
        let mut lr = Images::zeros(n, crop, crop);
        lr.rgb.iter_mut().for_each(|v| *v = rng.unit() as f32);
        lr.quantisers.iter_mut().for_each(|q| *q = rng.below(52) as u8);
        let params: Vec<f64> = weights.params().iter().map(|v| f64::from(*v)).collect();
        let input = reference::input(&Tensor::from_images(&lr), &lr.quantisers);
        let mut hr = reference::forward(arch, &params, &input).to_images();
        for v in &mut hr.rgb {
            let distance = (0.05 + 0.35 * rng.unit()) as f32;
            let sign = if *v < 0.1 || (*v < 0.9 && rng.below(2) == 0) { 1.0 } else { -1.0 };
            *v = ((*v + sign * distance).clamp(0.0, 1.0) * 255.0).round() / 255.0;
        }
        Self { arch, weights, lr, hr }
    }

    /// A trainer that holds the patches.
    pub fn trainer(&self, device: &Arc<Device>, options: Options) -> CudaTrainer {
        let mut trainer = CudaTrainer::new(device, &self.weights, options).unwrap();
        self.keep(&mut trainer);
        trainer
    }

    /// Gives the patches to a trainer.
    pub fn keep(&self, trainer: &mut dyn TrainBackend) {
        let (lr_len, hr_len) = (self.lr.rgb.len() / self.lr.n, self.hr.rgb.len() / self.hr.n);
        for (slot, &quantiser) in self.lr.quantisers.iter().enumerate() {
            let lr = &self.lr.rgb[slot * lr_len..][..lr_len];
            let hr = &self.hr.rgb[slot * hr_len..][..hr_len];
            let hr: Vec<u8> = hr.iter().map(|v| (v * 255.0).round() as u8).collect();
            trainer.keep(slot, Patch { h: self.lr.h, w: self.lr.w, lr, hr: &hr, quantiser }).unwrap();
        }
    }

    /// A step on the whole patches, unturned.
    pub fn step(&self, trainer: &mut dyn TrainBackend, loss: Loss, adam: Adam) -> Option<f32> {
        trainer.step(self.lr.h, &self.draws(), loss, adam).unwrap()
    }

    /// The oracle's loss and gradient at these parameters.
    pub fn gradient(&self, params: &[f64], loss: Loss) -> Gradient {
        let input = reference::input(&Tensor::from_images(&self.lr), &self.lr.quantisers);
        reference::gradient(self.arch, params, &input, &Tensor::from_images(&self.hr), loss)
    }

    /// The weights in f64.
    pub fn params(&self) -> Vec<f64> {
        self.weights.params().iter().map(|v| f64::from(*v)).collect()
    }

    /// The patches, LR and HR.
    pub fn images(&self) -> [&Images; 2] {
        [&self.lr, &self.hr]
    }

    /// A step's draws: the whole patches, unturned.
    pub fn draws(&self) -> Vec<Draw> {
        (0..self.lr.n).map(|slot| Draw { slot, y: 0, x: 0, turn: Turn(0) }).collect()
    }
}
