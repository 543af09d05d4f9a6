//! The optimiser, whole on the device: loss scale, step count, moments, average: `cu/adam.cu`.

use cudarc::driver::PushKernelArg;
use hone_model::backend::{Adam, Loss};

use crate::device::{Error, Stream};
use crate::launch::{grid, int};
use crate::memory::{Buffer, View};
use crate::weights::{Place, Weights};

const BLOCK: u32 = 256;

/// What a step is told: `Settings` in `cu/adam.cu`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// The optimiser.
    pub adam: Adam,
    /// The loss.
    pub loss: Loss,
    /// Finite steps after which the loss scale doubles.
    pub growth_steps: u32,
}

/// 64-bit words of [`Settings`] in memory.
pub const SETTINGS_WORDS: usize = 4;

impl Settings {
    /// As the kernels read them: eight 32-bit words.
    pub fn words(&self) -> [u64; SETTINGS_WORDS] {
        let Adam { learning_rate, beta1, beta2, eps, average_share } = self.adam;
        let loss_eps = match self.loss {
            Loss::L1 => 0.0,
            Loss::Charbonnier { eps } => eps,
        };
        let pair = |low: f32, high: u32| u64::from(low.to_bits()) | u64::from(high) << 32;
        [
            pair(learning_rate, beta1.to_bits()),
            pair(beta2, eps.to_bits()),
            pair(average_share, loss_eps.to_bits()),
            u64::from(self.growth_steps),
        ]
    }
}

/// What the device knows about the steps so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Status {
    /// Factor that the next step's gradient will carry.
    pub loss_scale: f32,
    /// Steps that counted.
    pub steps: u32,
    /// Steps without effect, for their gradient was not finite.
    pub skipped: u32,
    /// Of the newest step, counted or not.
    pub loss: f32,
}

/// 32-bit words of the device's state: `State` in `cu/adam.cu`.
pub(crate) const STATE_WORDS: usize = 12;

impl Status {
    pub(crate) fn of(words: &[u32]) -> Self {
        Self {
            loss_scale: f32::from_bits(words[0]),
            steps: words[3],
            skipped: words[4],
            loss: f32::from_bits(words[5]),
        }
    }
}

/// Moments, average, gradient and step count of one network in training.
pub struct Optimiser {
    m: Buffer<f32>,
    v: Buffer<f32>,
    /// Running average of the weights.
    pub average: Buffer<f32>,
    /// The gradient times the loss scale.
    pub grads: Buffer<f32>,
    pub(crate) state: Buffer<u32>,
}

impl Optimiser {
    /// As before the first step from `weights`.
    ///
    /// # Errors
    /// If the memory is full.
    pub fn new(stream: &Stream, weights: &Weights, loss_scale: f32) -> Result<Self, Error> {
        let zeros = || Buffer::zeros(stream, weights.params.len());
        let mut this = Self {
            m: zeros()?,
            v: zeros()?,
            average: zeros()?,
            grads: zeros()?,
            state: Buffer::zeros(stream, STATE_WORDS)?,
        };
        this.reset(weights, loss_scale)?;
        Ok(this)
    }

    /// Forgets moments and steps; the average becomes `weights`.
    ///
    /// # Errors
    /// If the device failed.
    pub fn reset(&mut self, weights: &Weights, loss_scale: f32) -> Result<(), Error> {
        self.m.clear()?;
        self.v.clear()?;
        self.average.copy(&weights.params)?;
        let mut state = [0; STATE_WORDS];
        state[0] = loss_scale.to_bits();
        self.state.write(0, &state)
    }

    /// The device's state, for [`crate::loss::Target`].
    pub fn state(&self) -> &Buffer<u32> {
        &self.state
    }

    /// Reads the state back, after waiting for all work before.
    ///
    /// # Errors
    /// If any of it failed.
    pub fn status(&self) -> Result<Status, Error> {
        Ok(Status::of(&self.state.read()?))
    }
}

/// [`Place`]s as the kernels read them: `Layer` in `cu/adam.cu`.
pub(crate) fn table(places: &[Place]) -> Vec<u32> {
    let words = |place: &Place| {
        let layer = &place.layer;
        let sizes = [layer.offset, place.w, place.bias, layer.cin, layer.cout, place.cx, place.cy, 0];
        sizes.map(|size| int(size) as u32)
    };
    places.iter().flat_map(words).collect()
}

