//! Which session has which name.

use super::CODE_REPLACED;
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The session that owns each name.
#[derive(Default)]
pub(super) struct Owners(Mutex<HashMap<String, Owner>>);

struct Owner {
    instance: u64,
    /// A sender's; the streams of a relay share one, which no taking over may end.
    session: Option<moq_net::Session>,
    id: usize,
}

impl Owners {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Owner>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many names have an owner.
    pub(super) fn count(&self) -> usize {
        self.lock().len()
    }

    /// Whether one more broadcast called `name` keeps within the most that there may be.
    pub(super) fn has_room(&self, name: &str, broadcasts_max: u32) -> bool {
        let owners = self.lock();
        owners.contains_key(name) || owners.len() < broadcasts_max as usize
    }

    /// Makes the session `id` the owner of `name`, and closes the sender's session that was. `false` if a newer one has
    /// it.
    pub(super) fn own(
        &self,
        name: &str,
        instance: u64,
        session: Option<&moq_net::Session>,
        id: usize,
    ) -> bool {
        let mut owners = self.lock();
        if let Some(owner) = owners.get(name) {
            if owner.id == id && owner.instance > instance {
                return false;
            }
            if owner.id != id {
                tracing::warn!(name, "broadcast taken over by a newer session");
                if let Some(session) = &owner.session {
                    session.abort(moq_net::Error::App(CODE_REPLACED));
                }
            }
        }
        owners.insert(name.to_owned(), Owner { instance, session: session.cloned(), id });
        true
    }

    /// Frees `name` if it is this broadcast's.
    pub(super) fn disown(&self, name: &str, instance: u64, id: usize) {
        let mut owners = self.lock();
        if owners.get(name).is_some_and(|owner| owner.id == id && owner.instance == instance) {
            owners.remove(name);
        }
    }

    /// Frees all names of a session.
    pub(super) fn leave(&self, id: usize) {
        self.lock().retain(|_, owner| owner.id != id);
    }
}
