//! What one end of a stream holds: the weights in force, and those that were shown in earlier scenes. When one of these
//! returns, naming its weights is enough.
//!
//! Server and viewers keep the same weights by the same rule, so that nothing has to say what is kept. Who joined late
//! has fewer; the next snapshot heals that.

use std::collections::VecDeque;

use crate::arch::Arch;
use crate::published::Published;
use crate::update::{self, Header, UpdateError};

/// Scenes that are remembered,
const KEPT_MAX: usize = 8;
/// if their weights take no more bytes than this.
const BYTES_MAX: usize = 16 << 20;

/// Scenes whose weights are kept, of a network of this size.
pub fn scenes_max(arch: Arch) -> usize {
    (BYTES_MAX / (arch.params() * size_of::<i32>())).clamp(1, KEPT_MAX)
}

/// The weights in force, and those of earlier scenes.
#[derive(Clone, Debug)]
pub struct Holding {
    published: Published,
    gain_db: f32,
    /// The oldest first.
    kept: VecDeque<Published>,
}

impl Holding {
    /// Begins with these, of which nothing says that they help.
    pub fn new(published: Published) -> Self {
        Self { published, gain_db: 0.0, kept: VecDeque::new() }
    }

    /// The weights in force.
    pub fn published(&self) -> &Published {
        &self.published
    }

    /// Their gain over the base image by the newest update, dB; if it is not above zero, that is shown.
    pub fn gain_db(&self) -> f32 {
        self.gain_db
    }

    /// What a [`Published::hash`] names of those of earlier scenes.
    pub fn kept(&self, hash: &[u8; 16]) -> Option<&Published> {
        self.kept.iter().find(|kept| kept.hash() == *hash)
    }

    /// Where an update leads from here: as [`update::apply`], and one without increments names what is kept.
    ///
    /// # Errors
    /// [`UpdateError`].
    pub fn follow(&self, bytes: &[u8]) -> Result<Published, UpdateError> {
        match update::apply(&self.published, bytes) {
            Err(UpdateError::Hash { version }) if bytes.len() == update::HEADER_BYTES => {
                let hash = update::header(bytes)?.hash;
                let named = self.kept(&hash).filter(|kept| kept.arch() == self.published.arch());
                Ok(named.ok_or(UpdateError::NotKept { version })?.clone().at_version(version))
            }
            applied => applied,
        }
    }

    /// Has `new` in force, where an update with this header led. What was shown until now and gives way to the base image or
    /// to version 0 is kept: its scene is over.
    pub fn take(&mut self, new: Published, header: &Header) {
        let origin = Published::origin(new.arch(), header.origin);
        let old_gain_db = std::mem::replace(&mut self.gain_db, header.gain_db);
        let old = std::mem::replace(&mut self.published, new);
        let new = &self.published;
        let shown = old_gain_db > 0.0 && old.arch() == new.arch() && old.grid() != origin.grid();
        if !shown || (header.gain_db > 0.0 && new.grid() != origin.grid()) {
            return;
        }
        self.kept.retain(|kept| kept.arch() == old.arch() && kept.grid() != old.grid());
        self.kept.drain(..(self.kept.len() + 1).saturating_sub(scenes_max(old.arch())));
        self.kept.push_back(old);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Origin, Weights};

    const ORIGIN: Origin = Origin::Seed(9);

    fn origin() -> Published {
        Published::origin("live-1x8-x2".parse::<Arch>().unwrap(), ORIGIN)
    }

    fn weights(value: f32) -> Weights {
        let arch = origin().arch();
        Weights::from_params(arch, vec![value; arch.params()])
    }

    impl Holding {
        fn update(&mut self, update: &[u8]) -> Result<(), UpdateError> {
            let next = self.follow(update)?;
            self.take(next, &update::header(update)?);
            Ok(())
        }

        fn publish(&mut self, value: f32, gain_db: f32) {
            let next = self.published.next(&weights(value));
            let update = update::encode(ORIGIN, &self.published, &next, gain_db);
            self.update(&update).unwrap();
        }
    }

    #[test]
    fn what_was_shown_is_recalled_by_its_name_alone() {
        let mut ends = Holding::new(origin());
        ends.publish(0.25, 1.0);
        let first = ends.published.clone();
        // Better weights of the same scene: the old ones are gone.
        ends.publish(0.5, 1.5);
        let second = ends.published.clone();
        ends.publish(0.5, 0.0);
        ends.publish(0.75, 1.0);
        let update =
            update::encode_recall(ORIGIN, &ends.published, &ends.published.next(&second.weights()), 1.2);
        assert!(update.len() < 60);
        let gone =
            update::encode_recall(ORIGIN, &ends.published, &ends.published.next(&first.weights()), 1.2);
        assert_eq!(ends.update(&gone), Err(UpdateError::NotKept { version: 5 }));
        ends.update(&update).unwrap();
        assert_eq!((ends.published.grid(), ends.published.version(), ends.gain_db), (second.grid(), 5, 1.2));
        // It names what it follows, as every delta does.
        assert_eq!(ends.update(&update), Err(UpdateError::Base { base: 4, have: 5 }));
    }

    #[test]
    fn the_oldest_gives_way_and_none_is_kept_twice() {
        let mut ends = Holding::new(origin());
        for scene in 0..2 * KEPT_MAX {
            for again in 0..2 {
                ends.publish(0.25 * scene as f32, 1.0 + again as f32);
                ends.publish(0.25 * scene as f32, 0.0);
            }
        }
        assert_eq!(ends.kept.len(), KEPT_MAX);
        assert_eq!(ends.kept.back().unwrap().grid(), ends.published.grid());
        let oldest = ends.kept.front().unwrap().weights();
        assert_eq!(oldest.params()[0], 0.25 * KEPT_MAX as f32);
        // Weights of another network have no place beside these.
        let next = ends.published.next(&weights(0.0));
        let update = update::encode_recall(ORIGIN, &ends.published, &next, 1.0);
        ends.published = Published::origin("live-1x8-x3".parse().unwrap(), ORIGIN);
        assert!(matches!(ends.update(&update), Err(UpdateError::Arch { .. })));
    }
}
