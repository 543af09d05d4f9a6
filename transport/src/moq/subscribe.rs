//! Reading a broadcast.

use super::{GROUP_BYTES_MAX, GROUP_MESSAGES_MAX, Life, ended};
use crate::{Delivery, EndpointConfig, Error, Message, Result, Track};
use moq_net::{Error as MoqError, StreamError, broadcast, group, track};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

/// Groups that may wait, out of order, for one that is late. A group is opened per GOP or snapshot, so that many
/// of them are minutes of media: the missing one will not come.
const GROUPS_WAITING_MAX: usize = 64;

/// How long a [`Delivery::All`] reader that joins in the middle waits for groups older than the first that
/// arrives: groups travel on streams of their own, and the newest comes first.
const JOIN_WAIT: Duration = Duration::from_millis(250);

/// A broadcast that a peer publishes.
#[derive(Clone)]
pub struct Subscription {
    name: String,
    instance: u64,
    broadcast: broadcast::Consumer,
    config: Arc<EndpointConfig>,
    closing: watch::Receiver<Life>,
    /// To the session of its sender, if it has one of its own here.
    refusals: Option<mpsc::Sender<String>>,
}

impl Subscription {
    /// `closing` changes, or loses its sender, when the endpoint is closed: moq-net would leave its readers waiting for
    /// another route.
    pub(super) fn new(
        (name, instance): (&str, u64),
        broadcast: broadcast::Consumer,
        config: &Arc<EndpointConfig>,
        closing: watch::Receiver<Life>,
    ) -> Self {
        Self { name: name.to_owned(), instance, broadcast, config: config.clone(), closing, refusals: None }
    }

    /// The same with a sender that can be told why it is refused.
    pub(super) fn refused_by(self, refusals: mpsc::Sender<String>) -> Self {
        Self { refusals: Some(refusals), ..self }
    }

    /// Ends the session of its sender, which is told `reason`: [`Error::Refused`]. One that came by way of a relay is
    /// left alone, as it shares that with others.
    pub fn refuse(&self, reason: &str) {
        if let Some(refusals) = &self.refusals {
            // One reason is enough, and one that has left needs none.
            let _ = refusals.try_send(reason.to_owned());
        }
    }

    /// The name that it was published under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which broadcast of that name it is: each has a number of its own, later ones a greater.
    pub fn instance(&self) -> u64 {
        self.instance
    }

    /// Subscribes to `track`. Its messages cross the network from the first [`TrackReader::next`] on.
    ///
    /// # Errors
    /// [`Error::NoTrack`] if the broadcast does not have it, [`Error::Disconnected`] if the broadcast is over.
    pub async fn track(&self, track: Track, delivery: Delivery) -> Result<TrackReader> {
        let failed = |error: MoqError| match error {
            MoqError::NotFound | MoqError::Stream(StreamError::NotFound) => {
                Error::NoTrack { name: self.name.clone(), track }
            }
            error => ended(&error),
        };
        let priority = self.config.priorities.of(track);
        let wanted = track::Subscription::default().with_priority(priority);
        let wanted = match delivery {
            // The newest group first; the tolerance is raised when it is there.
            Delivery::Latest { .. } => wanted,
            Delivery::All => wanted.with_max_age(Duration::from_millis(self.config.limits.kept_ms)),
        };
        let consumer = self.broadcast.track(track.name()).map_err(failed)?;
        let mut closing = self.closing.clone();
        let groups = tokio::select! {
            groups = consumer.subscribe(wanted) => groups.map_err(failed)?,
            error = closed_here(&mut closing) => return Err(error),
        };
        let message_bytes_max = self.config.limits.message_bytes_max(track);
        let order = match delivery {
            Delivery::Latest { max_age } => {
                Order::Latest { groups: groups.ordered(), max_age, joined: false, ahead: None }
            }
            Delivery::All => {
                Order::All { groups, next: None, join_by: None, waiting: BTreeMap::new(), ended: false }
            }
        };
        let messages = Messages { track, priority, order, group: None, message_bytes_max };
        Ok(TrackReader { messages, closing: self.closing.clone() })
    }

    /// Until the broadcast ends, for whatever reason.
    pub async fn closed(&self) {
        let mut closing = self.closing.clone();
        tokio::select! {
            _ = self.broadcast.closed() => {}
            _ = closed_here(&mut closing) => {}
        }
    }
}

