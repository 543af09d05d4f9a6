//! A camera, servers and viewers that meet at a relay: one in this process, and two unmodified `moq-relay`s in a cluster,
//! for which `cargo xtask relay-test` runs the tests that are ignored here.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod common;

use std::net::UdpSocket;
use std::path::Path;
use std::time::Duration;

use common::{EARLY_VERDICTS, Process};
use hone_transport::config::Certificate;
use hone_transport::{EndpointConfig, TestRelay, hex, share};
use serde_json::Value;

const SIZE: (u32, u32) = (192, 108);
const FPS: f64 = 25.0;
/// The most that starting, ending or finding a lost peer again may take on a busy machine.
const MOMENT: Duration = Duration::from_secs(40);

/// How something is reached at a relay.
struct Place<'a> {
    url: String,
    hash: &'a str,
    token: Option<&'a str>,
}

fn arguments<'a>(words: &[&'a str], token: Option<&'a str>, flag: &'a str) -> Vec<&'a str> {
    let token = token.into_iter().flat_map(|token| [flag, token]);
    words.iter().copied().chain(token).collect()
}

fn server(folder: &Path, name: &str, to: &Place, more: &[&str]) -> Process {
    let settings = folder.join("server.toml");
    let endpoint = "[endpoint]\nbind = \"127.0.0.1:0\"\ncertificate = \"dev\"\n";
    std::fs::write(&settings, format!("{endpoint}{EARLY_VERDICTS}")).unwrap();
    let words = ["--config", settings.to_str().unwrap(), "--relay", &to.url, "--relay-pin", to.hash];
    let words = arguments(&[&words[..], more].concat(), to.token, "--relay-token");
    let mut server = Process::start(folder, name, env!("CARGO_BIN_EXE_hone-server"), &words);
    server.line("listening on ");
    server
}

fn sender(folder: &Path, stream: &str, to: &Place, more: &[&str]) -> Process {
    let words =
        ["--server", &to.url, "--pin", to.hash, "--name", stream, "--input", "clip.mp4", "--scale", "2"];
    let words = arguments(&[&words[..], &["--video-kbps", "600"], more].concat(), to.token, "--token");
    Process::start(folder, &format!("sender-{stream}"), env!("CARGO_BIN_EXE_hone-sender"), &words)
}

fn viewer(folder: &Path, name: &str, stream: &str, at: &Place, more: &[&str]) -> Process {
    let stats = format!("{name}.jsonl");
    let words = ["--server", &at.url, "--pin", at.hash, "--name", stream, "--headless", "--device", "cpu"];
    let words = [&words[..], &["--stats", &stats], more].concat();
    let words = arguments(&words, at.token, "--token");
    Process::start(folder, name, env!("CARGO_BIN_EXE_hone-viewer"), &words)
}

/// A number in the newest statistics of a viewer.
fn newest(folder: &Path, viewer: &str, key: &str) -> Option<u64> {
    let text = std::fs::read_to_string(folder.join(format!("{viewer}.jsonl"))).ok()?;
    // Only a line that is whole.
    let line = text[..text.rfind('\n')?].lines().next_back()?;
    serde_json::from_str::<Value>(line).ok()?[key].as_u64()
}

/// Until a viewer has shown some frames more than now, or as many as that in a new stream.
fn goes_on(folder: &Path, process: &mut Process, name: &str) {
    let now = newest(folder, name, "frames").unwrap_or(0);
    process.wait_for("further frames", MOMENT, |_| {
        let frames = newest(folder, name, "frames")?;
        (frames > now + 20 || (20..now).contains(&frames)).then_some(())
    });
}

/// A relay in this process.
struct InProcess {
    _runtime: tokio::runtime::Runtime,
    relay: TestRelay,
    hash: String,
}

impl InProcess {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let config = EndpointConfig {
            bind: ([127, 0, 0, 1], 0).into(),
            certificate: Certificate::Dev,
            ..EndpointConfig::default()
        };
        let relay = runtime.block_on(TestRelay::bind(&config)).unwrap();
        let hash = hex(&relay.certificate_hash);
        Self { _runtime: runtime, relay, hash }
    }

    fn at(&self, path: &str) -> Place<'_> {
        Place { url: format!("https://{}/{path}", self.relay.addr), hash: &self.hash, token: None }
    }
}

