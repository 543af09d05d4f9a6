//! What this processor does at most: the yardstick of a benchmark. The caller holds the clock.

use std::hint::black_box;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Sums that do not wait for each other: two units that each take four cycles need eight, AVX2 has sixteen registers.
const SUMS: usize = 12;

/// Multiplies and adds in registers, on all threads of the pool; returns how many operations that were, a
/// multiply-add being two.
pub fn multiply_add(rounds: usize) -> u64 {
    rayon::broadcast(|_| Arch::new().dispatch(MultiplyAdd { rounds })).into_iter().sum()
}

struct MultiplyAdd {
    rounds: usize,
}

impl WithSimd for MultiplyAdd {
    type Output = u64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> u64 {
        let (factor, term) = (simd.splat_f32s(black_box(0.5)), simd.splat_f32s(black_box(1.0)));
        let mut sums = [simd.splat_f32s(black_box(0.0)); SUMS];
        for _ in 0..self.rounds {
            for sum in &mut sums {
                *sum = simd.mul_add_e_f32s(*sum, factor, term);
            }
        }
        black_box(sums.map(|sum| simd.reduce_sum_f32s(sum)));
        (self.rounds * SUMS * S::F32_LANES * 2) as u64
    }
}

/// Copies, on all threads of the pool; returns how many bytes were read and written.
///
/// # Panics
/// If the lengths differ.
pub fn copy(from: &[f32], to: &mut [f32]) -> u64 {
    /// Long enough to cost nothing to share out, short enough to share out evenly.
    const PART: usize = 1 << 16;
    assert_eq!(from.len(), to.len());
    to.par_chunks_mut(PART).zip(from.par_chunks(PART)).for_each(|(to, from)| to.copy_from_slice(from));
    2 * size_of_val(from) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_and_bytes_are_counted() {
        let (one, many) = (multiply_add(1), multiply_add(1000));
        assert!(one > 0 && many == 1000 * one);
        let from: Vec<f32> = (0..100_000).map(|i| i as f32).collect();
        let mut to = vec![f32::NAN; from.len()];
        assert_eq!(copy(&from, &mut to), 800_000);
        assert_eq!(from, to);
    }
}
