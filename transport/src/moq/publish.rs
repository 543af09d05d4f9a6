//! Writing a broadcast.

use super::{CODE_BROKEN_OFF, GROUP_BYTES_MAX, GROUP_MESSAGES_MAX, LINGER, check_name, ended, instance_path};
use crate::{EndpointConfig, Error, Result, Track};
use bytes::Bytes;
use moq_net::{Timescale, Timestamp, broadcast, group, origin, track};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// A broadcast that this endpoint publishes. It ends when this is dropped; writers that are still held end their
/// own tracks when they are dropped.
pub struct Publisher {
    name: String,
    tracks: Vec<(Track, track::Producer)>,
    limits: crate::config::Limits,
    draining: Draining,
    // Last: readers see the tracks end before the broadcast does.
    _broadcast: broadcast::Producer,
}

/// Tracks whose writers are gone, but whose last bytes may still be on their way: a clean shutdown waits for them.
#[derive(Clone, Default)]
pub(super) struct Draining(Arc<Mutex<Vec<track::Producer>>>);

impl Draining {
    fn push(&self, track: track::Producer) {
        let mut tracks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tracks.retain(|track| track.is_used());
        tracks.push(track);
    }

    /// Until every reader of every ended track has everything, or is gone; at most `timeout`, and [`LINGER`].
    pub(super) async fn wait(&self, timeout: Duration) {
        let tracks = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        if tracks.is_empty() {
            return;
        }
        let all = async {
            for track in tracks {
                // An error means that nobody can read it any more.
                let _ = track.unused().await;
            }
        };
        let _ = tokio::time::timeout(timeout, all).await;
        tokio::time::sleep(LINGER).await;
    }
}

impl Publisher {
    pub(super) fn new(
        origin: &origin::Producer,
        config: &EndpointConfig,
        draining: &Draining,
        name: &str,
        tracks: &[Track],
    ) -> Result<Self> {
        check_name(name)?;
        let broadcast = origin.create_broadcast(instance_path(name)).map_err(|e| ended(&e))?;
        let mut producers = Vec::new();
        for &track in tracks {
            let kept = match track {
                // Every group replaces the last.
                Track::Catalog | Track::Model => Duration::ZERO,
                Track::Audio | Track::Video | Track::Patches => Duration::from_millis(config.limits.kept_ms),
            };
            let info = track::Info::default()
                .with_timescale(Timescale::MICRO)
                .with_max_age(kept)
                .with_priority(config.priorities.of(track));
            producers.push((track, broadcast.create_track(track.name(), info).map_err(|e| ended(&e))?));
        }
        broadcast.announce(Default::default()).map_err(|e| ended(&e))?;
        Ok(Self {
            name: name.to_owned(),
            tracks: producers,
            limits: config.limits,
            draining: draining.clone(),
            _broadcast: broadcast,
        })
    }

    /// The name that subscribers ask for.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Takes the writer of `track`.
    ///
    /// # Errors
    /// [`Error::NoTrack`] if the broadcast was not published with it, or if it was taken.
    pub fn track(&mut self, track: Track) -> Result<TrackWriter> {
        let position = self.tracks.iter().position(|(have, _)| *have == track);
        let (track, producer) = position
            .map(|at| self.tracks.swap_remove(at))
            .ok_or_else(|| Error::NoTrack { name: self.name.clone(), track })?;
        Ok(TrackWriter {
            track,
            producer,
            group: None,
            group_messages: 0,
            group_bytes: 0,
            message_bytes_max: self.limits.message_bytes_max(track),
            bytes_written: 0,
            draining: self.draining.clone(),
        })
    }
}

/// Writes one track. Writing never waits: what the link cannot carry is kept within the limits of the endpoint, or
/// dropped a whole group at a time. The track ends, with all that was written, when this is dropped.
pub struct TrackWriter {
    track: Track,
    producer: track::Producer,
    group: Option<group::Producer>,
    group_messages: u64,
    group_bytes: u64,
    message_bytes_max: u64,
    bytes_written: u64,
    draining: Draining,
}

impl TrackWriter {
    /// Appends a message, to a new group if `new_group` is set or nothing was written yet. `payload` is shared,
    /// not copied.
    ///
    /// # Errors
    /// [`Error::MessageTooLarge`], [`Error::GroupTooLarge`] and [`Error::NegativeTime`] leave the track as it was;
    /// [`Error::Disconnected`] means that the endpoint is gone.
    pub fn write(&mut self, new_group: bool, pts_us: i64, payload: Bytes) -> Result<()> {
        let bytes = payload.len() as u64;
        let (track, max) = (self.track, self.message_bytes_max);
        if bytes > max {
            return Err(Error::MessageTooLarge { track, bytes, max });
        }
        let time = u64::try_from(pts_us).ok().and_then(|us| Timestamp::from_micros(us).ok());
        let time = time.ok_or(Error::NegativeTime(pts_us))?;
        if new_group || self.group.is_none() {
            self.finish_group();
            self.group = Some(self.producer.append_group().map_err(|e| ended(&e))?);
            (self.group_messages, self.group_bytes) = (0, 0);
        }
        if self.group_messages >= GROUP_MESSAGES_MAX || self.group_bytes + bytes > GROUP_BYTES_MAX {
            return Err(Error::GroupTooLarge { track, messages: GROUP_MESSAGES_MAX, bytes: GROUP_BYTES_MAX });
        }
        if let Some(group) = &mut self.group {
            group.write_frame(time, payload).map_err(|e| ended(&e))?;
        }
        self.group_messages += 1;
        self.group_bytes += bytes;
        self.bytes_written += bytes;
        Ok(())
    }

    /// Payload bytes written so far, whether or not anybody reads them.
    pub fn bytes_written(&self) -> u64 {
        self.bytes_written
    }

    /// Whether anybody reads the track now. What is written without a reader costs no bandwidth.
    pub fn has_subscriber(&self) -> bool {
        self.producer.is_used()
    }

    /// Whether a reader asks for more ([`TrackReader::ask`](crate::TrackReader::ask)); without a reader, nobody has asked for
    /// less.
    pub fn is_asked(&self) -> bool {
        self.producer.subscription().is_none_or(|subscription| subscription.priority > 0)
    }

    /// Waits until somebody reads the track, if nobody did, or until nobody does. Safe to cancel.
    pub async fn demand_changed(&self, had_subscriber: bool) {
        let changed = match had_subscriber {
            true => self.producer.unused().await,
            false => self.producer.used().await,
        };
        if changed.is_err() {
            // The track is over: nothing changes any more.
            std::future::pending().await
        }
    }

    /// Ends the track as one that broke off: its readers get [`Error::Disconnected`] and no end, and may miss the last
    /// messages.
    pub fn break_off(self) {
        // Fails only if it is over already.
        let _ = self.producer.clone().abort(moq_net::Error::App(CODE_BROKEN_OFF));
    }

    fn finish_group(&mut self) {
        if let Some(group) = self.group.take() {
            // Fails only if the group was aborted, and then there is nothing to finish.
            let _ = group.finish();
        }
    }
}

impl Drop for TrackWriter {
    fn drop(&mut self) {
        self.finish_group();
        // Fails only if the track was aborted, and then there is nothing to finish.
        let _ = self.producer.finish();
        self.draining.push(self.producer.clone());
    }
}
