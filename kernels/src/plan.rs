//! What a step or a forward pass launches, and the memory it needs: made once from [`Arch::ops`], without a device.

use hone_model::{Arch, Op};

use crate::conv3x3_grad_weights::Parts;
use crate::loss::{self, Output};
use crate::memory::{Shape, padded};
use crate::reduce_grads::Sum;
use crate::resblock;
use crate::weights::Place;

/// Memory for parts of weight gradients, f32. One sum for several layers saves launches; more than this would leave the
/// card's cache before it is read again (50 MB on an H100), and be memory that nothing else can use.
const PARTS_MAX: usize = 12 << 20;

/// Index of a tensor of a plan.
pub type Id = usize;

/// In place of an index, for a value that no launch but its own knows.
const NOWHERE: Id = usize::MAX;

/// One launch.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the fields are the arguments of the launchers of the same name")]
pub enum Step {
    /// [`crate::conv3x3::conv3x3`] with the weights of a layer.
    Conv3x3 { layer: usize, x: Id, y: Id, add: Option<Id>, relu: bool, scale: f32 },
    /// The same with its turned weights: the data gradient.
    Conv3x3Grad { layer: usize, gy: Id, gx: Id, add: Option<Id>, mask: Option<Id>, scale: f32 },
    /// [`crate::conv3x3_grad_weights::conv3x3_grad_weights`].
    GradWeights { x: Id, gy: Id, parts: Parts },
    /// [`crate::resblock::resblock`] of the layers `layer` and the next.
    Resblock { layer: usize, x: Id, hidden: Option<Id>, y: Id, scale: f32 },
    /// [`crate::resblock::resblock_grad`].
    ResblockGrad { layer: usize, gy: Id, x: Id, hidden: Id, gx: Id, scale: f32, parts: [Parts; 2] },
    /// [`crate::pixel_shuffle::pixel_shuffle`].
    PixelShuffle { x: Id, y: Id, c: usize, s: usize },
    /// [`crate::pixel_shuffle::pixel_shuffle_grad`].
    PixelShuffleGrad { gy: Id, gx: Id, c: usize, s: usize },
    /// [`crate::add::add`].
    Add { a: Id, b: Id, y: Id },
    /// [`crate::loss::loss`].
    Loss { tail: Id, grad: Id },
    /// [`crate::reduce_grads::reduce_grads`] of the plan's sums of that number.
    ReduceGrads(usize),
}

/// A part of a training step.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// Crops of LR and HR out of the patches: [`crate::gather`].
    Gather,
    /// One launch.
    Launch(Step),
    /// Sum of the loss, overflow check, Adam, average, f16 copies: [`crate::adam`].
    Adam,
}

/// Launches in order, and what they work on.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The network.
    pub arch: Arch,
    /// Every tensor. Number 0 is the network's input.
    pub tensors: Vec<Shape>,
    /// Output of the last convolution.
    pub tail: Id,
    /// What its output is made of.
    pub output: Output,
    /// Every launch between input and output or, in training, between input and optimiser.
    pub steps: Vec<Step>,
    /// Sums of [`Step::ReduceGrads`].
    pub sums: Vec<Vec<Sum>>,
    /// Length of the parts of weight gradients.
    pub parts: usize,
}

impl Plan {
    /// Forward only: (n, h, w) LR pixels. Tensors are used again as soon as they are not needed.
    pub fn forward(arch: Arch, n: usize, h: usize, w: usize) -> Self {
        let mut builder = Builder::new(arch, n, h, w, 1);
        builder.forward(false);
        builder.plan
    }

    /// Forward, loss and backward for `n` crops of `crop` x `crop` LR pixels. The parts of weight gradients depend on the
    /// number of multiprocessors, and with them the rounding of their sums; nothing else does.
    pub fn training(arch: Arch, n: usize, crop: usize, multiprocessors: u32) -> Self {
        let mut builder = Builder::new(arch, n, crop, crop, multiprocessors as usize);
        builder.forward(true);
        builder.backward();
        builder.plan
    }

