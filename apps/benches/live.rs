//! What a broken link costs, and what a viewer costs the server.
//!
//! ```text
//! cargo bench -p hone-apps --bench live             the table
//! cargo bench -p hone-apps --bench live -- --json   one object
//! cargo bench -p hone-apps --bench live -- --viewers   without outages
//! ```
//!
//! - *Outage*: a camera of 320x192 at 300 kbit/s over a link of 15 ms each way, cut for 10 s between camera and server,
//!   then between server and viewer. Time from the link's return to the first new frame shown.
//! - *Viewers*: `hone-server`, a sender of 0.6 Mbit/s and viewers who read video and model, in three processes on
//!   loopback. The server's CPU time and resident memory with many viewers, less those with few, by the difference. Where
//!   `HONE_MOQ_RELAY` names a `moq-relay`, the same server publishes to it, and the same is asked of it.
#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

#[path = "../tests/common/live.rs"]
mod live;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hone_transport::catalog::{self, Catalog, Hone, Rendition};
use hone_transport::config::Trust;
use hone_transport::{Client, Delivery, EndpointConfig, Track, link};
use live::Rig;

const OUTAGE: Duration = Duration::from_secs(10);
const FEW: usize = 10;
const MANY: usize = 110;
const FPS: u32 = 30;
const FRAME: usize = 2_500;
/// How long the server's time is taken.
const WINDOW: Duration = Duration::from_secs(10);

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    if let Some(at) = arguments.iter().position(|a| a == "--be-viewers") {
        let [server, pin, viewers] = &arguments[at + 1..at + 4] else { panic!("three arguments") };
        return runtime.block_on(be_viewers(server, pin, viewers.parse().unwrap()));
    }
    let outages = match arguments.iter().any(|a| a == "--viewers") {
        true => None,
        false => Some(runtime.block_on(outages())),
    };
    let costs = runtime.block_on(viewers());
    if arguments.iter().any(|a| a == "--json") {
        let mut figures = vec![];
        if let Some((up_s, down_s)) = outages {
            figures.push(format!("\"outage10_recovery_s\":{:.2}", f64::max(up_s, down_s)));
        }
        for Cost { of, cpu, memory_kb } in costs {
            figures.push(format!("\"{of}viewers_per_core\":{:.0}", 1.0 / cpu));
            figures.push(format!("\"{of}viewer_memory_kb\":{memory_kb:.0}"));
        }
        println!("{{{}}}", figures.join(","));
        return;
    }
    if let Some((up_s, down_s)) = outages {
        println!("after 10 s without a link, the first new frame comes");
        println!("  {up_s:.2} s after the link, cut between camera and server");
        println!("  {down_s:.2} s after the link, cut between server and viewer");
    }
    for Cost { of, cpu, memory_kb } in costs {
        let whom = if of.is_empty() { "server" } else { "relay" };
        println!("a viewer of 0.6 Mbit/s costs the {whom}");
        println!("  {:.2}% of a core: {:.0} viewers a core", 100.0 * cpu, 1.0 / cpu);
        println!("  {memory_kb:.0} kB");
    }
}

/// What one more viewer costs.
struct Cost {
    /// Whom: the beginning of the figures' names, empty for our server.
    of: &'static str,
    /// Share of a core.
    cpu: f64,
    memory_kb: f64,
}

/// Seconds to the first new frame, for each leg.
async fn outages() -> (f64, f64) {
    let link = link::Config { delay: Duration::from_millis(15), ..link::Config::default() };
    let rig = Rig::start((320, 192), 300.0, link).await;
    rig.until("weights", Duration::from_secs(30), |seen| seen.frames.last().is_some_and(|(.., v)| *v > 0))
        .await;
    let up = rig.outage(&rig.up, OUTAGE).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let down = rig.outage(&rig.down, OUTAGE).await;
    let seen = rig.seen.clone();
    rig.end().await;
    let seen = seen.lock().unwrap();
    assert!(seen.starts == 1 && seen.frames.is_sorted_by_key(|(.., version)| *version), "the model was kept");
    (up.as_secs_f64(), down.as_secs_f64())
}

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    /// CPU time so far, seconds, and resident memory, kB.
    fn costs(&self) -> (f64, f64) {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", self.0.id())).unwrap();
        let stat = read("stat");
        let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
        // utime and stime are fields 14 and 15, counted from 1; the second ends with the bracket. 100 ticks a second.
        let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
        let resident = read("status")
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok());
        (ticks / 100.0, resident.unwrap())
    }
}

/// What one more viewer costs our server, and the relay if there is one.
async fn viewers() -> Vec<Cost> {
    let folder = tempfile::tempdir().unwrap();
    let relay = std::env::var("HONE_MOQ_RELAY").ok().map(|program| relay(folder.path(), &program));
    let config = folder.path().join("server.toml");
    let text = "[endpoint]\nbind = \"127.0.0.1:0\"\ncertificate = \"dev\"\n[endpoint.limits]\nsessions_max = 1000\n\
                sessions_per_address_max = 1000\n[trainer]\nbackend = \"cpu\"\n";
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_hone-server"));
    command.args(["--config".as_ref(), config.as_os_str()]);
    if let Some((_, url, pin)) = &relay {
        command.args(["--relay", url, "--relay-pin", pin]);
    }
    let mut server = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let server = Process(server);
    let mut word = || lines.next().unwrap().unwrap().split(' ').next_back().unwrap().to_owned();
    let (address, pin) = (word(), word());
    let sending = tokio::spawn(send(address.clone(), pin.clone()));
    let mut costs = vec![cost("", &server, &address, &pin).await];
    if let Some((relay, url, pin)) = &relay {
        costs.push(cost("relay_", relay, url, pin).await);
    }
    sending.abort();
    costs
}

