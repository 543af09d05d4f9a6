//! The training backend: patches, weights and optimiser on one stream of a device, a step as one graph.

mod timing;

use std::sync::Arc;

use cudarc::driver::CudaEvent;
use hone_model::arch::{QUANTISER_UNKNOWN, quantiser_input};
use hone_model::backend::{Adam, BackendError, Images, Loss, TrainBackend};
use hone_model::gather::{Draw, Patch};
use hone_model::{Arch, Family};

use crate::adam::{Optimiser, STATE_WORDS, Settings, Status};
use crate::device::{Device, Error, Stream};
use crate::graph::Graph;
use crate::memory::Pinned;
use crate::plan::{Plan, weights_bytes};
use crate::pool::Pool;
use crate::program::{Forward, Training};
use crate::weights::Weights;

/// Steps that may be queued and not yet done: enough that the device never waits for its caller, few enough that what the
/// caller decides takes effect soon.
const STEPS_AHEAD_MAX: usize = 4;

/// Beyond it the gradient gains nothing: f16 then holds what is 2^-48 of a loss of 1. As in `cu/adam.cu`.
const LOSS_SCALE_MAX: f32 = 16_777_216.0;

/// How a [`CudaTrainer`] works.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Factor on the gradient at the start, so that f16 holds it: a power of two, up to 2^24.
    pub loss_scale: f32,
    /// Finite steps after which it doubles. It halves at each gradient that is not finite, and that step has no effect.
    pub growth_steps: u32,
    /// Whether each step launches its kernels one by one instead of replaying a graph: for tests and profilers.
    pub eager: bool,
}

impl Default for Options {
    /// 2^16, doubled after 1000 steps. Source: Micikevicius et al. 2018, arXiv:1710.03740, section 3.2, choose 2000; here a
    /// stream has few steps.
    fn default() -> Self {
        Self { loss_scale: 65_536.0, growth_steps: 1000, eager: false }
    }
}

/// Trains one network on one stream of a device.
pub struct CudaTrainer {
    stream: Stream,
    options: Options,
    weights: Weights,
    optimiser: Optimiser,
    pool: Pool,
    batches: Option<Batches>,
    /// Weights that are judged, as the caller has them and on the device.
    judged: Option<(hone_model::Weights, Weights)>,
    forward: Option<Forward>,
    /// Newest status that the device has told.
    status: Option<Status>,
}

/// Everything for batches of one size.
struct Batches {
    training: Training,
    /// Made at the second step. The first launches its kernels one by one: the driver compiles each at its first use, which it
    /// may not do while a graph is captured.
    graph: Option<Graph>,
    /// Whether there was a step.
    warm: bool,
    /// Steps in flight, used in turn.
    flights: Vec<Flight>,
    /// Which one the next step takes.
    next: usize,
}

/// What goes to the device for a step, and what comes back.
struct Flight {
    inputs: Pinned<u64>,
    state: Pinned<u32>,
    done: CudaEvent,
    /// Whether a step is under way and its status has not been looked at.
    busy: bool,
}

impl CudaTrainer {
    /// Starts from `weights`, on a new stream of `device`.
    ///
    /// # Errors
    /// If the device's memory is full, or its driver does not take the kernels.
    ///
    /// # Panics
    /// If the loss scale is out of range.
    pub fn new(device: &Arc<Device>, weights: &hone_model::Weights, options: Options) -> Result<Self, Error> {
        assert!(
            (1.0..=LOSS_SCALE_MAX).contains(&options.loss_scale),
            "a loss scale of {}",
            options.loss_scale
        );
        let stream = Stream::new(device)?;
        let on_device = Weights::new(&stream, weights)?;
        Ok(Self {
            optimiser: Optimiser::new(&stream, &on_device, options.loss_scale)?,
            pool: Pool::new(&stream, weights.arch().scale()),
            weights: on_device,
            options,
            batches: None,
            judged: None,
            forward: None,
            status: None,
            stream,
        })
    }

    /// Waits for all steps; what the device knows about them.
    ///
    /// # Errors
    /// If one of them failed.
    pub fn status(&mut self) -> Result<Status, Error> {
        let status = self.optimiser.status()?;
        for flight in self.batches.iter_mut().flat_map(|batches| &mut batches.flights) {
            flight.busy = false;
        }
        self.status = Some(status);
        Ok(status)
    }

