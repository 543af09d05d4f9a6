//! The listening end.

use super::{
    CODE_FULL, CODE_REPLACED, PROTOCOLS, Publisher, Subscription, new_origin, publish::Draining, split_path,
};
use crate::{EndpointConfig, Error, Result, Track, quic};
use moq_net::{origin, time};
use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{
    sync::{Mutex as AsyncMutex, OwnedSemaphorePermit, Semaphore, mpsc, watch},
    task::JoinSet,
    time::Instant,
};
use web_transport_quinn::{Request, proto::ConnectResponse};

/// Broadcasts that wait for [`Server::incoming`]; a program that does not take them has stopped.
const INCOMING_WAITING_MAX: usize = 16;
/// Broadcasts of one session at a time. A sender has one; a few more serve a multi-camera one.
const SESSION_BROADCASTS_MAX: usize = 8;

/// Listens for senders and viewers. Dropping it ends every session and task at once; [`close`](Self::close) first
/// delivers what was written.
pub struct Server {
    shared: Arc<Shared>,
    endpoint: quinn::Endpoint,
    local_addr: SocketAddr,
    certificate_hash: [u8; 32],
    incoming: AsyncMutex<mpsc::Receiver<Subscription>>,
    closing: watch::Sender<bool>,
    /// The accept task, taken by `close`.
    accepting: AsyncMutex<JoinSet<()>>,
    _driver: JoinSet<()>,
}

struct Shared {
    config: Arc<EndpointConfig>,
    /// What viewers may read: only what the server itself published.
    published: origin::Producer,
    draining: Draining,
    /// The session that owns each name.
    owners: Mutex<HashMap<String, Owner>>,
}

struct Owner {
    instance: u64,
    session: moq_net::Session,
    id: usize,
}

impl Server {
    /// Binds [`EndpointConfig::bind`] and starts to accept sessions.
    ///
    /// # Errors
    /// [`Error::Bind`], [`Error::Config`], [`Error::CertificateFile`].
    pub async fn bind(config: &EndpointConfig) -> Result<Self> {
        config.validate()?;
        let (endpoint, certificate_hash) = quic::listen(config)?;
        let local_addr = endpoint.local_addr().map_err(|source| Error::Bind { addr: config.bind, source })?;
        let (published, driver) = new_origin(config);
        let (announced, incoming) = mpsc::channel(INCOMING_WAITING_MAX);
        let shared = Arc::new(Shared {
            config: Arc::new(config.clone()),
            published,
            draining: Draining::default(),
            owners: Mutex::default(),
        });
        let (closing, closed) = watch::channel(false);
        let (mut accepting, mut drivers) = (JoinSet::new(), JoinSet::new());
        drivers.spawn(async { drop(time::run(driver).await) });
        accepting.spawn(accept(shared.clone(), endpoint.clone(), announced, closed));
        tracing::info!(%local_addr, "listening");
        let incoming = AsyncMutex::new(incoming);
        Ok(Self {
            shared,
            endpoint,
            local_addr,
            certificate_hash,
            incoming,
            closing,
            accepting: AsyncMutex::new(accepting),
            _driver: drivers,
        })
    }

    /// The address that the server listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// SHA-256 of the certificate, for clients to pin; [`hex`](crate::hex) prints it.
    pub fn certificate_hash(&self) -> [u8; 32] {
        self.certificate_hash
    }

    /// The next broadcast that a sender announces; `None` after [`close`](Self::close).
    ///
    /// If two sessions announce the same name, the newest wins: the older session is closed with
    /// [`Error::Replaced`] and its readers end. A camera that lost its link and dialled again must not wait until
    /// its own dead session times out.
    pub async fn incoming(&self) -> Option<Subscription> {
        self.incoming.lock().await.recv().await
    }

