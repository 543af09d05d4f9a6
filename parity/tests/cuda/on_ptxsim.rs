//! The compiled kernels on the interpreter, against the oracle: no GPU, no driver.

use std::sync::Arc;

use crate::compare;
use half::f16;
use hone_model::reference::Tensor;
use hone_model::rng::Rng;
use hone_ptxsim::{Arg, Launch, Loaded, Memory, Module, Options, Schedule, Stats};

/// A kernel file on a simulated device.
pub struct Device {
    memory: Memory,
    module: Loaded,
}

/// What an argument says to the kernel.
pub enum Value {
    /// A buffer, or null.
    Buffer(Option<u64>),
    /// An `int`.
    Int(usize),
    /// A `float`.
    Float(f32),
}

impl Device {
    /// Loads the file of a kernel.
    pub fn new(stem: &str) -> Self {
        let module =
            Module::parse(hone_kernels::ptx::of(stem)).unwrap_or_else(|error| panic!("{stem}: {error}"));
        let mut memory = Memory::default();
        let module = Arc::new(module).load(&mut memory).unwrap();
        Self { memory, module }
    }

    /// A buffer of these halves.
    pub fn halves(&mut self, values: &[f16]) -> u64 {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.buffer(&bytes)
    }

    /// A buffer of these floats.
    pub fn floats(&mut self, values: &[f32]) -> u64 {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.buffer(&bytes)
    }

    fn buffer(&mut self, bytes: &[u8]) -> u64 {
        let buffer = self.memory.allocate(bytes.len() as u64).unwrap();
        self.memory.write(buffer, bytes).unwrap();
        buffer
    }

    /// `len` halves, as read back.
    pub fn read_halves(&self, buffer: u64, len: usize) -> Vec<f64> {
        let bytes = self.memory.read_vec(buffer, len as u64 * 2).unwrap();
        bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f64()).collect()
    }

    /// `len` floats, as read back.
    pub fn read_floats(&self, buffer: u64, len: usize) -> Vec<f64> {
        let bytes = self.memory.read_vec(buffer, len as u64 * 4).unwrap();
        bytes.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]]))).collect()
    }

    /// Runs a kernel under three orders of its warps, with `outputs` (buffer, bytes) poisoned before each, and demands that
    /// every order gives the same bytes and that no access to shared memory meets a bank twice.
    pub fn run(&self, entry: &str, launch: &Launch, values: &[Value], outputs: &[(u64, usize)]) -> Stats {
        let args: Vec<Arg> = values
            .iter()
            .map(|value| match value {
                Value::Buffer(buffer) => buffer.unwrap_or(0).into(),
                Value::Int(int) => i32::try_from(*int).unwrap().into(),
                Value::Float(float) => (*float).into(),
            })
            .collect();
        let orders =
            [(Schedule::RoundRobin, None), (Schedule::Reverse, None), (Schedule::Random(7), Some(5))];
        let mut first: Option<(Vec<Vec<u8>>, Stats)> = None;
        for (schedule, turn) in orders {
            for (buffer, bytes) in outputs {
                self.memory.fill(*buffer, &[0xff], *bytes as u64).unwrap();
            }
            let options = Options { schedule, turn, ..Options::default() };
            let stats = self.module.launch(entry, &self.memory, launch, &args, &options);
            let stats = stats.unwrap_or_else(|error| panic!("{entry}, {launch:?}, {schedule:?}: {error}"));
            compare::launched(entry, &stats);
            let read = |(buffer, bytes): &(u64, usize)| self.memory.read_vec(*buffer, *bytes as u64).unwrap();
            let results: Vec<Vec<u8>> = outputs.iter().map(read).collect();
            match &first {
                None => first = Some((results, stats)),
                Some((other, _)) => assert!(*other == results, "{entry}, {launch:?}: {schedule:?} differs"),
            }
        }
        let (_, stats) = first.unwrap();
        assert_eq!(stats.bank_cycles, stats.bank_cycles_ideal, "{entry}: {:#?}", stats.banks);
        assert!(stats.mma > 0, "{entry} uses no tensor core");
        stats
    }
}

/// Seeded halves in -`size`..`size`.
pub fn random(rng: &mut Rng, len: usize, size: f64) -> Vec<f16> {
    (0..len).map(|_| f16::from_f64((rng.unit() * 2.0 - 1.0) * size)).collect()
}

/// (N, H, W, C) f16 -> (N, C, H, W) f64.
pub fn tensor(values: &[f16], [n, h, w, c]: [usize; 4]) -> Tensor {
    let mut t = Tensor::zeros(n, c, h, w);
    for (i, v) in values.iter().enumerate() {
        let (pixel, channel) = (i / c, i % c);
        let at = t.at(pixel / (h * w), channel, pixel / w % h, pixel % w);
        t.data[at] = v.to_f64();
    }
    t
}

/// (N, C, H, W) -> (N, H, W, C).
pub fn channels_last(t: &Tensor) -> Vec<f64> {
    let pixels = (0..t.n).flat_map(|n| (0..t.h).flat_map(move |y| (0..t.w).map(move |x| (n, y, x))));
    pixels.flat_map(|(n, y, x)| (0..t.c).map(move |c| t.data[t.at(n, c, y, x)])).collect()
}

/// (9, Cout, Cin) -> (Cout, Cin, 3, 3).
pub fn weights(w: &[f16], cout: usize, cin: usize) -> Vec<f64> {
    let at = |i: usize| (i % 9 * cout + i / 9 / cin) * cin + i / 9 % cin;
    (0..9 * cout * cin).map(|i| w[at(i)].to_f64()).collect()
}

/// (9, Cout, Cin) -> (9, Cin, Cout) with the taps turned round: the data gradient's weights.
pub fn turned(w: &[f16], cout: usize, cin: usize) -> Vec<f16> {
    (0..9 * cin * cout)
        .map(|i| w[((8 - i / (cin * cout)) * cout + i % cout) * cin + i / cout % cin])
        .collect()
}

/// The same tensor with all signs positive: for the sum of absolute products.
pub fn absolute(t: &Tensor) -> Tensor {
    Tensor { data: t.data.iter().map(|v| v.abs()).collect(), ..t.clone() }
}
