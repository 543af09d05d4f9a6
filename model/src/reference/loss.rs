//! L1 and Charbonnier, mean over all values.

use super::Tensor;
use crate::backend::Loss;

/// The loss and its gradient by `y`.
pub fn loss(kind: Loss, y: &Tensor, target: &Tensor) -> (f64, Tensor) {
    assert_eq!((y.n, y.c, y.h, y.w), (target.n, target.c, target.h, target.w));
    let count = y.data.len() as f64;
    let mut grad = y.clone();
    let mut sum = 0.0;
    for (g, t) in grad.data.iter_mut().zip(&target.data) {
        let d = *g - t;
        let (value, slope) = match kind {
            Loss::L1 if d == 0.0 => (0.0, 0.0),
            Loss::L1 => (d.abs(), d.signum()),
            Loss::Charbonnier { eps } => {
                let root = (d * d + f64::from(eps) * f64::from(eps)).sqrt();
                (root, d / root)
            }
        };
        sum += value;
        *g = slope / count;
    }
    (sum / count, grad)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::testing::{check_gradient, random_tensor};
    use crate::rng::Rng;

    #[test]
    fn gradients_match_finite_differences() {
        let mut rng = Rng::new(4);
        let (y, target) = (random_tensor(&mut rng, 1, 3, 4, 3), random_tensor(&mut rng, 1, 3, 4, 3));
        for kind in [Loss::L1, Loss::Charbonnier { eps: 0.1 }] {
            let (_, grad) = loss(kind, &y, &target);
            check_gradient(&y.data, &grad.data, |data| {
                loss(kind, &Tensor { data: data.to_vec(), ..y.clone() }, &target).0
            });
        }
    }

    #[test]
    fn hand_values() {
        let y = Tensor { n: 1, c: 1, h: 1, w: 2, data: vec![3.0, 0.0] };
        let target = Tensor::zeros(1, 1, 1, 2);
        assert_eq!(loss(Loss::L1, &y, &target).0, 1.5);
        assert_eq!(loss(Loss::Charbonnier { eps: 4.0 }, &y, &target).0, 4.5);
    }
}
