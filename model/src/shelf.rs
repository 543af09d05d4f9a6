//! Weights that viewers were shown before another scene came: when it returns, naming them is enough.
//!
//! Server and viewers put the same weights here by the same rule, so that nothing has to say what is kept. Who joined late
//! has fewer; the next snapshot heals that.

use std::collections::VecDeque;

use crate::published::Published;
use crate::update::{self, Header, UpdateError};

/// Scenes that are remembered,
const KEPT_MAX: usize = 8;
/// if their weights take no more bytes than this.
const BYTES_MAX: usize = 16 << 20;

/// What was in force once.
#[derive(Clone, Debug, Default)]
pub struct Shelf {
    /// The oldest first.
    kept: VecDeque<Published>,
}

impl Shelf {
    /// As [`update::apply`], and an update without increments names what is kept here.
    ///
    /// # Errors
    /// [`UpdateError`]; nothing has changed then.
    pub fn apply(&self, held: &Published, bytes: &[u8]) -> Result<Published, UpdateError> {
        match update::apply(held, bytes) {
            Err(UpdateError::Hash { version }) if bytes.len() == update::HEADER_BYTES => {
                let hash = update::header(bytes)?.hash;
                let named = self.get(&hash).filter(|kept| kept.arch() == held.arch());
                Ok(named.ok_or(UpdateError::NotKept { version })?.clone().at_version(version))
            }
            applied => applied,
        }
    }

    /// Keeps `old`, which gives way to `new`, if it was shown and now is not: the base image is, or the origin.
    pub fn replace(&mut self, (old, old_gain_db): (&Published, f32), (new, header): (&Published, &Header)) {
        let origin = Published::origin(new.arch(), header.origin);
        let shown = old_gain_db > 0.0 && old.arch() == new.arch() && old.grid() != origin.grid();
        if !shown || (header.gain_db > 0.0 && new.grid() != origin.grid()) {
            return;
        }
        self.kept.retain(|kept| kept.arch() == old.arch() && kept.grid() != old.grid());
        let max = (BYTES_MAX / size_of_val(old.grid())).clamp(1, KEPT_MAX);
        self.kept.drain(..(self.kept.len() + 1).saturating_sub(max));
        self.kept.push_back(old.clone());
    }

    /// What was put here last.
    pub fn newest(&self) -> Option<&Published> {
        self.kept.back()
    }

    /// Those that a [`Published::hash`] names.
    pub fn get(&self, hash: &[u8; 16]) -> Option<&Published> {
        self.kept.iter().find(|kept| kept.hash() == *hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Arch, Origin, Weights};

    const ORIGIN: Origin = Origin::Seed(9);

    fn origin() -> Published {
        Published::origin("live-1x8-x2".parse::<Arch>().unwrap(), ORIGIN)
    }

    fn weights(value: f32) -> Weights {
        let arch = origin().arch();
        Weights::from_params(arch, vec![value; arch.params()])
    }

    /// Both ends of a stream.
    struct Ends {
        held: Published,
        gain_db: f32,
        shelf: Shelf,
    }

    impl Ends {
        fn take(&mut self, update: &[u8]) -> Result<(), UpdateError> {
            let next = self.shelf.apply(&self.held, update)?;
            let header = update::header(update)?;
            self.shelf.replace((&self.held, self.gain_db), (&next, &header));
            (self.held, self.gain_db) = (next, header.gain_db);
            Ok(())
        }

        fn publish(&mut self, value: f32, gain_db: f32) {
            let next = self.held.next(&weights(value));
            let update = update::encode(ORIGIN, &self.held, &next, gain_db);
            self.take(&update).unwrap();
        }
    }

    #[test]
    fn what_was_shown_is_recalled_by_its_name_alone() {
        let mut ends = Ends { held: origin(), gain_db: 0.0, shelf: Shelf::default() };
        ends.publish(0.25, 1.0);
        let first = ends.held.clone();
        // Better weights of the same scene: the old ones are gone.
        ends.publish(0.5, 1.5);
        let second = ends.held.clone();
        ends.publish(0.5, 0.0);
        ends.publish(0.75, 1.0);
        let update = update::encode_recall(ORIGIN, &ends.held, &ends.held.next(&second.weights()), 1.2);
        assert!(update.len() < 60);
        let gone = update::encode_recall(ORIGIN, &ends.held, &ends.held.next(&first.weights()), 1.2);
        assert_eq!(ends.take(&gone), Err(UpdateError::NotKept { version: 5 }));
        ends.take(&update).unwrap();
        assert_eq!((ends.held.grid(), ends.held.version(), ends.gain_db), (second.grid(), 5, 1.2));
        // It names what it follows, as every delta does.
        assert_eq!(ends.take(&update), Err(UpdateError::Base { base: 4, have: 5 }));
    }

    #[test]
    fn the_oldest_gives_way_and_none_is_kept_twice() {
        let mut ends = Ends { held: origin(), gain_db: 0.0, shelf: Shelf::default() };
        for scene in 0..2 * KEPT_MAX {
            for again in 0..2 {
                ends.publish(0.25 * scene as f32, 1.0 + again as f32);
                ends.publish(0.25 * scene as f32, 0.0);
            }
        }
        assert_eq!(ends.shelf.kept.len(), KEPT_MAX);
        assert_eq!(ends.shelf.newest().unwrap().grid(), ends.held.grid());
        let oldest = ends.shelf.kept.front().unwrap().weights();
        assert_eq!(oldest.params()[0], 0.25 * KEPT_MAX as f32);
        // Weights of another network have no place beside these.
        let other = Published::origin("live-1x8-x3".parse().unwrap(), ORIGIN);
        assert!(matches!(
            ends.shelf.apply(
                &other,
                &update::encode_recall(ORIGIN, &ends.held, &ends.held.next(&weights(0.0)), 1.0)
            ),
            Err(UpdateError::Arch { .. })
        ));
    }
}
