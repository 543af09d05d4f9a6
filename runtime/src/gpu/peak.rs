//! What an adapter does at most: the yardstick of a benchmark. The caller holds the clock.

use hone_wgsl::{PEAK_COPY, PEAK_MULTIPLY_ADD, Shader};
use wgpu::{BindGroup, BindGroupDescriptor, BindGroupEntry, Buffer, BufferUsages, ComputePipeline};

use super::{Gpu, Precision};
use crate::Error;

/// Threads in a workgroup of both shaders.
const WORKGROUP: u64 = 256;
/// Enough for every processor of the largest card.
const THREADS: u64 = 1 << 18;
/// Rounds of a thread, 96 operations each: with so many, launching costs nothing beside them, and the slowest adapter
/// still answers long before the system loses patience.
const ROUNDS: u64 = 512;
/// What is copied: more than any cache holds.
const COPY_BYTES: u64 = 64 << 20;

/// Both benchmarks, ready to run on a device.
pub struct Peak {
    gpu: Gpu,
    multiply_add: Kernel,
    copy: Kernel,
}

struct Kernel {
    pipeline: ComputePipeline,
    bindings: BindGroup,
    workgroups: u32,
}

impl Kernel {
    fn new(
        gpu: &Gpu,
        (shader, constants): (Shader, &[(&'static str, f64)]),
        [input, output]: [&Buffer; 2],
        threads: u64,
    ) -> Self {
        let pipeline = gpu.pipeline(shader, Precision::F32, constants);
        let bindings = gpu.device().create_bind_group(&BindGroupDescriptor {
            label: None,
            layout: &pipeline.get_bind_group_layout(0),
            entries: &[
                BindGroupEntry { binding: 0, resource: input.as_entire_binding() },
                BindGroupEntry { binding: 1, resource: output.as_entire_binding() },
            ],
        });
        Self { pipeline, bindings, workgroups: (threads / WORKGROUP) as u32 }
    }

    /// `output` holds a value for each of [`THREADS`].
    fn multiply_add(gpu: &Gpu, output: &Buffer) -> Result<Self, Error> {
        let terms: Vec<u8> = [0.5f32, 1.0].into_iter().flat_map(f32::to_le_bytes).collect();
        let shader = (PEAK_MULTIPLY_ADD, &[("ROUNDS", ROUNDS as f64)][..]);
        Ok(Self::new(gpu, shader, [&gpu.uniform(&terms)?, output], THREADS))
    }

    /// Both hold [`COPY_BYTES`].
    fn copy(gpu: &Gpu, buffers: [&Buffer; 2]) -> Self {
        Self::new(gpu, (PEAK_COPY, &[]), buffers, COPY_BYTES / 16)
    }

    fn run(&self, gpu: &Gpu, times: u32) -> Result<(), Error> {
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        {
            let mut compute = encoder.begin_compute_pass(&Default::default());
            compute.set_pipeline(&self.pipeline);
            compute.set_bind_group(0, &self.bindings, &[]);
            (0..times).for_each(|_| compute.dispatch_workgroups(self.workgroups, 1, 1));
        }
        gpu.wait(gpu.queue().submit([encoder.finish()]))
    }
}

impl Peak {
    /// Compiles both.
    ///
    /// # Errors
    /// [`Error::Buffer`] if the device cannot hold 64 MiB, [`Error::Lost`] if it failed.
    pub fn new(gpu: &Gpu) -> Result<Self, Error> {
        let buffer = |bytes| gpu.buffer(bytes, BufferUsages::STORAGE);
        let multiply_add = Kernel::multiply_add(gpu, &buffer(4 * THREADS)?)?;
        let copy = Kernel::copy(gpu, [&buffer(COPY_BYTES)?, &buffer(COPY_BYTES)?]);
        gpu.check()?;
        Ok(Self { gpu: gpu.clone(), multiply_add, copy })
    }

    /// Multiplies and adds in registers, f32, `times` times, and waits; returns how many operations that were, a
    /// multiply-add being two.
    ///
    /// # Errors
    /// [`Error::Lost`] if the device failed.
    pub fn multiply_add(&self, times: u32) -> Result<u64, Error> {
        self.multiply_add.run(&self.gpu, times)?;
        Ok(u64::from(times) * THREADS * ROUNDS * 96)
    }

    /// Copies 64 MiB `times` times, and waits; returns how many bytes were read and written.
    ///
    /// # Errors
    /// [`Error::Lost`] if the device failed.
    pub fn copy(&self, times: u32) -> Result<u64, Error> {
        self.copy.run(&self.gpu, times)?;
        Ok(u64::from(times) * 2 * COPY_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::AdapterChoice;

    #[test]
    fn what_is_counted_is_computed() {
        let gpu = match Gpu::open(&AdapterChoice { allow_software: true, adapter: None }) {
            Ok(gpu) => gpu,
            Err(Error::NoAdapter { .. }) => return eprintln!("SKIPPED: no wgpu adapter"),
            Err(error) => panic!("{error}"),
        };
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
        let buffer = |bytes| gpu.buffer(bytes, usage).unwrap();
        let sums = buffer(4 * THREADS);
        Kernel::multiply_add(&gpu, &sums).unwrap().run(&gpu, 1).unwrap();
        assert!(gpu.read(&sums).unwrap().chunks_exact(4).all(|sum| sum == 24f32.to_le_bytes()));

        let (from, to) = (buffer(COPY_BYTES), buffer(COPY_BYTES));
        let bytes: Vec<u8> = (0..COPY_BYTES).map(|i| (i % 251) as u8).collect();
        gpu.queue().write_buffer(&from, 0, &bytes);
        Kernel::copy(&gpu, [&from, &to]).run(&gpu, 1).unwrap();
        assert!(gpu.read(&to).unwrap() == bytes);

        let peak = Peak::new(&gpu).unwrap();
        assert_eq!(peak.multiply_add(2).unwrap(), 2 * THREADS * ROUNDS * 96);
        assert_eq!(peak.copy(3).unwrap(), 6 * COPY_BYTES);
    }
}
