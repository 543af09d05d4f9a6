//! The listening end.

use super::{
    CODE_EXPIRED, CODE_FORBIDDEN, CODE_FULL, CODE_REFUSED, Life, Publisher, Subscription,
    gate::{Complaint, Counts, Gate, Place, ServerStats, patterns},
    handshake::{Failed, TOO_SLOW, deny, handshake},
    new_origin, new_pool,
    owners::Owners,
    publish::Draining,
    split_path,
};
use crate::{EndpointConfig, Error, Result, Track, config::Certificate, quic, token::Grant};
use moq_net::{SessionError, cache, origin, stats, time};
use std::{
    collections::{BTreeMap, HashSet},
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};
use tokio::{
    sync::{Mutex as AsyncMutex, mpsc, watch},
    task::JoinSet,
    time::Instant,
};

/// Broadcasts that wait for [`Server::incoming`]; a program that does not take them has stopped.
const INCOMING_WAITING_MAX: usize = 16;

/// Listens for senders and viewers. Dropping it ends every session and task at once; [`close`](Self::close) first
/// delivers what was written.
pub struct Server {
    shared: Arc<Shared>,
    endpoint: quinn::Endpoint,
    local_addr: SocketAddr,
    certificate_hash: [u8; 32],
    /// TLS as it was at the start.
    crypto: Arc<dyn quinn::crypto::ServerConfig>,
    incoming: AsyncMutex<mpsc::Receiver<Subscription>>,
    /// For what comes from relays; the accept task has those that keep the channel open.
    announcing: mpsc::WeakSender<Subscription>,
    closing: watch::Sender<Life>,
    /// The accept task, taken by `close`.
    accepting: AsyncMutex<JoinSet<()>>,
    _driver: JoinSet<()>,
}

pub(super) struct Shared {
    pub(super) gate: Arc<Gate>,
    /// Counts what each viewer gets of each broadcast.
    stats: stats::Registry,
    /// What viewers may read: only what the server itself published.
    pub(super) published: origin::Producer,
    /// The memory of everything that is kept here.
    pub(super) pool: cache::Pool,
    draining: Draining,
    pub(super) owners: Owners,
}

/// The viewers of one broadcast.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Viewers {
    /// Sessions that read it now.
    pub now: u64,
    /// Payload bytes handed to them so far; begins anew when the broadcast does.
    pub bytes: u64,
    /// Groups that slow viewers left out so far.
    pub skipped_groups: u64,
}

