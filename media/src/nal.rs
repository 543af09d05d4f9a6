//! NAL units: splitting Annex B byte streams, and the types that this crate passes on.
//!
//! Source: ITU-T H.264 (08/2021), clause 7.3.1, table 7-1 and annex B.

/// Coded slice of a non-IDR picture.
pub(crate) const SLICE: u8 = 1;
/// First of three data partitions (types 2 to 4, Extended profile only).
pub(crate) const PARTITION_A: u8 = 2;
/// Last of three data partitions.
pub(crate) const PARTITION_C: u8 = 4;
/// Coded slice of an IDR picture.
pub(crate) const IDR: u8 = 5;
/// Sequence parameter set.
pub(crate) const SPS: u8 = 7;
/// Picture parameter set.
pub(crate) const PPS: u8 = 8;

/// The start code written in front of every NAL unit.
pub(crate) const START_CODE: [u8; 4] = [0, 0, 0, 1];

/// `nal_unit_type` of a NAL unit without start code; 0 (unspecified) for an empty one.
pub(crate) fn kind(unit: &[u8]) -> u8 {
    unit.first().map_or(0, |header| header & 0x1f)
}

/// Appends a NAL unit behind a start code.
pub(crate) fn push_annex_b(out: &mut Vec<u8>, unit: &[u8]) {
    out.extend_from_slice(&START_CODE);
    out.extend_from_slice(unit);
}

/// The NAL units of an Annex B stream, without start codes and without the zeros that may trail them.
///
/// Bytes before the first start code are skipped. Linear in the length of the stream.
pub(crate) fn units(stream: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = after_start_code(stream);
    std::iter::from_fn(move || {
        let from = rest?;
        let end = find_start_code(from).unwrap_or(from.len());
        rest = after_start_code(&from[end..]);
        let unit = &from[..end];
        let trimmed = unit.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        Some(&unit[..trimmed])
    })
    .filter(|unit| !unit.is_empty())
}

fn find_start_code(bytes: &[u8]) -> Option<usize> {
    bytes.windows(3).position(|window| window == [0, 0, 1])
}

fn after_start_code(bytes: &[u8]) -> Option<&[u8]> {
    find_start_code(bytes).map(|at| &bytes[at + 3..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_three_and_four_byte_start_codes() {
        let stream = [9, 0, 0, 0, 1, 0x67, 1, 0, 0, 1, 0x68, 2, 0, 0, 0, 0, 1, 0x65, 3, 0];
        let found: Vec<&[u8]> = units(&stream).collect();
        assert_eq!(found, [&[0x67, 1][..], &[0x68, 2], &[0x65, 3]]);
        assert_eq!(found.iter().map(|unit| kind(unit)).collect::<Vec<_>>(), [SPS, PPS, IDR]);
    }

    #[test]
    fn nothing_in_garbage() {
        assert_eq!(units(&[]).count(), 0);
        assert_eq!(units(&[1, 2, 3]).count(), 0);
        assert_eq!(units(&[0, 0, 1]).count(), 0);
    }
}
