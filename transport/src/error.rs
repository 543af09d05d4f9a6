//! What can go wrong, with the address, name or limit at fault.

use crate::Track;
use std::{net::SocketAddr, path::PathBuf};

/// The result of a transport operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A transport failure; each displays as one line that names the thing at fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server address is not `host:port` or `https://host:port`.
    #[error("bad server address {input:?}: {reason}; write host:port or https://host:port")]
    Address {
        /// What was given.
        input: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The host name has no address.
    #[error("cannot resolve {host:?}: {source}")]
    Resolve {
        /// The name that was looked up.
        host: String,
        /// What the resolver said.
        source: std::io::Error,
    },
    /// The local UDP address cannot be used, most often because another program has it.
    #[error("cannot bind UDP {addr}: {source}")]
    Bind {
        /// The local address.
        addr: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// Nothing answered within the time-out.
    #[error("no answer from {addr} within {timeout_ms} ms: is the server running, and is UDP let through?")]
    NoAnswer {
        /// The remote address.
        addr: String,
        /// How long was waited.
        timeout_ms: u64,
    },
    /// The server's certificate is not trusted.
    #[error("the certificate of {addr} is not trusted: {reason}")]
    Certificate {
        /// The remote address.
        addr: String,
        /// What the verification said.
        reason: String,
    },
    /// Something answered, but not a Hone server that speaks a common version.
    #[error("{addr} answered, but not as a compatible server: {reason}")]
    Handshake {
        /// The remote address.
        addr: String,
        /// What the handshake said.
        reason: String,
    },
    /// A certificate, key or CA file cannot be used.
    #[error("cannot use {what} {path:?}: {reason}")]
    CertificateFile {
        /// `certificate`, `key` or `CA file`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A field of [`EndpointConfig`](crate::EndpointConfig) has a value that cannot work.
    #[error("endpoint.{field}: {reason}")]
    Config {
        /// The field, dotted from the endpoint table.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The server wants a token, or another one.
    #[error("{addr} lets us not in: {reason}")]
    Token {
        /// The remote address.
        addr: String,
        /// What is wrong with the token, as far as the client can see.
        reason: String,
    },
    /// The token does not let its holder do this.
    #[error("our token does not let us {act} {name:?}")]
    Forbidden {
        /// `publish` or `view`.
        act: &'static str,
        /// The broadcast; empty where the server did not say which.
        name: String,
    },
    /// The token expired while the session was open.
    #[error("our token has expired")]
    Expired,
    /// A key file cannot be used.
    #[error("cannot use key file {path:?}: {reason}")]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it; never what is in it.
        reason: String,
    },
    /// A broadcast name that cannot be a path segment.
    #[error("bad broadcast name {0:?}: use 1 to 64 letters, digits, '-', '_' or '.', not starting with '.'")]
    Name(String),
    /// The broadcast does not have this track, or its writer was taken already.
    #[error("broadcast {name:?} has no track {track}")]
    NoTrack {
        /// The broadcast.
        name: String,
        /// The track.
        track: Track,
    },
    /// A message exceeds the configured size of its track.
    #[error("a message of {bytes} bytes on track {track} exceeds the limit of {max} bytes")]
    MessageTooLarge {
        /// The track.
        track: Track,
        /// The size of the message.
        bytes: u64,
        /// The limit, from [`Limits`](crate::config::Limits).
        max: u64,
    },
    /// A group holds as much as a group may: start a new one.
    #[error("a group of track {track} exceeds {messages} messages or {bytes} bytes: start a new group")]
    GroupTooLarge {
        /// The track.
        track: Track,
        /// The most messages in a group.
        messages: u64,
        /// The most bytes in a group.
        bytes: u64,
    },
    /// A media time that the wire cannot carry.
    #[error("media time {0} us is negative")]
    NegativeTime(i64),
    /// A [`Delivery::All`](crate::Delivery::All) reader was too slow, or the link lost a whole group.
    #[error("track {track}: group {group} is gone, the reader fell too far behind")]
    Lagged {
        /// The track.
        track: Track,
        /// The first group that is missing or cut short.
        group: u64,
    },
    /// The catalog is not one that we can use.
    #[error("bad catalog: {0}")]
    Catalog(String),
    /// Another sender announced the same name, and the newest wins.
    #[error("another sender took over this broadcast's name")]
    Replaced,
    /// Several servers share the streams of a relay, and another one has this stream now.
    #[error("another server has this stream now")]
    Reassigned,
    /// The server has as many sessions or broadcasts as it may.
    #[error("the server is full")]
    Full,
    /// The server takes this stream no longer, and has closed the session.
    #[error("the server has refused the stream: {reason}")]
    Refused {
        /// What the server says is wrong with it.
        reason: String,
    },
    /// The connection, or the broadcast, ended before its time.
    #[error("disconnected: {0}")]
    Disconnected(String),
}