    /// Bytes that this trainer has on the device now: weights, optimiser, patches, and the plans of its last batch and of its
    /// last forward pass. The driver adds its own for each process.
    pub fn bytes(&self) -> usize {
        let arch = self.weights.arch();
        let training = self.batches.as_ref().map_or(0, |batches| batches.training.plan().bytes());
        let judged = self.judged.as_ref().map_or(0, |_| weights_bytes(arch, false));
        let forward = self.forward.as_ref().map_or(0, |forward| forward.plan().bytes());
        weights_bytes(arch, true) + self.pool.bytes() + training + judged + forward
    }

    /// The fourth channel of the network's input, if it has one.
    fn quantiser_input(arch: Arch) -> impl Fn(u8) -> f32 {
        move |quantiser| if arch.family == Family::Live { quantiser_input(quantiser) } else { 0.0 }
    }

    fn train(&mut self, crop: usize, draws: &[Draw], settings: &Settings) -> Result<Option<f32>, Error> {
        assert!(crop > 0 && !draws.is_empty(), "a batch");
        let arch = self.weights.arch();
        let input = Self::quantiser_input(arch);
        let crops: Vec<_> = draws.iter().map(|draw| self.pool.crop(crop, draw, &input).words()).collect();
        let words: Vec<u64> = settings.words().into_iter().chain(crops.into_iter().flatten()).collect();
        let fits = |batches: &Batches| {
            let input = batches.training.plan().input();
            (input.n, input.h) == (draws.len(), crop)
        };
        if !self.batches.as_ref().is_some_and(fits) {
            // Before the new one is made, so that both need not fit.
            self.batches = None;
            let plan = Plan::training(arch, draws.len(), crop, self.stream.device().multiprocessors());
            self.batches = Some(Batches::new(&self.stream, plan)?);
        }
        let Self { stream, batches, weights, optimiser, status, .. } = self;
        let batches = batches.as_mut().expect("it was made above");
        let at = batches.next;
        batches.next = (at + 1) % batches.flights.len();
        if let Some(oldest) = batches.flights[at].landed(true)? {
            *status = Some(oldest);
        }
        batches.flights[at].inputs.values()?.copy_from_slice(&words);
        batches.queue(stream, at, weights, optimiser, self.options.eager)?;
        // From the oldest to this one.
        for i in 1..=batches.flights.len() {
            let flight = (at + i) % batches.flights.len();
            match batches.flights[flight].landed(false)? {
                Some(newer) => *status = Some(newer),
                None if batches.flights[flight].busy => break,
                None => {}
            }
        }
        match *status {
            Some(status) if !status.loss.is_finite() => Err(Error::Loss(status.loss)),
            status => Ok(status.map(|status| status.loss)),
        }
    }

    fn judge(&mut self, weights: &hone_model::Weights, lr: &Images) -> Result<Images, Error> {
        let arch = self.weights.arch();
        assert_eq!(weights.arch(), arch, "weights of another network");
        assert_eq!((lr.rgb.len(), lr.quantisers.len()), (lr.n * lr.h * lr.w * 3, lr.n), "values of images");
        // A verdict asks for the same weights again and again.
        let judged = match self.judged.take() {
            Some(judged) if judged.0 == *weights => judged,
            Some((_, mut on_device)) => {
                on_device.set(&self.stream, weights)?;
                (weights.clone(), on_device)
            }
            None => (weights.clone(), Weights::new(&self.stream, weights)?),
        };
        let (_, on_device) = self.judged.insert(judged);
        let fits = |forward: &Forward| {
            let input = forward.plan().input();
            (input.n, input.h, input.w) == (lr.n, lr.h, lr.w)
        };
        if !self.forward.as_ref().is_some_and(fits) {
            self.forward = None;
            self.forward = Some(Forward::new(&self.stream, Plan::forward(arch, lr.n, lr.h, lr.w))?);
        }
        let input = Self::quantiser_input(arch);
        let quantisers: Vec<f32> = lr.quantisers.iter().map(|&quantiser| input(quantiser)).collect();
        let forward = self.forward.as_mut().expect("it was made above");
        let rgb = forward.run(on_device, &lr.rgb, &quantisers)?;
        let s = arch.scale();
        Ok(Images { n: lr.n, h: lr.h * s, w: lr.w * s, rgb, quantisers: vec![QUANTISER_UNKNOWN; lr.n] })
    }

