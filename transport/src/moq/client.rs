//! A sender's or a viewer's connection to a server.

use super::{
    CODE_REFUSED, Life, PROTOCOLS, Publisher, Subscription, ended, new_origin, new_pool, publish::Draining,
    split_path,
};
use crate::{EndpointConfig, Error, Result, Track, config::Secret, quic, token::Grant};
use moq_net::{SessionError, origin, time};
use std::{
    future::Future,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, SystemTime},
};
use tokio::{sync::watch, task::JoinSet, time::Instant};
use url::{Host, Url};
use web_transport_quinn::{
    ClientError, ConnectError, Session as WebTransport, SessionError as TransportError, WebTransportError,
    http::StatusCode,
    proto::{self, ConnectRequest},
};

/// Addresses of one host name that are tried, at the same time.
const ADDRESSES_MAX: usize = 4;

/// Characters of a server's reason that are kept.
const REASON_CHARS_MAX: usize = 300;

/// A connection to a [`Server`](crate::Server); its broadcasts and subscriptions end with it.
///
/// Dropping it closes the connection at once; [`close`](Self::close) first delivers what was written.
pub struct Client {
    config: Arc<EndpointConfig>,
    /// Below which the server shows its broadcasts to us, if it is a relay.
    path: String,
    session: moq_net::Session,
    connection: quinn::Connection,
    transport: WebTransport,
    outgoing: origin::Producer,
    incoming: origin::Consumer,
    draining: Draining,
    closing: watch::Sender<Life>,
    _drivers: JoinSet<()>,
}

/// The path of a connection as QUIC sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Smoothed round trip.
    pub rtt: Duration,
    /// Shortest round trip so far: the path without queues.
    pub min_rtt: Duration,
    /// Packets declared lost.
    pub lost_packets: u64,
    /// Packets sent.
    pub sent_packets: u64,
    /// UDP payload bytes sent, retransmissions included.
    pub bytes_sent: u64,
    /// UDP payload bytes received.
    pub bytes_received: u64,
    /// Congestion window, bytes.
    pub cwnd: u64,
}

impl Client {
    /// Connects to `server`, written `host:port` or `https://host:port`; a relay takes a path behind it, below which
    /// its broadcasts are.
    ///
    /// # Errors
    /// [`Error::Address`], [`Error::Resolve`], [`Error::NoAnswer`], [`Error::Certificate`], [`Error::Handshake`],
    /// [`Error::Bind`], [`Error::Config`], [`Error::CertificateFile`], [`Error::Token`].
    pub async fn connect(config: &EndpointConfig, server: &str) -> Result<Self> {
        let (connection, transport) = dial(config, server).await?;
        let pool = new_pool(config);
        let (outgoing, outgoing_driver) = new_origin(config, &pool);
        let (incoming, incoming_driver) = new_origin(config, &pool);
        let handshake = moq_net::Client::new()
            .with_publisher(&outgoing)
            .with_subscriber(incoming.clone())
            .connect_lite(Instant::now().into_std(), transport.clone())
            .await;
        let (session, session_driver) = handshake.map_err(|e| incompatible(server, &e))?;
        let mut drivers = JoinSet::new();
        drivers.spawn(async { drop(time::run(outgoing_driver).await) });
        drivers.spawn(async { drop(time::run(incoming_driver).await) });
        drivers.spawn(async { drop(time::run(session_driver).await) });
        tracing::debug!(server, version = %session.version(), "connected");
        Ok(Self {
            config: Arc::new(config.clone()),
            path: parse_address(server)?.path().trim_matches('/').to_owned(),
            session,
            connection,
            transport,
            outgoing,
            incoming: incoming.consume(),
            draining: Draining::default(),
            closing: watch::Sender::new(Life::Open),
            _drivers: drivers,
        })
    }

    /// Publishes a broadcast with these tracks to the server; take their writers with [`Publisher::track`].
    ///
    /// The tracks are named up front because a subscriber may ask for them as soon as the broadcast is announced.
    ///
    /// # Errors
    /// [`Error::Name`], [`Error::Disconnected`].
    pub fn publish(&self, name: &str, tracks: &[Track]) -> Result<Publisher> {
        Publisher::new(&self.outgoing, &self.config, &self.draining, name, tracks)
    }