    /// All parts of a training step, in order.
    pub fn parts(&self) -> Vec<Part> {
        let steps = self.steps.iter().cloned().map(Part::Launch);
        [Part::Gather].into_iter().chain(steps).chain([Part::Adam]).collect()
    }

    /// Sizes of the input.
    pub fn input(&self) -> Shape {
        self.tensors[0]
    }

    /// Values of the output: N·s·H·s·W·3.
    pub fn output_len(&self) -> usize {
        self.tensors[self.tail].pixels() * self.output.s() * self.output.s() * 3
    }

    /// Bytes on the device: activations, gradients, parts, crops. Patches and weights are not in it.
    pub fn bytes(&self) -> usize {
        let tensors: usize = self.tensors.iter().map(|shape| 2 * shape.len()).sum();
        let lr = if self.output == Output::Mean { 0 } else { 12 * self.input().pixels() };
        // In training HR is 8 bits and the loss has its sums; else the image is in f32.
        let training = !self.sums.is_empty();
        let hr = if training { self.output_len() } else { 4 * self.output_len() };
        let loss = if training { 4 * loss::parts(self.tensors[self.tail]) } else { 0 };
        tensors + lr + hr + loss + 4 * self.parts
    }
}

/// Bytes of a network's weights on the device: f32 and twice f16; in training also gradient, two moments and average.
pub fn weights_bytes(arch: Arch, training: bool) -> usize {
    let copies: usize =
        Place::all(arch).iter().map(|place| 2 * 2 * 9 * place.cx * place.cy + 4 * place.cy).sum();
    copies + 4 * arch.params() * if training { 5 } else { 1 }
}

struct Builder {
    plan: Plan,
    ops: Vec<Op>,
    places: Vec<Place>,
    multiprocessors: usize,
    /// Tensor of each value that the ops have.
    values: Vec<Id>,
    /// How many still need each tensor; those that none needs are free.
    needed: Vec<usize>,
    pending: Vec<Sum>,
    pending_parts: usize,
}

impl Builder {
    fn new(arch: Arch, n: usize, h: usize, w: usize, multiprocessors: usize) -> Self {
        let mut ops = arch.ops();
        let output = Output::of(arch);
        // What the output's own kernel shuffles.
        if output != Output::Mean && output.s() > 1 {
            let last = ops.pop();
            assert!(matches!(last, Some(Op::PixelShuffle { .. })), "a tail that is shuffled");
        }
        let plan = Plan { arch, tensors: vec![], tail: 0, output, steps: vec![], sums: vec![], parts: 0 };
        let mut this = Self {
            plan,
            ops,
            places: Place::all(arch),
            multiprocessors,
            values: vec![],
            needed: vec![],
            pending: vec![],
            pending_parts: 0,
        };
        let input = this.take(Shape { n, h, w, c: this.places[0].cx });
        this.values.push(input);
        this
    }

    /// A tensor that nobody needs, or a new one.
    fn take(&mut self, shape: Shape) -> Id {
        let free = (0..self.needed.len()).find(|&id| self.needed[id] == 0 && self.plan.tensors[id] == shape);
        let id = free.unwrap_or_else(|| {
            self.plan.tensors.push(shape);
            self.needed.push(0);
            self.needed.len() - 1
        });
        self.needed[id] = 1;
        id
    }

    fn give(&mut self, id: Id) {
        self.needed[id] -= 1;
    }

    fn shape(&self, value: usize) -> Shape {
        self.plan.tensors[self.values[value]]
    }

