//! Who may come in: places, addresses, tokens. It can be exchanged while the server runs.

use crate::{
    EndpointConfig, Error, Result,
    seldom::Seldom,
    token::{Grant, Keys, Scope, TokenError},
};
use moq_net::{Pattern, Patterns};
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Instant, SystemTime},
};

/// What happened at the door since the server began, and who is inside now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStats {
    /// Sessions now, those in their handshake included.
    pub sessions: u64,
    /// Broadcasts that senders have here now.
    pub broadcasts: u64,
    /// Sessions that were opened.
    pub opened: u64,
    /// Connections refused because the server, or the part of it that one address may have, was full.
    pub refused_full: u64,
    /// Sessions refused for their token, and broadcasts outside of one.
    pub refused_token: u64,
    /// Handshakes that failed or took too long.
    pub failed_handshakes: u64,
    /// What is kept for slow readers, bytes. What is relayed counts twice, as it came and as it goes, and is held once.
    pub cached_bytes: u64,
}

/// The counters of [`ServerStats`].
#[derive(Default)]
pub(super) struct Counts {
    pub(super) opened: AtomicU64,
    pub(super) refused_full: AtomicU64,
    pub(super) refused_token: AtomicU64,
    pub(super) failed_handshakes: AtomicU64,
}

impl Counts {
    pub(super) fn one(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Configuration and keys, as of the last reload.
struct Policy {
    config: Arc<EndpointConfig>,
    keys: Option<Keys>,
}

impl Policy {
    fn new(config: &EndpointConfig) -> Result<Self> {
        let keys = config.token_key.as_deref().map(read_keys).transpose()?;
        Ok(Self { config: Arc::new(config.clone()), keys })
    }
}

/// Largest key file that is read, bytes.
const KEY_FILE_BYTES_MAX: u64 = 64 << 10;

fn read_keys(path: &Path) -> Result<Keys> {
    let bad = |reason: String| Error::KeyFile { path: path.to_owned(), reason };
    let length = std::fs::metadata(path).map_err(|e| bad(e.to_string()))?.len();
    if length > KEY_FILE_BYTES_MAX {
        return Err(bad(format!("{length} bytes are too many for one")));
    }
    let text = std::fs::read_to_string(path).map_err(|e| bad(e.to_string()))?;
    Keys::parse(&text).map_err(|e| bad(e.to_string()))
}

/// Lets connections in, or not.
pub(super) struct Gate {
    policy: RwLock<Arc<Policy>>,
    places: Mutex<Places>,
    pub(super) counts: Counts,
    complaints: Mutex<HashMap<(Complaint, IpAddr), Seldom>>,
    opened: Instant,
}

/// What is said of those who do not come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Complaint {
    /// The server is full.
    Full,
    /// This address has all that one may have.
    Share,
    /// It has no token,
    NoToken,
    /// one that is over,
    Expired,
    /// or one that is not good.
    BadToken,
    /// It did not end its handshake.
    Handshake,
}

/// Addresses that are complained of one by one, in ten seconds: their number is a stranger's to choose. The rest are one.
const COMPLAINTS_MAX: usize = 64;

#[derive(Default)]
struct Places {
    taken: u32,
    by_address: HashMap<IpAddr, u32>,
}

impl Gate {
    pub(super) fn new(config: &EndpointConfig) -> Result<Self> {
        let policy = RwLock::new(Arc::new(Policy::new(config)?));
        let (places, counts, complaints) = (Mutex::default(), Counts::default(), Mutex::default());
        Ok(Self { policy, places, counts, complaints, opened: Instant::now() })
    }

    /// How many such events of this address there were since it was last said, if it is to be said now.
    pub(super) fn complain(&self, of: Complaint, address: IpAddr) -> Option<u64> {
        let mut complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        let (now, own) = (self.opened.elapsed(), (of, network(address)));
        if complaints.len() >= COMPLAINTS_MAX && !complaints.contains_key(&own) {
            complaints.retain(|_, seldom| seldom.is_fresh(now));
        }
        let room = complaints.len() < COMPLAINTS_MAX || complaints.contains_key(&own);
        let whose = if room { own } else { (of, Ipv6Addr::UNSPECIFIED.into()) };
        complaints.entry(whose).or_default().say(now)
    }

    /// Takes other keys and limits for whoever comes from now on.
    pub(super) fn reload(&self, config: &EndpointConfig) -> Result<()> {
        let policy = Arc::new(Policy::new(config)?);
        *self.policy.write().unwrap_or_else(PoisonError::into_inner) = policy;
        Ok(())
    }

