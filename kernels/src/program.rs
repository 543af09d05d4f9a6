//! A plan with its memory: what a graph captures.

use crate::adam::{self, Optimiser, SETTINGS_WORDS};
use crate::add::add;
use crate::conv3x3::{Conv3x3, conv3x3};
use crate::conv3x3_grad_weights::conv3x3_grad_weights;
use crate::device::{Error, Stream};
use crate::gather::{CROP_WORDS, gather_hr, gather_images, gather_lr};
use crate::loss::{self, Output, Target, loss};
use crate::memory::{Buffer, Tensor};
use crate::pixel_shuffle::{pixel_shuffle, pixel_shuffle_grad};
use crate::plan::{Id, Part, Plan, Step};
use crate::reduce_grads::{Sums, reduce_grads};
use crate::resblock::{Inputs, Layers, resblock, resblock_grad};
use crate::weights::Weights;

/// Tensors of a plan. One is out while it is written.
struct Tensors(Vec<Option<Tensor>>);

impl Tensors {
    fn at(&self, id: Id) -> &Tensor {
        self.0[id].as_ref().expect("no launch writes what it reads")
    }

    fn maybe(&self, id: Option<Id>) -> Option<&Tensor> {
        id.map(|id| self.at(id))
    }

    /// Lends `id` out to be written, the others to be read.
    fn write<R>(&mut self, id: Id, launch: impl FnOnce(&mut Self, &mut Tensor) -> R) -> R {
        let mut tensor = self.0[id].take().expect("no launch writes what it reads");
        let result = launch(self, &mut tensor);
        self.0[id] = Some(tensor);
        result
    }
}

/// What forward pass and training share.
struct Core {
    stream: Stream,
    plan: Plan,
    tensors: Tensors,
    /// The crops that the bicubic base is made of.
    lr: Option<Buffer<f32>>,
}

impl Core {
    fn new(stream: &Stream, plan: Plan) -> Result<Self, Error> {
        let tensors: Result<Vec<_>, _> =
            plan.tensors.iter().map(|&shape| Tensor::zeros(stream, shape).map(Some)).collect();
        let lr = match plan.output {
            Output::Mean => None,
            Output::Bicubic { .. } => Some(Buffer::zeros(stream, plan.input().pixels() * 3)?),
        };
        Ok(Self { stream: stream.clone(), tensors: Tensors(tensors?), lr, plan })
    }

    /// One launch of a forward pass.
    fn forward(&mut self, step: &Step, weights: &Weights) -> Result<(), Error> {
        let stream = &self.stream;
        match *step {
            Step::Conv3x3 { layer, x, y, add, relu, scale } => self.tensors.write(y, |tensors, y| {
                let args = Conv3x3 {
                    x: tensors.at(x),
                    w: weights.w(layer),
                    bias: Some(weights.bias(layer)),
                    add: tensors.maybe(add),
                    mask: None,
                    scale,
                    relu,
                };
                conv3x3(stream, &args, y)
            }),
            Step::Resblock { layer, x, hidden, y, scale } => self.tensors.write(y, |tensors, y| {
                let layers = Layers { first: weights.w(layer), second: weights.w(layer + 1), scale };
                let biases = [weights.bias(layer), weights.bias(layer + 1)];
                match hidden {
                    None => resblock(stream, tensors.at(x), layers, biases, None, y),
                    Some(hidden) => tensors.write(hidden, |tensors, hidden| {
                        resblock(stream, tensors.at(x), layers, biases, Some(hidden), y)
                    }),
                }
            }),
            Step::PixelShuffle { x, y, c, s } => {
                self.tensors.write(y, |tensors, y| pixel_shuffle(stream, tensors.at(x), c, s, y))
            }
            _ => unreachable!("{step:?} is no part of a forward pass"),
        }
    }

    /// One launch of a backward pass, but for the loss and sums.
    fn backward(&mut self, step: &Step, weights: &Weights, parts_to: &mut Buffer<f32>) -> Result<(), Error> {
        let stream = &self.stream;
        match *step {
            Step::Conv3x3Grad { layer, gy, gx, add, mask, scale } => self.tensors.write(gx, |tensors, gx| {
                let args = Conv3x3 {
                    x: tensors.at(gy),
                    w: weights.wt(layer),
                    bias: None,
                    add: tensors.maybe(add),
                    mask: tensors.maybe(mask),
                    scale,
                    relu: false,
                };
                conv3x3(stream, &args, gx)
            }),
            Step::GradWeights { x, gy, parts } => {
                conv3x3_grad_weights(stream, self.tensors.at(x), self.tensors.at(gy), parts, parts_to)
            }
            Step::ResblockGrad { layer, gy, x, hidden, gx, scale, parts } => {
                self.tensors.write(gx, |tensors, gx| {
                    let layers = Layers { first: weights.wt(layer), second: weights.wt(layer + 1), scale };
                    let [gy, x, hidden] = [gy, x, hidden].map(|id| tensors.at(id));
                    resblock_grad(stream, Inputs { gy, x, hidden }, layers, gx, parts, parts_to)
                })
            }
            Step::PixelShuffleGrad { gy, gx, c, s } => {
                self.tensors.write(gx, |tensors, gx| pixel_shuffle_grad(stream, tensors.at(gy), c, s, gx))
            }
            Step::Add { a, b, y } => {
                self.tensors.write(y, |tensors, y| add(stream, tensors.at(a), tensors.at(b), y))
            }
            _ => self.forward(step, weights),
        }
    }
}

/// A forward pass over images of one size.
pub struct Forward {
    core: Core,
    images: Buffer<f32>,
    quantisers: Buffer<f32>,
    image: Buffer<f32>,
}

