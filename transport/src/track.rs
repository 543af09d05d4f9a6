//! The five tracks of a broadcast, and what travels on them.

use bytes::Bytes;
use std::{fmt, time::Duration};

/// A track of a broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Track {
    /// The [`Catalog`](crate::catalog::Catalog) as JSON, one message a group: every group replaces the last.
    Catalog,
    /// Coded audio beside the video; a group is readable from any of its messages.
    Audio,
    /// Coded low-resolution video, one group per GOP: the first message of a group is a keyframe.
    Video,
    /// High-resolution crops for training, sender to server only.
    Patches,
    /// Model updates, one group per snapshot: the first message is the snapshot, deltas follow.
    Model,
}

impl Track {
    /// Every track, most urgent first.
    pub const ALL: [Track; 5] = [Track::Catalog, Track::Audio, Track::Video, Track::Model, Track::Patches];

    /// The name of the track on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Track::Catalog => "catalog.json",
            Track::Audio => "audio",
            Track::Video => "video",
            Track::Patches => "patches",
            Track::Model => "model",
        }
    }
}

impl fmt::Display for Track {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One message of a track, as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Sequence number of the group; the writer counts from 0 without gaps.
    pub group: u64,
    /// Position in the group; 0 is the message that the others depend on (keyframe, snapshot).
    pub index: u64,
    /// Media time, microseconds.
    pub pts_us: i64,
    /// The bytes, untouched; shared with the receive buffer, so a clone is cheap.
    pub payload: Bytes,
}

/// What a reader wants when it cannot have everything at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Stay live: start at the newest group, and leave a group as soon as a newer one exists and the newest
    /// media time is more than `max_age` ahead of it. What was skipped is gone; `group` and `index` show it.
    Latest {
        /// How far behind the newest media time a group may end.
        max_age: Duration,
    },
    /// Every message in order, from the oldest group that the publisher still keeps, or
    /// [`Error::Lagged`](crate::Error::Lagged): never a silent gap. What may pile up is bounded by
    /// [`Limits::kept_ms`](crate::config::Limits::kept_ms) and
    /// [`Limits::cache_bytes_max`](crate::config::Limits::cache_bytes_max).
    All,
}
