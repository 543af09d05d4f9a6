//! Conversions between binary16 and binary32 without branches, so that loops over lanes become vector code.

/// The f32 of the lower 16 bits, exactly. A NaN keeps its payload.
#[inline(always)]
pub(crate) fn f32_from_f16(bits: u32) -> f32 {
    // Exponents are rebased by adding; subnormals are normalised by a subtraction of floats, which is exact.
    const INFINITY: u32 = 0x7c00 << 13;
    let magnitude = (bits & 0x7fff) << 13;
    let exponent = magnitude & INFINITY;
    let rebased = magnitude + ((127 - 15) << 23);
    let special = rebased + ((128 - 16) << 23);
    let subnormal = (f32::from_bits(rebased + (1 << 23)) - f32::from_bits(113 << 23)).to_bits();
    let value = if exponent == INFINITY {
        special
    } else if exponent == 0 {
        subnormal
    } else {
        rebased
    };
    f32::from_bits(value | (bits & 0x8000) << 16)
}

/// The nearest binary16, ties to even, in the lower 16 bits. NaN becomes the canonical one of the device, 0x7fff.
#[inline(always)]
pub(crate) fn f16_from_f32(value: f32) -> u32 {
    let bits = value.to_bits();
    let sign = bits >> 16 & 0x8000;
    let magnitude = bits & 0x7fff_ffff;
    // Adding 0.5 aligns the mantissa of a subnormal result to the lowest bits, and rounds it on the way.
    let subnormal = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0x3f00_0000);
    let odd = magnitude >> 13 & 1;
    let normal =
        magnitude.wrapping_add(((15u32.wrapping_sub(127)) << 23).wrapping_add(0xfff)).wrapping_add(odd) >> 13;
    let finite = if magnitude < 113 << 23 { subnormal } else { normal };
    let value = if magnitude > 0x7f80_0000 {
        return 0x7fff;
    } else if magnitude >= (127 + 16) << 23 {
        0x7c00
    } else {
        finite
    };
    value | sign
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;

    #[test]
    fn every_binary16_is_as_in_the_half_crate() {
        for bits in 0..=u16::MAX {
            let (ours, theirs) = (f32_from_f16(u32::from(bits)), f16::from_bits(bits).to_f32());
            assert!(ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan(), "{bits:#x}");
            if !theirs.is_nan() {
                assert_eq!(f16_from_f32(ours), u32::from(bits), "{bits:#x}");
            }
        }
    }

    #[test]
    fn rounding_is_as_in_the_half_crate() {
        // All exponents and signs, with mantissas around each tie.
        for high in 0..0x10000u32 {
            for low in [0, 1, 0x0fff, 0x1000, 0x1001, 0x1fff, 0x2000, 0x3000, 0x7fff, 0x8000, 0xf000, 0xffff]
            {
                let value = f32::from_bits(high << 16 | low);
                let theirs = f16::from_f32(value);
                let ours = f16_from_f32(value);
                if value.is_nan() {
                    assert_eq!(ours, 0x7fff);
                } else {
                    assert_eq!(ours, u32::from(theirs.to_bits()), "{value:e} {:#x}", value.to_bits());
                }
            }
        }
    }
}
