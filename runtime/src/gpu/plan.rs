//! The network for one picture size: its textures and its dispatches, in order.

use std::sync::Arc;

use hone_model::arch::RGB_MEAN;
use hone_model::{Arch, Base};

use super::kept::Reuse;
use super::pass::{Input, Kernel, Output};
use super::program::{last_reads, program};
use super::{Activation, Conv3x3, Gpu, Pass, Planes, Precision, Rgba, Size, WeightsBuffer, WeightsLayout};
use crate::{Error, Mode};

/// Frames that may be under way at once: while the device computes one, the next is uploaded.
pub(super) const FRAMES: usize = 2;

/// Everything that depends on the size of the picture.
pub(super) struct Plan {
    pub size: Size,
    pub slots: [Arc<Slot>; FRAMES],
    /// Between head and tail; its activations are shared by all frames, which the device computes in order.
    body: Vec<Pass>,
    /// Pictures as RGB, where no network reads them.
    rgb: Activation,
    /// The network's last frame, while such are kept.
    pub reuse: Option<Reuse>,
    /// Of each slot its picture by bicubic, beside what is made of it, once somebody has asked for that.
    beside: [Option<(Rgba, Pass)>; FRAMES],
}

/// What each frame under way has of its own.
pub(super) struct Slot {
    pub planes: Planes,
    pub rgba: Rgba,
    convert: Option<Pass>,
    head: Pass,
    tail: Pass,
    yuv_rgb: Pass,
    bicubic: Pass,
}

/// Activations that no later step reads, to be used again.
#[derive(Default)]
struct Pool(Vec<Activation>);

impl Pool {
    fn take(
        &mut self,
        gpu: &Gpu,
        precision: Precision,
        size: Size,
        layers: usize,
    ) -> Result<Activation, Error> {
        match self.0.iter().position(|a| a.size() == size && a.layers() == layers) {
            Some(i) => Ok(self.0.swap_remove(i)),
            None => Activation::new(gpu, precision, size, 4 * layers),
        }
    }
}

impl Plan {
    /// Allocates all that a frame of `size` needs.
    ///
    /// # Errors
    /// [`Error::Buffer`] or [`Error::Texture`] if the device cannot hold it, [`Error::Lost`] if it failed.
    pub fn new(
        gpu: &Gpu,
        kernel: Kernel,
        arch: Arch,
        layout: &WeightsLayout,
        weights: [&WeightsBuffer; 2],
        size: Size,
    ) -> Result<Self, Error> {
        let steps = program(arch);
        let (base, last) = (arch.base() == Base::Bicubic, steps.len() - 1);
        let last_reads = last_reads(&steps);
        // The tail adds the upscale of the RGB. The head keeps it beside its output, and the last convolution of the body,
        // which adds that, passes it on.
        let keeps = |i: usize| base && (i == 0 || i + 1 == last);
        let mut values: Vec<Option<Activation>> = vec![None];
        let mut pool = Pool::default();
        let mut body = Vec::with_capacity(last - 1);
        let mut first = None;
        let held = |values: &[Option<Activation>], i: usize| -> Activation {
            values[i].clone().expect("a value is kept until its last read")
        };
        let pass = |i: usize, input: Input, output: Output, add: Option<&Activation>| {
            let step = &steps[i];
            let conv = Conv3x3 { relu: step.relu, scale: step.scale };
            let layer = (step.layer, &layout.layers[step.layer]);
            Pass::conv3x3(gpu, kernel, conv, layer, weights, (input, output), add)
        };
        for (i, step) in steps[..last].iter().enumerate() {
            let src = if i == 0 { size } else { held(&values, step.src).size() };
            let layers = layout.layers[step.layer].sub_groups + usize::from(keeps(i));
            let y = pool.take(gpu, kernel.precision, src.times(step.shuffle), layers)?;
            if i > 0 {
                let (x, add) = (held(&values, step.src), step.add.map(|add| held(&values, add)));
                body.push(pass(i, Input::Activation(&x), Output::Activation(&y), add.as_ref()));
            }
            first.get_or_insert_with(|| y.clone());
            values.push(Some(y));
            for (value, _) in values.iter_mut().zip(&last_reads).filter(|(_, last)| **last == i) {
                pool.0.extend(value.take());
            }
        }

        let x = held(&values, steps[last].src);
        let first = first.expect("a network has a head before its tail");
        let rgb = Activation::new(gpu, Precision::F32, size, 4)?;
        // An adapter in software reads planes slowly: there, each pixel is converted once, not for each tap.
        let converted = match kernel {
            Kernel { tall: false, .. } => None,
            Kernel { precision: Precision::F32, .. } => Some(rgb.clone()),
            Kernel { precision, .. } => Some(Activation::new(gpu, precision, size, 4)?),
        };
        let slot = || {
            let planes = Planes::new(gpu, size)?;
            let rgba = Rgba::new(gpu, size.times(arch.scale()))?;
            let picture = Output::Picture { rgba: &rgba, base, mean: RGB_MEAN };
            let input = converted.as_ref().map_or(Input::Planes(&planes), Input::Activation);
            Ok(Arc::new(Slot {
                convert: converted.as_ref().map(|rgb| Pass::yuv_rgb(gpu, &planes, rgb)),
                head: pass(0, input, Output::Activation(&first), None),
                tail: pass(last, Input::Activation(&x), picture, None),
                yuv_rgb: Pass::yuv_rgb(gpu, &planes, &rgb),
                bicubic: Pass::bicubic(gpu, arch.scale(), RGB_MEAN, &rgb, &rgba),
                planes,
                rgba,
            }))
        };
        let slots = [slot()?, slot()?];
        gpu.check()?;
        Ok(Self { size, slots, body, rgb, reuse: None, beside: [const { None }; FRAMES] })
    }