async fn closed_here(closing: &mut watch::Receiver<Life>) -> Error {
    match closing.wait_for(|life| *life != Life::Open).await.as_deref() {
        Ok(Life::Reassigned) => Error::Reassigned,
        // An error means that the endpoint was dropped without being closed.
        Ok(_) | Err(_) => Error::Disconnected("this endpoint was closed".into()),
    }
}

/// Reads one track; see [`Delivery`].
pub struct TrackReader {
    messages: Messages,
    closing: watch::Receiver<Life>,
}

impl TrackReader {
    /// Asks the writer for nothing more, or for more again, without a message's being lost: as priority 0, which a
    /// [`TrackWriter`](crate::TrackWriter) sees as not asked for.
    ///
    /// # Errors
    /// [`Error::Disconnected`] if the track is over.
    pub fn ask(&mut self, more: bool) -> Result<()> {
        let priority = if more { self.messages.priority } else { 0 };
        self.messages.order.update(|wanted| wanted.with_priority(priority))
    }

    /// The next message; `None` when the track has ended and everything was delivered. Safe to cancel.
    ///
    /// # Errors
    /// [`Error::Lagged`] for [`Delivery::All`], [`Error::MessageTooLarge`] and [`Error::GroupTooLarge`] for a peer that
    /// exceeds our limits,
    /// [`Error::Replaced`] or [`Error::Disconnected`] if the broadcast broke off.
    pub async fn next(&mut self) -> Result<Option<Message>> {
        tokio::select! {
            biased;
            message = self.messages.next() => message,
            error = closed_here(&mut self.closing) => Err(error),
        }
    }
}

struct Messages {
    track: Track,
    /// Of its subscription while it asks for more.
    priority: u8,
    order: Order,
    group: Option<group::Consumer>,
    message_bytes_max: u64,
}

/// How the next group is chosen.
enum Order {
    Latest {
        groups: track::Ordered,
        max_age: Duration,
        joined: bool,
        /// A group that came while the subscription was changed.
        ahead: Option<Box<group::Consumer>>,
    },
    All {
        groups: track::Subscriber,
        /// The group to read next, once the first is known.
        next: Option<u64>,
        /// Until when older groups may still arrive; set by the first that does.
        join_by: Option<Instant>,
        /// Groups that came before their turn.
        waiting: BTreeMap<u64, group::Consumer>,
        /// No further group will arrive.
        ended: bool,
    },
}

impl Messages {
    async fn next(&mut self) -> Result<Option<Message>> {
        loop {
            if self.group.is_none() {
                self.group = match self.order.next_group(self.track).await? {
                    Some(group) => Some(group),
                    None => return Ok(None),
                };
            }
            let Some(group) = &mut self.group else { continue };
            let (sequence, index) = (group.sequence, group.index());
            match read(group, self.track, self.message_bytes_max).await {
                Ok(Some((pts_us, payload))) => {
                    return Ok(Some(Message { group: sequence, index, pts_us, payload }));
                }
                Ok(None) => self.group = None,
                Err(Failure::Skipped) => {
                    self.group = None;
                    if let Order::All { .. } = self.order {
                        return Err(Error::Lagged { track: self.track, group: sequence });
                    }
                }
                Err(Failure::Fatal(error)) => return Err(error),
            }
        }
    }
}

/// Why a group gave no message.
enum Failure {
    /// The group is too old, or was dropped for want of memory: the next one may be fine.
    Skipped,
    Fatal(Error),
}

fn failure(track: Track, error: &MoqError) -> Failure {
    match error {
        MoqError::Old | MoqError::Lagged => Failure::Skipped,
        MoqError::Stream(StreamError::Old | StreamError::Evicted | StreamError::TooFarBehind) => {
            Failure::Skipped
        }
        // moq-net's own bounds, for a message and for a group: they are the same.
        MoqError::FrameTooLarge | MoqError::GroupTooLarge => Failure::Fatal(group_too_large(track)),
        error => Failure::Fatal(ended(error)),
    }
}

fn group_too_large(track: Track) -> Error {
    Error::GroupTooLarge { track, messages: GROUP_MESSAGES_MAX, bytes: GROUP_BYTES_MAX }
}

