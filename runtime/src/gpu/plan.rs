//! The network for one picture size: its buffers and its dispatches, in order.

use std::sync::Arc;

use hone_model::arch::RGB_MEAN;
use hone_model::{Arch, Base, Op};

use super::{Activation, Conv3x3, Gpu, Pass, Planes, Rgba, Size, WeightsBuffer, WeightsLayout};
use crate::{Error, Mode};

/// Frames that may be under way at once: while the device computes one, the next is uploaded.
pub(super) const FRAMES: usize = 2;

/// Everything that depends on the size of the picture.
pub(super) struct Plan {
    pub size: Size,
    pub slots: [Arc<Slot>; FRAMES],
    /// Between head and tail; its activations are shared by all frames, which the device computes in order.
    body: Vec<Pass>,
}

/// What each frame under way has of its own.
pub(super) struct Slot {
    pub planes: Planes,
    pub rgba: Rgba,
    yuv_rgb: Pass,
    tail: Pass,
    bicubic: Pass,
}

/// Activations that no later operation reads, to be used again.
#[derive(Default)]
struct Pool(Vec<Activation>);

impl Pool {
    fn take(&mut self, gpu: &Gpu, size: Size, channels: usize) -> Result<Activation, Error> {
        let fits = |a: &Activation| a.size() == size && a.groups() == channels.div_ceil(4);
        match self.0.iter().position(fits) {
            Some(i) => Ok(self.0.swap_remove(i)),
            None => Activation::new(gpu, size, channels),
        }
    }
}

/// For each value, the index of the last operation that reads it.
fn last_reads(ops: &[Op]) -> Vec<usize> {
    let mut last = vec![0; ops.len() + 1];
    for (i, op) in ops.iter().enumerate() {
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
    last
}

impl Plan {
    /// Allocates all that a frame of `size` needs.
    ///
    /// # Errors
    /// [`Error::Buffer`] if the device cannot hold it, [`Error::Lost`] if it failed.
    pub fn new(
        gpu: &Gpu,
        arch: Arch,
        layout: &WeightsLayout,
        weights: [&WeightsBuffer; 2],
        size: Size,
    ) -> Result<Self, Error> {
        let s = arch.scale();
        let input = Activation::new(gpu, size, 4)?;

        let mut ops = arch.ops();
        // The last shuffle of a network with a bicubic base is done where the base is added.
        if arch.base() == Base::Bicubic && matches!(ops.last(), Some(Op::PixelShuffle { .. })) {
            ops.pop();
        }
        let last_reads = last_reads(&ops);
        let mut body = Vec::with_capacity(ops.len());
        let mut channels = vec![4];
        let mut values = vec![Some(input.clone())];
        let mut pool = Pool::default();
        let held = |values: &[Option<Activation>], i: usize| -> Activation {
            values[i].clone().expect("a value is kept until its last read")
        };
        for (i, op) in ops.iter().enumerate() {
            let (pass, y, c) = match *op {
                Op::Conv3x3 { layer, src, relu, add, scale } => {
                    let x = held(&values, src);
                    let layer = &layout.layers[layer];
                    let y = pool.take(gpu, x.size(), layer.cout())?;
                    let add = add.map(|add| held(&values, add));
                    let conv = Conv3x3 { relu, scale };
                    (Pass::conv3x3(gpu, conv, layer, weights, [&x, &y], add.as_ref()), y, layer.cout())
                }
                Op::PixelShuffle { src, s } => {
                    let x = held(&values, src);
                    let c = channels[src] / (s * s);
                    let y = pool.take(gpu, Size { h: x.size().h * s, w: x.size().w * s }, c)?;
                    (Pass::pixel_shuffle(gpu, c, s, [&x, &y]), y, c)
                }
            };
            body.push(pass);
            channels.push(c);
            values.push(Some(y));
            // The input is kept for the base.
            for (value, _) in values.iter_mut().zip(&last_reads).skip(1).filter(|(_, last)| **last == i) {
                pool.0.extend(value.take());
            }
        }
        let output = held(&values, ops.len());
        let slot = || {
            let planes = Planes::new(gpu, size)?;
            let rgba = Rgba::new(gpu, Size { h: size.h * s, w: size.w * s })?;
            let yuv_rgb = Pass::yuv_rgb(gpu, &planes, &input);
            let tail = match arch.base() {
                Base::Bicubic => Pass::bicubic(gpu, s, RGB_MEAN, &input, Some(&output), &rgba),
                // The output has its size already: at scale 1 the upscale is the output plus the mean.
                Base::Mean => Pass::bicubic(gpu, 1, RGB_MEAN, &output, None, &rgba),
            };
            let bicubic = Pass::bicubic(gpu, s, RGB_MEAN, &input, None, &rgba);
            Ok(Arc::new(Slot { planes, rgba, yuv_rgb, tail, bicubic }))
        };
        let slots = [slot()?, slot()?];
        gpu.check()?;
        Ok(Self { size, slots, body })
    }

    /// Records one frame of slot `slot` with the weights of buffer `current`.
    pub fn encode(&self, encoder: &mut wgpu::CommandEncoder, slot: &Slot, mode: Mode, current: usize) {
        let mut compute = encoder.begin_compute_pass(&Default::default());
        slot.yuv_rgb.encode(&mut compute, current);
        match mode {
            Mode::Network => {
                self.body.iter().chain([&slot.tail]).for_each(|pass| pass.encode(&mut compute, current));
            }
            Mode::Bicubic => slot.bicubic.encode(&mut compute, current),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_lives_to_its_last_read() {
        let arch: Arch = "live-1x8-x2".parse().unwrap();
        // head, conv, conv + head, conv + head, tail, shuffle: the head is read by the fourth operation last
        assert_eq!(last_reads(&arch.ops()), [0, 3, 2, 3, 4, 5, 0]);
    }
}
