//! A network's parameters on the device: f32 as [`hone_model::Weights`] has them, f16 as the convolutions read them.

use hone_model::{Arch, Layer};

use crate::adam;
use crate::device::{Error, Stream};
use crate::memory::{Buffer, View, padded};

/// Where a layer is in the f16 copies.
#[derive(Clone, Debug)]
pub struct Place {
    /// The layer.
    pub layer: Layer,
    /// Its input channels, padded.
    pub cx: usize,
    /// Its output channels, padded.
    pub cy: usize,
    /// First of its 9·cx·cy weights, in `w` and `wt` alike.
    pub w: usize,
    /// First of its cy biases.
    pub bias: usize,
}

impl Place {
    /// Those of all layers.
    pub fn all(arch: Arch) -> Vec<Self> {
        let (mut w, mut bias) = (0, 0);
        let place = |layer: Layer| {
            let (cx, cy) = (padded(layer.cin), padded(layer.cout));
            let place = Self { layer, cx, cy, w, bias };
            w += 9 * cx * cy;
            bias += cy;
            place
        };
        arch.layers().into_iter().map(place).collect()
    }
}

/// The parameters of one network.
pub struct Weights {
    arch: Arch,
    /// Its layers.
    pub places: Vec<Place>,
    /// In the order of [`hone_model::Weights::params`].
    pub params: Buffer<f32>,
    /// Of each layer (9, cy, cx).
    pub w: Buffer<u16>,
    /// Of each layer (9, cx, cy), taps turned round.
    pub wt: Buffer<u16>,
    /// Of each layer (cy).
    pub biases: Buffer<f32>,
    /// [`Place`]s as kernels read them.
    pub(crate) table: Buffer<u32>,
}

impl Weights {
    /// A copy of `weights`.
    ///
    /// # Errors
    /// If the memory is full.
    pub fn new(stream: &Stream, weights: &hone_model::Weights) -> Result<Self, Error> {
        let arch = weights.arch();
        let places = Place::all(arch);
        let halves = places.iter().map(|place| 9 * place.cx * place.cy).sum();
        let mut this = Self {
            arch,
            params: Buffer::from(stream, weights.params())?,
            w: Buffer::zeros(stream, halves)?,
            wt: Buffer::zeros(stream, halves)?,
            biases: Buffer::zeros(stream, places.iter().map(|place| place.cy).sum())?,
            table: Buffer::from(stream, &adam::table(&places))?,
            places,
        };
        adam::copy(stream, &mut this)?;
        Ok(this)
    }

    /// Copies others of the same network.
    ///
    /// # Errors
    /// If the device failed.
    ///
    /// # Panics
    /// If they are of another network.
    pub fn set(&mut self, stream: &Stream, weights: &hone_model::Weights) -> Result<(), Error> {
        assert_eq!(weights.arch(), self.arch, "weights of another network");
        self.params.write(0, weights.params())?;
        adam::copy(stream, self)
    }

    /// Reads them back.
    ///
    /// # Errors
    /// If work before failed.
    pub fn read(&self) -> Result<hone_model::Weights, Error> {
        Ok(hone_model::Weights::from_params(self.arch, self.params.read()?))
    }

    /// The network.
    pub fn arch(&self) -> Arch {
        self.arch
    }

    /// (9, cy, cx) of a layer.
    pub fn w(&self, layer: usize) -> View<'_, u16> {
        let place = &self.places[layer];
        self.w.view(place.w, 9 * place.cx * place.cy)
    }

    /// (9, cx, cy) of a layer, taps turned round: with these the data gradient is a convolution.
    pub fn wt(&self, layer: usize) -> View<'_, u16> {
        let place = &self.places[layer];
        self.wt.view(place.w, 9 * place.cx * place.cy)
    }

    /// (cy) biases of a layer.
    pub fn bias(&self, layer: usize) -> View<'_, f32> {
        let place = &self.places[layer];
        self.biases.view(place.bias, place.cy)
    }
}
