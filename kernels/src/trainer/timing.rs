//! How long the device takes, by its own clock: for benchmarks.

use cudarc::driver::CudaEvent;
use hone_model::backend::{Adam, Loss};
use hone_model::gather::Draw;

use super::CudaTrainer;
use crate::adam::Settings;
use crate::device::{Error, Stream};
use crate::graph::Graph;
use crate::plan::{Part, Plan};
use crate::program::Forward;

impl CudaTrainer {
    /// Median time of a step's graph, milliseconds, of `count` after `warm_up` others. They train.
    ///
    /// # Errors
    /// If the device failed.
    ///
    /// # Panics
    /// As of a step; or if nothing is to be timed.
    pub fn time_steps(
        &mut self,
        crop: usize,
        draws: &[Draw],
        warm_up: usize,
        count: usize,
    ) -> Result<f32, Error> {
        // The second step makes the graph.
        for _ in 0..warm_up.max(2) {
            self.train(crop, draws, &self.settings_to_time())?;
        }
        let graph = self.batches.as_mut().and_then(|batches| batches.graph.as_mut());
        median(&self.stream, graph.expect("a trainer that is not eager"), count)
    }

    /// Mean time of each part of a step, milliseconds, over `repeat` launches in a row. The parts run out of order: weights
    /// are of no use afterwards.
    ///
    /// # Errors
    /// If the device failed.
    ///
    /// # Panics
    /// As of a step.
    pub fn time_parts(
        &mut self,
        crop: usize,
        draws: &[Draw],
        repeat: usize,
    ) -> Result<Vec<(Part, f32)>, Error> {
        self.train(crop, draws, &self.settings_to_time())?;
        let Self { stream, batches, weights, optimiser, .. } = self;
        let training = &mut batches.as_mut().expect("a step was made").training;
        let mut times = vec![];
        for part in training.plan().parts() {
            let mut graph = Graph::capture(stream, || {
                // SAFETY: the crops are those of the step above, of patches that the pool still holds.
                (0..repeat).try_for_each(|_| unsafe { training.queue_part(&part, weights, optimiser) })
            })?;
            graph.launch()?;
            times.push((part, median(stream, &mut graph, 3)? / repeat as f32));
        }
        Ok(times)
    }

    /// Median time of a forward pass over one picture of (h, w) LR pixels that lies on the device, milliseconds.
    ///
    /// # Errors
    /// If the device failed.
    ///
    /// # Panics
    /// If nothing is to be timed.
    pub fn time_forward(
        &mut self,
        (h, w): (usize, usize),
        warm_up: usize,
        count: usize,
    ) -> Result<f32, Error> {
        let mut forward = Forward::new(&self.stream, Plan::forward(self.weights.arch(), 1, h, w))?;
        forward.queue(&self.weights)?;
        let mut graph = Graph::capture(&self.stream, || forward.queue(&self.weights))?;
        for _ in 0..warm_up {
            graph.launch()?;
        }
        median(&self.stream, &mut graph, count)
    }

    fn settings_to_time(&self) -> Settings {
        let loss = Loss::Charbonnier { eps: 0.01 };
        Settings { adam: Adam::default(), loss, growth_steps: self.options.growth_steps }
    }
}

fn median(stream: &Stream, graph: &mut Graph, count: usize) -> Result<f32, Error> {
    let event = || -> Result<CudaEvent, Error> { stream.device().timing_event() };
    let (start, end) = (event()?, event()?);
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        start.record(&stream.cuda)?;
        graph.launch()?;
        end.record(&stream.cuda)?;
        end.synchronize()?;
        times.push(start.elapsed_ms(&end)?);
    }
    times.sort_by(f32::total_cmp);
    Ok(times[count / 2])
}