impl Server {
    /// Binds [`EndpointConfig::bind`] and starts to accept sessions.
    ///
    /// # Errors
    /// [`Error::Bind`], [`Error::Config`], [`Error::CertificateFile`], [`Error::KeyFile`].
    pub async fn bind(config: &EndpointConfig) -> Result<Self> {
        config.validate_server()?;
        let gate = Arc::new(Gate::new(config)?);
        let (server, certificate_hash) = quic::server(config)?;
        let crypto = server.crypto.clone();
        let endpoint = quic::listen(server, config.bind)?;
        let local_addr = endpoint.local_addr().map_err(|source| Error::Bind { addr: config.bind, source })?;
        let pool = new_pool(config);
        let (published, driver) = new_origin(config, &pool);
        let (announced, incoming) = mpsc::channel(INCOMING_WAITING_MAX);
        let shared = Arc::new(Shared {
            gate,
            stats: stats::Registry::new(stats::Config::new()),
            published,
            pool,
            draining: Draining::default(),
            owners: Owners::default(),
        });
        let (closing, closed) = watch::channel(Life::Open);
        let (mut accepting, mut drivers) = (JoinSet::new(), JoinSet::new());
        drivers.spawn(async { drop(time::run(driver).await) });
        let announcing = announced.downgrade();
        accepting.spawn(accept(shared.clone(), endpoint.clone(), announced, closed));
        tracing::info!(%local_addr, "listening");
        let incoming = AsyncMutex::new(incoming);
        Ok(Self {
            shared,
            endpoint,
            local_addr,
            certificate_hash,
            crypto,
            incoming,
            announcing,
            closing,
            accepting: AsyncMutex::new(accepting),
            _driver: drivers,
        })
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// What [`incoming`](Self::incoming) gives; none when that has ended.
    pub(super) fn announcing(&self) -> Option<mpsc::Sender<Subscription>> {
        self.announcing.upgrade()
    }

    /// The address that the server listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// SHA-256 of the certificate, for clients to pin; [`hex`](crate::hex) prints it.
    pub fn certificate_hash(&self) -> [u8; 32] {
        self.certificate_hash
    }

    /// Takes certificate, keys and limits from `config` for every session that comes from now on; those that are open
    /// go on. The address cannot change, nor a certificate for development. On an error everything stays as it was.
    ///
    /// # Errors
    /// [`Error::Config`], [`Error::CertificateFile`], [`Error::KeyFile`].
    pub fn reload(&self, config: &EndpointConfig) -> Result<()> {
        config.validate_server()?;
        let (mut server, _) = quic::server(config)?;
        if matches!(config.certificate, Certificate::Dev | Certificate::DevAnywhere) {
            // Clients have pinned the one that was made first.
            server.crypto = self.crypto.clone();
        }
        self.shared.gate.reload(config)?;
        self.shared.pool.resize(config.limits.cache_bytes_max);
        self.endpoint.set_server_config(Some(server));
        Ok(())
    }

    /// Lets nobody in any more; sessions that are open go on.
    pub fn stop_accepting(&self) {
        self.endpoint.set_server_config(None);
    }

    /// Who is here, and who was refused.
    pub fn stats(&self) -> ServerStats {
        let counts = &self.shared.gate.counts;
        ServerStats {
            sessions: self.shared.gate.taken(),
            broadcasts: self.shared.owners.count() as u64,
            opened: counts.opened.load(Ordering::Relaxed),
            refused_full: counts.refused_full.load(Ordering::Relaxed),
            refused_token: counts.refused_token.load(Ordering::Relaxed),
            failed_handshakes: counts.failed_handshakes.load(Ordering::Relaxed),
            cached_bytes: self.shared.pool.used(),
        }
    }

    /// The viewers of each broadcast that has had any. To be called now and then: what is gone is forgotten here.
    pub fn viewers(&self) -> BTreeMap<String, Viewers> {
        let mut report = stats::Report::default();
        self.shared.stats.report(&mut report);
        let mut viewers = BTreeMap::<String, Viewers>::new();
        for entry in &report.traffic {
            let Some((name, _)) = split_path(entry.path.as_str()) else { continue };
            let of = &entry.publisher;
            if of.broadcasts_started > 0 {
                let sum = viewers.entry(name.to_owned()).or_default();
                sum.now += of.active_broadcasts();
                sum.bytes += of.bytes;
                sum.skipped_groups += of.stale.groups;
            }
        }
        viewers
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
        let Shared { published, gate, draining, .. } = &*self.shared;
        Publisher::new(published, &gate.config(), draining, name, tracks)
    }

    /// Delivers what was written to tracks whose writers are dropped, then ends every session. Waits at most
    /// [`EndpointConfig::shutdown_timeout_ms`], and a second for the last acknowledgements.
    pub async fn close(&self) {
        let timeout = self.shared.gate.config().shutdown_timeout();
        self.shared.draining.wait(timeout).await;
        self.closing.send_replace(Life::Closed);
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
    mut closing: watch::Receiver<Life>,
) {
    let mut sessions = JoinSet::new();
    loop {
        let incoming = tokio::select! {
            incoming = endpoint.accept() => incoming,
            Some(_) = sessions.join_next() => continue,
            _ = closing.changed() => break,
        };
        let Some(incoming) = incoming else { break };
        let remote = incoming.remote_address();
        if incoming.may_retry() && shared.gate.busy() {
            // Costs the peer a round trip, and shows that it is where it says.
            let _ = incoming.retry();
            continue;
        }
        let place = match shared.gate.enter(remote.ip()) {
            Ok(place) => place,
            Err(complaint) => {
                if let Some(times) = shared.gate.complain(complaint, remote.ip()) {
                    match complaint {
                        Complaint::Share => {
                            tracing::warn!(%remote, times, "address has its share, session refused");
                        }
                        _ => tracing::warn!(%remote, times, "server full, session refused"),
                    }
                }
                Counts::one(&shared.gate.counts.refused_full);
                incoming.refuse();
                continue;
            }
        };
        sessions.spawn(session(shared.clone(), incoming, announced.clone(), closing.clone(), place));
    }
    drop(announced);
    while sessions.join_next().await.is_some() {}
}

async fn session(
    shared: Arc<Shared>,
    incoming: quinn::Incoming,
    announced: mpsc::Sender<Subscription>,
    closing: watch::Receiver<Life>,
    place: Place,
) {
    let remote = incoming.remote_address();
    let (config, counts) = (shared.gate.config(), &shared.gate.counts);
    // A peer that starts a handshake and stops must not hold its place.
    let handshake = tokio::time::timeout(config.connect_timeout(), handshake(&shared.gate, incoming)).await;
    let (transport, grant) = match handshake.unwrap_or_else(|_| Err(Failed::Peer(TOO_SLOW.into()))) {
        Ok(opened) => opened,
        Err(Failed::Denied { complaint, reason, request }) => {
            Counts::one(&counts.refused_token);
            if let Some(times) = shared.gate.complain(complaint, remote.ip()) {
                tracing::warn!(%remote, reason, times, "session refused");
            }
            return deny(*request).await;
        }
        Err(Failed::Peer(reason)) => return shared.gate.handshake_failed(remote, &reason),
        Err(Failed::Left) => return tracing::debug!(%remote, "left in its handshake"),
    };
    let id = transport.stable_id();
    // moq-net would say the code alone, and not why.
    let close = transport.clone();
    let (ingest, ingest_driver) = new_origin(&config, &shared.pool);
    let mut server = moq_net::Server::new().with_subscriber(ingest.clone()).with_stats(shared.egress());
    // What a token does not cover is not there for its holder.
    if let Ok(served) = shared.published.consume().scope("", &patterns(&grant.view)) {
        server = server.with_publisher(&served);
    }
    // The peer's SETUP is awaited here.
    let accepted = server.accept_lite(Instant::now().into_std(), transport);
    let accepted = match tokio::time::timeout(config.connect_timeout(), accepted).await {
        Ok(Ok(accepted)) => Ok(accepted),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(TOO_SLOW.to_owned()),
    };
    let (session, driver) = match accepted {
        Ok(accepted) => accepted,
        Err(reason) => return shared.gate.handshake_failed(remote, &reason),
    };
    Counts::one(&counts.opened);
    tracing::info!(%remote, version = %session.version(), "session opened");
    // Dropped, and so aborted, with this task.
    let (mut transport_driver, mut ingest_tail) = (JoinSet::new(), JoinSet::new());
    transport_driver.spawn(async { drop(time::run(driver).await) });
    ingest_tail.spawn(async { drop(time::run(ingest_driver).await) });
    let served = ingest.consume();
    let (refusals, mut refused) = mpsc::channel(1);
    let to_program = ToProgram { announced: &announced, closing: &closing, refusals };
    let watched = watch_announcements(&shared, &served, &to_program, &session, id, &grant);
    let mut closing = closing.clone();
    tokio::select! {
        () = end_of(&grant) => {
            tracing::info!(%remote, "token expired, session closed");
            end(&session, CODE_EXPIRED).await;
        }
        Some(reason) = refused.recv() => {
            tracing::info!(%remote, reason, "stream refused, session closed");
            close.close(SessionError::App(CODE_REFUSED).to_code(), reason.as_bytes());
            session.closed().await;
        }
        error = session.closed() => tracing::info!(%remote, %error, "session closed"),
        () = watched => {}
        _ = closing.changed() => drop(session.clone().close().await),
    }
    shared.owners.leave(id);
    drop((transport_driver, session, ingest, announced, place));
    // The origin ends the tracks of the session, and itself, once nothing can write into it.
    tokio::select! {
        _ = ingest_tail.join_next() => {}
        _ = closing.wait_for(|life| *life != Life::Open) => {}
    }
}

/// Until a grant is over.
async fn end_of(grant: &Grant) {
    // Timers count on while a clock is set: looked at again from time to time.
    const LOOK: Duration = Duration::from_secs(60);
    let Some(until) = grant.until else { return std::future::pending().await };
    while let Ok(left) = until.duration_since(SystemTime::now()) {
        tokio::time::sleep(left.min(LOOK) + Duration::from_millis(1)).await;
    }
}

impl Shared {
    /// Counts for one session.
    pub(super) fn egress(&self) -> stats::Session {
        self.stats.tier(stats::Tier::default()).session("")
    }
}

/// What a session gives the program: its broadcasts, and what they need.
struct ToProgram<'a> {
    announced: &'a mpsc::Sender<Subscription>,
    closing: &'a watch::Receiver<Life>,
    /// Why the program refuses one of them.
    refusals: mpsc::Sender<String>,
}

/// Hands every broadcast that the peer announces to [`Server::incoming`].
async fn watch_announcements(
    shared: &Shared,
    ingest: &origin::Consumer,
    to: &ToProgram<'_>,
    session: &moq_net::Session,
    id: usize,
    grant: &Grant,
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
            shared.owners.disown(name, instance, id);
            continue;
        }
        // A route that changed is announced again.
        if live.contains(&path) {
            continue;
        }
        if !grant.publish.covers(name) {
            tracing::warn!(name, "token does not let its holder publish this, session closed");
            Counts::one(&shared.gate.counts.refused_token);
            return end(session, CODE_FORBIDDEN).await;
        }
        let config = shared.gate.config();
        let limits = config.limits;
        let Ok(broadcast) = ingest.request_broadcast(&*path).await else { continue };
        let room = shared.owners.has_room(name, limits.broadcasts_max)
            && live.len() < limits.broadcasts_per_session_max as usize;
        if room && !shared.owners.own(name, instance, Some(session), id) {
            continue;
        }
        let subscription = Subscription::new((name, instance), broadcast, &config, to.closing.clone())
            .refused_by(to.refusals.clone());
        if !room || to.announced.try_send(subscription).is_err() {
            tracing::warn!(name, "no room for another broadcast");
            Counts::one(&shared.gate.counts.refused_full);
            return end(session, CODE_FULL).await;
        }
        tracing::info!(name, "broadcast announced");
        live.insert(path);
    }
}

/// Closes a session with one of our codes.
async fn end(session: &moq_net::Session, code: u16) {
    session.abort(moq_net::Error::App(code));
    // The driver has yet to send it.
    session.closed().await;
}
