//! Bicubic upscaling by a whole factor: the image-space base of the `live` family.

use super::Tensor;

/// Keys' parameter: -1/2 reproduces quadratics exactly.
///
/// Source: Keys 1981, "Cubic convolution interpolation for digital image processing", eq. 15.
const A: f64 = -0.5;

fn keys(t: f64) -> f64 {
    let t = t.abs();
    if t < 1.0 {
        ((A + 2.0) * t - (A + 3.0)) * t * t + 1.0
    } else if t < 2.0 {
        ((A * t - 5.0 * A) * t + 8.0 * A) * t - 4.0 * A
    } else {
        0.0
    }
}

/// For output phase `phase` of `s` (pixel centres aligned): offset of the first of four taps, and their weights.
///
/// Output `s·i + phase` is the sum of `taps[k] · input[i + first + k]`, with the edge repeated.
pub fn bicubic_taps(s: usize, phase: usize) -> (isize, [f64; 4]) {
    let centre = (phase as f64 + 0.5) / s as f64 - 0.5;
    let floor = centre.floor();
    (floor as isize - 1, std::array::from_fn(|k| keys(centre - (floor - 1.0 + k as f64))))
}

/// (N, C, H, W) -> (N, C, s·H, s·W); the identity at scale 1.
pub fn bicubic(x: &Tensor, s: usize) -> Tensor {
    let mut y = Tensor::zeros(x.n, x.c, x.h * s, x.w * s);
    let clamp = |i: isize, len: usize| i.clamp(0, len as isize - 1) as usize;
    for n in 0..x.n {
        for c in 0..x.c {
            for oy in 0..y.h {
                let (fy, ty) = bicubic_taps(s, oy % s);
                for ox in 0..y.w {
                    let (fx, tx) = bicubic_taps(s, ox % s);
                    let mut sum = 0.0;
                    for (i, wy) in ty.iter().enumerate() {
                        let iy = clamp((oy / s) as isize + fy + i as isize, x.h);
                        for (j, wx) in tx.iter().enumerate() {
                            let ix = clamp((ox / s) as isize + fx + j as isize, x.w);
                            sum += wy * wx * x.data[x.at(n, c, iy, ix)];
                        }
                    }
                    let at = y.at(n, c, oy, ox);
                    y.data[at] = sum;
                }
            }
        }
    }
    y
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::testing::random_tensor;
    use crate::rng::Rng;

    #[test]
    fn taps_sum_to_one_and_scale_one_is_identity() {
        for s in 1..=4 {
            for phase in 0..s {
                assert!((bicubic_taps(s, phase).1.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            }
        }
        let x = random_tensor(&mut Rng::new(3), 1, 3, 4, 5);
        assert_eq!(bicubic(&x, 1), x);
    }

    #[test]
    fn reproduces_a_quadratic_away_from_the_edge() {
        let f = |t: f64| 0.3 * t * t - 0.7 * t + 0.1;
        let x = Tensor { n: 1, c: 1, h: 8, w: 8, data: (0..64).map(|i| f(f64::from(i % 8))).collect() };
        for s in 2..=4 {
            let y = bicubic(&x, s);
            for ox in 2 * s..6 * s {
                let t = (ox as f64 + 0.5) / s as f64 - 0.5;
                assert!((y.data[y.at(0, 0, 4 * s, ox)] - f(t)).abs() < 1e-12);
            }
        }
    }
}
