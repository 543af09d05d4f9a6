//! H.264 in MP4: the decoder configuration record and length-prefixed samples.
//!
//! Source: ISO/IEC 14496-15:2022, clause 5.3.

use super::Error;
use super::boxes::Reader;
use crate::nal;

/// The `avcC` record: parameter sets, and how sample lengths are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Configuration {
    /// Parameter sets as an Annex B stream.
    pub parameter_sets: Vec<u8>,
    /// Bytes of the length in front of each NAL unit: 1, 2 or 4.
    length_bytes: usize,
}

impl Configuration {
    /// Parses an `avcC` payload.
    pub(crate) fn parse(payload: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new("avcC", payload);
        reader.skip(4)?; // version, profile, compatibility, level: the SPS repeats them
        let length_bytes = usize::from(reader.u8()? & 3) + 1;
        let mut parameter_sets = Vec::new();
        let sps_count = reader.u8()? & 0x1f;
        for _ in 0..sps_count {
            let len = usize::from(reader.u16()?);
            nal::push_annex_b(&mut parameter_sets, reader.bytes(len)?);
        }
        let pps_count = reader.u8()?;
        for _ in 0..pps_count {
            let len = usize::from(reader.u16()?);
            nal::push_annex_b(&mut parameter_sets, reader.bytes(len)?);
        }
        Ok(Self { parameter_sets, length_bytes })
    }

    /// Appends a sample to `out` as an Annex B stream.
    ///
    /// A length that leaves the sample ends it there: the decoder reports what is missing.
    pub(crate) fn push_annex_b(&self, out: &mut Vec<u8>, sample: &[u8]) -> Result<(), Error> {
        let mut reader = Reader::new("mdat", sample);
        while !reader.rest().is_empty() {
            let length = reader.bytes(self.length_bytes)?;
            let length = length.iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte));
            nal::push_annex_b(out, reader.bytes(length)?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: [u8; 15] = [1, 66, 0, 30, 0xff, 0xe1, 0, 2, 0x67, 66, 1, 0, 2, 0x68, 0xce];

    #[test]
    fn parameter_sets_and_samples_become_annex_b() {
        let configuration = Configuration::parse(&RECORD).unwrap();
        assert_eq!(configuration.parameter_sets, [0, 0, 0, 1, 0x67, 66, 0, 0, 0, 1, 0x68, 0xce]);
        let mut out = Vec::new();
        configuration.push_annex_b(&mut out, &[0, 0, 0, 1, 0x65, 0, 0, 0, 2, 0x41, 7]).unwrap();
        assert_eq!(out, [0, 0, 0, 1, 0x65, 0, 0, 0, 1, 0x41, 7]);
    }

    #[test]
    fn lengths_beyond_the_data_are_errors() {
        for cut in 0..RECORD.len() {
            assert!(Configuration::parse(&RECORD[..cut]).is_err(), "{cut}");
        }
        let configuration = Configuration::parse(&RECORD).unwrap();
        let sample = [0xff, 0xff, 0xff, 0xff, 0x65];
        assert!(configuration.push_annex_b(&mut Vec::new(), &sample).is_err());
    }
}
