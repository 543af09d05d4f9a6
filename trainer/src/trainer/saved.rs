//! What a stream has learned, kept over the end of its server.

use hone_model::Holding;
use hone_model::backend::BackendError;

use super::Trainer;
use crate::library::Library;

impl Trainer {
    /// What was learned of this scene and of earlier ones, as [`Library::from_bytes`] reads it; none if that is nothing.
    pub fn learned(&self) -> Option<Vec<u8>> {
        let shown = (self.in_force && !self.at_origin()).then(|| self.published());
        self.library.to_bytes(shown, self.published().version(), (self.origin, &self.version_0))
    }

    /// Goes on from what an earlier run of this stream had learned, and counts versions on from there. Viewers get
    /// it once it has proved itself on the first held-out patches: the camera may show something else by now.
    ///
    /// # Errors
    /// [`BackendError`] if the device refuses the weights; then it starts from nothing.
    ///
    /// # Panics
    /// If they are of another architecture.
    pub fn resume(&mut self, library: Library) -> Result<(), BackendError> {
        let Some(newest) = library.newest() else { return Ok(()) };
        self.backend.reset(&newest.weights())?;
        self.holding = Holding::new(self.version_0.clone().at_version(newest.version()));
        self.library = library;
        (self.untried, self.resumed) = (true, true);
        Ok(())
    }
}
