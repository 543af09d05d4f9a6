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

    /// Copies the layers that `other` has, too: of the same name and size, whatever its scale.
    pub fn adopt_layers(&mut self, other: &Self) {
        let theirs = other.arch.layers();
        for ours in self.arch.layers() {
            let same = |l: &&Layer| (&l.name, l.cin, l.cout) == (&ours.name, ours.cin, ours.cout);
            if let Some(theirs) = theirs.iter().find(same) {
                let to = ours.offset..ours.offset + ours.params();
                let from = theirs.offset..theirs.offset + theirs.params();
                self.params[to].copy_from_slice(&other.params[from]);
            }
        }
    }

    /// (Cout, Cin, 3, 3) weights and Cout biases of one layer.
    pub fn layer(&self, layer: &Layer) -> (&[f32], &[f32]) {
        self.params[layer.offset..layer.offset + layer.params()].split_at(layer.weights())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_scale_shares_all_layers_but_the_tail() {
        let [arch, other] = ["live-2x8-x3", "live-2x8-x2"].map(|arch| arch.parse::<Arch>().unwrap());
        let mut weights = Weights::zeros(arch);
        weights.adopt_layers(&Weights::from_params(other, vec![1.0; other.params()]));
        for layer in arch.layers() {
            let (w, b) = weights.layer(&layer);
            let expected = if layer.name == "tail" { 0.0 } else { 1.0 };
            assert!(w.iter().chain(b).all(|v| *v == expected), "{}", layer.name);
        }
    }
}
