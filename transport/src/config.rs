//! The QUIC endpoint, as values. The programs read them from TOML; `examples/*.toml` explain every line.

use crate::{Error, Result, Track};
use serde::{Deserialize, Serialize};
use std::{fmt, net::SocketAddr, path::PathBuf, time::Duration};

/// Everything about one QUIC endpoint, server or client. Every field has a default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EndpointConfig {
    /// Local UDP address. A server listens here; a client sends from here. Default `0.0.0.0:0`: any free port.
    pub bind: SocketAddr,
    /// The certificate that a server shows. A server must name one.
    pub certificate: Certificate,
    /// A server's key file: peers must then show a token that one of its keys has signed. Default none.
    pub token_key: Option<PathBuf>,
    /// Lets everybody publish and view where there is no key file. On loopback everybody may. Default false.
    pub allow_anonymous: bool,
    /// The token that a client shows. Default none.
    pub token: Option<Secret>,
    /// The certificates that a client accepts. Default `"system"`.
    pub trust: Trust,
    /// Congestion control of what this endpoint sends. Default `"cubic"`.
    pub congestion: Congestion,
    /// A connection is given up when the peer was silent for this long, ms. Default 3000: whoever lost a link dials
    /// again, and is through sooner than a connection that backs off.
    pub idle_timeout_ms: u64,
    /// A packet is sent after this much silence so that the connection stays up, ms; 0 turns it off.
    /// Must be less than half of `idle_timeout_ms`, or one lost packet ends a quiet connection. Default 500.
    pub keep_alive_ms: u64,
    /// How long a client waits for the whole handshake, and how long a server lets one take, ms. Default 5000.
    pub connect_timeout_ms: u64,
    /// How long a clean shutdown waits for the peers to have everything that was written, ms. Default 3000.
    pub shutdown_timeout_ms: u64,
    /// Largest UDP payload that path MTU discovery may reach, bytes, 1200 to 65 527. 1200 turns discovery off.
    /// Default 1452 (Ethernet less IPv6 and UDP headers).
    pub datagram_size_max: u16,
    /// Let the kernel cut bundles of packets (UDP GSO). Saves CPU; turn it off where a virtual link drops whole
    /// bundles. Default true.
    pub gso: bool,
    /// Which track goes first when the link is short.
    pub priorities: Priorities,
    /// Bounds on what a peer can make this endpoint hold.
    pub limits: Limits,
}

impl Default for EndpointConfig {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from(([0, 0, 0, 0], 0)),
            certificate: Certificate::default(),
            token_key: None,
            allow_anonymous: false,
            token: None,
            trust: Trust::default(),
            congestion: Congestion::default(),
            idle_timeout_ms: 3_000,
            keep_alive_ms: 500,
            connect_timeout_ms: 5_000,
            shutdown_timeout_ms: 3_000,
            datagram_size_max: 1452,
            gso: true,
            priorities: Priorities::default(),
            limits: Limits::default(),
        }
    }
}

/// The certificate of a server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Certificate {
    /// None was named.
    #[default]
    Unset,
    /// Made at start: ECDSA P-256, self-signed, valid for 13 days (browsers take a pinned certificate for at most
    /// 14). Clients pin the SHA-256 of it, which changes at every start. Only for a server on loopback.
    Dev,
    /// The same for a server on any address: whoever copies the hash wrongly trusts a stranger.
    DevAnywhere,
    /// From PEM files.
    Files {
        /// The chain, leaf first.
        cert: PathBuf,
        /// The private key: PKCS#8, SEC1 or PKCS#1.
        key: PathBuf,
    },
}

/// A text that no log shows.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// The servers that a client trusts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Trust {
    /// The certificate authorities of the system.
    #[default]
    System,
    /// The certificate authorities of this PEM file, and no other.
    CaFile(PathBuf),
    /// Exactly the certificates with one of these SHA-256 hashes (64 hexadecimal digits, `:` allowed), whatever
    /// the name or the dates in them say.
    Pinned(Vec<String>),
}

