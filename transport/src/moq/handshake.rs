//! From a connection to a session: WebTransport, the dialect, the token.

use super::{PROTOCOLS, gate::Gate};
use crate::{quic, token::Grant};
use std::time::Duration;
use web_transport_quinn::{Request, http::StatusCode, proto::ConnectResponse};

/// How long a refused peer may take to read why. Our end of the connection is gone with the answer if it closes first.
const REFUSAL_LINGER: Duration = Duration::from_millis(500);

/// Why a connection did not become a session.
pub(super) enum Failed {
    /// The peer left, or is not one of ours.
    Peer(String),
    /// It has no good token.
    Denied { reason: String, request: Box<Request> },
}

/// Said of one that took longer than it may.
pub(super) const TOO_SLOW: &str = "timed out";

/// From a QUIC connection to a WebTransport session, and what its token grants.
pub(super) async fn handshake(
    gate: &Gate,
    incoming: quinn::Incoming,
) -> Result<(web_transport_quinn::Session, Grant), Failed> {
    let peer = |e: &dyn std::fmt::Display| Failed::Peer(e.to_string());
    let connection = incoming.await.map_err(|e| peer(&e))?;
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
        Err(reason) => return Err(Failed::Denied { reason, request: Box::new(request) }),
    };
    let response = ConnectResponse::OK.with_protocol(protocol);
    Ok((request.respond(response).await.map_err(|e| peer(&e))?, grant))
}

/// Tells a peer that its token is not good, and lets it hang up first.
pub(super) async fn deny(request: Request) {
    let connection = request.conn().clone();
    // The peer may be gone.
    let _ = request.reject(StatusCode::UNAUTHORIZED).await;
    let _ = tokio::time::timeout(REFUSAL_LINGER, connection.closed()).await;
}
