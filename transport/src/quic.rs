//! From [`EndpointConfig`] to quinn's endpoints, and from quinn's errors to ours.

use crate::{
    EndpointConfig, Error, Result,
    config::{Congestion, Trust},
    congestion::TolerantConfig,
    tls,
};
use quinn::{
    ConnectionError, Endpoint, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt, congestion,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

/// TLS alerts arrive as QUIC errors from here on: RFC 9001, section 4.8.
const CRYPTO_ERROR: std::ops::Range<u64> = 0x100..0x200;
/// `no_application_protocol`: the peer speaks QUIC, but not HTTP/3.
const NO_APPLICATION_PROTOCOL: u64 = 0x100 + 120;

/// WebTransport requires datagrams to be supported, but nothing here travels in them.
const DATAGRAM_BUFFER_BYTES: usize = 64 << 10;

fn transport(config: &EndpointConfig) -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    match config.congestion {
        Congestion::LossTolerant => {
            transport.congestion_controller_factory(Arc::new(TolerantConfig::default()))
        }
        Congestion::Cubic => {
            transport.congestion_controller_factory(Arc::new(congestion::CubicConfig::default()))
        }
        Congestion::NewReno => {
            transport.congestion_controller_factory(Arc::new(congestion::NewRenoConfig::default()))
        }
    };
    // `validate` keeps the time below a day, far below the 2^62 ms of the wire.
    let idle = IdleTimeout::try_from(Duration::from_millis(config.idle_timeout_ms));
    transport.max_idle_timeout(Some(idle.expect("validated to be at most a day")));
    let keep_alive = (config.keep_alive_ms > 0).then(|| Duration::from_millis(config.keep_alive_ms));
    transport.keep_alive_interval(keep_alive);
    let discovery = (config.datagram_size_max > 1200).then(|| {
        let mut discovery = MtuDiscoveryConfig::default();
        discovery.upper_bound(config.datagram_size_max);
        discovery
    });
    transport.mtu_discovery_config(discovery);
    transport.enable_segmentation_offload(config.gso);
    transport.max_concurrent_uni_streams(VarInt::from_u32(config.limits.streams_max));
    transport.max_concurrent_bidi_streams(VarInt::from_u32(config.limits.streams_max));
    transport.receive_window(VarInt::from_u32(config.limits.receive_window_bytes));
    transport.send_window(config.limits.send_window_bytes.into());
    transport.datagram_receive_buffer_size(Some(DATAGRAM_BUFFER_BYTES));
    Arc::new(transport)
}

/// What a server does with new connections, and the SHA-256 of its certificate.
pub(crate) fn server(config: &EndpointConfig) -> Result<(quinn::ServerConfig, [u8; 32])> {
    let (tls, hash) = tls::server(&config.certificate)?;
    let tls = QuicServerConfig::try_from(tls)
        .map_err(|e| Error::Config { field: "certificate", reason: e.to_string() })?;
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(tls));
    server.transport_config(transport(config));
    Ok((server, hash))
}

/// A listening endpoint.
pub(crate) fn listen(server: quinn::ServerConfig, addr: SocketAddr) -> Result<Endpoint> {
    Endpoint::server(server, addr).map_err(|source| Error::Bind { addr, source })
}

/// An endpoint that can dial `remote`: an unspecified local address follows the family of the remote one.
pub(crate) fn dialer(config: &EndpointConfig, remote: SocketAddr) -> Result<Endpoint> {
    let tls = QuicClientConfig::try_from(tls::client(&config.trust)?)
        .map_err(|e| Error::Config { field: "trust", reason: e.to_string() })?;
    let mut client = quinn::ClientConfig::new(Arc::new(tls));
    client.transport_config(transport(config));
    let mut bind = config.bind;
    if remote.is_ipv6() && bind.ip().is_unspecified() {
        bind.set_ip(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    }
    let mut endpoint = Endpoint::client(bind).map_err(|source| Error::Bind { addr: bind, source })?;
    endpoint.set_default_client_config(client);
    Ok(endpoint)
}

/// Whether WebTransport may be started: web-transport-quinn panics if the peer did not offer datagrams.
pub(crate) fn has_datagrams(connection: &quinn::Connection) -> bool {
    connection.max_datagram_size().is_some()
}

/// What a failed dial means to the person who typed the address.
pub(crate) fn dial_error(config: &EndpointConfig, addr: &str, error: &ConnectionError) -> Error {
    let addr = addr.to_owned();
    match error {
        ConnectionError::TimedOut => Error::NoAnswer { addr, timeout_ms: config.connect_timeout_ms },
        ConnectionError::TransportError(e) => match u64::from(e.code) {
            NO_APPLICATION_PROTOCOL => Error::Handshake { addr, reason: e.reason.clone() },
            code if CRYPTO_ERROR.contains(&code) => {
                // rustls prefixes what is not its own finding.
                let reason = e.reason.trim_start_matches("unexpected error: ").to_owned();
                let hint = match config.trust {
                    Trust::System => "; for a development certificate, pin the hash that the server prints",
                    Trust::CaFile(_) | Trust::Pinned(_) => "",
                };
                Error::Certificate { addr, reason: reason + hint }
            }
            _ => Error::Handshake { addr, reason: e.to_string() },
        },
        ConnectionError::ConnectionClosed(close) if u64::from(close.error_code) == 0x2 => Error::Full,
        _ => Error::Handshake { addr, reason: error.to_string() },
    }
}
