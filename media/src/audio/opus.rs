//! Opus: its identification header, the `dOps` box, and how long a packet is.
//!
//! Source: RFC 7845, clause 5.1 (identification header); "Encapsulation of Opus in ISO Base Media File Format", clause
//! 4.3.2 (`dOps`); RFC 6716, clause 3.1 (the first byte of a packet).

use super::{Codec, Config, Error};
use crate::mp4::boxes::Reader;

/// Opus is always decoded at this rate, in Hz.
const RATE: u32 = 48_000;
/// Longest packet, in samples: 120 ms.
const PACKET_SAMPLES_MAX: u32 = RATE / 1000 * 120;
const MAGIC: &[u8; 8] = b"OpusHead";
/// Bytes up to the mapping of channels.
const HEADER_BYTES: usize = 19;

/// Reads an identification header.
pub(super) fn config(header: &[u8]) -> Result<Config, Error> {
    let Some((fixed, mapping)) = header.split_at_checked(HEADER_BYTES).filter(|_| header.starts_with(MAGIC))
    else {
        return Err(Error::Config("is no header of Opus"));
    };
    let (version, channels, family) = (fixed[8], fixed[9], fixed[18]);
    if version >> 4 != 0 {
        return Err(Error::Config("is of an unknown version of Opus"));
    }
    match (family, channels) {
        (0, 1..=2) if mapping.is_empty() => {}
        (1, 1..=8) => check_mapping(mapping, usize::from(channels))?,
        _ => return Err(Error::Config("has a layout of channels that we do not carry")),
    }
    Ok(Config {
        codec: Codec::Opus,
        codec_string: "opus".into(),
        sample_rate: RATE,
        channels: channels.into(),
        description: header.to_vec(),
        packet_samples: 0,
    })
}

/// Number of streams, of those in stereo, and which of their channels each of ours is.
fn check_mapping(mapping: &[u8], channels: usize) -> Result<(), Error> {
    let [streams, coupled, of @ ..] = mapping else { return Err(Error::Config("is cut short")) };
    let decoded = u16::from(*streams) + u16::from(*coupled);
    let known = |channel: &u8| *channel == 255 || u16::from(*channel) < decoded;
    if *streams == 0 || coupled > streams || decoded > 255 || of.len() != channels || !of.iter().all(known) {
        return Err(Error::Config("maps its channels wrongly"));
    }
    Ok(())
}

/// Turns a `dOps` payload, big-endian and without a name, into an identification header.
pub(super) fn header_from_dops(dops: &[u8]) -> Result<Vec<u8>, Error> {
    let mut reader = Reader::new("dOps", dops);
    if reader.u8()? != 0 {
        return Err(reader.damaged("is of an unknown version").into());
    }
    let channels = reader.u8()?;
    let (pre_skip, rate, gain) = (reader.u16()?, reader.u32()?, reader.u16()?);
    let family = reader.u8()?;
    let mapping = if family == 0 { &[] } else { reader.bytes(2 + usize::from(channels))? };
    let mut header = [MAGIC, &[1, channels][..]].concat();
    header.extend_from_slice(&pre_skip.to_le_bytes());
    header.extend_from_slice(&rate.to_le_bytes());
    header.extend_from_slice(&gain.to_le_bytes());
    header.push(family);
    header.extend_from_slice(mapping);
    Ok(header)
}

/// Turns an identification header that was checked into a `dOps` payload.
pub(super) fn dops(header: &[u8]) -> Vec<u8> {
    let backwards = |range: std::ops::Range<usize>| header[range].iter().rev().copied();
    let mut dops = vec![0, header[9]];
    dops.extend(backwards(10..12).chain(backwards(12..16)).chain(backwards(16..18)));
    dops.extend_from_slice(&header[18..]);
    dops
}

/// How long a packet is heard, in samples; zero if it is none.
pub(super) fn packet_samples(packet: &[u8]) -> u32 {
    let Some(&first) = packet.first() else { return 0 };
    let index = usize::from(first >> 3);
    let frame = match index {
        0..12 => [480, 960, 1920, 2880][index % 4],
        12..16 => [480, 960][index % 2],
        _ => [120, 240, 480, 960][index % 4],
    };
    let frames = match first & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => packet.get(1).map_or(0, |count| u32::from(count & 0x3f)),
    };
    Some(frame * frames).filter(|samples| *samples <= PACKET_SAMPLES_MAX).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEREO: [u8; 19] = *b"OpusHead\x01\x02\x38\x01\x80\xbb\0\0\0\0\0";

    fn entry(dops: &[u8]) -> Vec<u8> {
        let size = u32::try_from(8 + dops.len()).unwrap();
        [&[0; 28][..], &size.to_be_bytes(), b"dOps", dops].concat()
    }

    #[test]
    fn headers_survive_a_file() {
        let surround = [&STEREO[..9], &[6], &STEREO[10..18], &[1, 4, 2, 0, 4, 1, 2, 3, 5]].concat();
        for (header, channels) in [(&STEREO[..], 2), (&surround, 6)] {
            let config = Config::new("opus", header).unwrap();
            assert_eq!((config.sample_rate(), config.channels()), (48_000, channels));
            let again = Config::from_sample_entry(*b"Opus", &entry(&dops(header))).unwrap();
            assert_eq!(again, config);
        }
        // 312 samples to skip, 48 kHz at the encoder: big-endian in the file.
        assert_eq!(dops(&STEREO), [0, 2, 1, 0x38, 0, 0, 0xbb, 0x80, 0, 0, 0]);
    }

    #[test]
    fn headers_that_lie_are_refused() {
        for cut in 0..STEREO.len() {
            assert!(config(&STEREO[..cut]).is_err(), "{cut}");
            let dops = dops(&STEREO);
            assert!(cut >= dops.len() || header_from_dops(&dops[..cut]).is_err(), "{cut}");
        }
        let change = |at: usize, byte: u8, more: &[u8]| {
            let mut header = STEREO.to_vec();
            header[at] = byte;
            config(&[&header[..], more].concat())
        };
        for (at, byte, more) in [
            (0, b'o', &[][..]),
            (8, 0x10, &[]),
            (9, 0, &[]),
            (9, 3, &[]),
            (18, 255, &[1, 1, 0, 1]),
            (18, 1, &[]),
            (18, 1, &[0, 0, 0, 1]),
            (18, 1, &[1, 2, 0, 1]),
            (18, 1, &[1, 1, 0, 2]),
            (18, 1, &[1, 1, 0]),
            (18, 0, &[1]),
        ] {
            assert!(change(at, byte, more).is_err(), "{at} {byte} {more:?}");
        }
        assert!(change(18, 1, &[1, 1, 0, 255]).is_ok());
    }

    #[test]
    fn packets_say_how_long_they_are() {
        // SILK 60 ms, hybrid 20 ms, CELT 2.5 ms in two frames, CELT 20 ms in six frames, too many frames, none.
        for (packet, samples) in [
            (&[3 << 3, 0][..], 2880),
            (&[13 << 3, 0], 960),
            (&[16 << 3 | 1, 0], 240),
            (&[19 << 3 | 3, 6], 5760),
            (&[19 << 3 | 3, 7], 0),
            (&[19 << 3 | 3], 0),
            (&[], 0),
        ] {
            assert_eq!(packet_samples(packet), samples, "{packet:?}");
        }
    }
}
