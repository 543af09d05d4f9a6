//! Who may come in: places, addresses, tokens. It can be exchanged while the server runs.

use crate::{
    EndpointConfig, Error, Result,
    token::{Grant, Keys, Scope, TokenError},
};
use moq_net::{Pattern, Patterns};
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
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
}

#[derive(Default)]
struct Places {
    taken: u32,
    by_address: HashMap<IpAddr, u32>,
}

/// Why a connection gets no place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The server is full.
    Full,
    /// This address has all that one may have.
    Address,
}

impl Gate {
    pub(super) fn new(config: &EndpointConfig) -> Result<Self> {
        let policy = RwLock::new(Arc::new(Policy::new(config)?));
        Ok(Self { policy, places: Mutex::default(), counts: Counts::default() })
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
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Result<Place, Refusal> {
        let limits = self.config().limits;
        let address = network(address);
        let mut places = self.places();
        if places.taken >= limits.sessions_max {
            return Err(Refusal::Full);
        }
        let of_address = places.by_address.get(&address).copied().unwrap_or(0);
        if of_address >= limits.sessions_per_address_max {
            return Err(Refusal::Address);
        }
        places.taken += 1;
        places.by_address.insert(address, of_address + 1);
        Ok(Place { gate: self.clone(), address })
    }

    /// What the holder of `token` may do now.
    pub(super) fn grant(&self, token: Option<&str>) -> Result<Grant, String> {
        match (&self.policy().keys, token) {
            (None, _) => Ok(Grant::anonymous()),
            (Some(_), None) => Err("no token".into()),
            (Some(keys), Some(token)) => {
                keys.verify(token, SystemTime::now()).map_err(|e: TokenError| e.to_string())
            }
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
        assert_eq!(enter("10.0.0.1").err(), Some(Refusal::Address));
        let _c = enter("2001:db8::1").unwrap();
        assert_eq!(enter("10.0.0.2").err(), Some(Refusal::Full));
        drop(a);
        let _d = enter("2001:db8::ffff:2").unwrap();
        assert_eq!(gate.taken(), 3);
        assert_eq!(gate.places().by_address.len(), 2, "nothing is kept of who has left");
        gate.reload(&EndpointConfig {
            limits: Limits { sessions_max: 9, sessions_per_address_max: 2, ..Limits::default() },
            ..EndpointConfig::default()
        })
        .unwrap();
        assert_eq!(enter("2001:db8::3").err(), Some(Refusal::Address));
        drop(enter("2001:db8:0:1::1").unwrap());
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