/// Congestion control. BBR is absent: quinn's lost 45 to 58% of its packets on a 2 Mbit/s link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Congestion {
    /// Cubic, but a loss counts only where the round trip shows a queue, or where every fifth byte is lost: for radio.
    #[default]
    LossTolerant,
    /// RFC 9438.
    Cubic,
    /// RFC 9002, section 7.
    NewReno,
}

/// Strict priorities, 1 to 255: on one connection, a track with a higher value sends first. 0 asks for nothing, as readers do
/// that have enough ([`TrackReader::ask`](crate::TrackReader::ask)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Priorities {
    /// Default 250: tiny, and nothing works without it.
    pub catalog: u8,
    /// Default 200: small, and a gap is heard.
    pub audio: u8,
    /// Default 150.
    pub video: u8,
    /// Default 100: a viewer can wait for better weights, not for video.
    pub model: u8,
    /// Default 50: the patches fill what is left.
    pub patches: u8,
}

impl Default for Priorities {
    fn default() -> Self {
        Self { catalog: 250, audio: 200, video: 150, model: 100, patches: 50 }
    }
}

impl Priorities {
    /// The priority of `track`.
    pub fn of(&self, track: Track) -> u8 {
        match track {
            Track::Catalog => self.catalog,
            Track::Audio => self.audio,
            Track::Video => self.video,
            Track::Model => self.model,
            Track::Patches => self.patches,
        }
    }
}

/// Bounds on memory, counts and sizes. They protect this endpoint; the peer has its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Largest catalog, bytes. Default 64 KiB.
    pub catalog_bytes_max: u32,
    /// Largest packet of audio, bytes. Default 64 KiB: 120 ms of Opus in eight channels.
    pub audio_bytes_max: u32,
    /// Largest coded frame, bytes. Default 4 MiB: a 1080p keyframe at the lowest quantiser stays below.
    pub video_bytes_max: u32,
    /// Largest patch message, bytes. Default 1 MiB.
    pub patches_bytes_max: u32,
    /// Largest model update, bytes. Default 16 MiB: EDSR baseline (1.4 M weights) as f32 is 6 MB.
    pub model_bytes_max: u32,
    /// How much media time of audio, video and patches is kept for slow readers, ms. Default 10 000.
    pub kept_ms: u64,
    /// What all tracks of this endpoint may keep, in all sessions together, bytes. Each track's newest group is kept
    /// beyond it. Default 256 MiB.
    pub cache_bytes_max: u64,
    /// Most concurrent streams that a peer may have open, each way. A group is a stream. Default 100: QUIC keeps some
    /// 80 bytes for each that may be opened.
    pub streams_max: u32,
    /// Most sessions on a server, those in their handshake included; more are refused. Default 256.
    pub sessions_max: u32,
    /// Most sessions of one IPv4 address, or of one /64 of IPv6; more are refused. Default 64.
    pub sessions_per_address_max: u32,
    /// Most broadcasts that senders have on a server at a time, and most of one session. Default 64 and 8.
    pub broadcasts_max: u32,
    /// See `broadcasts_max`.
    pub broadcasts_per_session_max: u32,
    /// Receive window of a connection, bytes: what a peer may have in flight to us. Default 4 MiB: 160 Mbit/s over a round
    /// trip of 200 ms.
    pub receive_window_bytes: u32,
    /// Send window of a connection, bytes: what is held for one peer until it acknowledges it, however slow it is. Default
    /// 4 MiB; below the largest model update, video waits while that leaves.
    pub send_window_bytes: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            catalog_bytes_max: 64 << 10,
            audio_bytes_max: 64 << 10,
            video_bytes_max: 4 << 20,
            patches_bytes_max: 1 << 20,
            model_bytes_max: 16 << 20,
            kept_ms: 10_000,
            cache_bytes_max: 256 << 20,
            streams_max: 100,
            sessions_max: 256,
            sessions_per_address_max: 64,
            broadcasts_max: 64,
            broadcasts_per_session_max: 8,
            receive_window_bytes: 4 << 20,
            send_window_bytes: 4 << 20,
        }
    }
}

