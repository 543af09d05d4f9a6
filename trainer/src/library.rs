//! What was learned of earlier scenes, found by what they look like, and how that is kept on disk:
//!
//! ```text
//! bytes  field
//!     4  magic "HNL1"
//!     1  scenes, at least one
//!        of each, the oldest first:
//!     2    cells, little endian as below
//!     -    mean luma of each cell, code values; no cells if the scene had not settled
//!     4    length of the update
//!     -    weights: a model update that stands alone, so its own hash keeps them whole
//! ```

use std::collections::VecDeque;

use hone_model::update::{self, UpdateError};
use hone_model::{Arch, Origin, Published, scenes_max};

const MAGIC: &[u8; 4] = b"HNL1";
/// Two views are of one scene if they differ by less, in the mean over their cells: a cut changes more than this.
const SAME_VIEW: f32 = 6.0;
/// A scene that only looks like an earlier one is not tried on more patches than these.
const TRIES: u32 = 8;

/// Which weights belong to which view.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Library {
    /// Scenes that were left, the oldest first.
    scenes: VecDeque<Scene>,
    /// View of the scene now, once it has settled.
    view: Option<Vec<u8>>,
    /// What was learned of a scene like it, and how often it may still be tried.
    like_here: Option<(Published, u32)>,
}

/// What was learned of one.
#[derive(Clone, Debug, PartialEq)]
struct Scene {
    /// Mean luma of each cell, code values.
    view: Vec<u8>,
    weights: Published,
}

/// Why a library was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LibraryError {
    /// It does not begin as one.
    #[error("it is no library of scenes")]
    Syntax,
    /// It ends early, or goes on after its end.
    #[error("cut short or too long: {bytes} bytes")]
    Length {
        /// Its length.
        bytes: usize,
    },
    /// The weights of one scene.
    #[error(transparent)]
    Update(#[from] UpdateError),
    /// The weights of one scene follow others.
    #[error("holds a model update that does not stand alone")]
    Delta,
}

impl Library {
    /// The scene is over; `shown` are the weights that were in force in it, if any were.
    pub(crate) fn leave(&mut self, shown: Option<Published>) {
        self.like_here = None;
        if let (Some(view), Some(weights)) = (self.view.take(), shown) {
            self.keep(Scene { view, weights });
        }
    }

    fn keep(&mut self, scene: Scene) {
        self.scenes.retain(|kept| {
            kept.weights.grid() != scene.weights.grid() && difference(&kept.view, &scene.view) >= SAME_VIEW
        });
        let max = scenes_max(scene.weights.arch());
        self.scenes.drain(..(self.scenes.len() + 1).saturating_sub(max));
        self.scenes.push_back(scene);
    }

    /// The scene looks like `view`, mean luma in code values cell by cell.
    pub(crate) fn enter(&mut self, view: &[f32]) {
        let view: Vec<u8> = view.iter().map(|luma| luma.round() as u8).collect();
        let near = self.scenes.iter().map(|scene| (difference(&scene.view, &view), &scene.weights));
        let nearest = near.filter(|(far, _)| *far < SAME_VIEW).min_by(|a, b| a.0.total_cmp(&b.0));
        self.like_here = nearest.map(|(_, weights)| (weights.clone(), TRIES));
        self.view = Some(view);
    }

    /// What may be tried on the patches of this scene.
    pub(crate) fn like_here(&mut self) -> Option<Published> {
        let (weights, tries) = self.like_here.as_mut()?;
        let weights = weights.clone();
        *tries -= 1;
        if *tries == 0 {
            self.like_here = None;
        }
        Some(weights)
    }

    /// It is shown now.
    pub(crate) fn recalled(&mut self) {
        self.like_here = None;
    }

    /// What was learned last.
    pub fn newest(&self) -> Option<&Published> {
        self.scenes.back().map(|scene| &scene.weights)
    }

    /// For the disk: all scenes, and as the last the one now, if `shown` is in force in it. `version` is the newest that
    /// viewers have seen, and `version_0` what `origin` names. None if nothing has been learned.
    pub(crate) fn to_bytes(
        &self,
        shown: Option<&Published>,
        version: u64,
        (origin, version_0): (Origin, &Published),
    ) -> Option<Vec<u8>> {
        let mut all = self.clone();
        if let Some(shown) = shown {
            all.keep(Scene { view: self.view.clone().unwrap_or_default(), weights: shown.clone() });
        }
        let newest = all.scenes.back_mut()?;
        newest.weights = newest.weights.clone().at_version(version);
        let mut bytes = MAGIC.to_vec();
        bytes.push(all.scenes.len() as u8);
        for Scene { view, weights } in &all.scenes {
            let update = update::encode(origin, version_0, weights, 0.0);
            bytes.extend((view.len() as u16).to_le_bytes());
            bytes.extend(view);
            bytes.extend((update.len() as u32).to_le_bytes());
            bytes.extend(update);
        }
        Some(bytes)
    }