    /// The residual block that begins with this op, if there is a kernel for it: its input and scale.
    fn block(&self, at: usize) -> Option<(usize, f32)> {
        let (first, second) = (self.ops.get(at)?, self.ops.get(at + 1)?);
        let &Op::Conv3x3 { layer, src, relu: true, add: None, scale: 1.0 } = first else { return None };
        let &Op::Conv3x3 { layer: next, src: hidden, relu: false, add: Some(add), scale } = second else {
            return None;
        };
        let place = &self.places[layer];
        let fits = resblock::fits(place.cx) && place.cx == place.cy && self.places[next].cy == place.cx;
        (fits && hidden == at + 1 && add == src && next == layer + 1).then_some((src, scale))
    }

    fn forward(&mut self, keep: bool) {
        // The op that reads a value last; a value is kept until then.
        let mut last = vec![0; self.ops.len() + 1];
        for (i, op) in self.ops.iter().enumerate() {
            match *op {
                Op::Conv3x3 { src, add, .. } => {
                    last[src] = i;
                    if let Some(add) = add {
                        last[add] = i;
                    }
                }
                Op::PixelShuffle { src, .. } => last[src] = i,
            }
        }
        let mut at = 0;
        while at < self.ops.len() {
            let mut done = 1;
            if let Some((src, scale)) = self.block(at) {
                let Op::Conv3x3 { layer, .. } = self.ops[at] else {
                    unreachable!("a block begins with a layer")
                };
                let shape = self.shape(src);
                let hidden = if keep { Some(self.take(shape)) } else { None };
                let y = self.take(shape);
                self.plan.steps.push(Step::Resblock { layer, x: self.values[src], hidden, y, scale });
                self.values.extend([hidden.unwrap_or(NOWHERE), y]);
                done = 2;
            } else {
                let (step, y) = self.op(at);
                self.plan.steps.push(step);
                self.values.push(y);
            }
            at += done;
            if !keep {
                let done = at - done..at;
                let used =
                    self.values.iter().zip(&last).filter(|(id, last)| **id != NOWHERE && done.contains(last));
                for id in used.map(|(id, _)| *id).collect::<Vec<_>>() {
                    self.give(id);
                }
            }
        }
        self.plan.tail = self.values[self.ops.len()];
    }

    /// The launch of one op, and its result.
    fn op(&mut self, at: usize) -> (Step, Id) {
        match self.ops[at] {
            Op::Conv3x3 { layer, src, relu, add, scale } => {
                let shape = Shape { c: self.places[layer].cy, ..self.shape(src) };
                let y = self.take(shape);
                let (x, add) = (self.values[src], add.map(|add| self.values[add]));
                (Step::Conv3x3 { layer, x, y, add, relu, scale }, y)
            }
            Op::PixelShuffle { src, s } => {
                let (shape, c) = (self.shape(src), self.channels(src) / (s * s));
                let y = self.take(Shape { n: shape.n, h: shape.h * s, w: shape.w * s, c: padded(c) });
                (Step::PixelShuffle { x: self.values[src], y, c, s }, y)
            }
        }
    }

    /// Channels of a value, without padding.
    fn channels(&self, value: usize) -> usize {
        let Some(at) = value.checked_sub(1) else { return self.places[0].layer.cin };
        match self.ops[at] {
            Op::Conv3x3 { layer, .. } => self.places[layer].layer.cout,
            Op::PixelShuffle { src, s } => self.channels(src) / (s * s),
        }
    }

    /// Tensor of a value that is the output of a ReLU.
    fn mask(&self, value: usize) -> Option<Id> {
        let op = &self.ops[value.checked_sub(1)?];
        matches!(op, Op::Conv3x3 { relu: true, .. }).then(|| self.values[value])
    }