    fn policy(&self) -> Arc<Policy> {
        self.policy.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn config(&self) -> Arc<EndpointConfig> {
        self.policy().config.clone()
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn taken(&self) -> u64 {
        self.places().taken.into()
    }

    /// Whether addresses are to be proved before they get a place: those may be forged that take up the rest.
    pub(super) fn busy(&self) -> bool {
        u64::from(self.config().limits.sessions_max) <= 2 * self.taken()
    }

    /// A place for a connection from `address`, until it is dropped.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Result<Place, Complaint> {
        let limits = self.config().limits;
        let address = network(address);
        let mut places = self.places();
        if places.taken >= limits.sessions_max {
            return Err(Complaint::Full);
        }
        let of_address = places.by_address.get(&address).copied().unwrap_or(0);
        if of_address >= limits.sessions_per_address_max {
            return Err(Complaint::Share);
        }
        places.taken += 1;
        places.by_address.insert(address, of_address + 1);
        Ok(Place { gate: self.clone(), address })
    }

    /// Counts and says that a peer did not end its handshake.
    pub(super) fn handshake_failed(&self, remote: SocketAddr, reason: &str) {
        Counts::one(&self.counts.failed_handshakes);
        if let Some(times) = self.complain(Complaint::Handshake, remote.ip()) {
            tracing::warn!(%remote, reason, times, "handshake failed");
        }
    }

    /// What the holder of `token` may do now.
    pub(super) fn grant(&self, token: Option<&str>) -> Result<Grant, (Complaint, String)> {
        match (&self.policy().keys, token) {
            (None, _) => Ok(Grant::anonymous()),
            (Some(_), None) => Err((Complaint::NoToken, "no token".into())),
            (Some(keys), Some(token)) => keys.verify(token, SystemTime::now()).map_err(|error| match error {
                TokenError::Expired { .. } => (Complaint::Expired, error.to_string()),
                _ => (Complaint::BadToken, error.to_string()),
            }),
        }
    }
}

/// Counts for a place as long as it lives.
pub(super) struct Place {
    gate: Arc<Gate>,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.gate.places();
        places.taken -= 1;
        if let Some(of_address) = places.by_address.get_mut(&self.address) {
            *of_address -= 1;
            if *of_address == 0 {
                places.by_address.remove(&self.address);
            }
        }
    }
}

/// What one customer of a provider has: an IPv4 address, or a /64 of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

/// The paths of a scope's names: each has its instances below it. Names that no path can have are left out.
pub(super) fn patterns(scope: &Scope) -> Patterns {
    scope.names().filter_map(|name| format!("{name}/**").parse::<Pattern>().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Limits;
    use std::net::Ipv4Addr;

    fn gate(limits: Limits) -> Arc<Gate> {
        Arc::new(Gate::new(&EndpointConfig { limits, ..EndpointConfig::default() }).unwrap())
    }

    #[test]
    fn places_are_counted_by_network_and_given_back() {
        let gate = gate(Limits { sessions_max: 3, sessions_per_address_max: 2, ..Limits::default() });
        let enter = |address: &str| gate.enter(address.parse().unwrap());
        let a = enter("10.0.0.1").unwrap();
        // The same address, written as IPv6.
        let _b = enter("::ffff:10.0.0.1").unwrap();
        assert_eq!(enter("10.0.0.1").err(), Some(Complaint::Share));
        let _c = enter("2001:db8::1").unwrap();
        assert_eq!(enter("10.0.0.2").err(), Some(Complaint::Full));
        drop(a);
        let _d = enter("2001:db8::ffff:2").unwrap();
        assert_eq!(gate.taken(), 3);
        assert_eq!(gate.places().by_address.len(), 2, "nothing is kept of who has left");
        gate.reload(&EndpointConfig {
            limits: Limits { sessions_max: 9, sessions_per_address_max: 2, ..Limits::default() },
            ..EndpointConfig::default()
        })
        .unwrap();
        assert_eq!(enter("2001:db8::3").err(), Some(Complaint::Share));
        drop(enter("2001:db8:0:1::1").unwrap());
    }

    #[test]
    fn who_knocks_again_and_again_is_not_said_again_and_again() {
        let gate = gate(Limits::default());
        let said = |i: u32| gate.complain(Complaint::Handshake, Ipv4Addr::from_bits(i).into());
        assert_eq!((said(1), said(1), said(2)), (Some(1), None, Some(1)));
        let lines = (0..100_000).filter_map(said).count();
        assert!(lines <= COMPLAINTS_MAX + 1, "{lines}");
        assert!(gate.complaints.lock().unwrap().len() <= COMPLAINTS_MAX + 4);
        assert_eq!(gate.complain(Complaint::Expired, Ipv4Addr::from_bits(1).into()), Some(1));
    }

    #[test]
    fn a_scope_is_the_paths_of_its_names() {
        let scope = |name: &str| patterns(&Scope::new(&[name.to_owned()]).unwrap());
        let path = "cam-1/0000000000000001";
        for (name, holds) in
            [("cam-1", true), ("cam-*", true), ("*", true), ("cam", false), ("cam-11", false)]
        {
            assert_eq!(scope(name).matches(path), holds, "{name}");
        }
    }
}