    /// Starts or stops to keep the network's last frame, for [`Mode::Reuse`].
    ///
    /// # Errors
    /// [`Error::Buffer`] or [`Error::Texture`] if the device cannot hold it.
    pub fn keep(&mut self, gpu: &Gpu, scale: usize, on: bool) -> Result<(), Error> {
        if on != self.reuse.is_some() {
            self.reuse = on.then(|| Reuse::new(gpu, scale, &self.rgb, &self.slots)).transpose()?;
        }
        Ok(())
    }

    /// The dispatches that upscale the picture in slot `index` by bicubic, beside what is made of it, and where to.
    ///
    /// # Errors
    /// [`Error::Buffer`] or [`Error::Texture`] if the device cannot hold it.
    pub fn beside(&mut self, gpu: &Gpu, scale: usize, index: usize) -> Result<(&Rgba, [&Pass; 2]), Error> {
        let made = match self.beside[index].take() {
            Some(made) => made,
            None => {
                let rgba = Rgba::new(gpu, self.size.times(scale))?;
                let bicubic = Pass::bicubic(gpu, scale, RGB_MEAN, &self.rgb, &rgba);
                (rgba, bicubic)
            }
        };
        let (rgba, bicubic) = self.beside[index].insert(made);
        Ok((rgba, [&self.slots[index].yuv_rgb, bicubic]))
    }

    /// The dispatches of one frame in slot `index`, in order.
    pub fn passes(&self, index: usize, mode: Mode) -> impl Iterator<Item = &Pass> {
        let (slot, reuse) = (&self.slots[index], self.reuse.as_ref());
        let (convert, first, body, last) = match (mode, reuse) {
            (Mode::Network, _) => (slot.convert.as_ref(), &slot.head, &self.body[..], &slot.tail),
            (Mode::Reuse, Some(reuse)) => {
                (None, &slot.yuv_rgb, &reuse.stillness[index..=index], &reuse.reuse[index])
            }
            (Mode::Reuse | Mode::Bicubic, _) => (None, &slot.yuv_rgb, &[][..], &slot.bicubic),
        };
        let keep = reuse.filter(|_| mode == Mode::Network).map(|reuse| &reuse.keep[index]);
        convert.into_iter().chain([first]).chain(body).chain([last]).chain(keep)
    }
}