async fn read(
    group: &mut group::Consumer,
    track: Track,
    max: u64,
) -> Result<Option<(i64, bytes::Bytes)>, Failure> {
    if group.index() >= GROUP_MESSAGES_MAX {
        return Err(Failure::Fatal(group_too_large(track)));
    }
    match group.read_frame().await {
        Ok(Some(frame)) => {
            // moq-net refuses a frame above GROUP_BYTES_MAX before it allocates; our own limit is lower.
            let bytes = frame.payload.len() as u64;
            if bytes > max {
                return Err(Failure::Fatal(Error::MessageTooLarge { track, bytes, max }));
            }
            // The wire carries 62 bits of time.
            Ok(Some((i64::try_from(frame.timestamp.as_micros()).unwrap_or(i64::MAX), frame.payload)))
        }
        Ok(None) => Ok(None),
        Err(error) => Err(failure(track, &error)),
    }
}

impl Order {
    /// Changes what is asked of the writer, at once: moq-net sends a change when a group is next asked for, and while
    /// one is read none is. A change that is sent as the track ends would break it off.
    fn update(&mut self, change: impl FnOnce(track::Subscription) -> track::Subscription) -> Result<()> {
        let mut context = Context::from_waker(Waker::noop());
        match self {
            Order::Latest { groups, ahead, .. } => {
                groups.update(change(groups.subscription())).map_err(|e| ended(&e))?;
                if ahead.is_none()
                    && let Poll::Ready(Ok(group)) = pin!(groups.next_group()).poll(&mut context)
                {
                    *ahead = group.map(Box::new);
                }
            }
            Order::All { groups, next, waiting, .. } => {
                groups.update(change(groups.subscription())).map_err(|e| ended(&e))?;
                while let Poll::Ready(Ok(Some(group))) = pin!(groups.recv_group()).poll(&mut context) {
                    if next.is_none_or(|next| group.sequence >= next) {
                        waiting.insert(group.sequence, group);
                    }
                }
            }
        }
        Ok(())
    }

    async fn next_group(&mut self, track: Track) -> Result<Option<group::Consumer>> {
        match self {
            Order::Latest { groups, max_age, joined, ahead } => {
                if let Some(group) = ahead.take() {
                    return Ok(Some(*group));
                }
                let group = groups.next_group().await.map_err(|e| ended(&e))?;
                if group.is_some() && !*joined {
                    *joined = true;
                    let max_age = *max_age;
                    self.update(|wanted| wanted.with_max_age(max_age))?;
                }
                Ok(group)
            }
            Order::All { groups, next, join_by, waiting, ended: over } => {
                while next.is_none_or(|next| !waiting.contains_key(&next)) && !*over {
                    let lowest = waiting.first_key_value().map(|(sequence, _)| *sequence);
                    let arrived = match (*next, lowest) {
                        (None, Some(0)) => Ok(None),
                        (None, Some(_)) => {
                            let join_by = *join_by.get_or_insert_with(|| Instant::now() + JOIN_WAIT);
                            tokio::time::timeout_at(join_by, groups.recv_group()).await.unwrap_or(Ok(None))
                        }
                        _ => groups.recv_group().await.inspect(|group| *over = group.is_none()),
                    };
                    match arrived.map_err(|e| ended(&e))? {
                        Some(group) if next.is_some_and(|next| group.sequence < next) => {}
                        Some(group) => {
                            waiting.insert(group.sequence, group);
                        }
                        None => *next = next.or(lowest),
                    }
                    if waiting.len() > GROUPS_WAITING_MAX {
                        // Who joins begins with what is there; who is in the middle waits for one that will not come.
                        match *next {
                            None => *next = waiting.first_key_value().map(|(sequence, _)| *sequence),
                            Some(_) => *over = true,
                        }
                    }
                }
                let wanted = match *next {
                    Some(next) => next,
                    None => return Ok(None),
                };
                match waiting.remove(&wanted) {
                    Some(group) => {
                        *next = Some(wanted + 1);
                        Ok(Some(group))
                    }
                    None if waiting.is_empty() => Ok(None),
                    None => Err(Error::Lagged { track, group: wanted }),
                }
            }
        }
    }
}