    fn start_over(&mut self, weights: &hone_model::Weights) -> Result<(), Error> {
        self.weights.set(&self.stream, weights)?;
        self.optimiser.reset(&self.weights, self.options.loss_scale)?;
        self.status()?;
        self.status = None;
        Ok(())
    }
}

impl Batches {
    fn new(stream: &Stream, plan: Plan) -> Result<Self, Error> {
        let flight = || {
            Ok::<_, Error>(Flight {
                inputs: Pinned::zeros(stream, Training::words(&plan))?,
                state: Pinned::zeros(stream, STATE_WORDS)?,
                done: stream.device().event()?,
                busy: false,
            })
        };
        let flights: Result<Vec<_>, _> = (0..STEPS_AHEAD_MAX).map(|_| flight()).collect();
        Ok(Self {
            flights: flights?,
            training: Training::new(stream, plan)?,
            graph: None,
            warm: false,
            next: 0,
        })
    }

    /// Queues the step whose inputs are in flight `at`.
    fn queue(
        &mut self,
        stream: &Stream,
        at: usize,
        weights: &mut Weights,
        optimiser: &mut Optimiser,
        eager: bool,
    ) -> Result<(), Error> {
        let Self { training, graph, warm, flights, .. } = self;
        if eager || !std::mem::replace(warm, true) {
            flights[at].inputs.upload(&mut training.inputs)?;
            // SAFETY: the crops that were just uploaded are of patches that the pool holds and has checked; what may come to
            // lie in their place is queued later on the same stream.
            unsafe { training.queue(weights, optimiser) }?;
        } else {
            let graph = match graph {
                Some(graph) => graph,
                None => {
                    // SAFETY: as above, at each replay: its inputs are uploaded on the same stream just before it. Weights and
                    // optimiser keep their memory as long as the trainer, which drops this graph first.
                    graph.insert(Graph::capture(stream, || unsafe { training.queue(weights, optimiser) })?)
                }
            };
            flights[at].inputs.upload(&mut training.inputs)?;
            graph.launch()?;
        }
        flights[at].state.download(&optimiser.state)?;
        flights[at].done.record(&stream.cuda)?;
        flights[at].busy = true;
        Ok(())
    }
}

impl Flight {
    /// The status that a step has left, once. Waits for it or not.
    fn landed(&mut self, wait: bool) -> Result<Option<Status>, Error> {
        if !self.busy {
            return Ok(None);
        }
        if wait {
            self.done.synchronize()?;
        } else if !self.done.try_is_complete()? {
            return Ok(None);
        }
        self.busy = false;
        Ok(Some(Status::of(self.state.values()?)))
    }
}

fn failed(error: Error) -> BackendError {
    BackendError { backend: "cuda", reason: error.to_string() }
}

impl TrainBackend for CudaTrainer {
    fn name(&self) -> &'static str {
        "cuda"
    }

    fn arch(&self) -> Arch {
        self.weights.arch()
    }

    fn keep(&mut self, slot: usize, patch: Patch<'_>) -> Result<(), BackendError> {
        self.pool.keep(slot, patch).map_err(failed)
    }

    fn step(
        &mut self,
        crop: usize,
        draws: &[Draw],
        loss: Loss,
        adam: Adam,
    ) -> Result<Option<f32>, BackendError> {
        let settings = Settings { adam, loss, growth_steps: self.options.growth_steps };
        self.train(crop, draws, &settings).map_err(failed)
    }

    fn forward(&mut self, weights: &hone_model::Weights, lr: &Images) -> Result<Images, BackendError> {
        self.judge(weights, lr).map_err(failed)
    }

    fn weights(&mut self) -> Result<hone_model::Weights, BackendError> {
        self.weights.read().map_err(failed)
    }

    fn average(&mut self) -> Result<hone_model::Weights, BackendError> {
        let params = self.optimiser.average.read().map_err(failed)?;
        Ok(hone_model::Weights::from_params(self.weights.arch(), params))
    }

    fn reset(&mut self, weights: &hone_model::Weights) -> Result<(), BackendError> {
        self.start_over(weights).map_err(failed)
    }
}