    /// Waits until the server has a broadcast called `name`, and takes the newest. Safe to cancel.
    ///
    /// # Errors
    /// [`Error::Name`], [`Error::Forbidden`], or what ended the connection.
    pub async fn subscribe(&self, name: &str) -> Result<Subscription> {
        super::check_name(name)?;
        // The server shows its holder nothing that a token does not cover: better told here than waited for.
        let token = self.config.token.as_ref().map(|Secret(token)| Grant::unverified(token));
        if let Some(Ok(grant)) = token
            && !grant.view.below(&self.path).covers(name)
        {
            return Err(Error::Forbidden { act: "view", name: name.to_owned() });
        }
        tokio::select! {
            broadcast = self.newest(name) => {
                let (instance, broadcast) = broadcast?;
                Ok(Subscription::new((name, instance), broadcast, &self.config, self.closing.subscribe()))
            },
            error = self.closed() => Err(error),
        }
    }

    async fn newest(&self, name: &str) -> Result<(u64, moq_net::broadcast::Consumer)> {
        let mut announced = self.incoming.announced();
        let mut newest: Option<u64> = None;
        loop {
            // Everything that is known now, then wait for more.
            let update = match announced.try_next() {
                Some(update) => update,
                None => {
                    if let Some(instance) = newest.take()
                        && let Ok(broadcast) =
                            self.incoming.request_broadcast(format!("{name}/{instance:016x}")).await
                    {
                        return Ok((instance, broadcast));
                    }
                    announced.next().await.ok_or_else(|| Error::Disconnected("client closed".into()))?
                }
            };
            match split_path(update.prefix.as_str()) {
                Some((announced, instance)) if announced == name && update.kind.is_active() => {
                    newest = newest.max(Some(instance));
                }
                _ => {}
            }
        }
    }

    /// What QUIC measures, as of now.
    pub fn stats(&self) -> Stats {
        let stats = self.connection.stats();
        Stats {
            rtt: stats.path.rtt,
            min_rtt: self.connection.min_rtt(),
            lost_packets: stats.path.lost_packets,
            sent_packets: stats.path.sent_packets,
            bytes_sent: stats.udp_tx.bytes,
            bytes_received: stats.udp_rx.bytes,
            cwnd: stats.path.cwnd,
        }
    }

    /// Why the connection has ended, if it has.
    pub fn ended(&self) -> Option<Error> {
        let ended = std::pin::pin!(self.closed());
        match ended.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(error) => Some(error),
            Poll::Pending => None,
        }
    }

    /// Until the connection ends; says why.
    pub async fn closed(&self) -> Error {
        let error = self.session.closed().await;
        match self.transport.close_reason() {
            Some(TransportError::WebTransportError(WebTransportError::Closed(code, reason)))
                if code == SessionError::App(CODE_REFUSED).to_code() =>
            {
                Error::Refused { reason: one_line(&reason) }
            }
            _ => ended(&error),
        }
    }

    /// Delivers what was written to tracks whose writers are dropped, then closes. Waits at most
    /// [`EndpointConfig::shutdown_timeout_ms`], and a second for the last acknowledgements.
    pub async fn close(&self) {
        self.draining.wait(self.config.shutdown_timeout()).await;
        self.closing.send_replace(Life::Closed);
        // Fails if the peer is gone or slower than a second: then there is nothing more to do.
        let _ = self.session.clone().close().await;
    }
}

/// A connection to `server` with a WebTransport session on it; what it says follows.
pub(super) async fn dial(config: &EndpointConfig, server: &str) -> Result<(quinn::Connection, WebTransport)> {
    config.validate()?;
    let mut url = parse_address(server)?;
    if let Some(Secret(token)) = &config.token {
        url.query_pairs_mut().append_pair("jwt", token);
    }
    let no_answer = Error::NoAnswer { addr: server.to_owned(), timeout_ms: config.connect_timeout_ms };
    let dial = async {
        let connection = dial_any(config, server, &url).await?;
        let transport = open(config, server, connection.clone(), url.clone()).await?;
        Ok((connection, transport))
    };
    tokio::time::timeout(config.connect_timeout(), dial).await.unwrap_or(Err(no_answer))
}

