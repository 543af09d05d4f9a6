//! A relay in process, for tests: one origin, which every session reads and writes below the path that it dialled. It asks
//! for no tokens. The real one is `moq-relay`.

use super::{Life, PROTOCOLS, new_origin, new_pool};
use crate::{EndpointConfig, Result, quic};
use moq_net::{Pattern, Patterns, origin, time};
use std::net::SocketAddr;
use tokio::{sync::watch, task::JoinSet, time::Instant};
use web_transport_quinn::{Request, proto::ConnectResponse};

/// Runs until it is dropped.
pub struct TestRelay {
    /// Where it listens.
    pub addr: SocketAddr,
    /// SHA-256 of its certificate.
    pub certificate_hash: [u8; 32],
    endpoint: quinn::Endpoint,
    _open: watch::Sender<Life>,
    _tasks: JoinSet<()>,
}

impl TestRelay {
    /// Listens as `config` says.
    ///
    /// # Errors
    /// Those of [`Server::bind`](crate::Server::bind).
    pub async fn bind(config: &EndpointConfig) -> Result<Self> {
        let (server, certificate_hash) = quic::server(config)?;
        let endpoint = quic::listen(server, config.bind)?;
        let addr = endpoint.local_addr().unwrap_or(config.bind);
        let (all, driver) = new_origin(config, &new_pool(config));
        let (open, closed) = watch::channel(Life::Open);
        let mut tasks = JoinSet::new();
        tasks.spawn(async { drop(time::run(driver).await) });
        tasks.spawn(accept(endpoint.clone(), all, closed));
        Ok(Self { addr, certificate_hash, endpoint, _open: open, _tasks: tasks })
    }
}

impl Drop for TestRelay {
    fn drop(&mut self) {
        self.endpoint.close(quinn::VarInt::from_u32(0), b"relay closed");
    }
}

async fn accept(endpoint: quinn::Endpoint, all: origin::Producer, mut closed: watch::Receiver<Life>) {
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            incoming = endpoint.accept() => match incoming {
                Some(incoming) => _ = sessions.spawn(session(incoming, all.clone())),
                None => return,
            },
            Some(_) = sessions.join_next() => {}
            _ = closed.changed() => return,
        }
    }
}

async fn session(incoming: quinn::Incoming, all: origin::Producer) {
    let Ok(connection) = incoming.await else { return };
    let Ok(request) = Request::accept(connection).await else { return };
    let everything: Patterns = [Pattern::all()].into_iter().collect();
    let Ok(below) = all.scope(request.url.path().trim_matches('/'), &everything) else { return };
    let offered = |protocol: &&str| request.protocols.iter().any(|offer| offer == protocol);
    let Some(protocol) = PROTOCOLS.into_iter().find(offered) else { return };
    let Ok(transport) = request.respond(ConnectResponse::OK.with_protocol(protocol)).await else { return };
    let server = moq_net::Server::new().with_publisher(&below).with_subscriber(below);
    if let Ok((session, driver)) = server.accept_lite(Instant::now().into_std(), transport).await {
        let mut drivers = JoinSet::new();
        drivers.spawn(async { drop(time::run(driver).await) });
        session.closed().await;
    }
}
