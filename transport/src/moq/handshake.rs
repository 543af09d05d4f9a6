//! From a connection to a session: WebTransport, the dialect, the token.

use super::{
    PROTOCOLS,
    gate::{Complaint, Gate},
};
use crate::{quic, token::Grant};
use std::time::Duration;
use web_transport_quinn::{Request, http::StatusCode, proto::ConnectResponse};

/// How long a refused peer may take to read why. Our end of the connection is gone with the answer if it closes first.
const REFUSAL_LINGER: Duration = Duration::from_millis(500);

/// Why a connection did not become a session.
pub(super) enum Failed {
    /// The peer is too slow, or not one of ours.
    Peer(String),
    /// The peer has hung up: one that dials twice at a time needs one answer.
    Left,
    /// It has no good token.
    Denied { complaint: Complaint, reason: String, request: Box<Request> },
}

/// Said of one that took longer than it may.
pub(super) const TOO_SLOW: &str = "timed out";

/// From a QUIC connection to a WebTransport session, and what its token grants.
pub(super) async fn handshake(
    gate: &Gate,
    incoming: quinn::Incoming,
) -> Result<(web_transport_quinn::Session, Grant), Failed> {
    let connection = incoming.await.map_err(|error| match hung_up(&error) {
        true => Failed::Left,
        false => Failed::Peer(error.to_string()),
    })?;
    let ours = connection.clone();
    let peer = |e: &dyn std::fmt::Display| match ours.close_reason() {
        Some(reason) if hung_up(&reason) => Failed::Left,
        _ => Failed::Peer(e.to_string()),
    };
    if !quic::has_datagrams(&connection) {
        return Err(Failed::Peer("no datagram support".to_owned()));
    }
    let request = Request::accept(connection).await.map_err(|e| peer(&e))?;
    let offered = |protocol: &&str| request.protocols.iter().any(|offer| offer == protocol);
    let Some(protocol) = PROTOCOLS.into_iter().find(offered) else {
        let reason = format!("no common protocol in {:?}", request.protocols);
        // The peer may be gone; the reason is ours to tell either way.
        let _ = request.reject(StatusCode::BAD_REQUEST).await;
        return Err(Failed::Peer(reason));
    };
    let token = request.url.query_pairs().find(|(key, _)| key == "jwt").map(|(_, token)| token.into_owned());
    let grant = match gate.grant(token.as_deref()) {
        Ok(grant) => grant,
        Err((complaint, reason)) => {
            return Err(Failed::Denied { complaint, reason, request: Box::new(request) });
        }
    };
    let response = ConnectResponse::OK.with_protocol(protocol);
    Ok((request.respond(response).await.map_err(|e| peer(&e))?, grant))
}

/// Whether a peer has ended a connection without a complaint. Before it has all keys, QUIC sends the program's code as
/// `APPLICATION_ERROR`.
fn hung_up(error: &quinn::ConnectionError) -> bool {
    use quinn::{ConnectionError, TransportErrorCode};
    match error {
        ConnectionError::ApplicationClosed(_) => true,
        ConnectionError::ConnectionClosed(close) => {
            matches!(close.error_code, TransportErrorCode::NO_ERROR | TransportErrorCode::APPLICATION_ERROR)
        }
        _ => false,
    }
}

/// Tells a peer that its token is not good, and lets it hang up first.
pub(super) async fn deny(request: Request) {
    let connection = request.conn().clone();
    // The peer may be gone.
    let _ = request.reject(StatusCode::UNAUTHORIZED).await;
    let _ = tokio::time::timeout(REFUSAL_LINGER, connection.closed()).await;
}
