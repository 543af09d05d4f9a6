//! A server as a client of a relay: what it publishes there, and what it takes from there.

use super::{
    Life, Server, Subscription,
    client::{dial, incompatible},
    ended, new_origin,
    server::Shared,
    split_path,
};
use crate::{EndpointConfig, Error, Result, share};
use moq_net::{origin, time};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::Instant,
};

/// Where servers that share streams show that they are there: `trainers/NAME/here`, which is no stream's path.
const PRESENCE: (&str, &str) = ("trainers/", "/here");
/// How long servers that share streams listen before they act on what has changed: announcements come one by one, and
/// who has heard half of them takes what is another's.
const SETTLE: Duration = Duration::from_millis(300);

/// A connection of a [`Server`] to a relay. It ends when this is dropped.
pub struct Relayed {
    session: moq_net::Session,
    _tasks: JoinSet<()>,
}

impl Relayed {
    /// Until the connection ends; says why.
    pub async fn closed(&self) -> Error {
        ended(&self.session.closed().await)
    }
}

impl Server {
    /// Lets the relay at `relay` read all that viewers may read here, and nothing else; it reads what its own viewers ask
    /// for. `config` says how to reach it, and with which token.
    ///
    /// Broadcasts keep their paths over any number of connections, so that viewers of the relay find the same stream
    /// again.
    ///
    /// # Errors
    /// Those of [`Client::connect`](crate::Client::connect).
    pub async fn publish_to(&self, config: &EndpointConfig, relay: &str) -> Result<Relayed> {
        let shared = self.shared();
        let client =
            moq_net::Client::new().with_publisher(shared.published.consume()).with_stats(shared.egress());
        open(client, config, relay, JoinSet::new()).await
    }

    /// Takes the streams that senders publish to the relay at `relay`, as if they had come here:
    /// [`incoming`](Self::incoming) gives them.
    ///
    /// With a `name`, which no other server may have, it shares them with all servers that do the same: each stream has
    /// one of them ([`share::owner`]). Who loses a stream to another ends its readers with [`Error::Reassigned`].
    ///
    /// # Errors
    /// Those of [`Client::connect`](crate::Client::connect), and [`Error::Name`].
    pub async fn take_from(
        &self,
        config: &EndpointConfig,
        relay: &str,
        name: Option<&str>,
    ) -> Result<Relayed> {
        name.map_or(Ok(()), super::check_name)?;
        let incoming =
            self.announcing().ok_or_else(|| Error::Disconnected("this server is closed".into()))?;
        let (streams, streams_driver) = new_origin(config, &self.shared().pool);
        let (presence, presence_driver) = new_origin(config, &self.shared().pool);
        let mut tasks = JoinSet::new();
        tasks.spawn(async { drop(time::run(streams_driver).await) });
        tasks.spawn(async { drop(time::run(presence_driver).await) });
        let mut client = moq_net::Client::new().with_subscriber(streams.clone());
        if let Some(name) = name {
            let here = presence.create_broadcast(format!("{}{name}{}", PRESENCE.0, PRESENCE.1));
            let here = here.map_err(|e| ended(&e))?;
            here.announce(Default::default()).map_err(|e| ended(&e))?;
            client = client.with_publisher(&presence);
            tasks.spawn(async move {
                let _presence = (here, presence);
                std::future::pending().await
            });
        }
        let shared_config = Arc::new(config.clone());
        let mut watcher = Watcher {
            shared: self.shared().clone(),
            // An address, as those of senders' sessions are: no two live at the same.
            id: Arc::as_ptr(&shared_config) as usize,
            config: shared_config,
            streams: streams.consume(),
            incoming,
            own_name: name.map(str::to_owned),
            servers: name.map(str::to_owned).into_iter().collect(),
            live: BTreeMap::new(),
            taken: BTreeMap::new(),
        };
        tasks.spawn(async move { watcher.watch().await });
        open(client, config, relay, tasks).await
    }
}

async fn open(
    client: moq_net::Client,
    config: &EndpointConfig,
    relay: &str,
    mut tasks: JoinSet<()>,
) -> Result<Relayed> {
    let (_, transport) = dial(config, relay).await?;
    let opened = client.connect_lite(Instant::now().into_std(), transport).await;
    let (session, driver) = opened.map_err(|e| incompatible(relay, &e))?;
    tasks.spawn(async { drop(time::run(driver).await) });
    tracing::debug!(relay, version = %session.version(), "connected");
    Ok(Relayed { session, _tasks: tasks })
}