/// Queues what comes before [`step`]: from the loss's sums the loss of `values` values, whether the step counts, and the loss
/// scale of the next one.
///
/// # Errors
/// If the driver refuses.
///
/// # Panics
/// If sizes do not fit together.
pub fn begin(
    stream: &Stream,
    parts: View<'_, f32>,
    values: usize,
    settings: View<'_, u64>,
    optimiser: &mut Optimiser,
) -> Result<(), Error> {
    assert_eq!(settings.len(), SETTINGS_WORDS, "settings");
    let function = stream.device().function("adam", "adam_begin", 0)?;
    let (count, inverse_values) = (int(parts.len()), (1.0 / values as f64) as f32);
    let (parts, settings, state) = (parts.address(), settings.address(), optimiser.state.address());
    let mut launch = stream.cuda.launch_builder(&function);
    launch.arg(&parts).arg(&count).arg(&inverse_values).arg(&settings).arg(&state);
    // SAFETY: arguments as in the kernel: parts, count, inverse_values, settings, state. `count` is the length of the parts;
    // settings and state have the words of their structs; the optimiser is borrowed mutably.
    unsafe { launch.launch(grid(1, 1, 1, (BLOCK, 1), 0)) }?;
    Ok(())
}

/// Queues one step of Adam on `weights` with the gradient in `optimiser`.
///
/// # Errors
/// If the driver refuses.
///
/// # Panics
/// If sizes do not fit together.
pub fn step(
    stream: &Stream,
    settings: View<'_, u64>,
    optimiser: &mut Optimiser,
    weights: &mut Weights,
) -> Result<(), Error> {
    assert_eq!(settings.len(), SETTINGS_WORDS, "settings");
    assert_eq!(optimiser.grads.len(), weights.params.len(), "parameters");
    let function = stream.device().function("adam", "adam", 0)?;
    let (table, settings, state) = (weights.table.address(), settings.address(), optimiser.state.address());
    let (grads, params) = (optimiser.grads.address(), weights.params.address());
    let [m, v, average] = [&optimiser.m, &optimiser.v, &optimiser.average].map(Buffer::address);
    let (w, wt, biases) = (weights.w.address(), weights.wt.address(), weights.biases.address());
    let mut launch = stream.cuda.launch_builder(&function);
    launch.arg(&table).arg(&settings).arg(&state).arg(&grads).arg(&params);
    launch.arg(&m).arg(&v).arg(&average).arg(&w).arg(&wt).arg(&biases);
    // SAFETY: arguments as in the kernel: layers, settings, state, grads, params, m, v, average, w, wt, biases. The table was
    // made with the buffers of `weights`, moments and gradient are as long as the parameters; both are borrowed mutably.
    unsafe { launch.launch(one_thread_a_parameter(weights)) }?;
    Ok(())
}

/// Queues the f16 copies of `weights`.
///
/// # Errors
/// If the driver refuses.
pub(crate) fn copy(stream: &Stream, weights: &mut Weights) -> Result<(), Error> {
    let function = stream.device().function("adam", "adam_copy", 0)?;
    let (table, params) = (weights.table.address(), weights.params.address());
    let (w, wt, biases) = (weights.w.address(), weights.wt.address(), weights.biases.address());
    let mut launch = stream.cuda.launch_builder(&function);
    launch.arg(&table).arg(&params).arg(&w).arg(&wt).arg(&biases);
    // SAFETY: arguments as in the kernel: layers, params, w, wt, biases. The table was made with these buffers, which are
    // borrowed mutably.
    unsafe { launch.launch(one_thread_a_parameter(weights)) }?;
    Ok(())
}

fn one_thread_a_parameter(weights: &Weights) -> cudarc::driver::LaunchConfig {
    let most = weights.places.iter().map(|place| place.layer.params()).max().unwrap_or(1);
    grid(most.div_ceil(BLOCK as usize), weights.places.len(), 1, (BLOCK, 1), 0)
}