    /// Publishes a broadcast with these tracks to viewers; take their writers with [`Publisher::track`]. If the
    /// name is published already, new viewers get the newest.
    ///
    /// # Errors
    /// [`Error::Name`].
    pub fn publish(&self, name: &str, tracks: &[Track]) -> Result<Publisher> {
        let Shared { published, config, draining, .. } = &*self.shared;
        Publisher::new(published, config, draining, name, tracks)
    }

    /// Delivers what was written to tracks whose writers are dropped, then ends every session. Waits at most
    /// [`EndpointConfig::shutdown_timeout_ms`], and a second for the last acknowledgements.
    pub async fn close(&self) {
        let timeout = self.shared.config.shutdown_timeout();
        self.shared.draining.wait(timeout).await;
        self.closing.send_replace(true);
        // The accept task ends when its sessions have; a session drains for at most a second.
        let _ = tokio::time::timeout(timeout, self.accepting.lock().await.join_next()).await;
        self.endpoint.close(quinn::VarInt::from_u32(0), b"server closed");
        let _ = tokio::time::timeout(timeout, self.endpoint.wait_idle()).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.endpoint.close(quinn::VarInt::from_u32(0), b"server closed");
    }
}

async fn accept(
    shared: Arc<Shared>,
    endpoint: quinn::Endpoint,
    announced: mpsc::Sender<Subscription>,
    mut closing: watch::Receiver<bool>,
) {
    let room = Arc::new(Semaphore::new(shared.config.limits.sessions_max as usize));
    let mut sessions = JoinSet::new();
    loop {
        let incoming = tokio::select! {
            incoming = endpoint.accept() => incoming,
            Some(_) = sessions.join_next() => continue,
            _ = closing.changed() => break,
        };
        let Some(incoming) = incoming else { break };
        let Ok(room) = room.clone().try_acquire_owned() else {
            tracing::warn!(remote = %incoming.remote_address(), "server full, session refused");
            incoming.refuse();
            continue;
        };
        sessions.spawn(session(shared.clone(), incoming, announced.clone(), closing.clone(), room));
    }
    drop(announced);
    while sessions.join_next().await.is_some() {}
}

async fn session(
    shared: Arc<Shared>,
    incoming: quinn::Incoming,
    announced: mpsc::Sender<Subscription>,
    closing: watch::Receiver<bool>,
    room: OwnedSemaphorePermit,
) {
    let remote = incoming.remote_address();
    // A peer that starts a handshake and stops must not hold its place.
    let handshake = tokio::time::timeout(shared.config.connect_timeout(), handshake(incoming)).await;
    let transport = match handshake {
        Ok(Ok(transport)) => transport,
        Ok(Err(reason)) => return tracing::debug!(%remote, reason, "handshake failed"),
        Err(_) => return tracing::debug!(%remote, "handshake timed out"),
    };
    let id = transport.stable_id();
    let (ingest, ingest_driver) = new_origin(&shared.config);
    let server = moq_net::Server::new().with_publisher(&shared.published).with_subscriber(ingest.clone());
    // The peer's SETUP is awaited here.
    let accepted = server.accept_lite(Instant::now().into_std(), transport);
    let accepted = match tokio::time::timeout(shared.config.connect_timeout(), accepted).await {
        Ok(Ok(accepted)) => accepted,
        Ok(Err(error)) => return tracing::debug!(%remote, %error, "handshake failed"),
        Err(_) => return tracing::debug!(%remote, "handshake timed out"),
    };
    let (session, driver) = accepted;
    tracing::info!(%remote, version = %session.version(), "session opened");
    // Dropped, and so aborted, with this task.
    let (mut transport_driver, mut ingest_tail) = (JoinSet::new(), JoinSet::new());
    transport_driver.spawn(async { drop(time::run(driver).await) });
    ingest_tail.spawn(async { drop(time::run(ingest_driver).await) });
    let served = ingest.consume();
    let watched = watch_announcements(&shared, &served, &announced, &closing, &session, id);
    let mut closing = closing.clone();
    tokio::select! {
        error = session.closed() => tracing::info!(%remote, %error, "session closed"),
        () = watched => {}
        _ = closing.changed() => drop(session.clone().close().await),
    }
    shared.owners().retain(|_, owner| owner.id != id);
    drop((transport_driver, session, ingest, announced, room));
    // The origin ends the tracks of the session, and itself, once nothing can write into it.
    tokio::select! {
        _ = ingest_tail.join_next() => {}
        _ = closing.wait_for(|closing| *closing) => {}
    }
}

