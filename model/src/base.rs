//! Bundled base models: a generic start for every stream, also of a larger network.
//!
//! Each is a model update from a drawn origin to the trained weights, made by `hone train-base`; its own hash
//! keeps it whole. `bases/README.md` says what each was trained on and what it gains.

use crate::arch::Arch;
use crate::published::{Origin, Published};
use crate::update;
use crate::weights::Weights;

/// Architecture and update of each.
const BASES: &[(&str, &[u8])] = &[
    ("live-4x16-x1", include_bytes!("../bases/live-4x16-x1.hnu")),
    ("live-4x16-x2", include_bytes!("../bases/live-4x16-x2.hnu")),
    ("live-4x16-x3", include_bytes!("../bases/live-4x16-x3.hnu")),
    ("live-4x16-x4", include_bytes!("../bases/live-4x16-x4.hnu")),
    ("live-8x16-x2", include_bytes!("../bases/live-8x16-x2.hnu")),
];

/// Set in the wire's origin field where it names a base model and not a seed.
pub(crate) const BASE_BIT: u64 = 1 << 63;

const WHOLE: &str = "bundled base models are whole: a test applies each";

/// One of the bundled base models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BaseModel {
    index: usize,
}

impl BaseModel {
    fn all() -> impl Iterator<Item = (Self, update::Header)> {
        let header = |index: usize| update::header(BASES[index].1).ok();
        (0..BASES.len()).filter_map(move |index| Some((Self { index }, header(index)?)))
    }

    /// The largest that an architecture can begin with.
    pub fn of(arch: Arch) -> Option<Self> {
        let suits = Self::all().map(|(base, _)| base).filter(|base| base.suits(arch));
        suits.max_by_key(|base| base.arch().params())
    }

    /// Its own architecture.
    pub fn arch(self) -> Arch {
        BASES[self.index].0.parse().expect(WHOLE)
    }

    /// Whether a network can begin with it: of its family and scale, and not smaller.
    pub fn suits(self, arch: Arch) -> bool {
        let own = self.arch();
        let larger = own.blocks <= arch.blocks && own.features <= arch.features;
        larger && (own.family, own.scale) == (arch.family, arch.scale)
    }

    /// Gain over the base image on scenes that it was not trained on, dB.
    pub fn gain_db(self) -> f64 {
        update::header(BASES[self.index].1).map_or(0.0, |header| header.gain_db.into())
    }

    /// Whether viewers may show it before a patch of their stream has spoken for it. At scale 1 what it gains is so little that
    /// it harms some streams.
    pub fn is_sure(self) -> bool {
        self.arch().scale > 1
    }

    /// The base model that the wire names.
    pub(crate) fn named(id: u64) -> Option<Self> {
        Self::all().map(|(base, _)| base).find(|base| base.id() == id)
    }

    /// Its name on the wire: from the hash of its weights.
    pub(crate) fn id(self) -> u64 {
        let hash = update::header(BASES[self.index].1).map_or([0; 16], |header| header.hash);
        u64::from_le_bytes(std::array::from_fn(|i| hash[i])) | BASE_BIT
    }

    /// Its weights; those of a larger network compute the same.
    ///
    /// # Panics
    /// If it does not [suit](Self::suits) the architecture.
    pub(crate) fn weights(self, arch: Arch) -> Weights {
        assert!(self.suits(arch), "a base model of {} for {arch}", self.arch());
        // A snapshot applies to anything of its architecture.
        let own = Published::origin(self.arch(), Origin::Seed(0));
        let own = update::apply(&own, BASES[self.index].1).expect(WHOLE).weights();
        if own.arch() == arch {
            return own;
        }
        let mut weights = Published::origin(arch, Origin::Seed(0)).weights();
        weights.adopt(&own);
        weights
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::forward;
    use crate::reference::testing::random_tensor;
    use crate::rng::Rng;

    #[test]
    fn every_base_model_is_whole_and_found_by_architecture_and_name() {
        assert_eq!(BaseModel::all().count(), BASES.len());
        for (base, header) in BaseModel::all() {
            assert_eq!(base.arch().id(), header.arch_id);
            assert_eq!(BaseModel::of(base.arch()), Some(base));
            assert_eq!(BaseModel::named(base.id()), Some(base));
            assert_eq!(BaseModel::named(base.id() ^ 2), None);
            let origin = Published::origin(base.arch(), Origin::Base(base));
            assert_eq!((origin.version(), origin.hash()), (0, header.hash));
        }
    }

    #[test]
    fn a_larger_network_begins_with_what_the_base_model_computes() {
        let arch: Arch = "live-5x24-x3".parse().unwrap();
        let base = BaseModel::of(arch).unwrap();
        assert_eq!(base.arch().to_string(), "live-4x16-x3");
        let input = random_tensor(&mut Rng::new(5), 1, 4, 6, 5);
        let [own, larger] = [base.arch(), arch].map(|arch| {
            let origin = Published::origin(arch, Origin::Base(base));
            let params: Vec<f64> = origin.weights().params().iter().map(|p| f64::from(*p)).collect();
            forward(arch, &params, &input)
        });
        assert!(own.data.iter().any(|v| v.abs() > 1e-3));
        for (own, larger) in own.data.iter().zip(&larger.data) {
            assert!((own - larger).abs() < 1e-12, "{own} {larger}");
        }
        let largest = BaseModel::of("live-16x64-x2".parse().unwrap()).unwrap();
        assert_eq!(largest.arch().to_string(), "live-8x16-x2");
        for arch in ["live-3x16-x2", "live-4x8-x2", "edsr-4x16-x2"] {
            assert_eq!(BaseModel::of(arch.parse().unwrap()), None, "{arch}");
        }
    }
}
