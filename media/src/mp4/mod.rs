//! The part of MP4 that this crate needs: sample tables of an H.264 and an audio track, plain or fragmented, and
//! a writer of fragments.
//!
//! Written here rather than taken from a crate because both directions carry demands that we found unmet:
//! readers allocated what a hostile header claims, panicked on inconsistent tables or dropped gaps between
//! fragments; the writer re-timed fragments of variable frame rate.
//!
//! Source: ISO/IEC 14496-12:2022 (ISO base media file format), ISO/IEC 14496-15:2022 (carriage of H.264).

pub(crate) mod avc;
pub(crate) mod boxes;
pub(crate) mod fragment;
pub(crate) mod movie;
pub(crate) mod sound;
pub(crate) mod table;
pub(crate) mod track;
pub(crate) mod write;

/// A file that cannot be used, with the reason: MP4, or Matroska, which is read into the same tables.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Reading failed.
    #[error("cannot be read ({0})")]
    Io(#[from] std::io::Error),
    /// The file does not begin with a box that MP4 files begin with.
    #[error("is not an MP4 file; give an MP4 or Matroska file with H.264 video")]
    NotMp4,
    /// There is no movie header.
    #[error("has no movie header (moov): it is cut short or was not finished; record or copy it again")]
    NoMovie,
    /// No track holds H.264.
    #[error("has no H.264 video track{}; convert it first (ffmpeg: -c:v libx264)", found(.0))]
    NoH264(
        /// What the video tracks hold instead; empty if there is no video at all.
        Vec<String>,
    ),
    /// The track holds no whole sample.
    #[error("holds no video frame: it is empty or cut short")]
    Empty,
    /// A part of it breaks the format.
    #[error("is damaged: '{name}' {problem}")]
    Damaged {
        /// Name of the box, in Matroska of the element.
        name: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A number is over a limit of [`crate::limits`].
    #[error("has {what} {have}, over the limit of {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// What the file says.
        have: u64,
        /// The limit.
        limit: u64,
    },
}

fn found(codecs: &[String]) -> String {
    if codecs.is_empty() { String::new() } else { format!(" (found {})", codecs.join(", ")) }
}