impl Limits {
    /// The largest message on `track`, bytes.
    pub fn message_bytes_max(&self, track: Track) -> u64 {
        u64::from(match track {
            Track::Catalog => self.catalog_bytes_max,
            Track::Audio => self.audio_bytes_max,
            Track::Video => self.video_bytes_max,
            Track::Patches => self.patches_bytes_max,
            Track::Model => self.model_bytes_max,
        })
    }
}

impl EndpointConfig {
    /// Refuses values that cannot work, naming the field. [`Server::bind`](crate::Server::bind) and
    /// [`Client::connect`](crate::Client::connect) call it.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn validate(&self) -> Result<()> {
        let bad = |field, reason: &str| Err(Error::Config { field, reason: reason.to_owned() });
        // Longer than a day is a typing error, and keeps every sum of times far from overflow.
        const TIME_MS_MAX: u64 = 24 * 3600 * 1000;
        for (field, ms) in [
            ("idle_timeout_ms", self.idle_timeout_ms),
            ("connect_timeout_ms", self.connect_timeout_ms),
            ("shutdown_timeout_ms", self.shutdown_timeout_ms),
            ("limits.kept_ms", self.limits.kept_ms),
        ] {
            if !(1..=TIME_MS_MAX).contains(&ms) {
                return bad(field, "must be 1 ms to a day");
            }
        }
        if self.keep_alive_ms >= self.idle_timeout_ms / 2 && self.keep_alive_ms != 0 {
            return bad("keep_alive_ms", "must be less than half of idle_timeout_ms, or 0");
        }
        if !(1200..=65_527).contains(&self.datagram_size_max) {
            return bad("datagram_size_max", "must be 1200 to 65527 bytes");
        }
        for track in Track::ALL {
            let max = self.limits.message_bytes_max(track);
            if !(1..=crate::moq::GROUP_BYTES_MAX).contains(&max) {
                return bad("limits", "each *_bytes_max of a track must be 1 byte to 32 MiB");
            }
            if self.priorities.of(track) == 0 {
                return bad("priorities", "each must be 1 to 255: 0 asks for nothing");
            }
        }
        let Limits { streams_max, sessions_max, sessions_per_address_max, .. } = self.limits;
        if streams_max < 16 || sessions_max == 0 || sessions_per_address_max == 0 {
            return bad("limits", "streams_max must be at least 16, each sessions_*max at least 1");
        }
        if self.limits.receive_window_bytes < 1 << 16 || self.limits.send_window_bytes < 1 << 16 {
            return bad("limits", "receive_window_bytes and send_window_bytes must be at least 65536");
        }
        Ok(())
    }

    /// Refuses a server that would show a development certificate, or serve everybody, beyond this machine without
    /// having been told to.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub(crate) fn validate_server(&self) -> Result<()> {
        self.validate()?;
        let bad = |field, reason: &str| Err(Error::Config { field, reason: reason.to_owned() });
        let here = self.bind.ip().to_canonical().is_loopback();
        match self.certificate {
            Certificate::Unset => {
                return bad("certificate", "none is named; for tests on this machine, ask for \"dev\"");
            }
            Certificate::Dev if !here => {
                let reason = "\"dev\" is for loopback addresses; use files, or insist with \"dev_anywhere\"";
                return bad("certificate", reason);
            }
            _ => {}
        }
        if self.token_key.is_none() && !self.allow_anonymous && !here {
            let reason = "without a key file anybody could publish and view; make one with `hone token key`, \
                or set allow_anonymous = true";
            return bad("token_key", reason);
        }
        Ok(())
    }

    pub(crate) fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }

    pub(crate) fn shutdown_timeout(&self) -> Duration {
        Duration::from_millis(self.shutdown_timeout_ms)
    }
}
