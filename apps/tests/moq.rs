//! An unmodified MoQ client, the npm package @moq/net in headless Chromium, lists our broadcast and plays its video.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::Process;
use hone_transport::catalog::Catalog;
use hone_transport::config::Trust;
use hone_transport::{Client, Delivery, EndpointConfig, Message, Track};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Groups that the client plays.
const GROUPS: u64 = 4;
/// Between two keyframes, seconds.
const GOP: &str = "0.5";
/// Longer than any of it takes on a busy machine.
const MOMENT: Duration = Duration::from_secs(60);

/// Where the client and its packages are, if they are.
fn client() -> Option<std::path::PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/moq");
    if folder.join("node_modules/@moq/net").is_dir() {
        return Some(folder);
    }
    eprintln!("SKIPPED: @moq/net is not installed; `npm ci --ignore-scripts` in apps/tests/moq brings it");
    None
}

/// The catalog, and what our own subscription gets of the video: `groups`, or all until it ends.
async fn read_ours(address: &str, hash: &str, groups: u64) -> (Vec<u8>, Vec<Message>) {
    let config = EndpointConfig {
        bind: ([127, 0, 0, 1], 0).into(),
        trust: Trust::Pinned(vec![hash.to_owned()]),
        ..EndpointConfig::default()
    };
    let client = Client::connect(&config, address).await.unwrap();
    let broadcast = client.subscribe("cam").await.unwrap();
    let mut catalog = broadcast.track(Track::Catalog, Delivery::All).await.unwrap();
    let catalog = catalog.next().await.unwrap().unwrap().payload.to_vec();
    let mut video = broadcast.track(Track::Video, Delivery::All).await.unwrap();
    let mut messages: Vec<Message> = vec![];
    while let Some(message) = video.next().await.unwrap() {
        let first = messages.first().map_or(message.group, |first| first.group);
        if message.group >= first + groups {
            break;
        }
        messages.push(message);
    }
    (catalog, messages)
}

#[test]
fn an_unmodified_client_lists_and_plays_our_broadcast() {
    let Some(client) = client() else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let on = ["--bind", "127.0.0.1:0", "--dev-certificate"];
    let mut server = Process::start(folder, "server", env!("CARGO_BIN_EXE_hone-server"), &on);
    let (address, hash) =
        (server.line("listening on "), server.line("certificate for development, pin it: "));
    let to = ["--server", &address, "--pin", &hash, "--name", "cam", "--input", "test:320x192@30"];
    let more = ["--keyframe-interval", GOP];
    let mut sender =
        Process::start(folder, "sender", env!("CARGO_BIN_EXE_hone-sender"), &[&to[..], &more].concat());
    sender.logged("sending", MOMENT);

    // From the oldest group that is kept, ten seconds of them, so that what the client plays is among them.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let ours = runtime.spawn({
        let (address, hash) = (address.clone(), hash.clone());
        async move { read_ours(&address, &hash, 120).await }
    });
    let output = Command::new("node")
        .arg("client.mjs")
        .args([&format!("https://{address}/"), &hash, "cam", &GROUPS.to_string()])
        .current_dir(client)
        .output();
    let output = match output {
        Err(error) => return eprintln!("SKIPPED: Node.js is not installed: {error}"),
        Ok(output) if output.status.code() == Some(2) => {
            return eprintln!("SKIPPED: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(output) => output,
    };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}\n{}", server.stderr());
    // The end of the stream is the end of our own reading.
    sender.interrupt();
    sender.end_cleanly(MOMENT);
    let (catalog, messages) = runtime.block_on(ours).unwrap();

    let theirs: Value = serde_json::from_slice(&output.stdout).unwrap();
    let announced: Vec<&str> =
        theirs["announced"].as_array().unwrap().iter().map(|path| path.as_str().unwrap()).collect();
    assert!(announced.len() == 1 && announced[0].starts_with("cam/"), "{announced:?}");
    let read = Catalog::parse(theirs["catalog"].to_string().as_bytes()).unwrap();
    assert_eq!(read, Catalog::parse(&catalog).unwrap());
    assert!(read.hone.is_some_and(|hone| !hone.arch.is_empty()), "the server has chosen a network");

    let ours: BTreeMap<(u64, u64), &Message> = messages.iter().map(|m| ((m.group, m.index), m)).collect();
    let units = theirs["units"].as_array().unwrap();
    let mut groups = BTreeMap::<u64, u64>::new();
    for unit in units {
        let number = |key: &str| unit[key].as_u64().unwrap();
        let (group, index) = (number("group"), number("index"));
        let message = ours.get(&(group, index)).unwrap_or_else(|| panic!("we have no {group}/{index}"));
        let hash: String =
            Sha256::digest(&message.payload).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(unit["sha256"].as_str(), Some(&*hash), "{group}/{index}");
        assert_eq!(unit["pts_us"].as_i64(), Some(message.pts_us), "{group}/{index}");
        let kinds: Vec<u64> = unit["kinds"].as_array().unwrap().iter().filter_map(Value::as_u64).collect();
        // A group opens with parameter sets and an IDR picture, and holds one.
        assert_eq!(
            kinds.starts_with(&[7, 8]) && kinds.contains(&5),
            index == 0,
            "{group}/{index}: {kinds:?}"
        );
        *groups.entry(group).or_default() += 1;
    }
    assert_eq!(groups.len() as u64, GROUPS, "{groups:?}");
    // Each of them whole.
    for (group, played) in &groups {
        let sent = messages.iter().filter(|message| message.group == *group).count() as u64;
        assert_eq!(*played, sent, "group {group}");
    }
    // The browser has decoded each.
    assert_eq!(theirs["played"]["error"], Value::Null);
    assert_eq!(theirs["played"]["frames"].as_u64(), Some(units.len() as u64));
}
