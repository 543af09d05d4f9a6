//! Buffers between the device and us.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use wgpu::{Buffer, BufferUsages, MapMode};

use super::Gpu;
use crate::Error;

/// A buffer that is ours while mapped, and the device's in between.
pub(super) struct Mapped {
    pub buffer: Buffer,
    mode: MapMode,
    ready: Arc<AtomicBool>,
}

impl Mapped {
    /// # Errors
    /// [`Error::Buffer`] if the device cannot hold it.
    pub fn new(gpu: &Gpu, bytes: usize, mode: MapMode) -> Result<Self, Error> {
        let usage = match mode {
            MapMode::Read => BufferUsages::MAP_READ | BufferUsages::COPY_DST,
            MapMode::Write => BufferUsages::MAP_WRITE | BufferUsages::COPY_SRC,
        };
        gpu.fits(bytes as u64)?;
        // What we write is ours first.
        let ours = mode == MapMode::Write;
        let descriptor =
            wgpu::BufferDescriptor { label: None, size: bytes as u64, usage, mapped_at_creation: ours };
        Ok(Self { buffer: gpu.device().create_buffer(&descriptor), mode, ready: Arc::new(ours.into()) })
    }

    /// Asks for the mapping; to be called once after what the device does with it was submitted.
    pub fn map(&self) {
        let ready = Arc::clone(&self.ready);
        self.buffer.map_async(self.mode, .., move |result| ready.store(result.is_ok(), Ordering::Release));
    }

    /// Whether it is ours by now.
    pub fn ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// # Errors
    /// [`Error::Lost`] if it was not mapped.
    pub fn take(&self, gpu: &Gpu) -> Result<(), Error> {
        if self.ready.swap(false, Ordering::Acquire) {
            Ok(())
        } else {
            Err(gpu.lost("a buffer could not be mapped".into()))
        }
    }
}