    /// From the disk, of networks of this architecture.
    ///
    /// # Errors
    /// [`LibraryError`].
    pub fn from_bytes(arch: Arch, bytes: &[u8]) -> Result<Self, LibraryError> {
        let length = LibraryError::Length { bytes: bytes.len() };
        let rest = bytes.strip_prefix(MAGIC).ok_or(LibraryError::Syntax)?;
        let (&scenes, mut rest) = rest.split_first().ok_or(length)?;
        if !(1..=scenes_max(arch)).contains(&scenes.into()) {
            return Err(LibraryError::Syntax);
        }
        let mut take = |n: usize| {
            let (taken, left) = rest.split_at_checked(n).ok_or(length)?;
            rest = left;
            Ok::<_, LibraryError>(taken)
        };
        let mut library = Self::default();
        for _ in 0..scenes {
            let cells = take(2)?;
            let view = take(usize::from(u16::from_le_bytes([cells[0], cells[1]])))?.to_vec();
            let update = take(4)?;
            let update = u32::from_le_bytes([update[0], update[1], update[2], update[3]]);
            let update = take(update as usize)?;
            if update::header(update)?.base != 0 {
                return Err(LibraryError::Delta);
            }
            // A snapshot applies to anything of its architecture.
            let weights = update::apply(&Published::origin(arch, Origin::Seed(0)), update)?;
            library.scenes.push_back(Scene { view, weights });
        }
        if rest.is_empty() { Ok(library) } else { Err(length) }
    }
}

/// Infinite for views of different sizes.
fn difference(a: &[u8], b: &[u8]) -> f32 {
    if a.len() != b.len() || a.is_empty() {
        return f32::INFINITY;
    }
    a.iter().zip(b).map(|(a, b)| f32::from(a.abs_diff(*b))).sum::<f32>() / a.len() as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use hone_model::Weights;

    const ORIGIN: Origin = Origin::Seed(9);

    fn origin() -> Published {
        Published::origin("live-1x8-x2".parse().unwrap(), ORIGIN)
    }

    fn weights(value: f32) -> Published {
        let origin = origin();
        let params = vec![value; origin.arch().params()];
        origin.next(&Weights::from_params(origin.arch(), params))
    }

    fn library(scenes: u8) -> Library {
        let mut library = Library::default();
        for scene in 0..scenes {
            library.enter(&[f32::from(scene) * 10.0; 4]);
            library.leave(Some(weights(0.25 + f32::from(scene) / 64.0)));
        }
        library
    }

    #[test]
    fn what_is_kept_on_disk_comes_back_and_damage_is_told() {
        let mut now = library(3);
        now.enter(&[200.0; 4]);
        let bytes = now.to_bytes(Some(&weights(0.5)), 7, (ORIGIN, &origin())).unwrap();
        let arch = origin().arch();
        let back = Library::from_bytes(arch, &bytes).unwrap();
        assert_eq!(back.newest(), Some(&weights(0.5).at_version(7)));
        now.leave(Some(weights(0.5).at_version(7)));
        assert_eq!(back, now);
        for end in 0..bytes.len() {
            assert!(Library::from_bytes(arch, &bytes[..end]).is_err(), "{end} bytes");
        }
        let longer = [&bytes[..], &[0]].concat();
        let length = LibraryError::Length { bytes: longer.len() };
        assert_eq!(Library::from_bytes(arch, &longer), Err(length));
        let other = Library::from_bytes("live-2x8-x2".parse().unwrap(), &bytes);
        assert!(matches!(other, Err(LibraryError::Update(UpdateError::Arch { .. }))));
        assert_eq!(Library::default().to_bytes(None, 7, (ORIGIN, &origin())), None);
    }

    #[test]
    fn the_oldest_scene_gives_way() {
        let max = scenes_max(origin().arch());
        let library = library(max as u8 + 3);
        assert_eq!(library.scenes.len(), max);
        assert_eq!(library.scenes[0].view, [30; 4]);
    }
}
