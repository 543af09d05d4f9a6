//! AAC's AudioSpecificConfig, and the `esds` box around it.
//!
//! Source: ISO/IEC 14496-3:2019, clauses 1.6.2 and 4.4.1 (AudioSpecificConfig, GASpecificConfig); ISO/IEC
//! 14496-1:2010, clause 7.2.6 (descriptors); ISO/IEC 14496-14:2020, clause 6.7 (`esds`).

use super::{Codec, Config, Error};
use crate::mp4;
use crate::mp4::boxes::{self, Reader};

/// Longest AudioSpecificConfig that we take, in bytes. Without a table of channels of its own, which we refuse, it has
/// at most a dozen.
const CONFIG_BYTES_MAX: usize = 64;
/// `samplingFrequencyIndex` to Hz.
const RATES: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];
/// Rates that are written out, in Hz: what any of the table could be meant for.
const RATE_RANGE: std::ops::RangeInclusive<u32> = 7_000..=96_000;

/// Spectral band replication, and parametric stereo on top of it: High Efficiency AAC.
const SBR: u32 = 5;
const PS: u32 = 29;

/// Reads an AudioSpecificConfig.
pub(super) fn config(description: &[u8]) -> Result<Config, Error> {
    if description.len() > CONFIG_BYTES_MAX {
        return Err(Error::Config("is longer than any of AAC"));
    }
    let mut bits = Bits { bytes: description, at: 0 };
    let object_type = bits.object_type()?;
    let core_rate = bits.rate()?;
    let channels = bits.take(4)?;
    let (mut sample_rate, mut core) = (core_rate, object_type);
    if object_type == SBR || object_type == PS {
        sample_rate = bits.rate()?;
        core = bits.object_type()?;
    }
    // Main, Low Complexity, Scalable Sample Rate, Long Term Prediction.
    if !(1..=4).contains(&core) {
        return Err(Error::Config("is of a kind of AAC that we do not carry"));
    }
    let channels = match channels {
        1..=6 => channels,
        7 | 12 | 14 => 8,
        11 => 7,
        0 => return Err(Error::Config("has a table of channels of its own, which we do not carry")),
        _ => return Err(Error::Config("has an unknown layout of channels")),
    };
    let channels = if object_type == PS && channels == 1 { 2 } else { channels };
    if sample_rate % core_rate != 0 || sample_rate / core_rate > 2 {
        return Err(Error::Config("has rates that do not fit each other"));
    }
    let frame = if bits.take(1)? == 1 { 960 } else { 1024 };
    Ok(Config {
        codec: Codec::Aac,
        codec_string: format!("mp4a.40.{object_type}"),
        sample_rate,
        channels: u16::try_from(channels).expect("at most 8"),
        description: description.to_vec(),
        packet_samples: frame * (sample_rate / core_rate),
    })
}

/// Reads bits, most significant first.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: usize) -> Result<u32, Error> {
        let mut value = 0;
        for at in self.at..self.at + count {
            let byte = self.bytes.get(at / 8).ok_or(Error::Config("is cut short"))?;
            value = value << 1 | u32::from(byte >> (7 - at % 8) & 1);
        }
        self.at += count;
        Ok(value)
    }

    fn object_type(&mut self) -> Result<u32, Error> {
        match self.take(5)? {
            31 => Ok(32 + self.take(6)?),
            object_type => Ok(object_type),
        }
    }

    fn rate(&mut self) -> Result<u32, Error> {
        let rate = match self.take(4)? {
            15 => self.take(24)?,
            index => RATES.get(index as usize).copied().unwrap_or(0),
        };
        if RATE_RANGE.contains(&rate) { Ok(rate) } else { Err(Error::Config("has a sample rate of no AAC")) }
    }
}

mod tag {
    pub(super) const ES: u8 = 3;
    pub(super) const DECODER_CONFIG: u8 = 4;
    pub(super) const DECODER_SPECIFIC: u8 = 5;
    pub(super) const SL_CONFIG: u8 = 6;
}

/// The AudioSpecificConfig in the boxes of an `mp4a` entry.
pub(super) fn description(entry: &[u8]) -> Result<Vec<u8>, Error> {
    let esds = match boxes::find("mp4a", entry, b"esds")? {
        Some(esds) => esds,
        // QuickTime files have it one box further down.
        None => {
            let wave = boxes::need("mp4a", entry, b"wave", "has no esds")?;
            boxes::need("wave", wave, b"esds", "has no esds")?
        }
    };
    let mut reader = Reader::new("esds", esds);
    reader.version_flags()?;
    let mut es = descriptor(&mut reader, tag::ES)?;
    es.skip(2)?; // ES_ID
    let flags = es.u8()?;
    if flags & 0x80 != 0 {
        es.skip(2)?; // dependsOn_ES_ID
    }
    if flags & 0x40 != 0 {
        let url = es.u8()?;
        es.skip(usize::from(url))?;
    }
    if flags & 0x20 != 0 {
        es.skip(2)?; // OCR_ES_Id
    }
    let mut decoder = descriptor(&mut es, tag::DECODER_CONFIG)?;
    match decoder.u8()? {
        // MPEG-4 audio, and MPEG-2 AAC in three profiles.
        0x40 | 0x66..=0x68 => {}
        0x69 | 0x6b => return Err(Error::Codec("MP3".into())),
        other => return Err(Error::Codec(format!("of object type {other:#x}"))),
    }
    decoder.skip(12)?; // streamType, bufferSizeDB, maxBitrate, avgBitrate
    Ok(descriptor(&mut decoder, tag::DECODER_SPECIFIC)?.rest().to_vec())
}

