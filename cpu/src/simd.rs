//! Plain loops, compiled for every instruction set that the processor may have.

use pulp::{Arch, Simd, WithSimd};

/// Calls `work(state)` with what is inlined into it compiled for this processor's SIMD: `work` must be
/// `#[inline(always)]`, and so must be what it calls.
///
/// [`Arch::dispatch()`] on a closure is not enough: it calls it through a shim that the compiler does not inline, and
/// what is not inlined is compiled for any processor of the family.
pub fn simd<T, R>(state: T, work: impl Fn(T) -> R) -> R {
    Arch::new().dispatch(Work { state, work })
}

struct Work<T, F> {
    state: T,
    work: F,
}

impl<T, R, F: Fn(T) -> R> WithSimd for Work<T, F> {
    type Output = R;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> R {
        (self.work)(self.state)
    }
}

/// Rounds to a code value, 0 to 255; NaN becomes 0.
///
/// `v.round() as u8`, but for the ties, in operations that every instruction set has: adding 2^23 leaves a float no
/// bits for a fraction.
#[inline(always)]
#[expect(clippy::manual_clamp, reason = "clamp() would leave NaN as it is")]
pub fn code_value(v: f32) -> u8 {
    (v.max(0.0).min(255.0) + 8_388_608.0).to_bits() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_values_are_rounded_and_clamped() {
        for (v, code) in [(0.49, 0), (0.51, 1), (126.6, 127), (254.4, 254), (255.0, 255), (254.6, 255)] {
            assert_eq!(code_value(v), code, "{v}");
        }
        for (v, code) in [(-3.0, 0), (1e30, 255), (f32::NEG_INFINITY, 0), (f32::INFINITY, 255), (f32::NAN, 0)]
        {
            assert_eq!(code_value(v), code, "{v}");
        }
    }
}