#[test]
fn a_camera_a_server_and_a_viewer_meet_at_a_relay() {
    const FRAMES: u32 = 150;
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    common::clip(&folder.join("clip.mp4"), SIZE, FRAMES, FPS);
    let relay = InProcess::start();
    let from = relay.at("in").url;
    let mut server = server(folder, "server", &relay.at("live"), &["--relay-from", &from]);
    let mut viewer = viewer(folder, "viewer", "cam", &relay.at("live"), &["--every-frame"]);
    server.logged("relay found", MOMENT);
    let mut sender = sender(folder, "cam", &relay.at("in"), &[]);
    sender.end_cleanly(MOMENT);
    // The end of the stream passes through both.
    viewer.end_cleanly(MOMENT);
    assert_eq!(newest(folder, "viewer", "frames"), Some(FRAMES.into()));
    assert!(newest(folder, "viewer", "version").is_some_and(|version| version > 0), "{}", server.stderr());
    server.interrupt();
    assert_eq!(server.end(MOMENT), 0, "{}", server.stderr());
}

/// Two servers share what comes from a relay; the one that has a stream is killed.
fn loss_of_a_server(folder: &Path, publish: &Place, input: &Place, view: &Place) {
    common::clip(&folder.join("clip.mp4"), SIZE, 50, FPS);
    let share = |name: &'static str| {
        let more = ["--relay-from", &input.url, "--relay-name", name];
        server(folder, name, publish, &more)
    };
    let mut servers = [("t1", share("t1")), ("t2", share("t2"))];
    for (_, server) in &mut servers {
        server.logged("server that shares", MOMENT);
    }
    let streams: Vec<String> = (0..3).map(|n| format!("cam-{n}")).collect();
    let _senders: Vec<Process> =
        streams.iter().map(|stream| sender(folder, stream, input, &["--loop"])).collect();
    let owner = |stream: &str| share::owner(stream, ["t1", "t2"]).unwrap();
    for (name, server) in &mut servers {
        for stream in streams.iter().filter(|stream| owner(stream) == *name) {
            server.logged(&format!("stream started stream=\"{stream}\""), MOMENT);
        }
    }
    for (name, server) in &servers {
        let log = server.stderr();
        for stream in streams.iter().filter(|stream| owner(stream) != *name) {
            assert!(!log.contains(&format!("stream started stream=\"{stream}\"")), "{name}:\n{log}");
        }
    }
    let mut viewer = viewer(folder, "viewer", &streams[0], view, &[]);
    goes_on(folder, &mut viewer, "viewer");
    let [mut first, mut second] = servers.map(Some);
    let (lost, left) = match owner(&streams[0]) {
        "t1" => (&mut first, &mut second),
        _ => (&mut second, &mut first),
    };
    // Killed, as when its machine loses power.
    drop(lost.take());
    left.as_mut().unwrap().1.logged(&format!("stream started stream=\"{}\"", streams[0]), MOMENT);
    goes_on(folder, &mut viewer, "viewer");
    viewer.interrupt();
    viewer.end(MOMENT);
}

#[test]
fn the_streams_of_a_server_that_is_killed_go_to_another() {
    let folder = tempfile::tempdir().unwrap();
    let relay = InProcess::start();
    loss_of_a_server(folder.path(), &relay.at("live"), &relay.at("in"), &relay.at("live"));
}

/// Two `moq-relay`s in a cluster, both with one certificate, that ask `hone token serve` about tokens.
struct Cluster<'a> {
    folder: &'a Path,
    ports: [u16; 2],
    relays: [Option<Process>; 2],
    hash: String,
    server: String,
    sender: String,
    viewer: String,
    auth: Process,
}

impl<'a> Cluster<'a> {
    fn start(folder: &'a Path) -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into(), "127.0.0.1".into()]).unwrap();
        std::fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        let hash = hex(&<sha2::Sha256 as sha2::Digest>::digest(made.cert.der()).into());

        const HONE: &str = env!("CARGO_BIN_EXE_hone");
        let run = |words: &[&str]| {
            let mut process = Process::start(folder, "token", HONE, words);
            assert_eq!(process.end(MOMENT), 0, "{}", process.stderr());
            process.stdout().trim().to_owned()
        };
        run(&["token", "key", "token.key"]);
        let token = |grants: &[&str]| {
            run(&[&["token", "make", "--key", "token.key", "--for", "1h"], grants].concat())
        };
        let words = ["token", "serve", "--key", "token.key", "--listen", "127.0.0.1:0"];
        let mut auth = Process::start(folder, "auth", HONE, &words);
        let asked = auth.line("answering on ");

        let free = || UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let ports = [free(), free()];
        let between = token(&["--publish", "*", "--view", "*"]);
        for (name, port, peers) in [
            ("a", ports[0], String::new()),
            (
                "b",
                ports[1],
                format!("{{ url = \"https://127.0.0.1:{}/\", token = \"{between}\" }}", ports[0]),
            ),
        ] {
            let text = format!(
                "[listen]\nbind = \"127.0.0.1:{port}\"\n[listen.tls]\ncert = [\"cert.pem\"]\nkey = [\"key.pem\"]\n\
                 [auth]\nurl = \"{asked}\"\n[connect.tls]\nfingerprint = [\"{hash}\"]\n[cluster]\nconnect = [{peers}]\n"
            );
            std::fs::write(folder.join(format!("relay-{name}.toml")), text).unwrap();
        }
        let mut cluster = Self {
            folder,
            ports,
            relays: [None, None],
            hash,
            server: token(&["--publish", "live", "--publish", "in", "--view", "in"]),
            sender: token(&["--publish", "in/cam*"]),
            viewer: token(&["--view", "live/cam*"]),
            auth,
        };
        cluster.run(0);
        cluster.run(1);
        cluster
    }

