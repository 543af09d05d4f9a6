//! A queue of launches, captured once and replayed.

use cudarc::driver::CudaGraph;
use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};

use crate::device::{Error, Stream};

/// Launches that one call starts again.
pub struct Graph(CudaGraph);

// SAFETY: a graph may be used by any thread, though not by two at once; cudarc binds the context at each launch. It is
// launched through `&mut` alone, and dropped by its owner.
unsafe impl Send for Graph {}

impl Graph {
    /// Captures what `queue` queues; nothing of it runs yet.
    ///
    /// # Errors
    /// What `queue` says, or the driver, for example of something that cannot be captured.
    pub fn capture(stream: &Stream, queue: impl FnOnce() -> Result<(), Error>) -> Result<Self, Error> {
        // Thread-local: other streams of this process may allocate meanwhile.
        stream.cuda.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)?;
        let queued = queue();
        // Ends in any case, or the stream could never be used again.
        let graph = stream.cuda.end_capture(CUgraphInstantiate_flags(0));
        queued?;
        let graph = graph?.ok_or_else(|| Error::Driver("a graph without launches".into()))?;
        graph.upload()?;
        Ok(Self(graph))
    }

    /// Queues all of it.
    ///
    /// # Errors
    /// If the driver refuses.
    pub fn launch(&mut self) -> Result<(), Error> {
        Ok(self.0.launch()?)
    }
}