async fn handshake(incoming: quinn::Incoming) -> Result<web_transport_quinn::Session, String> {
    let connection = incoming.await.map_err(|e| e.to_string())?;
    if !quic::has_datagrams(&connection) {
        return Err("no datagram support".to_owned());
    }
    let request = Request::accept(connection).await.map_err(|e| e.to_string())?;
    let offered = |protocol: &&str| request.protocols.iter().any(|offer| offer == protocol);
    let Some(protocol) = PROTOCOLS.into_iter().find(offered) else {
        let reason = format!("no common protocol in {:?}", request.protocols);
        // The peer may be gone; the reason is ours to tell either way.
        let _ = request.reject(web_transport_quinn::http::StatusCode::BAD_REQUEST).await;
        return Err(reason);
    };
    let response = ConnectResponse::OK.with_protocol(protocol);
    request.respond(response).await.map_err(|e| e.to_string())
}

impl Shared {
    fn owners(&self) -> MutexGuard<'_, HashMap<String, Owner>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes `session` the owner of `name`, and closes the session that was. `false` if a newer one has it.
    fn own(&self, name: &str, instance: u64, session: &moq_net::Session, id: usize) -> bool {
        let mut owners = self.owners();
        if let Some(owner) = owners.get(name)
            && owner.id != id
        {
            tracing::warn!(name, "broadcast taken over by a newer session");
            owner.session.abort(moq_net::Error::App(CODE_REPLACED));
        } else if owners.get(name).is_some_and(|owner| owner.instance > instance) {
            return false;
        }
        owners.insert(name.to_owned(), Owner { instance, session: session.clone(), id });
        true
    }

    fn disown(&self, name: &str, instance: u64, id: usize) {
        let mut owners = self.owners();
        if owners.get(name).is_some_and(|owner| owner.id == id && owner.instance == instance) {
            owners.remove(name);
        }
    }
}

/// Hands every broadcast that the peer announces to [`Server::incoming`].
async fn watch_announcements(
    shared: &Shared,
    ingest: &origin::Consumer,
    incoming: &mpsc::Sender<Subscription>,
    closing: &watch::Receiver<bool>,
    session: &moq_net::Session,
    id: usize,
) {
    let mut announced = ingest.announced();
    let mut live = HashSet::new();
    while let Some(update) = announced.next().await {
        let path = update.prefix.as_str().to_owned();
        let Some((name, instance)) = split_path(&path) else {
            tracing::debug!(path, "announced path ignored");
            continue;
        };
        if !update.kind.is_active() {
            live.remove(&path);
            shared.disown(name, instance, id);
            continue;
        }
        // A route that changed is announced again.
        if live.contains(&path) {
            continue;
        }
        let Ok(broadcast) = ingest.request_broadcast(&*path).await else { continue };
        if !shared.own(name, instance, session, id) {
            continue;
        }
        let subscription = Subscription::new((name, instance), broadcast, &shared.config, closing.clone());
        if live.len() >= SESSION_BROADCASTS_MAX || incoming.try_send(subscription).is_err() {
            tracing::warn!(name, "no room for another broadcast");
            session.abort(moq_net::Error::App(CODE_FULL));
            // The driver has yet to send it.
            session.closed().await;
            return;
        }
        tracing::info!(name, "broadcast announced");
        live.insert(path);
    }
}
