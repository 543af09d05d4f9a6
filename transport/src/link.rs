//! A seeded UDP link in user space: delay, jitter, loss, rate and a drop-tail queue, for tests without root.
//!
//! It stands between a client and a server on loopback: dial [`Link::addr`] instead of the server. The losses and
//! jitters are drawn from the seed, packet by packet, so that a run differs from the next only by the scheduling of
//! the machine. One client at a time: the packets of the server go to whoever sent last.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{net::UdpSocket, task::JoinSet, time::Instant};

/// The client's address, once it has sent.
type Client = Arc<Mutex<Option<SocketAddr>>>;

/// Largest UDP payload.
const DATAGRAM_MAX: usize = 65_535;

/// What the link does to each direction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    /// One-way propagation delay.
    pub delay: Duration,
    /// Added to the delay, uniform in 0 to this; reorders packets.
    pub jitter: Duration,
    /// Probability that a packet is lost, 0 to 1.
    pub loss: f64,
    /// Bottleneck, bit/s; 0 is no bottleneck.
    pub rate_bps: f64,
    /// Bytes that wait at the bottleneck before packets are dropped.
    pub queue_bytes: f64,
    /// Seed of losses and jitter.
    pub seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            loss: 0.0,
            rate_bps: 0.0,
            queue_bytes: 50_000.0,
            seed: 1,
        }
    }
}

/// A running link; it stops when dropped.
pub struct Link {
    addr: SocketAddr,
    dropped: Arc<AtomicU64>,
    _directions: JoinSet<()>,
}

impl Link {
    /// Starts a link to `server`, which must be on IPv4 loopback.
    ///
    /// # Errors
    /// If no socket can be had.
    pub async fn start(server: SocketAddr, config: Config) -> io::Result<Self> {
        let near = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?);
        let far = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?);
        far.connect(server).await?;
        let addr = near.local_addr()?;
        let dropped = Arc::new(AtomicU64::new(0));
        let client = Client::default();
        let mut directions = JoinSet::new();
        let up = Direction::new(config, 1, &dropped);
        directions.spawn(up.run(near.clone(), far.clone(), client.clone(), true));
        let down = Direction::new(config, 2, &dropped);
        directions.spawn(down.run(far, near, client, false));
        Ok(Self { addr, dropped, _directions: directions })
    }

    /// Where clients dial.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Packets dropped so far, both directions.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

struct Direction {
    config: Config,
    random: u64,
    /// When the bottleneck has sent all that waits.
    free_at: Instant,
    /// Departure time and arrival number to packet.
    waiting: BTreeMap<(Instant, u64), Vec<u8>>,
    arrivals: u64,
    dropped: Arc<AtomicU64>,
}

impl Direction {
    fn new(config: Config, stream: u64, dropped: &Arc<AtomicU64>) -> Self {
        // Distinct and not zero for every seed and direction, as xorshift needs.
        let random =
            (config.seed.wrapping_mul(2).wrapping_add(stream)).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let (free_at, dropped) = (Instant::now(), dropped.clone());
        Self { config, random, free_at, waiting: BTreeMap::new(), arrivals: 0, dropped }
    }

    /// Uniform in 0 to 1 (xorshift64).
    fn uniform(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1u64 << 53) as f64
    }

    fn arrive(&mut self, packet: &[u8]) {
        // Both are drawn for every packet, so that the n-th packet has the same luck under every load.
        let (loss, jitter) = (self.uniform(), self.uniform());
        let now = Instant::now();
        let Config { rate_bps, queue_bytes, .. } = self.config;
        let backlog = (self.free_at.saturating_duration_since(now)).as_secs_f64() * rate_bps / 8.0;
        if loss < self.config.loss || backlog > queue_bytes {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.free_at = self.free_at.max(now);
        if rate_bps > 0.0 {
            self.free_at += Duration::from_secs_f64(packet.len() as f64 * 8.0 / rate_bps);
        }
        let departs = self.free_at + self.config.delay + self.config.jitter.mul_f64(jitter);
        self.waiting.insert((departs, self.arrivals), packet.to_vec());
        self.arrivals += 1;
    }

    async fn run(mut self, from: Arc<UdpSocket>, to: Arc<UdpSocket>, client: Client, upstream: bool) {
        let mut buffer = vec![0; DATAGRAM_MAX];
        loop {
            let next = self.waiting.first_key_value().map(|(&(departs, _), _)| departs);
            let due = async {
                match next {
                    Some(departs) => tokio::time::sleep_until(departs).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = due => {
                    let Some((_, packet)) = self.waiting.pop_first() else { continue };
                    // A full socket buffer or a closed peer loses the packet, as a network would.
                    if upstream {
                        let _ = to.try_send(&packet);
                    } else if let Some(addr) = *client.lock().unwrap_or_else(PoisonError::into_inner) {
                        let _ = to.try_send_to(&packet, addr);
                    }
                }
                received = from.recv_from(&mut buffer) => {
                    // ICMP from a closed peer surfaces as an error of the next call: the link goes on.
                    let Ok((bytes, source)) = received else { continue };
                    if upstream {
                        *client.lock().unwrap_or_else(PoisonError::into_inner) = Some(source);
                    }
                    self.arrive(&buffer[..bytes]);
                }
            }
        }
    }
}
