//! `cu/pixel_shuffle.cu` against the oracle: it moves numbers, so every bit counts.

use crate::compare::check;
use crate::on_device::{activations, poisoned, read, stream};
use hone_kernels::memory::{Shape, padded};
use hone_kernels::pixel_shuffle::{pixel_shuffle, pixel_shuffle_grad};
use hone_model::reference;
use hone_model::rng::Rng;

#[test]
fn there_and_back_on_ragged_sizes() {
    let stream = stream();
    let mut rng = Rng::new(1);
    for (n, h, w, c, s) in [
        (1, 1, 1, 3, 1),
        (2, 3, 5, 8, 2),
        (1, 7, 2, 24, 3),
        (3, 1, 9, 16, 2),
        (2, 5, 3, 40, 3),
        (1, 4, 6, 64, 2),
        (1, 2, 3, 3, 4),
    ] {
        let name = format!("{n}x{h}x{w}x{c}, {s}");
        let (x, oracle) = activations(&stream, &mut rng, [n, h, w, c * s * s]);
        let mut y = poisoned(&stream, Shape { n, h: h * s, w: w * s, c: padded(c) });
        pixel_shuffle(&stream, &x, c, s, &mut y).unwrap();
        check(&name, &read(&y, c), &reference::pixel_shuffle(&oracle, s).data, |_| f64::MIN_POSITIVE);

        let (gy, oracle) = activations(&stream, &mut rng, [n, h * s, w * s, c]);
        let mut gx = poisoned(&stream, x.shape());
        pixel_shuffle_grad(&stream, &gy, c, s, &mut gx).unwrap();
        let want = reference::pixel_shuffle_grad(&oracle, s).data;
        check(&name, &read(&gx, c * s * s), &want, |_| f64::MIN_POSITIVE);
    }
}
