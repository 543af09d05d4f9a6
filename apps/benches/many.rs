//! Many streams at one server: ten by default, two viewers each, as processes on this machine.
//!
//! ```text
//! cargo bench -p hone-apps --bench many
//! cargo bench -p hone-apps --bench many -- --streams 20 --seconds 120
//! ```
//!
//! Test patterns of 320x192 at 10 frames a second and 120 kbit/s, halved, each learned by a 1x8 network. Prints what viewers
//! have shown and dropped, how late, and what the server took. Fails if a viewer shows nothing or the server warns.
#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use common::Process;
use serde_json::Value;

const SETTINGS: &str = r#"
[endpoint]
bind = "127.0.0.1:0"
certificate = "dev"
[endpoint.limits]
sessions_max = 1000
sessions_per_address_max = 1000
broadcasts_max = 400
[trainer]
backend = "cpu"
blocks = 1
features = 8
"#;
const VIEWERS: u32 = 2;
/// Until all have joined.
const START: Duration = Duration::from_secs(15);

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |name: &str, usual: u32| {
        let at = arguments.iter().position(|argument| argument == name);
        at.map_or(usual, |at| arguments[at + 1].parse().unwrap())
    };
    many(number("--streams", 10), Duration::from_secs(number("--seconds", 45).into()));
}

fn many(streams: u32, time: Duration) {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("server.toml"), SETTINGS).unwrap();
    let arguments = ["--config", "server.toml"];
    let mut server = Process::start(folder, "server", env!("CARGO_BIN_EXE_hone-server"), &arguments);
    let (address, pin) = (server.line("listening on "), server.line("certificate for development, pin it:"));
    let joins = |program: &str, number: u32, name: &str, more: &[&str]| {
        let stream = format!("cam{}", number % streams);
        let to = ["--server", &address, "--pin", &pin, "--name", &stream];
        Process::start(folder, name, program, &[&to[..], more].concat())
    };
    let source = ["--input", "test:320x192@10", "--scale", "2", "--total-kbps", "120"];
    let mut others: Vec<Process> = (0..streams)
        .map(|i| joins(env!("CARGO_BIN_EXE_hone-sender"), i, &format!("sender-{i}"), &source))
        .collect();
    others.extend((0..VIEWERS * streams).map(|i| {
        let (name, stats) = (format!("viewer-{i}"), format!("{i}.jsonl"));
        let more = ["--headless", "--device", "cpu", "--stats", &stats];
        joins(env!("CARGO_BIN_EXE_hone-viewer"), i, &name, &more)
    }));

    std::thread::sleep(START);
    let (begun, before) = (Instant::now(), processor_s(server.id()));
    std::thread::sleep(time);
    let cores = (processor_s(server.id()) - before) / begun.elapsed().as_secs_f64();
    let newest: Vec<Value> =
        (0..VIEWERS * streams).map(|i| last(&folder.join(format!("{i}.jsonl")))).collect();
    let sum = |field: &str| newest.iter().filter_map(|line| line[field].as_u64()).sum::<u64>();
    let mut latency: Vec<f64> = newest.iter().filter_map(|line| line["latency_ms"].as_f64()).collect();
    latency.sort_by(f64::total_cmp);
    println!("viewers        {}", newest.len());
    println!("frames shown   {}, dropped {}", sum("frames"), sum("dropped"));
    if let (Some(median), Some(most)) = (latency.get(latency.len() / 2), latency.last()) {
        println!("latency        {median:.0} ms in the median of viewers, {most:.0} ms at most");
    }
    println!("server         {cores:.2} cores, {} MB", resident_kb(server.id()) / 1000);
    assert!(newest.iter().all(|line| line["frames"].as_u64() > Some(0)), "a viewer shows nothing");
    for process in others.iter_mut().chain([&mut server]) {
        process.interrupt();
    }
    assert_eq!(server.end(Duration::from_secs(30)), 0, "{}", server.stderr());
    assert!(!server.stderr().contains("WARN"), "{}", server.stderr());
}

/// Seconds that a process has had of all cores.
fn processor_s(id: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    // After the name in brackets; in hundredths.
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() / 100.0
}

fn resident_kb(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

/// The last whole line.
fn last(stats: &Path) -> Value {
    let text = std::fs::read_to_string(stats).unwrap();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    serde_json::from_str(whole.lines().next_back().unwrap_or("{}")).unwrap()
}