/// The payload of the next descriptor, which must be of this kind.
fn descriptor<'a>(reader: &mut Reader<'a>, wanted: u8) -> Result<Reader<'a>, mp4::Error> {
    if reader.u8()? != wanted {
        return Err(reader.damaged("holds another descriptor than it should"));
    }
    let mut len = 0;
    // Seven bits a byte, four bytes at most.
    for index in 0.. {
        let byte = reader.u8()?;
        len = len << 7 | usize::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            break;
        }
        if index == 3 {
            return Err(reader.damaged("has a length without an end"));
        }
    }
    Ok(Reader::new("esds", reader.bytes(len)?))
}

/// The payload of an `esds` box.
pub(super) fn esds(description: &[u8]) -> Vec<u8> {
    let descriptor = |tag: u8, parts: &[&[u8]]| -> Vec<u8> {
        let payload = parts.concat();
        let len = u8::try_from(payload.len()).ok().filter(|len| *len < 0x80);
        [&[tag, len.expect("a configuration is bounded at 64 bytes")][..], &payload].concat()
    };
    let specific = descriptor(tag::DECODER_SPECIFIC, &[description]);
    // MPEG-4 audio; an audio stream; buffer and rates unknown.
    let decoder = descriptor(tag::DECODER_CONFIG, &[&[0x40, 0x15], &[0; 11], &specific]);
    let es = descriptor(tag::ES, &[&[0, 0, 0], &decoder, &descriptor(tag::SL_CONFIG, &[&[2]])]);
    [&[0; 4][..], &es].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(esds: &[u8]) -> Vec<u8> {
        let size = u32::try_from(8 + esds.len()).unwrap();
        [&[0; 28][..], &size.to_be_bytes(), b"esds", esds].concat()
    }

    #[test]
    fn configurations_of_ffmpeg_and_of_cameras_are_read() {
        for (bytes, codec, rate, channels, samples) in [
            // Low Complexity: 48 kHz stereo, 44.1 kHz mono, 8 kHz mono, a rate of its own.
            (&[0x11, 0x90][..], "mp4a.40.2", 48_000, 2, 1024),
            (&[0x12, 0x08, 0x56, 0xe5, 0x00], "mp4a.40.2", 44_100, 1, 1024),
            (&[0x15, 0x88], "mp4a.40.2", 8_000, 1, 1024),
            (&[0x17, 0x80, 0x3e, 0x80, 0x08], "mp4a.40.2", 32_000, 1, 1024),
            // High Efficiency, 24 to 48 kHz; with parametric stereo, 22.05 to 44.1 kHz.
            (&[0x2b, 0x11, 0x88, 0x00], "mp4a.40.5", 48_000, 2, 2048),
            (&[0xeb, 0x8a, 0x08, 0x00], "mp4a.40.29", 44_100, 2, 2048),
            // Frames of 960 samples.
            (&[0x11, 0x94], "mp4a.40.2", 48_000, 2, 960),
        ] {
            let config = config(bytes).unwrap_or_else(|error| panic!("{bytes:x?}: {error}"));
            let told = (config.codec_string(), config.sample_rate(), config.channels());
            assert_eq!(told, (codec, rate, channels), "{bytes:x?}");
            assert_eq!(config.packet_samples(&[]), samples, "{bytes:x?}");
            // Written into a file and read again.
            let again = Config::from_sample_entry(*b"mp4a", &entry(&esds(bytes))).unwrap();
            assert_eq!(again, config);
        }
    }

    #[test]
    fn what_lies_or_is_of_another_kind_is_refused_with_a_reason() {
        for (bytes, says) in [
            (&[][..], "cut short"),
            (&[0x11], "cut short"),
            (&[0x11, 0x80], "of its own"),
            (&[0x11, 0xf8], "unknown layout"),
            (&[0x16, 0x90], "rate"),
            (&[0x17, 0x80, 0x00, 0x00, 0x88], "rate"),
            (&[0xf9, 0x46, 0x40], "kind of AAC"),
            (&[0x2b, 0x11, 0x08, 0x00], "fit"),
            (&[0x11; 65], "longer"),
        ] {
            let error = config(bytes).unwrap_err().to_string();
            assert!(error.contains(says), "{bytes:x?}: {error}");
        }
        let good = esds(&[0x11, 0x90]);
        for cut in 0..good.len() - 3 {
            assert!(Config::from_sample_entry(*b"mp4a", &entry(&good[..cut])).is_err(), "{cut}");
        }
        let change = |at: usize, byte: u8| {
            let mut esds = good.clone();
            esds[at] = byte;
            Config::from_sample_entry(*b"mp4a", &entry(&esds)).unwrap_err().to_string()
        };
        // Lengths: beyond the box, and without an end; another descriptor; MP3; a stream that depends on another.
        assert!(change(5, 0x7f).contains("too short"));
        assert!(change(5, 0x80).contains("esds"));
        assert!(change(4, 9).contains("another descriptor"));
        assert!(change(11, 0x6b).contains("MP3"));
        assert!(change(11, 0x20).contains("0x20"));
        assert!(change(8, 0xe0).contains("esds"));
        let endless = [&[0, 0, 0, 0, 3][..], &[0xff; 40]].concat();
        assert!(
            Config::from_sample_entry(*b"mp4a", &entry(&endless)).unwrap_err().to_string().contains("end")
        );
        let none = Config::from_sample_entry(*b".mp3", &[]).unwrap_err().to_string();
        assert!(none.contains("MP3") && none.contains("only AAC and Opus"), "{none}");
    }
}
