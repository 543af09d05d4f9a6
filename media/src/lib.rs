//! Sources and codecs: MP4 and Matroska files, cameras, H.264, audio as it comes, scaling, colour tags, recording, patch images.
//!
//! Everything that parses bytes from outside lives here. The rules: every size is checked against a named
//! limit of [`limits`] before memory is taken for it, every malformed input is an error value, and only
//! H.264 bytes whose parameter sets passed our own checks reach the C++ codec.

#![warn(clippy::cast_possible_truncation)]

pub mod audio;
pub mod cut;
pub mod decode;
pub mod encode;
pub mod frame;
pub mod jpeg;
pub mod limits;
mod mkv;
mod mp4;
mod nal;
mod quantiser;
pub mod record;
pub mod rtsp;
pub mod scale;
pub mod source;
mod sps;
pub mod webcam;
