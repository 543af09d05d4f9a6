//! Live video and audio, training patches and model updates over QUIC.
//!
//! The wire is [Media over QUIC](https://datatracker.ietf.org/wg/moq/about/) (the moq-lite dialect) on
//! WebTransport: a *broadcast* has named tracks, a track is a sequence of *groups*, a group is an ordered
//! stream of messages that is readable from its first one. Here a group is a GOP of video, or a model snapshot
//! with the deltas that follow it, so a late joiner takes the newest group and has everything.
//!
//! ```text
//! sender --publish("cam")--> Server --incoming()--> the server program (decodes, trains)
//!                            Server <--publish("cam")-- same name: catalog rewritten, video forwarded, model added
//! viewer <--subscribe("cam")-- Server <--publish_to, take_from--> an unmodified moq-relay, and viewers of it
//! ```
//!
//! Payloads are opaque bytes: this crate never parses video, audio or weights. [`catalog`] alone has a meaning here.
//! [`pacer`], [`link_rate`], [`seldom`] and [`share`] are pure arithmetic without sockets or clock.
#![warn(clippy::cast_possible_truncation)]

pub mod catalog;
pub mod config;
mod congestion;
mod error;
#[cfg(feature = "test-link")]
pub mod link;
pub mod link_rate;
mod moq;
pub mod pacer;
mod quic;
pub mod seldom;
pub mod share;
mod tls;
pub mod token;
mod track;

pub use config::EndpointConfig;
pub use error::{Error, Result};
#[cfg(feature = "test-link")]
pub use moq::TestRelay;
pub use moq::{
    Client, Publisher, Relayed, Server, ServerStats, Stats, Subscription, TrackReader, TrackWriter, Viewers,
};
pub use tls::hex;
pub use track::{Delivery, Message, Track};
