//! How long each dispatch of a frame took, by the device's own clock.

use bytemuck::pod_collect_to_vec;
use wgpu::{Buffer, BufferUsages, CommandEncoder, ComputePassTimestampWrites, MapMode, QuerySet};

use super::mapped::Mapped;
use super::{Gpu, Pass};
use crate::Error;

/// Time of one dispatch.
#[derive(Clone, Debug, PartialEq)]
pub struct PassTime {
    /// Its place among the dispatches of a frame and its shader: `0 conv3x3`.
    pub name: String,
    /// On the device, in ms.
    pub ms: f64,
}

/// Timestamps around each dispatch of one frame at a time.
pub(super) struct Timing {
    set: QuerySet,
    resolved: Buffer,
    readback: Mapped,
    /// Of the frame whose timestamps are on their way.
    names: Vec<&'static str>,
}

/// Dispatches that can be timed: a network of [`hone_model::arch::BLOCKS_MAX`] blocks has 134 at most.
const PASSES_MAX: u32 = 256;

impl Timing {
    /// None where the adapter has no timestamps that tell anything: lavapipe stamps a dispatch when it queues it.
    ///
    /// # Errors
    /// [`Error::Buffer`] if the device cannot hold them.
    pub fn new(gpu: &Gpu) -> Result<Option<Self>, Error> {
        if gpu.software() || !gpu.device().features().contains(wgpu::Features::TIMESTAMP_QUERY) {
            return Ok(None);
        }
        let set = gpu.device().create_query_set(&wgpu::QuerySetDescriptor {
            label: None,
            ty: wgpu::QueryType::Timestamp,
            count: 2 * PASSES_MAX,
        });
        let bytes = 16 * u64::from(PASSES_MAX);
        let resolved = gpu.buffer(bytes, BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC)?;
        let readback = Mapped::new(gpu, bytes as usize, MapMode::Read)?;
        Ok(Some(Self { set, resolved, readback, names: Vec::new() }))
    }

    /// Whether timestamps are on their way, or wait to be taken.
    pub fn pending(&self) -> bool {
        !self.names.is_empty()
    }

    /// Whether they are here.
    pub fn done(&self) -> bool {
        self.pending() && self.readback.ready()
    }

    /// Records dispatches, each in a pass of its own. [`Timing::map`] is to follow once that is submitted.
    pub fn encode<'a>(
        &mut self,
        encoder: &mut CommandEncoder,
        passes: impl Iterator<Item = &'a Pass>,
        current: usize,
    ) {
        for (k, pass) in (0..PASSES_MAX).zip(passes) {
            let mut compute = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                label: Some(pass.name()),
                timestamp_writes: Some(ComputePassTimestampWrites {
                    query_set: &self.set,
                    beginning_of_pass_write_index: Some(2 * k),
                    end_of_pass_write_index: Some(2 * k + 1),
                }),
            });
            pass.encode(&mut compute, current);
            self.names.push(pass.name());
        }
        encoder.resolve_query_set(&self.set, 0..2 * self.names.len() as u32, &self.resolved, 0);
        encoder.copy_buffer_to_buffer(&self.resolved, 0, &self.readback.buffer, 0, self.resolved.size());
    }

    pub fn map(&self) {
        self.readback.map();
    }

    /// The times, once they are [here](Timing::done).
    ///
    /// # Errors
    /// [`Error::Lost`] if the device failed.
    pub fn take(&mut self, gpu: &Gpu) -> Result<Vec<PassTime>, Error> {
        let names = std::mem::take(&mut self.names);
        self.readback.take(gpu)?;
        let stamps: Vec<u64> = {
            let view = self.readback.buffer.get_mapped_range(..).map_err(|e| gpu.lost(e.to_string()))?;
            pod_collect_to_vec(&view)
        };
        self.readback.buffer.unmap();
        let period_ms = f64::from(gpu.queue().get_timestamp_period()) * 1e-6;
        let time = |(k, name): (usize, &str)| PassTime {
            name: format!("{k} {name}"),
            ms: stamps[2 * k + 1].saturating_sub(stamps[2 * k]) as f64 * period_ms,
        };
        Ok(names.into_iter().enumerate().map(time).collect())
    }
}
