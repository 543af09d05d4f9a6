//! A network's parameters in f32.

use crate::arch::{Arch, Layer};

/// The parameters of one network: for each of [`Arch::layers`] its (Cout, Cin, 3, 3) weights, then its Cout biases.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    arch: Arch,
    params: Vec<f32>,
}

impl Weights {
    /// All parameters zero.
    pub fn zeros(arch: Arch) -> Self {
        Self { arch, params: vec![0.0; arch.params()] }
    }

    /// Takes ownership of parameters in the layout above.
    ///
    /// # Panics
    /// If the length is not [`Arch::params`].
    pub fn from_params(arch: Arch, params: Vec<f32>) -> Self {
        assert_eq!(params.len(), arch.params(), "parameters of {arch}");
        Self { arch, params }
    }

    /// The architecture they belong to.
    pub fn arch(&self) -> Arch {
        self.arch
    }

    /// All parameters.
    pub fn params(&self) -> &[f32] {
        &self.params
    }

    /// All parameters, to change in place.
    pub fn params_mut(&mut self) -> &mut [f32] {
        &mut self.params
    }

    /// (Cout, Cin, 3, 3) weights and Cout biases of one layer.
    pub fn layer(&self, layer: &Layer) -> (&[f32], &[f32]) {
        self.params[layer.offset..layer.offset + layer.params()].split_at(layer.weights())
    }
}