/// Follows what is announced at a relay.
struct Watcher {
    shared: Arc<Shared>,
    config: Arc<EndpointConfig>,
    streams: origin::Consumer,
    incoming: mpsc::Sender<Subscription>,
    /// Names this connection among those who own streams.
    id: usize,
    /// If streams are shared.
    own_name: Option<String>,
    /// Those who share them, this one included.
    servers: BTreeSet<String>,
    /// The instances of each stream that are there.
    live: BTreeMap<String, BTreeSet<u64>>,
    /// What was taken, and how it is given up.
    taken: BTreeMap<(String, u64), watch::Sender<Life>>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.shared.owners.leave(self.id);
    }
}

impl Watcher {
    async fn watch(&mut self) {
        let mut announced = self.streams.announced();
        while let Some(update) = announced.next().await {
            self.note(update.prefix.as_str(), update.kind.is_active());
            let settled = Instant::now() + if self.own_name.is_some() { SETTLE } else { Duration::ZERO };
            while let Ok(Some(update)) = tokio::time::timeout_at(settled, announced.next()).await {
                self.note(update.prefix.as_str(), update.kind.is_active());
            }
            if self.settle().await.is_none() {
                return;
            }
        }
    }

    /// Takes down what was announced, or is no more.
    fn note(&mut self, path: &str, active: bool) {
        let server = path.strip_prefix(PRESENCE.0).and_then(|path| path.strip_suffix(PRESENCE.1));
        if let Some(server) = server.filter(|name| super::check_name(name).is_ok()) {
            if Some(server) != self.own_name.as_deref() && self.own_name.is_some() {
                tracing::info!(server, active, "server that shares the relay's streams");
                match active {
                    true => self.servers.insert(server.to_owned()),
                    false => self.servers.remove(server),
                };
            }
        } else if let Some((name, instance)) = split_path(path) {
            let live = self.live.entry(name.to_owned()).or_default();
            match active {
                true => _ = live.insert(instance),
                false => {
                    live.remove(&instance);
                    self.shared.owners.disown(name, instance, self.id);
                }
            }
            if live.is_empty() {
                self.live.remove(name);
            }
        } else {
            tracing::debug!(path, "announced path ignored");
        }
    }

    /// Takes the newest of each stream that is this server's, and gives up the others. `None` if nobody takes streams any
    /// more.
    async fn settle(&mut self) -> Option<()> {
        // What has ended is held until it is read to its end.
        self.taken.retain(|_, life| !life.is_closed());
        let mine = |name: &str| match &self.own_name {
            None => true,
            Some(own) => share::owner(name, self.servers.iter().map(String::as_str)) == Some(own),
        };
        let owners = &self.shared.owners;
        for ((name, instance), life) in &self.taken {
            if !mine(name) && life.send_replace(Life::Reassigned) == Life::Open {
                tracing::info!(name, "broadcast is another server's now");
                owners.disown(name, *instance, self.id);
            }
        }
        let newest = |(name, instances): (&String, &BTreeSet<u64>)| Some((name.clone(), *instances.last()?));
        let wanted: Vec<_> = self.live.iter().filter(|(name, _)| mine(name)).filter_map(newest).collect();
        for (name, instance) in wanted {
            let key = (name.clone(), instance);
            if self.taken.get(&key).is_some_and(|life| *life.borrow() == Life::Open) {
                continue;
            }
            if !owners.has_room(&name, self.shared.gate.config().limits.broadcasts_max) {
                tracing::warn!(name, "no room for another broadcast");
                continue;
            }
            if !owners.own(&name, instance, None, self.id) {
                continue;
            }
            let Ok(broadcast) = self.streams.request_broadcast(format!("{name}/{instance:016x}")).await
            else {
                continue;
            };
            tracing::info!(name, "broadcast taken from the relay");
            let (life, closing) = watch::channel(Life::Open);
            let subscription = Subscription::new((&name, instance), broadcast, &self.config, closing);
            self.taken.insert(key, life);
            self.incoming.send(subscription).await.ok()?;
        }
        Some(())
    }
}
