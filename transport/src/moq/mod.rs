//! Everything that touches moq-net, so that its monthly API changes stay in this folder.
//!
//! # Two origins
//! An *origin* of moq-net is a table of broadcasts that sessions read from or write into. The server keeps two
//! kinds apart: what a session announces to us goes into an origin of its own, which only
//! [`Server::incoming`] reads; what [`Server::publish`] makes goes into one other origin, the only one that
//! sessions are served from. So a viewer cannot reach a sender's broadcast, its patches included, by any name,
//! and the direction alone decides: no roles, no path prefixes, and one session may publish and subscribe.
//!
//! # Relays
//! To an unmodified `moq-relay` a server is a client: [`Server::publish_to`] lets the relay read the origin that viewers
//! are served from, so that what it cannot give to a viewer it cannot give to a relay; [`Server::take_from`] reads what
//! senders have published to a relay, at a path that viewers have no token for.
//!
//! # Memory
//! All origins of an endpoint share one *pool*: what they keep together is bounded, however many sessions there are. When
//! it is full, each track drops as much of its own oldest groups as it writes, but none that was written or read more
//! lately than the mean of all. So who writes most loses most; of the others, slow readers lose what they have not come
//! to for longer than that mean, and nobody loses the newest group of a track. The bound is aimed at: a flood passes it by
//! some tenths of a second of what it sends.
//!
//! # Names
//! On the wire a broadcast is `NAME/INSTANCE`, the instance being the time of its making. moq-net splices
//! broadcasts of equal path into one, which is right for the replicas of a relay and wrong for a camera that was
//! switched off and on; distinct paths keep two lives apart, and a subscriber takes the newest.
//!
//! # Dialect
//! Only moq-lite is spoken, not the IETF drafts: half the parsers that a hostile peer can reach, and media times
//! and priorities travel in it.

mod client;
mod gate;
mod handshake;
mod owners;
mod publish;
mod relay;
mod server;
mod subscribe;
#[cfg(feature = "test-link")]
mod test_relay;

pub use client::{Client, Stats};
pub use gate::ServerStats;
pub use publish::{Publisher, TrackWriter};
pub use relay::Relayed;
pub use server::{Server, Viewers};
pub use subscribe::{Subscription, TrackReader};
#[cfg(feature = "test-link")]
pub use test_relay::TestRelay;

use crate::{EndpointConfig, Error, Result};
use moq_net::{SessionError, cache, origin};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Whether what a subscription reads from is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Open,
    /// This end was closed.
    Closed,
    /// Another server has the stream now.
    Reassigned,
}

/// Most bytes in a group: moq-net aborts a group that grows further.
pub(crate) const GROUP_BYTES_MAX: u64 = moq_net::group::MAX_CACHE_BYTES;
/// Most messages in a group: moq-net aborts a group that grows further.
const GROUP_MESSAGES_MAX: u64 = moq_net::group::MAX_GROUP_FRAMES as u64;

/// Newest first. 05 is for browsers whose library is older.
const PROTOCOLS: [&str; 2] = ["moq-lite-06", "moq-lite-05"];

/// Longest broadcast name, bytes.
const NAME_BYTES_MAX: usize = 64;

/// Session close code: another sender announced the same name.
const CODE_REPLACED: u16 = 1;
/// Session close code: the server has no room for another broadcast.
const CODE_FULL: u16 = 2;
/// Session close code: the token does not let its holder publish this.
const CODE_FORBIDDEN: u16 = 3;
/// Session close code: the token has expired.
const CODE_EXPIRED: u16 = 4;
/// Track reset code: the stream broke off.
const CODE_BROKEN_OFF: u16 = 5;
/// Session close code: the server refuses a stream of this session; it says why.
const CODE_REFUSED: u16 = 6;

/// Acknowledged is not read: QUIC acknowledges what the peer's stack holds, and a close discards what its program
/// has not read yet. The wire does not show that, so a clean shutdown gives the peer this long.
const LINGER: Duration = Duration::from_millis(200);

/// What nobody has touched for so long is dropped: media time alone bounds what is sent, not what is held. Long enough that
/// a reader that its machine starves for half a minute still gets every frame.
const IDLE_MAX: Duration = Duration::from_secs(60);

pub(crate) fn check_name(name: &str) -> Result<()> {
    let letters = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    match letters && (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.starts_with('.') {
        true => Ok(()),
        false => Err(Error::Name(name.to_owned())),
    }
}

/// A fresh path for a broadcast called `name`. Later ones compare greater.
fn instance_path(name: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{name}/{:016x}", u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))
}

/// The name and the instance in an announced path; `None` for a path that is not one of ours.
fn split_path(path: &str) -> Option<(&str, u64)> {
    let (name, instance) = path.split_once('/')?;
    check_name(name).ok()?;
    (instance.len() == 16).then(|| u64::from_str_radix(instance, 16).ok()).flatten().map(|at| (name, at))
}

/// The memory of all that an endpoint keeps.
fn new_pool(config: &EndpointConfig) -> cache::Pool {
    let kept = Duration::from_millis(config.limits.kept_ms).max(IDLE_MAX);
    cache::Pool::new(cache::Config::default().with_capacity(config.limits.cache_bytes_max).with_expiry(kept))
}

/// A table of broadcasts whose memory is of `pool`, and the work that keeps it going.
fn new_origin(config: &EndpointConfig, pool: &cache::Pool) -> (origin::Producer, origin::Driver) {
    let mut origin = origin::Config::default();
    origin.pool = pool.clone();
    origin.cache_duration = Duration::from_millis(config.limits.kept_ms);
    origin::Producer::new(origin)
}

/// Why a session or a track ended, in our words.
fn ended(error: &moq_net::Error) -> Error {
    let code = match error {
        moq_net::Error::Session(SessionError::App(code)) | moq_net::Error::App(code) => *code,
        _ => 0,
    };
    match code {
        CODE_REPLACED => Error::Replaced,
        CODE_FULL => Error::Full,
        CODE_FORBIDDEN => Error::Forbidden { act: "publish", name: String::new() },
        CODE_EXPIRED => Error::Expired,
        _ => Error::Disconnected(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_paths() {
        for good in ["cam", "a", "Cam_1.front-left", &"x".repeat(64)] {
            let path = instance_path(good);
            assert_eq!(split_path(&path).map(|(name, _)| name), Some(good));
        }
        for bad in ["", ".hidden", "a/b", "a b", "é", "*", &"x".repeat(65)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
        for bad in
            ["cam", "cam/", "cam/1", "cam/00000000000000zz", "/0000000000000000", "a/b/0000000000000000"]
        {
            assert_eq!(split_path(bad), None, "{bad}");
        }
    }

    #[test]
    fn later_instances_compare_greater() {
        let first = instance_path("cam");
        std::thread::sleep(Duration::from_millis(1));
        assert!(split_path(&first).unwrap().1 < split_path(&instance_path("cam")).unwrap().1);
    }
}
