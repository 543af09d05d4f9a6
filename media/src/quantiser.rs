//! How coarsely a picture is coded: the quantiser of its first slice.
//!
//! Source: ITU-T H.264 (08/2021), clauses 7.4.2.2 and 7.4.3: 26 + pic_init_qp_minus26 + slice_qp_delta.

use h264_reader::Context;
use h264_reader::nal::pps::PicParameterSet;
use h264_reader::nal::slice::SliceHeader;
use h264_reader::nal::sps::SeqParameterSet;
use h264_reader::nal::{NalHeader, UnitType};
use h264_reader::rbsp::{BitReader, ByteReader};

/// Follows the parameter sets of one stream.
#[derive(Default)]
pub(crate) struct Quantisers(Context);

impl Quantisers {
    /// Takes a NAL unit, without start code, and returns the quantiser of a slice, 0 to 51. None for any other unit,
    /// and for what cannot be read: the codec will say what is wrong with that.
    pub fn see(&mut self, unit: &[u8]) -> Option<u8> {
        let header = NalHeader::new(*unit.first()?).ok()?;
        let mut bits = BitReader::new(ByteReader::skipping_h264_header(unit));
        match header.nal_unit_type() {
            UnitType::SeqParameterSet => {
                self.0.put_seq_param_set(SeqParameterSet::from_bits(bits).ok()?);
                None
            }
            UnitType::PicParameterSet => {
                self.0.put_pic_param_set(PicParameterSet::from_bits(&self.0, bits).ok()?);
                None
            }
            UnitType::SliceLayerWithoutPartitioningIdr | UnitType::SliceLayerWithoutPartitioningNonIdr => {
                let (slice, _, pps) = SliceHeader::from_bits(&self.0, &mut bits, header, None).ok()?;
                let quantiser = pps.pic_init_qp_minus26.checked_add(26)?.checked_add(slice.slice_qp_delta)?;
                u8::try_from(quantiser).ok().filter(|quantiser| *quantiser <= 51)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::{Config, Encoder};
    use crate::frame::I420;
    use crate::nal;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(5_000) })]

        #[test]
        fn never_panics(units in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..4)) {
            let mut quantisers = Quantisers::default();
            units.iter().for_each(|unit| assert!(quantisers.see(unit).is_none_or(|quantiser| quantiser <= 51)));
        }

        #[test]
        fn damaged_parameter_sets_and_slices_never_panic(edits in any::<[(u16, u8); 3]>()) {
            static STREAM: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
            let mut stream = STREAM.get_or_init(|| {
                let mut encoder = Encoder::new(&Config::new(64, 48, 25.0, 100)).unwrap();
                let grey = I420::new(64, 48).unwrap();
                (0..2).flat_map(|i| encoder.encode(&grey, i * 40_000, false).unwrap().data.to_vec()).collect()
            }).clone();
            let length = stream.len();
            for (at, value) in edits {
                stream[usize::from(at) % length] = value;
            }
            let mut quantisers = Quantisers::default();
            for unit in nal::units(&stream) {
                assert!(quantisers.see(unit).is_none_or(|quantiser| quantiser <= 51));
            }
        }
    }
}
