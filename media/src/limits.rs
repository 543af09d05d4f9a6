//! Named limits for hostile input, each with its reason.

/// Longest side of a picture, in pixels. H.264 level 5.2 allows up to 36,864 macroblocks, at most 543 in a row
/// (8,688 pixels); 8,192 is also the texture size that every GPU offers.
pub const MAX_SIDE: u32 = 8192;

/// Most pixels in a coded picture: level 5.2, the highest that openh264 implements (36,864 macroblocks).
pub const MAX_PIXELS: u64 = 36_864 * 256;

/// Largest access unit accepted from a stream or file, in bytes. An uncompressed level 5.2 picture is 14 MB.
pub const MAX_ACCESS_UNIT_BYTES: usize = 16 << 20;

/// Largest `moov` or `moof` box read from a file, in bytes: a day of 60 fps video needs about 100 MB.
pub const MAX_HEADER_BOX_BYTES: u64 = 256 << 20;

/// Most samples of one MP4 track: a day at 60 fps is 5.2 million. Bounds the sample table at 256 MB.
pub const MAX_SAMPLES: usize = 8 << 20;

/// Most top-level boxes of an MP4 file: a fragmented file has two per GOP, so this is days of video.
pub const MAX_TOP_LEVEL_BOXES: usize = 1 << 20;

/// Deepest picture reordering of H.264 (`max_num_reorder_frames`), in frames.
pub const MAX_REORDER_FRAMES: usize = 16;

/// Most bytes of a fragment held in memory while recording; a longer GOP is written in several fragments.
pub const MAX_FRAGMENT_BYTES: usize = 64 << 20;

/// Largest JPEG patch accepted, in bytes. Patches are at most a few hundred pixels on a side.
pub const MAX_JPEG_BYTES: usize = 8 << 20;

/// Largest packet of audio, in bytes: 120 ms of Opus in eight channels at 510 kbit/s each are 61 kB; AAC's are far
/// smaller.
pub const MAX_AUDIO_PACKET_BYTES: usize = 64 << 10;
