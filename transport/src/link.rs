//! A seeded UDP link in user space: delay, jitter, loss, rate and a drop-tail queue, for tests without root.
//!
//! It stands between clients and a server on loopback: dial [`Link::addr`] instead of the server. Each client has a
//! socket of its own behind the link, as behind a NAT; all share the link's rate and queue. The losses and jitters are
//! drawn from the seed, packet by packet, so that a run differs from the next only by the scheduling of the machine.
//! [`Link::cut`] makes an outage, [`Link::set_rate_bps`] a cell with more or fewer users, [`Link::rebind`] gives every client another address, as a NAT does that forgot.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    net::UdpSocket,
    sync::mpsc,
    task::{AbortHandle, JoinSet},
    time::Instant,
};

/// Largest UDP payload.
const DATAGRAM_MAX: usize = 65_535;
/// Packets between a socket and the queue of the link; beyond, they are lost, as in a network card.
const CARD_MAX: usize = 1024;

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
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

struct Shared {
    server: SocketAddr,
    near: UdpSocket,
    /// What each client's packets leave from, and the task that reads the answers.
    clients: Mutex<HashMap<SocketAddr, (Arc<UdpSocket>, AbortHandle)>>,
    cut: AtomicBool,
    /// Bits of the rate, an `f64`.
    rate_bps: AtomicU64,
    dropped: AtomicU64,
}

impl Link {
    /// Starts a link to `server`, which must be on IPv4 loopback.
    ///
    /// # Errors
    /// If no socket can be had.
    pub async fn start(server: SocketAddr, config: Config) -> io::Result<Self> {
        let near = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = near.local_addr()?;
        let shared = Arc::new(Shared {
            server,
            near,
            clients: Mutex::default(),
            cut: AtomicBool::new(false),
            rate_bps: AtomicU64::new(config.rate_bps.to_bits()),
            dropped: AtomicU64::new(0),
        });
        let (up, up_queue) = mpsc::channel(CARD_MAX);
        let (down, down_queue) = mpsc::channel(CARD_MAX);
        let mut tasks = JoinSet::new();
        tasks.spawn(Direction::new(config, 1, &shared).run(up_queue, Way::Up));
        tasks.spawn(Direction::new(config, 2, &shared).run(down_queue, Way::Down));
        tasks.spawn(shared.clone().listen(up, down));
        Ok(Self { addr, shared, _tasks: tasks })
    }

    /// Where clients dial.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Packets dropped so far, both directions.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// From now on nothing passes, or all does again. What is under way arrives.
    pub fn cut(&self, cut: bool) {
        self.shared.cut.store(cut, Ordering::Relaxed);
    }

    /// The bottleneck's rate from now on, bit/s; 0 is no bottleneck.
    pub fn set_rate_bps(&self, rate_bps: f64) {
        self.shared.rate_bps.store(rate_bps.to_bits(), Ordering::Relaxed);
    }

    /// The server sees every client at another address from now on; what it sends to the old ones is lost.
    pub fn rebind(&self) {
        for (_, (_, answers)) in self.shared.clients().drain() {
            answers.abort();
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.rebind();
    }
}

/// A packet, and the client that it is from or for.
type Packet = (SocketAddr, Vec<u8>);

impl Shared {
    fn clients(&self) -> MutexGuard<'_, HashMap<SocketAddr, (Arc<UdpSocket>, AbortHandle)>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn listen(self: Arc<Self>, up: mpsc::Sender<Packet>, down: mpsc::Sender<Packet>) {
        let mut buffer = vec![0; DATAGRAM_MAX];
        loop {
            // ICMP from a closed peer surfaces as an error of the next call: the link goes on.
            let Ok((bytes, client)) = self.near.recv_from(&mut buffer).await else { continue };
            if !self.clients().contains_key(&client) {
                let Ok(socket) = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.map(Arc::new) else {
                    continue;
                };
                let answers = tokio::spawn(answers(socket.clone(), client, down.clone())).abort_handle();
                self.clients().insert(client, (socket, answers));
            }
            let _ = up.try_send((client, buffer[..bytes].to_vec()));
        }
    }

    /// A full socket buffer or a closed peer loses the packet, as a network would.
    fn deliver(&self, way: Way, (client, packet): &Packet) {
        match way {
            Way::Up => {
                if let Some((socket, _)) = self.clients().get(client) {
                    let _ = socket.try_send_to(packet, self.server);
                }
            }
            Way::Down => drop(self.near.try_send_to(packet, *client)),
        }
    }
}

async fn answers(socket: Arc<UdpSocket>, client: SocketAddr, down: mpsc::Sender<Packet>) {
    let mut buffer = vec![0; DATAGRAM_MAX];
    loop {
        let Ok((bytes, _)) = socket.recv_from(&mut buffer).await else { continue };
        let _ = down.try_send((client, buffer[..bytes].to_vec()));
    }
}

#[derive(Clone, Copy)]
enum Way {
    Up,
    Down,
}

struct Direction {
    config: Config,
    shared: Arc<Shared>,
    random: u64,
    /// When the bottleneck has sent all that waits.
    free_at: Instant,
    /// Departure time and arrival number to packet.
    waiting: BTreeMap<(Instant, u64), Packet>,
    arrivals: u64,
}

impl Direction {
    fn new(config: Config, stream: u64, shared: &Arc<Shared>) -> Self {
        // Distinct and not zero for every seed and direction, as xorshift needs.
        let random =
            (config.seed.wrapping_mul(2).wrapping_add(stream)).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let (free_at, shared) = (Instant::now(), shared.clone());
        Self { config, shared, random, free_at, waiting: BTreeMap::new(), arrivals: 0 }
    }

    /// Uniform in 0 to 1 (xorshift64).
    fn uniform(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1u64 << 53) as f64
    }

    fn arrive(&mut self, packet: Packet) {
        // Both are drawn for every packet, so that the n-th packet has the same luck under every load.
        let (loss, jitter) = (self.uniform(), self.uniform());
        let now = Instant::now();
        let rate_bps = f64::from_bits(self.shared.rate_bps.load(Ordering::Relaxed));
        let backlog = (self.free_at.saturating_duration_since(now)).as_secs_f64() * rate_bps / 8.0;
        let cut = self.shared.cut.load(Ordering::Relaxed);
        if cut || loss < self.config.loss || backlog > self.config.queue_bytes {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.free_at = self.free_at.max(now);
        if rate_bps > 0.0 {
            self.free_at += Duration::from_secs_f64(packet.1.len() as f64 * 8.0 / rate_bps);
        }
        let departs = self.free_at + self.config.delay + self.config.jitter.mul_f64(jitter);
        self.waiting.insert((departs, self.arrivals), packet);
        self.arrivals += 1;
    }

    async fn run(mut self, mut arriving: mpsc::Receiver<Packet>, way: Way) {
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
                    if let Some((_, packet)) = self.waiting.pop_first() {
                        self.shared.deliver(way, &packet);
                    }
                }
                packet = arriving.recv() => match packet {
                    Some(packet) => self.arrive(packet),
                    None => return,
                }
            }
        }
    }
}
