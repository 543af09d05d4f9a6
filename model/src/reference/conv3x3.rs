//! 3x3 convolution, stride 1, zero padding 1. Weights are (Cout, Cin, 3, 3).

use super::Tensor;

/// Every (output y, x, tap, input y, x) that the padding does not cut away.
fn for_each_tap(h: usize, w: usize, mut f: impl FnMut(usize, usize, usize, usize, usize)) {
    for y in 0..h {
        for x in 0..w {
            for tap in 0..9 {
                let (iy, ix) = (y + tap / 3, x + tap % 3);
                if (1..=h).contains(&iy) && (1..=w).contains(&ix) {
                    f(y, x, tap, iy - 1, ix - 1);
                }
            }
        }
    }
}

/// (N, Cin, H, W) -> (N, Cout, H, W), where Cout is the number of biases.
pub fn conv3x3(x: &Tensor, weight: &[f64], bias: &[f64]) -> Tensor {
    assert_eq!(weight.len(), 9 * x.c * bias.len());
    let mut y = Tensor::zeros(x.n, bias.len(), x.h, x.w);
    for n in 0..x.n {
        for (co, &b) in bias.iter().enumerate() {
            let at = y.at(n, co, 0, 0);
            y.data[at..at + x.h * x.w].fill(b);
            for ci in 0..x.c {
                for_each_tap(x.h, x.w, |oy, ox, tap, iy, ix| {
                    let at = y.at(n, co, oy, ox);
                    y.data[at] += weight[(co * x.c + ci) * 9 + tap] * x.data[x.at(n, ci, iy, ix)];
                });
            }
        }
    }
    y
}

/// Gradient by the input: (N, Cout, H, W) -> (N, Cin, H, W).
pub fn conv3x3_grad_data(grad_y: &Tensor, weight: &[f64], cin: usize) -> Tensor {
    let mut grad_x = Tensor::zeros(grad_y.n, cin, grad_y.h, grad_y.w);
    for n in 0..grad_y.n {
        for co in 0..grad_y.c {
            for ci in 0..cin {
                for_each_tap(grad_y.h, grad_y.w, |oy, ox, tap, iy, ix| {
                    let at = grad_x.at(n, ci, iy, ix);
                    grad_x.data[at] +=
                        weight[(co * cin + ci) * 9 + tap] * grad_y.data[grad_y.at(n, co, oy, ox)];
                });
            }
        }
    }
    grad_x
}

/// Gradients by the weights, (Cout, Cin, 3, 3), and by the biases, (Cout).
pub fn conv3x3_grad_weights(x: &Tensor, grad_y: &Tensor) -> (Vec<f64>, Vec<f64>) {
    let mut grad_w = vec![0.0; 9 * x.c * grad_y.c];
    let mut grad_b = vec![0.0; grad_y.c];
    for n in 0..x.n {
        for co in 0..grad_y.c {
            let at = grad_y.at(n, co, 0, 0);
            grad_b[co] += grad_y.data[at..at + x.h * x.w].iter().sum::<f64>();
            for ci in 0..x.c {
                for_each_tap(x.h, x.w, |oy, ox, tap, iy, ix| {
                    grad_w[(co * x.c + ci) * 9 + tap] +=
                        grad_y.data[grad_y.at(n, co, oy, ox)] * x.data[x.at(n, ci, iy, ix)];
                });
            }
        }
    }
    (grad_w, grad_b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::testing::{check_gradient, random, random_tensor};
    use crate::rng::Rng;

    #[test]
    fn hand_computed_corner_and_centre() {
        let x = Tensor { n: 1, c: 1, h: 3, w: 3, data: (1..=9).map(f64::from).collect() };
        let weight: Vec<f64> = (1..=9).map(f64::from).collect();
        let y = conv3x3(&x, &weight, &[0.5]);
        // centre: sum of k² for 1..=9; corner: 5·1 + 6·2 + 8·4 + 9·5
        assert_eq!(y.data[4], 285.5);
        assert_eq!(y.data[0], 94.5);
    }

    #[test]
    fn gradients_match_finite_differences() {
        let mut rng = Rng::new(1);
        let x = random_tensor(&mut rng, 2, 2, 3, 4);
        let (weight, bias) = (random(&mut rng, 9 * 2 * 3), random(&mut rng, 3));
        let grad_y = random_tensor(&mut rng, 2, 3, 3, 4);
        let dot = |y: &Tensor| y.data.iter().zip(&grad_y.data).map(|(a, b)| a * b).sum::<f64>();
        let (grad_w, grad_b) = conv3x3_grad_weights(&x, &grad_y);
        check_gradient(&x.data, &conv3x3_grad_data(&grad_y, &weight, 2).data, |data| {
            dot(&conv3x3(&Tensor { data: data.to_vec(), ..x.clone() }, &weight, &bias))
        });
        check_gradient(&weight, &grad_w, |weight| dot(&conv3x3(&x, weight, &bias)));
        check_gradient(&bias, &grad_b, |bias| dot(&conv3x3(&x, &weight, bias)));
    }
}
