//! Finds the way back to a server.

use std::time::Duration;

use hone_model::rng::Rng;
use hone_transport::{Client, EndpointConfig, Error};
use tokio::task::JoinSet;

/// Between two tries while the server may be back at any moment,
const RETRY: Duration = Duration::from_millis(700);
/// for so many tries, half a minute;
const QUICK_TRIES: u32 = 40;
/// after that ever longer, up to this.
const RETRY_MAX: Duration = Duration::from_secs(15);
/// Share of a pause that is drawn.
const JITTER: f64 = 0.5;

/// A server, and how to reach it.
#[derive(Clone, Debug)]
pub struct Dialer {
    endpoint: EndpointConfig,
    server: String,
}

impl Dialer {
    /// For the server at `server`, `host:port`.
    pub fn new(endpoint: EndpointConfig, server: String) -> Self {
        Self { endpoint, server }
    }

    /// Tries once.
    ///
    /// # Errors
    /// What [`Client::connect`] says.
    pub async fn connect(&self) -> Result<Client, Error> {
        Client::connect(&self.endpoint, &self.server).await
    }

    /// Tries until the server answers: [`persist`].
    ///
    /// # Errors
    /// What no further try can mend.
    pub async fn reconnect(&self) -> Result<Client, Error> {
        persist(&self.server, || {
            let dialer = self.clone();
            async move { dialer.connect().await }
        })
        .await
    }
}

/// Tries until `server` answers. A try that has no answer yet goes on beside the next: on a link that is back, a new one
/// is through within a round trip or two, where an old one waits ever longer to repeat itself.
///
/// # Errors
/// What no further try can mend.
pub async fn persist<T, F>(server: &str, connect: impl Fn() -> F) -> Result<T, Error>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Error>> + Send + 'static,
{
    let mut backoff = Backoff::default();
    let mut tries = JoinSet::new();
    loop {
        tries.spawn(connect());
        let pause = tokio::time::sleep(backoff.pause());
        tokio::pin!(pause);
        loop {
            let tried = tokio::select! {
                Some(tried) = tries.join_next() => tried,
                () = &mut pause => break,
            };
            match tried {
                Ok(Ok(connected)) => return Ok(connected),
                Ok(Err(error)) if hopeless(&error) => return Err(error),
                Ok(Err(error)) => tracing::debug!(server, %error, "no connection yet"),
                Err(panic) => std::panic::resume_unwind(panic.into_panic()),
            }
        }
    }
}

/// The pauses between tries: short for half a minute, then ever longer, and drawn so that those whom one outage cut off do
/// not all come back at once.
pub struct Backoff {
    tries: u32,
    rng: Rng,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { tries: 0, rng: Rng::new(rand_seed()) }
    }
}

impl Backoff {
    /// Before the next try.
    pub fn pause(&mut self) -> Duration {
        let pause = pause(self.tries, self.rng.unit());
        self.tries = self.tries.saturating_add(1);
        pause
    }

    /// A try was good: the next outage begins with short pauses.
    pub fn reset(&mut self) {
        self.tries = 0;
    }
}

/// Before the next try after the `n`-th; `luck` in 0 to 1.
fn pause(n: u32, luck: f64) -> Duration {
    let late = n.saturating_sub(QUICK_TRIES).min(16);
    RETRY.mul_f64(1.4f64.powf(f64::from(late))).min(RETRY_MAX).mul_f64(1.0 - JITTER * luck)
}

/// Differs from process to process.
pub(crate) fn rand_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}

/// Whether the same error would come again.
pub fn hopeless(error: &Error) -> bool {
    matches!(
        error,
        Error::Address { .. }
            | Error::Config { .. }
            | Error::CertificateFile { .. }
            | Error::Name(_)
            | Error::Bind { .. }
            | Error::Token { .. }
            | Error::Forbidden { .. }
            | Error::Expired
            | Error::Refused { .. }
    )
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use hone_transport::config::{Certificate, Trust};
    use hone_transport::link::{self, Link};

    use super::*;

    #[test]
    fn tries_are_quick_at_first_and_bounded_forever() {
        let half_a_minute: Duration = (0..QUICK_TRIES).map(|n| pause(n, 0.0)).sum();
        assert!((25..35).contains(&half_a_minute.as_secs()), "{half_a_minute:?}");
        for n in [0, QUICK_TRIES, 100, u32::MAX] {
            let range = pause(n, 1.0)..=pause(n, 0.0);
            assert!(*range.start() >= RETRY / 2 && *range.end() <= RETRY_MAX, "{n}: {range:?}");
        }
        assert_eq!(pause(1000, 0.0), RETRY_MAX);
        let mut backoff = Backoff { tries: 1000, rng: Rng::new(1) };
        assert!(backoff.pause() >= RETRY_MAX / 2);
        backoff.reset();
        assert!(backoff.pause() <= RETRY);
    }

    #[tokio::test]
    async fn a_link_that_is_back_is_found_and_a_bad_address_is_not_tried_twice() {
        let loopback = || EndpointConfig { bind: ([127, 0, 0, 1], 0).into(), ..EndpointConfig::default() };
        let bad = Dialer::new(loopback(), "no port".into());
        assert!(matches!(bad.reconnect().await, Err(Error::Address { .. })));

        let server =
            hone_transport::Server::bind(&EndpointConfig { certificate: Certificate::Dev, ..loopback() })
                .await
                .unwrap();
        let link = Link::start(server.local_addr(), link::Config::default()).await.unwrap();
        let trust = Trust::Pinned(vec![hone_transport::hex(&server.certificate_hash())]);
        let dialer = Dialer::new(EndpointConfig { trust, ..loopback() }, link.addr().to_string());
        link.cut(true);
        let outage = async {
            tokio::time::sleep(Duration::from_millis(1800)).await;
            link.cut(false);
            Instant::now()
        };
        let (found, back) = tokio::join!(dialer.reconnect(), outage);
        found.unwrap();
        // A try of its own begins every 0.7 s at most; the machine may be busy.
        assert!(back.elapsed() < Duration::from_secs(5), "{:?}", back.elapsed());
        drop(server);
    }
}
