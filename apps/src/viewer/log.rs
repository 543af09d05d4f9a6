//! Statistics once a second: into a file of JSON lines, and into the log.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::task::JoinHandle;

use super::{Monitor, Stats};

/// Asks the monitor once a second, until it is ended.
pub struct Log {
    monitor: Arc<Monitor>,
    file: Arc<std::sync::Mutex<Option<File>>>,
    task: JoinHandle<()>,
}

impl Log {
    /// Begins; statistics also go to `path` if there is one.
    ///
    /// # Errors
    /// If the file cannot be made.
    pub fn start(path: Option<&Path>, monitor: Arc<Monitor>) -> Result<Self> {
        let file =
            path.map(|path| File::create(path).with_context(|| format!("cannot write {}", path.display())));
        let file = Arc::new(std::sync::Mutex::new(file.transpose()?));
        let task = tokio::spawn({
            let (monitor, file) = (monitor.clone(), file.clone());
            async move {
                let mut seconds = tokio::time::interval(Duration::from_secs(1));
                loop {
                    seconds.tick().await;
                    write(&file, &monitor.sample(Instant::now()));
                }
            }
        });
        Ok(Self { monitor, file, task })
    }

    /// Writes what is left of the last second.
    pub async fn end(self) {
        self.task.abort();
        let _ = self.task.await;
        write(&self.file, &self.monitor.sample(Instant::now()));
    }
}

fn write(file: &std::sync::Mutex<Option<File>>, stats: &Stats) {
    tracing::debug!(?stats, "statistics");
    let mut file = file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let Some(to) = file.as_mut() else { return };
    let line = serde_json::to_string(stats).unwrap_or_default();
    if let Err(error) = writeln!(to, "{line}") {
        tracing::warn!(%error, "statistics cannot be written any more");
        *file = None;
    }
}
