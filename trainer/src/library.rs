//! What was learned of earlier scenes, found by what they look like.

use hone_model::{Holding, Published};

/// Two views are of one scene if they differ by less, in the mean over their cells: a cut changes more than this.
const SAME_VIEW: f32 = 6.0;
/// A scene that only looks like an earlier one is not tried on more patches than these.
const TRIES: u32 = 8;

/// Which weights belong to which view.
#[derive(Debug, Default)]
pub struct Library {
    /// Views of scenes that were left, and the [`Published::hash`] of what was shown there.
    scenes: Vec<(Vec<f32>, [u8; 16])>,
    /// Of the scene now, once it has settled.
    view: Option<Vec<f32>>,
    /// What was learned of a scene like it, and how often it may still be tried.
    like_here: Option<(Published, u32)>,
}

impl Library {
    /// The scene is over; `shown` names the weights that were in force in it, if any were. `viewers` have taken what is shown
    /// instead.
    pub fn leave(&mut self, shown: Option<[u8; 16]>, viewers: &Holding) {
        self.like_here = None;
        let (Some(view), Some(shown)) = (self.view.take(), shown) else { return };
        self.scenes.retain(|(seen, hash)| {
            *hash != shown && difference(seen, &view) >= SAME_VIEW && viewers.kept(hash).is_some()
        });
        self.scenes.push((view, shown));
    }

    /// The scene looks like `view`, mean luma in code values cell by cell.
    pub fn enter(&mut self, view: Vec<f32>, viewers: &Holding) {
        let near = self.scenes.iter().map(|(seen, hash)| (difference(seen, &view), hash));
        let nearest = near.filter(|(far, _)| *far < SAME_VIEW).min_by(|a, b| a.0.total_cmp(&b.0));
        self.like_here = nearest.and_then(|(_, hash)| Some((viewers.kept(hash)?.clone(), TRIES)));
        self.view = Some(view);
    }

    /// What may be tried on the patches of this scene.
    pub fn like_here(&mut self) -> Option<Published> {
        let (weights, tries) = self.like_here.as_mut()?;
        let weights = weights.clone();
        *tries -= 1;
        if *tries == 0 {
            self.like_here = None;
        }
        Some(weights)
    }

    /// It is shown now.
    pub fn recalled(&mut self) {
        self.like_here = None;
    }
}

/// Infinite for views of different sizes.
fn difference(a: &[f32], b: &[f32]) -> f32 {
    if a.len() != b.len() || a.is_empty() {
        return f32::INFINITY;
    }
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f32>() / a.len() as f32
}