    fn run(&mut self, which: usize) {
        let binary = std::env::var("HONE_MOQ_RELAY").expect("HONE_MOQ_RELAY names the relay's program");
        let name = ["relay-a", "relay-b"][which];
        self.relays[which] = Some(Process::start(self.folder, name, &binary, &[&format!("{name}.toml")]));
    }

    fn kill(&mut self, which: usize) {
        self.relays[which] = None;
    }

    fn at<'b>(&'b self, which: usize, path: &str, token: &'b str) -> Place<'b> {
        let url = format!("https://127.0.0.1:{}/{path}", self.ports[which]);
        Place { url, hash: &self.hash, token: Some(token) }
    }
}

#[test]
#[ignore = "needs moq-relay: cargo xtask relay-test"]
fn viewers_of_a_cluster_outlive_each_of_its_relays() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    common::clip(&folder.join("clip.mp4"), SIZE, 50, FPS);
    let mut cluster = Cluster::start(folder);
    let (hash, token) = (cluster.hash.clone(), cluster.server.clone());
    // What goes in at the first relay is taken at the second, and what is published at the first is viewed at both.
    let from = cluster.at(1, "in", &token).url;
    let to = cluster.at(0, "live", &token).url;
    let to = Place { url: to, hash: &hash, token: Some(&token) };
    let mut server = server(folder, "server", &to, &["--relay-from", &from]);
    server.logged("relay found", MOMENT);
    let mut sender = sender(folder, "cam", &cluster.at(0, "in", &cluster.sender), &["--loop"]);
    let mut viewers = [
        ("at-a", viewer(folder, "at-a", "cam", &cluster.at(0, "live", &cluster.viewer), &[])),
        ("at-b", viewer(folder, "at-b", "cam", &cluster.at(1, "live", &cluster.viewer), &[])),
    ];
    for (name, viewer) in &mut viewers {
        goes_on(folder, viewer, name);
        viewer
            .wait_for("a model", MOMENT, |_| newest(folder, name, "version").filter(|version| *version > 0));
    }

    // A viewer cannot reach what senders publish, patches among it; nor can who has no token.
    let url = cluster.at(0, "in", "").url;
    for token in [Some(cluster.viewer.clone()), None] {
        let place = Place { url: url.clone(), hash: &hash, token: token.as_deref() };
        let mut curious = viewer(folder, "curious", "cam", &place, &[]);
        assert_eq!(curious.end(MOMENT), 1, "{}", curious.stderr());
        assert_eq!(newest(folder, "curious", "frames"), Some(0));
    }
    // The first one saw from its own token that it need not ask; the relay had to ask about the second.
    cluster.auth.logged("no token", MOMENT);

    // Without the second relay, the first one's viewers go on with what the server still has; with it, all do.
    cluster.kill(1);
    viewers[1].1.logged("stream lost, looking for it", MOMENT);
    server.logged("relay lost, looking for it", MOMENT);
    cluster.run(1);
    for (name, viewer) in &mut viewers {
        goes_on(folder, viewer, name);
    }
    // Without the first one nobody gets anything; with it again, all do.
    cluster.kill(0);
    sender.logged("link lost, looking for the server", MOMENT);
    for (_, viewer) in &mut viewers {
        viewer.logged("stream lost, looking for it", MOMENT);
    }
    cluster.run(0);
    for (name, viewer) in &mut viewers {
        goes_on(folder, viewer, name);
    }
    sender.interrupt();
    for (_, viewer) in &mut viewers {
        viewer.end(MOMENT);
    }
    server.interrupt();
    assert_eq!(server.end(MOMENT), 0, "{}", server.stderr());
}

#[test]
#[ignore = "needs moq-relay: cargo xtask relay-test"]
fn servers_share_the_streams_of_a_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(folder.path());
    let token = cluster.server.clone();
    // One token for all three: whoever may publish streams may also show that it is a server.
    let (publish, input) = (cluster.at(0, "live", &token), cluster.at(0, "in", &token));
    loss_of_a_server(folder.path(), &publish, &input, &cluster.at(1, "live", &cluster.viewer));
}
