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

    /// Makes these compute what `other` does: a network of the same family with as many blocks and features, or fewer. At
    /// another scale only the tail stays as it is.
    ///
    /// Channels and blocks that `other` lacks stay as they are too, but nothing that it has reads them; training finds a
    /// use for them. After Chen et al. 2016 (Net2Net), arXiv:1511.05641.
    pub fn adopt(&mut self, other: &Self) {
        let end = |arch: Arch| format!("body.{}", arch.blocks);
        let theirs = other.arch.layers();
        for ours in self.arch.layers() {
            if ours.name.starts_with("tail") && self.arch.scale != other.arch.scale {
                continue;
            }
            let name = if ours.name == end(self.arch) { end(other.arch) } else { ours.name.clone() };
            let params = &mut self.params[ours.offset..ours.offset + ours.params()];
            let Some(theirs) = theirs.iter().find(|layer| layer.name == name) else {
                // A block adds what its second convolution says.
                if ours.name.ends_with(".2") {
                    params.fill(0.0);
                }
                continue;
            };
            let (from, from_bias) = other.layer(theirs);
            let (to, to_bias) = params.split_at_mut(ours.weights());
            for (to, from) in to.chunks_mut(9 * ours.cin).zip(from.chunks(9 * theirs.cin)) {
                to[..from.len()].copy_from_slice(from);
                to[from.len()..].fill(0.0);
            }
            to_bias[..from_bias.len()].copy_from_slice(from_bias);
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
    use crate::reference::forward;
    use crate::reference::testing::random_tensor;
    use crate::rng::Rng;
    use crate::{Origin, Published};

    fn drawn(arch: &str) -> Weights {
        let arch = arch.parse().unwrap();
        let mut weights = Published::origin(arch, Origin::Seed(3)).weights();
        let mut rng = Rng::new(4);
        weights.params_mut().iter_mut().for_each(|p| *p += 0.02 * (rng.unit() as f32 - 0.5));
        weights
    }

    #[test]
    fn a_larger_network_computes_what_it_adopted() {
        let small = drawn("live-1x8-x2");
        let mut large = drawn("live-3x16-x2");
        large.adopt(&small);
        let input = random_tensor(&mut Rng::new(5), 1, 4, 5, 3);
        let [small, large] = [small, large].map(|weights| {
            let params: Vec<f64> = weights.params().iter().map(|p| f64::from(*p)).collect();
            forward(weights.arch(), &params, &input)
        });
        for (small, large) in small.data.iter().zip(&large.data) {
            assert!((small - large).abs() < 1e-12, "{small} {large}");
        }
    }

    #[test]
    fn another_scale_shares_all_layers_but_the_tail() {
        let (mut weights, other) = (drawn("live-2x8-x3"), drawn("live-2x8-x2"));
        let before = weights.clone();
        weights.adopt(&other);
        let last = weights.arch().layers().pop().unwrap().offset;
        assert_eq!(weights.params()[..last], other.params()[..last]);
        assert_eq!(weights.params()[last..], before.params()[last..]);
    }
}
