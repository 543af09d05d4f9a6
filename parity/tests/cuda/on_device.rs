//! The launchers on whatever answers to the driver's name: the stand-in, which runs the compiled kernels on the CPU, or a
//! card.

use half::f16;
use hone_kernels::memory::{Shape, Tensor, padded};
use hone_kernels::{Device, Stream};
use hone_model::reference;
use hone_model::rng::Rng;

/// Makes the stand-in the driver of this process, unless `HONE_CUDA_DRIVER=installed` asks for the machine's own.
pub fn preload() {
    if std::env::var_os("HONE_CUDA_DRIVER").is_none_or(|driver| driver != "installed") {
        hone_ptxsim_libcuda::preload().unwrap();
    }
}

/// A stream on the stand-in's device.
pub fn stream() -> Stream {
    preload();
    Stream::new(&Device::open(0).unwrap()).unwrap()
}

/// Seeded halves in -`size`..`size`.
pub fn random(rng: &mut Rng, len: usize, size: f64) -> Vec<f16> {
    (0..len).map(|_| f16::from_f64((rng.unit() * 2.0 - 1.0) * size)).collect()
}

/// Seeded activations of `c` channels, and the same for the oracle.
pub fn activations(stream: &Stream, rng: &mut Rng, [n, h, w, c]: [usize; 4]) -> (Tensor, reference::Tensor) {
    let values = random(rng, n * h * w * c, 1.0);
    let mut oracle = reference::Tensor::zeros(n, c, h, w);
    let shape = Shape { n, h, w, c: padded(c) };
    let mut padded = vec![f16::ZERO; shape.len()];
    for (i, v) in values.iter().enumerate() {
        let (pixel, channel) = (i / c, i % c);
        padded[pixel * shape.c + channel] = *v;
        let at = oracle.at(pixel / (h * w), channel, pixel / w % h, pixel % w);
        oracle.data[at] = v.to_f64();
    }
    (Tensor::from(stream, shape, &padded).unwrap(), oracle)
}

/// A tensor of NaN.
pub fn poisoned(stream: &Stream, shape: Shape) -> Tensor {
    Tensor::from(stream, shape, &vec![f16::NAN; shape.len()]).unwrap()
}

/// The channels of a tensor that the network knows, as the oracle has them; the others must be zero.
pub fn read(tensor: &Tensor, c: usize) -> Vec<f64> {
    let shape = tensor.shape();
    let values = tensor.read().unwrap();
    let mut oracle = reference::Tensor::zeros(shape.n, c, shape.h, shape.w);
    for (i, v) in values.iter().enumerate() {
        let (pixel, channel) = (i / shape.c, i % shape.c);
        if channel >= c {
            assert_eq!(v.to_bits(), 0, "channel {channel} of pixel {pixel} is padding");
            continue;
        }
        let (y, x) = (pixel / shape.w % shape.h, pixel % shape.w);
        let at = oracle.at(pixel / (shape.h * shape.w), channel, y, x);
        oracle.data[at] = v.to_f64();
    }
    oracle.data
}