impl Forward {
    /// Its memory.
    ///
    /// # Errors
    /// If that is full.
    pub fn new(stream: &Stream, plan: Plan) -> Result<Self, Error> {
        let input = plan.input();
        Ok(Self {
            images: Buffer::zeros(stream, input.pixels() * 3)?,
            quantisers: Buffer::zeros(stream, input.n)?,
            image: Buffer::zeros(stream, plan.output_len())?,
            core: Core::new(stream, plan)?,
        })
    }

    /// Its plan.
    pub fn plan(&self) -> &Plan {
        &self.core.plan
    }

    /// (N, H, W, 3) and a fourth channel for each image -> (N, s·H, s·W, 3), not clamped; waits for it.
    ///
    /// # Errors
    /// If the device failed.
    ///
    /// # Panics
    /// If there are more values than the plan is for.
    pub fn run(&mut self, weights: &Weights, rgb: &[f32], quantisers: &[f32]) -> Result<Vec<f32>, Error> {
        self.images.write(0, rgb)?;
        self.quantisers.write(0, quantisers)?;
        self.queue(weights)?;
        self.image.read()
    }

    /// Queues all launches. Neither allocates nor waits: a graph may capture it.
    ///
    /// # Errors
    /// If the driver refuses.
    pub(crate) fn queue(&mut self, weights: &Weights) -> Result<(), Error> {
        let Self { core, images, quantisers, image } = self;
        let stream = core.stream.clone();
        core.tensors.write(0, |_, input| gather_images(&stream, images, quantisers, input))?;
        for step in core.plan.steps.clone() {
            core.forward(&step, weights)?;
        }
        let lr = core.lr.is_some().then_some(&*images);
        loss::image(&stream, core.plan.output, core.tensors.at(core.plan.tail), lr, image)
    }
}

/// A training step on batches of one size.
pub struct Training {
    core: Core,
    /// Settings, then the batch's crops.
    pub(crate) inputs: Buffer<u64>,
    hr: Buffer<u8>,
    loss_parts: Buffer<f32>,
    parts: Buffer<f32>,
    sums: Vec<Sums>,
}

impl Training {
    /// Its memory.
    ///
    /// # Errors
    /// If that is full.
    pub fn new(stream: &Stream, plan: Plan) -> Result<Self, Error> {
        let sums: Result<Vec<_>, _> = plan.sums.iter().map(|sums| Sums::new(stream, sums)).collect();
        Ok(Self {
            inputs: Buffer::zeros(stream, Self::words(&plan))?,
            hr: Buffer::zeros(stream, plan.output_len())?,
            loss_parts: Buffer::zeros(stream, loss::parts(plan.tensors[plan.tail]))?,
            parts: Buffer::zeros(stream, plan.parts)?,
            sums: sums?,
            core: Core::new(stream, plan)?,
        })
    }

    /// Its plan.
    pub fn plan(&self) -> &Plan {
        &self.core.plan
    }

    /// 64-bit words that a step is told.
    pub(crate) fn words(plan: &Plan) -> usize {
        SETTINGS_WORDS + plan.input().n * CROP_WORDS
    }

    /// Queues one step. Neither allocates nor waits: a graph may capture it.
    ///
    /// # Safety
    /// Each time that the queued work runs, the crops in `inputs` must name patches of at least their size that the device
    /// holds.
    ///
    /// # Errors
    /// If the driver refuses.
    pub(crate) unsafe fn queue(
        &mut self,
        weights: &mut Weights,
        optimiser: &mut Optimiser,
    ) -> Result<(), Error> {
        for part in self.plan().parts() {
            // SAFETY: the caller answers for the crops.
            unsafe { self.queue_part(&part, weights, optimiser) }?;
        }
        Ok(())
    }

    /// Queues one part of a step.
    ///
    /// # Safety
    /// As of [`Self::queue`].
    ///
    /// # Errors
    /// If the driver refuses.
    pub(crate) unsafe fn queue_part(
        &mut self,
        part: &Part,
        weights: &mut Weights,
        optimiser: &mut Optimiser,
    ) -> Result<(), Error> {
        let Self { core, inputs, hr, loss_parts, parts, sums } = self;
        let stream = core.stream.clone();
        let settings = inputs.view(0, SETTINGS_WORDS);
        match part {
            Part::Gather => {
                let input = core.plan.input();
                let crops = inputs.view(SETTINGS_WORDS, input.n * CROP_WORDS);
                let lr = &mut core.lr;
                // SAFETY: the caller answers for the crops; there is one for each image.
                core.tensors.write(0, |_, input| unsafe { gather_lr(&stream, crops, input, lr.as_mut()) })?;
                // SAFETY: as above.
                unsafe { gather_hr(&stream, crops, [input.n, input.h, core.plan.arch.scale()], hr) }
            }
            &Part::Launch(Step::Loss { tail, grad }) => {
                let (output, lr) = (core.plan.output, core.lr.as_ref());
                core.tensors.write(grad, |tensors, grad| {
                    let target = Target { tail: tensors.at(tail), lr, hr, settings, state: &optimiser.state };
                    loss(&stream, output, &target, grad, loss_parts)
                })
            }
            &Part::Launch(Step::ReduceGrads(index)) => reduce_grads(&stream, &sums[index], parts, optimiser),
            Part::Launch(step) => core.backward(step, weights, parts),
            Part::Adam => {
                let values = core.plan.output_len();
                let count = loss::parts(core.plan.tensors[core.plan.tail]);
                adam::begin(&stream, loss_parts.view(0, count), values, settings, optimiser)?;
                adam::step(&stream, settings, optimiser, weights)
            }
        }
    }
}