/// The session's own handshake has failed.
pub(super) fn incompatible(server: &str, error: &moq_net::Error) -> Error {
    Error::Handshake { addr: server.to_owned(), reason: error.to_string() }
}

/// What a peer says, fit for a log.
fn one_line(said: &str) -> String {
    said.chars().filter(|c| !c.is_control()).take(REASON_CHARS_MAX).collect()
}

fn parse_address(server: &str) -> Result<Url> {
    let bad = |reason: &str| Error::Address { input: server.to_owned(), reason: reason.to_owned() };
    let text = if server.contains("://") { server.to_owned() } else { format!("https://{server}") };
    let url = Url::parse(&text).map_err(|e| bad(&e.to_string()))?;
    if url.scheme() != "https" {
        return Err(bad("only https is spoken here"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(bad("user and password are not used"));
    }
    // The default port is left out of the URL: ask for it in the text, it is more likely to be forgotten.
    let authority = text.split(['/', '?', '#']).nth(2).unwrap_or_default();
    if url.port().is_none() && !authority.ends_with(":443") {
        return Err(bad("the port is missing"));
    }
    Ok(url)
}

async fn resolve(url: &Url) -> Result<Vec<SocketAddr>> {
    let port = url.port().unwrap_or(443);
    match url.host() {
        Some(Host::Ipv4(ip)) => Ok(vec![(ip, port).into()]),
        Some(Host::Ipv6(ip)) => Ok(vec![(ip, port).into()]),
        Some(Host::Domain(host)) => {
            let failed = |source| Error::Resolve { host: host.to_owned(), source };
            let found: Vec<_> =
                tokio::net::lookup_host((host, port)).await.map_err(failed)?.take(ADDRESSES_MAX).collect();
            Ok(found)
        }
        None => Err(Error::Address { input: url.to_string(), reason: "the host is missing".into() }),
    }
}

/// Dials every address of the server at once, because UDP does not say that nobody listens; takes the first that
/// answers, or the most telling error.
async fn dial_any(config: &EndpointConfig, server: &str, url: &Url) -> Result<quinn::Connection> {
    let name = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let mut dials = JoinSet::new();
    for remote in resolve(url).await? {
        let connecting = quic::dialer(config, remote)?.connect(remote, &name);
        let connecting =
            connecting.map_err(|e| Error::Address { input: server.to_owned(), reason: e.to_string() })?;
        dials.spawn(connecting);
    }
    let mut failed = Error::NoAnswer { addr: server.to_owned(), timeout_ms: config.connect_timeout_ms };
    while let Some(dialled) = dials.join_next().await {
        match dialled {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => failed = quic::dial_error(config, server, &error),
            Err(_) => {}
        }
    }
    Err(failed)
}

/// The WebTransport handshake on a fresh connection.
async fn open(
    config: &EndpointConfig,
    server: &str,
    connection: quinn::Connection,
    url: Url,
) -> Result<WebTransport> {
    let addr = server.to_owned();
    if !quic::has_datagrams(&connection) {
        let reason = "no datagram support, so no WebTransport".to_owned();
        return Err(Error::Handshake { addr, reason });
    }
    let request = ConnectRequest::new(url).with_protocols(PROTOCOLS.map(String::from));
    WebTransport::connect(connection, request).await.map_err(|e| match e {
        ClientError::HttpError(ConnectError::ProtoError(proto::ConnectError::WrongStatus(Some(
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN,
        )))) => Error::Token { addr, reason: refused_token(config.token.as_ref()) },
        e => Error::Handshake { addr, reason: e.to_string() },
    })
}

/// What may be wrong with a token that a server has refused.
fn refused_token(token: Option<&Secret>) -> String {
    let Some(Secret(token)) = token else { return "it wants a token, and we have none".into() };
    let until = match Grant::unverified(token) {
        Ok(grant) => grant.until,
        Err(error) => return format!("what we have is {error}"),
    };
    match until.map(|until| SystemTime::now().duration_since(until)) {
        Some(Ok(ago)) => format!("our token expired {} s ago", ago.as_secs()),
        _ => "it does not take our token: made with another key?".into(),
    }
}
