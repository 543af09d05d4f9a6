//! What a launch must cost at least: floating-point operations and bytes, counted.
//!
//! The same formulas as in the header of each kernel file. Every operand is counted once, as if caches held what is read
//! twice; halos are not counted.

use crate::memory::Shape;
use crate::plan::{Part, Plan, Step};
use crate::weights::Place;

/// Of an H100 SXM, as measured: dense f16 tensor cores, flop/s.
pub const H100_FLOPS: f64 = 790e12;
/// Of an H100 SXM, as measured: memory, bytes a second.
pub const H100_BYTES: f64 = 3.0e12;

/// Work of one launch or of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Multiply-adds times two.
    pub flop: u64,
    /// Read and written.
    pub bytes: u64,
}

impl Cost {
    /// Microseconds on an H100 that does nothing else: the larger of both floors.
    pub fn floor_us(self) -> f64 {
        (self.flop as f64 / H100_FLOPS).max(self.bytes as f64 / H100_BYTES) * 1e6
    }
}

impl std::ops::Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { flop: self.flop + other.flop, bytes: self.bytes + other.bytes }
    }
}

impl Plan {
    /// Cost of one launch.
    pub fn cost(&self, step: &Step) -> Cost {
        let conv = |x: Shape, y: Shape, more: usize| Cost {
            flop: (18 * x.pixels() * x.c * y.c) as u64,
            bytes: (2 * (x.len() + (1 + more) * y.len())) as u64,
        };
        let at = |id: usize| self.tensors[id];
        let bytes = |bytes: usize| Cost { flop: 0, bytes: bytes as u64 };
        match *step {
            Step::Conv3x3 { x, y, add, .. } => conv(at(x), at(y), usize::from(add.is_some())),
            Step::Conv3x3Grad { gy, gx, add, mask, .. } => {
                conv(at(gy), at(gx), usize::from(add.is_some()) + usize::from(mask.is_some()))
            }
            Step::GradWeights { x, gy, parts } => {
                let (x, gy) = (at(x), at(gy));
                let cost = conv(x, gy, 0);
                Cost { bytes: cost.bytes + (4 * parts.count * gy.c * (9 * x.c + 1)) as u64, ..cost }
            }
            Step::Resblock { x, hidden, .. } => {
                let x = at(x);
                let maps = 2 + usize::from(hidden.is_some());
                Cost { flop: (36 * x.len() * x.c) as u64, bytes: (2 * maps * x.len()) as u64 }
            }
            Step::ResblockGrad { gy, parts, .. } => {
                let gy = at(gy);
                let sums = 2 * 4 * parts[0].count * gy.c * (9 * gy.c + 1);
                Cost { flop: (72 * gy.len() * gy.c) as u64, bytes: (8 * gy.len() + sums) as u64 }
            }
            Step::PixelShuffle { x: a, y: b, .. } | Step::PixelShuffleGrad { gy: a, gx: b, .. } => {
                bytes(2 * (at(a).len() + at(b).len()))
            }
            Step::Add { a, .. } => bytes(6 * at(a).len()),
            Step::Loss { tail, .. } => {
                let (tail, s) = (at(tail), self.output.s());
                bytes(tail.pixels() * (4 * tail.c + 12 + 3 * s * s))
            }
            Step::ReduceGrads(index) => {
                let of = |sum: &crate::reduce_grads::Sum| {
                    let entries = sum.place.cy * (9 * sum.place.cx + 1);
                    4 * entries * sum.parts.count + 4 * sum.place.layer.params()
                };
                bytes(self.sums[index].iter().map(of).sum())
            }
        }
    }

    /// Cost of one part of a training step.
    pub fn cost_of_part(&self, part: &Part) -> Cost {
        let (input, s) = (self.input(), self.arch.scale());
        let bytes = match part {
            Part::Launch(step) => return self.cost(step),
            Part::Gather => input.pixels() * (56 + 6 * s * s),
            Part::Adam => {
                let places = Place::all(self.arch);
                let copies: usize = places.iter().map(|place| 2 * 2 * 9 * place.cx * place.cy).sum();
                36 * self.arch.params() + copies
            }
        };
        Cost { flop: 0, bytes: bytes as u64 }
    }

    /// Cost of a whole training step.
    pub fn total_cost(&self) -> Cost {
        self.parts().iter().map(|part| self.cost_of_part(part)).fold(Cost::default(), std::ops::Add::add)
    }

    /// The floors of all launches, one after the other, microseconds on an H100.
    pub fn floor_us(&self) -> f64 {
        self.parts().iter().map(|part| self.cost_of_part(part).floor_us()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_costs_what_the_architecture_says() {
        for name in ["live-4x16-x2", "live-3x32-x1", "edsr-2x64-x4"] {
            let arch: hone_model::Arch = name.parse().unwrap();
            let plan = Plan::training(arch, 4, 16, 132);
            // Forward, data and weight gradient, less the head's data gradient, all with channels padded to sixteens.
            let padded: u64 = {
                let (mut pixels, mut sum) = (vec![4 * 256u64], 0);
                for op in arch.ops() {
                    pixels.push(match op {
                        hone_model::Op::Conv3x3 { layer, src, .. } => {
                            let place = &Place::all(arch)[layer];
                            let times = if src == 0 { 2 } else { 3 };
                            sum += times * 18 * pixels[src] * (place.cx * place.cy) as u64;
                            pixels[src]
                        }
                        hone_model::Op::PixelShuffle { src, s } => pixels[src] * (s * s) as u64,
                    });
                }
                sum
            };
            assert_eq!(plan.total_cost().flop, padded, "{name}");
            // Up to roundoff: one after the other is never faster than all at once.
            assert!(plan.floor_us() >= plan.total_cost().floor_us() * (1.0 - 1e-12));
        }
    }
}