/// An unmodified `moq-relay` that asks for no tokens, its address and its certificate.
fn relay(folder: &std::path::Path, program: &str) -> (Process, String, String) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    std::fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let hash = hone_transport::hex(&<sha2::Sha256 as sha2::Digest>::digest(made.cert.der()).into());
    let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let text = format!(
        "[listen]\nbind = \"127.0.0.1:{port}\"\n[listen.tls]\ncert = [\"cert.pem\"]\nkey = [\"key.pem\"]\n\
         [auth]\npublic = \"**\"\n"
    );
    std::fs::write(folder.join("relay.toml"), text).unwrap();
    let mut command = Command::new(program);
    command.arg("relay.toml").current_dir(folder).stdout(Stdio::null()).stderr(Stdio::null());
    (Process(command.spawn().unwrap()), format!("https://127.0.0.1:{port}/live"), hash)
}

/// What one more viewer at `address` costs `process`.
async fn cost(of: &'static str, process: &Process, address: &str, pin: &str) -> Cost {
    let mut costs = vec![];
    for viewers in [FEW, MANY] {
        let program = std::env::current_exe().unwrap();
        let child = Command::new(program).args(["--be-viewers", address, pin, &viewers.to_string()]).spawn();
        let mut viewers_there = Process(child.unwrap());
        // Handshakes and first groups are over.
        tokio::time::sleep(Duration::from_secs(8)).await;
        let (before, _) = process.costs();
        let start = Instant::now();
        tokio::time::sleep(WINDOW).await;
        let (after, memory) = process.costs();
        let ended = viewers_there.0.try_wait().unwrap();
        assert!(ended.is_none(), "the viewers are gone: {ended:?}");
        costs.push(((after - before) / start.elapsed().as_secs_f64(), memory));
    }
    let more = (MANY - FEW) as f64;
    Cost { of, cpu: (costs[1].0 - costs[0].0) / more, memory_kb: (costs[1].1 - costs[0].1) / more }
}

fn endpoint(pin: &str) -> EndpointConfig {
    EndpointConfig {
        bind: ([127, 0, 0, 1], 0).into(),
        trust: Trust::Pinned(vec![pin.to_owned()]),
        idle_timeout_ms: 30_000,
        ..EndpointConfig::default()
    }
}

/// Messages of the right size and time; what is in them is no concern of a relay.
async fn send(address: String, pin: String) {
    let client = Client::connect(&endpoint(&pin), &address).await.unwrap();
    let mut publisher = client.publish("cam", &[Track::Catalog, Track::Video, Track::Patches]).unwrap();
    let rendition = Rendition {
        codec: "avc1.640034".into(),
        coded_width: 480,
        coded_height: 270,
        framerate: Some(FPS.into()),
        bitrate: Some(600_000),
        container: catalog::Container::default(),
    };
    let hone = Hone {
        arch: String::new(),
        update_format: String::new(),
        hr_width: 960,
        hr_height: 540,
        colour: catalog::Colour { matrix: "bt709".into(), range: "limited".into() },
        start_unix_us: 0,
    };
    let mut first = publisher.track(Track::Catalog).unwrap();
    first.write(true, 0, Catalog::new(rendition, hone).to_json().into()).unwrap();
    let mut video = publisher.track(Track::Video).unwrap();
    let start = Instant::now();
    for frame in 0.. {
        tokio::time::sleep_until((start + Duration::from_secs(1) * frame / FPS).into()).await;
        let pts_us = i64::try_from(start.elapsed().as_micros()).unwrap();
        video.write(frame % (4 * FPS) == 0, pts_us, vec![0x5A; FRAME].into()).unwrap();
    }
}

/// Reads as viewers do, until it is killed.
async fn be_viewers(server: &str, pin: &str, viewers: usize) {
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..viewers {
        let (server, config) = (server.to_owned(), endpoint(pin));
        all.spawn(async move {
            let client = Client::connect(&config, &server).await.unwrap();
            let broadcast = client.subscribe("cam").await.unwrap();
            let live = |ms| Delivery::Latest { max_age: Duration::from_millis(ms) };
            let mut video = broadcast.track(Track::Video, live(2000)).await.unwrap();
            let mut model = broadcast.track(Track::Model, live(0)).await.unwrap();
            let model = async { while let Ok(Some(_)) = model.next().await {} };
            // Who is sent nothing costs nothing.
            let patience = Duration::from_secs(5);
            let video = async {
                while let Ok(Some(_)) =
                    tokio::time::timeout(patience, video.next()).await.expect("a frame within 5 s")
                {
                }
            };
            tokio::join!(video, model);
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // None of them is to end before it is killed.
    if let Some(viewer) = all.join_next().await {
        viewer.unwrap();
    }
}
