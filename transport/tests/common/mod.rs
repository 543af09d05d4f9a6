//! A server, and clients that pin its certificate.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod raw;

use bytes::Bytes;
use hone_transport::{
    Client, Delivery, EndpointConfig, Message, Server, Track, TrackReader,
    config::{Certificate, Trust},
    hex,
};
use std::{future::Future, net::SocketAddr, time::Duration};

/// What may take longest on a loaded machine, and still ends the test before the runner does.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs `future`, and panics if it hangs.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: nothing after {PATIENCE:?}"),
    }
}

pub fn config() -> EndpointConfig {
    let bind = SocketAddr::from(([127, 0, 0, 1], 0));
    EndpointConfig { bind, certificate: Certificate::Dev, ..EndpointConfig::default() }
}

pub fn trusting(server: &Server) -> EndpointConfig {
    EndpointConfig { trust: Trust::Pinned(vec![hex(&server.certificate_hash())]), ..config() }
}

pub async fn server() -> Server {
    Server::bind(&config()).await.unwrap()
}

pub async fn client(server: &Server) -> Client {
    dial(server, server.local_addr()).await
}

pub async fn dial(server: &Server, addr: SocketAddr) -> Client {
    soon("connect", Client::connect(&trusting(server), &addr.to_string())).await.unwrap()
}

/// Bytes that differ for every (seed, length).
pub fn payload(seed: u64, bytes: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[7]
    };
    (0..bytes).map(next).collect()
}

pub async fn next(reader: &mut TrackReader) -> Message {
    soon("message", reader.next()).await.unwrap().expect("the track goes on")
}

pub const LIVE: Delivery = Delivery::Latest { max_age: Duration::from_millis(500) };

pub const ALL_TRACKS: [Track; 5] = Track::ALL;
