//! `cu/add.cu`: one rounding of an exact sum.

use crate::compare::check;
use crate::on_device::{activations, poisoned, read, stream};
use hone_kernels::add::add;
use hone_model::rng::Rng;

#[test]
fn sums_are_rounded_once() {
    let stream = stream();
    let mut rng = Rng::new(2);
    for sizes in [[1, 1, 1, 16], [2, 5, 7, 24], [3, 11, 13, 64]] {
        let (a, oracle_a) = activations(&stream, &mut rng, sizes);
        let (b, oracle_b) = activations(&stream, &mut rng, sizes);
        let mut y = poisoned(&stream, a.shape());
        add(&stream, &a, &b, &mut y).unwrap();
        let sums = oracle_a.data.iter().zip(&oracle_b.data).map(|(a, b)| a + b);
        let want: Vec<f64> = sums.map(|sum| half::f16::from_f64(sum).to_f64()).collect();
        check(&format!("{sizes:?}"), &read(&y, sizes[3]), &want, |_| f64::MIN_POSITIVE);
    }
}
