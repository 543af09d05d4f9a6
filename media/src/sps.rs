//! What a sequence parameter set promises, checked before the codec sees it.
//!
//! Source: ITU-T H.264 (08/2021), clauses 7.4.2.1 and E.2.1.

use h264_reader::nal::sps::{ChromaFormat, FrameMbsFlags, SeqParameterSet};
use h264_reader::rbsp::{BitReader, ByteReader};

use crate::frame::{Colour, Matrix, Range};
use crate::limits::MAX_PIXELS;

/// Why a stream cannot be decoded here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unsupported {
    /// The parameter set breaks the syntax of the standard.
    #[error("the H.264 sequence parameter set is damaged ({0})")]
    Damaged(String),
    /// Another chroma format than 4:2:0.
    #[error("{0} chroma is not supported; re-encode it as 8-bit 4:2:0 (ffmpeg: -pix_fmt yuv420p)")]
    Chroma(&'static str),
    /// More than 8 bits per sample.
    #[error("{0}-bit video is not supported; re-encode it as 8-bit 4:2:0 (ffmpeg: -pix_fmt yuv420p)")]
    Depth(u32),
    /// Coded as fields.
    #[error("interlaced video is not supported; deinterlace it first (ffmpeg: -vf yadif)")]
    Interlaced,
    /// Extended profile or data partitions.
    #[error("H.264 Extended profile is not supported; re-encode it as Baseline, Main or High")]
    Extended,
    /// A size outside the limits, or none at all.
    #[error("a coded size of {width}x{height} is not supported; at most {max_pixels} pixels")]
    Size {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// The limit in force.
        max_pixels: u64,
    },
}

/// What this crate needs to know of a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sequence {
    /// Width after cropping, in pixels; even.
    pub width: u32,
    /// Height after cropping, in pixels; even.
    pub height: u32,
    /// From the VUI, or the usual guess.
    pub colour: Colour,
    /// Whether output order may differ from decoding order.
    pub reorders: bool,
}

/// Parses and checks a sequence parameter set (with its NAL header, without start code).
///
/// # Errors
/// [`Unsupported`], naming the feature.
pub(crate) fn parse(unit: &[u8], max_pixels: u64) -> Result<Sequence, Unsupported> {
    let sps = SeqParameterSet::from_bits(BitReader::new(ByteReader::skipping_h264_header(unit)))
        .map_err(|error| Unsupported::Damaged(format!("{error:?}")))?;
    let profile = u8::from(sps.profile_idc);
    if profile == PROFILE_EXTENDED {
        return Err(Unsupported::Extended);
    }
    match sps.chroma_info.chroma_format {
        ChromaFormat::YUV420 => {}
        ChromaFormat::Monochrome => return Err(Unsupported::Chroma("monochrome (4:0:0)")),
        ChromaFormat::YUV422 => return Err(Unsupported::Chroma("4:2:2")),
        ChromaFormat::YUV444 => return Err(Unsupported::Chroma("4:4:4")),
        ChromaFormat::Invalid(_) => return Err(Unsupported::Damaged("chroma_format_idc".into())),
    }
    let depth = sps.chroma_info.bit_depth_luma_minus8.max(sps.chroma_info.bit_depth_chroma_minus8);
    if depth > 0 {
        return Err(Unsupported::Depth(8 + u32::from(depth)));
    }
    if !matches!(sps.frame_mbs_flags, FrameMbsFlags::Frames) {
        return Err(Unsupported::Interlaced);
    }
    // The coded size decides the memory, the cropped one what comes out. Both are computed here because
    // h264-reader's own `pixel_dimensions` adds to unchecked values.
    let side = |minus1: u32| u64::from(minus1) * 16 + 16;
    let (coded_width, coded_height) =
        (side(sps.pic_width_in_mbs_minus1), side(sps.pic_height_in_map_units_minus1));
    let (crop_x, crop_y) = sps.frame_cropping.as_ref().map_or((0, 0), |crop| {
        let sum = |a: u32, b: u32| 2 * (u64::from(a) + u64::from(b));
        (sum(crop.left_offset, crop.right_offset), sum(crop.top_offset, crop.bottom_offset))
    });
    let (width, height) = (coded_width.saturating_sub(crop_x), coded_height.saturating_sub(crop_y));
    let clamp = |side: u64| u32::try_from(side).unwrap_or(u32::MAX);
    let (width, height) = (clamp(width), clamp(height));
    let max_pixels = max_pixels.min(MAX_PIXELS);
    if coded_width.saturating_mul(coded_height) > max_pixels
        || crate::frame::check_size(width, height).is_err()
    {
        return Err(Unsupported::Size { width, height, max_pixels });
    }
    let vui = sps.vui_parameters.as_ref();
    let signal = vui.and_then(|vui| vui.video_signal_type.as_ref());
    let mut colour = Colour::guess(height);
    if let Some(signal) = signal {
        colour.range = if signal.video_full_range_flag { Range::Full } else { Range::Limited };
        let matrix = signal.colour_description.as_ref().map(|colour| colour.matrix_coefficients);
        colour.matrix = match matrix {
            Some(1) => Matrix::Bt709,
            Some(4..=7) => Matrix::Bt601,
            Some(9 | 10) => Matrix::Bt2020,
            _ => colour.matrix,
        };
    }
    let reorder_frames =
        vui.and_then(|vui| vui.bitstream_restrictions.as_ref()).map(|limits| limits.max_num_reorder_frames);
    let reorders = profile != PROFILE_BASELINE && reorder_frames != Some(0);
    Ok(Sequence { width, height, colour, reorders })
}

const PROFILE_BASELINE: u8 = 66;
const PROFILE_EXTENDED: u8 = 88;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 1920x1080 High, level 4.0, from x264: cropped from 1088 lines, BT.709, four reordered frames.
    const X264: [u8; 32] = [
        0x67, 0x64, 0x00, 0x28, 0xac, 0xd9, 0x40, 0x78, 0x02, 0x27, 0xe5, 0xc0, 0x5a, 0x80, 0x80, 0x80, 0xa0,
        0x00, 0x00, 0x03, 0x00, 0x20, 0x00, 0x00, 0x07, 0x81, 0xe3, 0x06, 0x32, 0xc0, 0x00, 0x00,
    ];

    #[test]
    fn reads_size_and_colour() {
        let sequence = parse(&X264, MAX_PIXELS).unwrap();
        assert_eq!((sequence.width, sequence.height), (1920, 1080));
        assert_eq!(sequence.colour, Colour { matrix: Matrix::Bt709, range: Range::Limited });
        assert!(sequence.reorders);
        // The coded size, 1920x1088, counts.
        assert!(matches!(parse(&X264, 1920 * 1080), Err(Unsupported::Size { .. })));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(20_000) })]

        #[test]
        fn never_panics(mut bytes in prop::collection::vec(any::<u8>(), 0..80), edits in any::<[(u8, u8); 3]>()) {
            let _ = parse(&bytes, MAX_PIXELS);
            if let Some(header) = bytes.first_mut() {
                *header = 0x67;
            }
            let _ = parse(&bytes, MAX_PIXELS);
            let mut bytes = X264;
            for (at, value) in edits {
                bytes[usize::from(at) % X264.len()] = value;
            }
            let _ = parse(&bytes, MAX_PIXELS);
        }
    }
}