    fn backward(&mut self) {
        let tail = self.ops.len();
        // The gradient of each value, as far as it is summed up.
        let mut grads: Vec<Option<Id>> = vec![None; tail + 1];
        let grad = self.take(self.shape(tail));
        self.plan.steps.push(Step::Loss { tail: self.plan.tail, grad });
        grads[tail] = Some(grad);
        let mut at = tail;
        while at > 0 {
            let gy = grads[at].take().expect("every value is read");
            if let Some((src, scale)) = at.checked_sub(2).and_then(|first| self.block(first)) {
                let Op::Conv3x3 { layer, .. } = self.ops[at - 2] else {
                    unreachable!("a block begins with a layer")
                };
                let [second, first] = self.parts([(layer + 1, at - 1, scale), (layer, src, 1.0)]);
                let (x, hidden, gx) = (self.values[src], self.values[at - 1], self.take(self.shape(src)));
                let parts = [first, second];
                self.plan.steps.push(Step::ResblockGrad { layer, gy, x, hidden, gx, scale, parts });
                self.contribute(&mut grads, src, gx);
                self.give(gx);
                at -= 2;
            } else {
                match self.ops[at - 1] {
                    Op::Conv3x3 { layer, src, add, scale, .. } => {
                        if let Some(add) = add {
                            self.contribute(&mut grads, add, gy);
                        }
                        self.grad_weights(layer, src, gy, scale);
                        if src > 0 {
                            let gx = self.take(self.shape(src));
                            let (add, mask) = (grads[src].replace(gx), self.mask(src));
                            self.plan.steps.push(Step::Conv3x3Grad { layer, gy, gx, add, mask, scale });
                            if let Some(add) = add {
                                self.give(add);
                            }
                        }
                    }
                    Op::PixelShuffle { src, s } => {
                        let gx = self.take(self.shape(src));
                        let c = self.channels(at);
                        self.plan.steps.push(Step::PixelShuffleGrad { gy, gx, c, s });
                        self.contribute(&mut grads, src, gx);
                        self.give(gx);
                    }
                }
                at -= 1;
            }
            self.give(gy);
        }
        self.reduce();
    }

    /// Adds a tensor to the gradient of a value; the first one is the gradient itself, without a copy.
    fn contribute(&mut self, grads: &mut [Option<Id>], value: usize, grad: Id) {
        assert!(self.mask(value).is_none(), "what comes past a convolution is not masked");
        self.needed[grad] += 1;
        if let Some(before) = grads[value].replace(grad) {
            let sum = self.take(self.shape(value));
            self.plan.steps.push(Step::Add { a: before, b: grad, y: sum });
            self.give(before);
            self.give(grad);
            grads[value] = Some(sum);
        }
    }

    fn grad_weights(&mut self, layer: usize, src: usize, gy: Id, factor: f32) {
        let [parts] = self.parts([(layer, src, factor)]);
        self.plan.steps.push(Step::GradWeights { x: self.values[src], gy, parts });
    }

    /// Room for the parts of layers that one launch makes: each layer, its input, the factor of its sum.
    fn parts<const N: usize>(&mut self, layers: [(usize, usize, f32); N]) -> [Parts; N] {
        let place_all = |this: &Self, mut at: usize| {
            layers.map(|(layer, src, _)| {
                let cy = this.places[layer].cy;
                let parts = Parts::new(at, this.shape(src), cy, this.multiprocessors);
                at = parts.end(cy);
                (parts, at)
            })
        };
        let mut placed = place_all(self, self.pending_parts);
        if placed.last().is_some_and(|(_, end)| *end > PARTS_MAX) && !self.pending.is_empty() {
            self.reduce();
            placed = place_all(self, 0);
        }
        for ((parts, end), (layer, _, factor)) in placed.iter().zip(layers) {
            self.pending_parts = *end;
            self.pending.push(Sum { place: self.places[layer].clone(), parts: *parts, factor });
        }
        self.plan.parts = self.plan.parts.max(self.pending_parts);
        placed.map(|(parts, _)| parts)
    }

    fn reduce(&mut self) {
        self.plan.steps.push(Step::ReduceGrads(self.plan.sums.len()));
        self.plan.sums.push(std::mem::take(&mut self.pending));
        self.pending_parts = 0;
    }
}

#[cfg(test)]
mod tests;
