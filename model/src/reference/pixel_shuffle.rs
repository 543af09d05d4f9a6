//! Moves channels into space and back.

use super::Tensor;

/// For each value: its index in (N, C·s², H, W) and in (N, C, s·H, s·W).
///
/// Source: Shi et al. 2016 (ESPCN), arXiv:1609.05158, eq. 4: channel c·s² + dy·s + dx goes to (s·y + dy, s·x + dx).
fn permute(small: &Tensor, big: &Tensor, s: usize, mut f: impl FnMut(usize, usize)) {
    for n in 0..big.n {
        for c in 0..big.c {
            for y in 0..big.h {
                for x in 0..big.w {
                    let channel = (c * s + y % s) * s + x % s;
                    f(small.at(n, channel, y / s, x / s), big.at(n, c, y, x));
                }
            }
        }
    }
}

/// (N, C·s², H, W) -> (N, C, s·H, s·W).
pub fn pixel_shuffle(x: &Tensor, s: usize) -> Tensor {
    assert!(x.c.is_multiple_of(s * s), "{} channels into {s}x{s}", x.c);
    let mut y = Tensor::zeros(x.n, x.c / (s * s), x.h * s, x.w * s);
    let shape = Tensor { data: Vec::new(), ..y };
    permute(x, &shape, s, |from, to| y.data[to] = x.data[from]);
    y
}

/// Gradient by the input: (N, C, s·H, s·W) -> (N, C·s², H, W).
pub fn pixel_shuffle_grad(grad_y: &Tensor, s: usize) -> Tensor {
    let mut grad_x = Tensor::zeros(grad_y.n, grad_y.c * s * s, grad_y.h / s, grad_y.w / s);
    let shape = Tensor { data: Vec::new(), ..grad_x };
    permute(&shape, grad_y, s, |to, from| grad_x.data[to] = grad_y.data[from]);
    grad_x
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::testing::random_tensor;
    use crate::rng::Rng;

    #[test]
    fn hand_placed_values() {
        let x = Tensor { n: 1, c: 4, h: 1, w: 2, data: vec![0.0, 1.0, 10.0, 11.0, 20.0, 21.0, 30.0, 31.0] };
        assert_eq!(pixel_shuffle(&x, 2).data, [0.0, 10.0, 1.0, 11.0, 20.0, 30.0, 21.0, 31.0]);
    }

    #[test]
    fn gradient_is_the_inverse_permutation() {
        let x = random_tensor(&mut Rng::new(2), 2, 18, 2, 3);
        assert_eq!(pixel_shuffle_grad(&pixel_shuffle(&x, 3), 3), x);
    }
}
