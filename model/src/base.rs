//! Bundled base models: a generic start for every stream.
//!
//! Each is a model update from a drawn origin to the trained weights, made by `hone train-base`; its own hash
//! keeps it whole. `bases/README.md` says what each was trained on and what it gains.

use crate::arch::Arch;
use crate::published::{Origin, Published};
use crate::update;

/// Architecture and update of each.
const BASES: &[(&str, &[u8])] = &[
    ("live-4x16-x1", include_bytes!("../bases/live-4x16-x1.hnu")),
    ("live-4x16-x2", include_bytes!("../bases/live-4x16-x2.hnu")),
    ("live-4x16-x3", include_bytes!("../bases/live-4x16-x3.hnu")),
    ("live-4x16-x4", include_bytes!("../bases/live-4x16-x4.hnu")),
];

/// Set in the wire's origin field where it names a base model and not a seed.
pub(crate) const BASE_BIT: u64 = 1 << 63;

/// A base model that gained less than this where it was judged, dB, harms some streams.
const SURE_DB: f64 = 0.2;

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

    /// The base model of an architecture.
    pub fn of(arch: Arch) -> Option<Self> {
        Self::all().find(|(_, header)| header.arch_id == arch.id()).map(|(base, _)| base)
    }

    /// Gain over the base image on scenes that it was not trained on, dB.
    pub fn gain_db(self) -> f64 {
        update::header(BASES[self.index].1).map_or(0.0, |header| header.gain_db.into())
    }

    /// Whether viewers may show it before a patch of their stream has spoken for it.
    pub fn is_sure(self) -> bool {
        self.gain_db() >= SURE_DB
    }

    /// The base model that the wire names.
    pub(crate) fn named(arch_id: u64, id: u64) -> Option<Self> {
        Self::all().find(|(base, header)| header.arch_id == arch_id && base.id() == id).map(|(base, _)| base)
    }

    /// Its name on the wire: from the hash of its weights.
    pub(crate) fn id(self) -> u64 {
        let hash = update::header(BASES[self.index].1).map_or([0; 16], |header| header.hash);
        u64::from_le_bytes(std::array::from_fn(|i| hash[i])) | BASE_BIT
    }

    /// Its weights.
    pub(crate) fn published(self) -> Published {
        let (arch, snapshot) = BASES[self.index];
        let restored = arch.parse().ok().and_then(|arch| {
            // A snapshot applies to anything of its architecture.
            update::apply(&Published::origin(arch, Origin::Seed(0)), snapshot).ok()
        });
        restored.expect("bundled base models are whole: a test applies each")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_base_model_is_whole_and_found_by_architecture_and_name() {
        assert_eq!(BaseModel::all().count(), BASES.len());
        for (base, header) in BaseModel::all() {
            let published = base.published();
            assert_eq!(published.hash(), header.hash);
            assert_eq!(BaseModel::of(published.arch()), Some(base));
            assert_eq!(BaseModel::named(header.arch_id, base.id()), Some(base));
            assert_eq!(BaseModel::named(header.arch_id, base.id() ^ 2), None);
            let origin = Published::origin(published.arch(), Origin::Base(base));
            assert_eq!((origin.version(), origin.hash()), (0, header.hash));
        }
        assert_eq!(BaseModel::of("edsr-1x8-x2".parse().unwrap()), None);
    }
}
