//! What a stream has learned, kept over the end of its server.

use hone_model::backend::BackendError;
use hone_model::{Holding, Published, update};

use super::Trainer;

impl Trainer {
    /// The published weights as an update that stands alone; none where viewers are shown nothing that was learned
    /// here. `gain_db` is that of their publication.
    pub fn snapshot(&self, gain_db: f64) -> Option<Vec<u8>> {
        let learned = self.in_force && !self.at_origin();
        learned.then(|| update::encode(self.origin, &self.version_0, self.published(), gain_db as f32))
    }

    /// Goes on from what an earlier run of this stream had published, and counts versions on from there. Viewers get
    /// it once it has proved itself on the first held-out patches: the camera may show something else by now.
    ///
    /// # Errors
    /// [`BackendError`] if the device refuses the weights; then it starts from nothing.
    ///
    /// # Panics
    /// If they are of another architecture.
    pub fn resume(&mut self, saved: &Published) -> Result<(), BackendError> {
        self.backend.reset(&saved.weights())?;
        self.holding = Holding::new(self.version_0.clone().at_version(saved.version()));
        (self.untried, self.resumed) = (true, true);
        Ok(())
    }
}
