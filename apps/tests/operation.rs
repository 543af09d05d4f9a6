//! A server as it is run: tokens, figures, reload, saved models.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{EARLY_VERDICTS, Process};

const HONE: &str = env!("CARGO_BIN_EXE_hone");
const SERVER: &str = env!("CARGO_BIN_EXE_hone-server");
const SENDER: &str = env!("CARGO_BIN_EXE_hone-sender");
const VIEWER: &str = env!("CARGO_BIN_EXE_hone-viewer");

/// The rest is [`EARLY_VERDICTS`], and that no cut makes learning begin again.
const SETTINGS: &str = r#"
[endpoint]
bind = "127.0.0.1:0"
certificate = "dev"
token_key = "token.key"

[operation]
http = "127.0.0.1:0"
models = "models"
"#;

/// The most that one step may take on a busy machine.
const MOMENT: Duration = Duration::from_secs(60);

/// Runs the tool, which must succeed, and gives what it printed.
fn hone(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new(HONE).args(arguments).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Status line and body of a page.
fn page(http: &str, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(http).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {http}\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

/// A figure, once it satisfies `good`.
fn figure(http: &str, name: &str, good: impl Fn(f64) -> bool) -> f64 {
    let start = Instant::now();
    loop {
        let (_, text) = page(http, "/metrics");
        let value = hone_apps::top::parse(&text).get(name).copied();
        if let Some(value) = value.filter(|value| good(*value)) {
            return value;
        }
        assert!(start.elapsed() < MOMENT, "{name} is {value:?}:\n{text}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

struct Run {
    process: Process,
    address: String,
    hash: String,
    http: String,
}

fn start(folder: &Path, name: &str, more: &[&str]) -> Run {
    let arguments = [&["--config", "server.toml"], more].concat();
    let mut process = Process::start(folder, name, SERVER, &arguments);
    let address = process.line("listening on ");
    let hash = process.line("certificate for development, pin it: ");
    let http = process.line("figures on http://").trim_end_matches("/metrics").to_owned();
    Run { process, address, hash, http }
}

#[test]
fn a_server_with_tokens_is_watched_reloaded_and_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let settings = format!("{SETTINGS}{EARLY_VERDICTS}follow_scenes = false\n");
    std::fs::write(folder.join("server.toml"), settings).unwrap();
    common::clip(&folder.join("clip.mp4"), (256, 144), 50, 25.0);
    hone(folder, &["token", "key", "token.key"]);
    let token = |scope: &[&str]| {
        hone(folder, &[&["token", "make", "--key", "token.key", "--for", "1h"], scope].concat())
    };
    std::fs::write(folder.join("publish.token"), token(&["--publish", "cam*"])).unwrap();
    let view = token(&["--view", "cam"]);
    assert!(hone(folder, &["token", "show", &view]).contains("view    cam\nexpires in "));

    let Run { mut process, address, hash, http } = start(folder, "server", &["--log-format", "json"]);
    let to = ["--server", &address, "--pin", &hash];
    let publish = ["--token", "@publish.token", "--input", "clip.mp4", "--scale", "2", "--loop"];
    let sender = Process::start(folder, "sender", SENDER, &[&to[..], &publish].concat());
    let watch = ["--token", &view, "--headless", "--device", "cpu"];
    let mut viewer = Process::start(folder, "viewer", VIEWER, &[&to[..], &watch].concat());
    viewer.logged("stream found", MOMENT);

    // Who has no token, or another stream's, is told; who has one goes on.
    let refused = |name: &str, binary: &str, more: &[&str], words: &str| {
        let mut process = Process::start(folder, name, binary, &[&to[..], more].concat());
        assert_eq!(process.end(MOMENT), 1, "{}", process.stderr());
        assert!(process.stderr().contains(words), "{}", process.stderr());
    };
    refused("nobody", VIEWER, &["--headless"], "it wants a token");
    refused(
        "nosy",
        VIEWER,
        &["--headless", "--token", &view, "--name", "door"],
        "does not let us view \"door\"",
    );
    refused("liar", SENDER, &["--token", &view, "--input", "clip.mp4", "--name", "cam2"], "error:");
    let of = |figure: &str| format!("{figure}{{stream=\"cam\"}}");
    figure(&http, "hone_sessions_refused_total{reason=\"token\"}", |n| n >= 2.0);
    figure(&http, &of("hone_viewers"), |n| n == 1.0);
    figure(&http, &of("hone_training_steps_total"), |n| n > 0.0);
    figure(&http, &of("hone_picture_age_seconds"), |age| age < 60.0);
    let version = figure(&http, &of("hone_model_version"), |version| version >= 1.0);
    let table = hone(folder, &["top", &format!("http://{http}"), "--once", "--every-ms", "300"]);
    let row = table.lines().find(|line| line.starts_with("cam ")).unwrap_or_else(|| panic!("{table}"));
    assert_eq!(row.split_whitespace().nth(2), Some("1"), "{table}");
    assert_eq!(page(&http, "/healthz"), ("HTTP/1.1 200 OK".into(), "alive\n".into()));
    assert_eq!(page(&http, "/readyz").1, "ready\n");

    // A key that is gone is refused, and everything stays; a new one is taken.
    std::fs::rename(folder.join("token.key"), folder.join("old.key")).unwrap();
    let hang_up = |process: &Process| process.signal("HUP");
    hang_up(&process);
    process.logged("settings refused", MOMENT);
    hone(folder, &["token", "key", "token.key"]);
    hang_up(&process);
    process.logged("were read again", MOMENT);
    refused("late", VIEWER, &["--headless", "--token", &view], "another key");
    let frames = figure(&http, &of("hone_pictures_total"), |_| true);
    figure(&http, &of("hone_pictures_total"), |n| n > frames);

    // Service managers send SIGTERM. The stream ends, its model is kept.
    process.signal("TERM");
    assert_eq!(process.end(MOMENT), 0, "{}", process.stderr());
    for line in process.stderr().lines().filter(|line| line.starts_with('{')) {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(event["level"].is_string() && event["message"].is_string(), "{line}");
    }
    drop((sender, viewer));
    let model = folder.join("models/cam.live-1x8-x2.hnl");
    assert!(model.exists() && version >= 1.0, "{}", process.stderr());

    // The next run goes on from it; a damaged one is set aside, and the stream begins anew.
    let publish = ["--token", &token(&["--publish", "cam"]), "--input", "clip.mp4", "--scale", "2"];
    for damage in [false, true] {
        if damage {
            let whole = std::fs::read(&model).unwrap();
            std::fs::write(&model, &whole[..whole.len() / 2]).unwrap();
        }
        let mut run = start(folder, "again", &[]);
        let to = ["--server", &run.address, "--pin", &run.hash];
        let mut sender = Process::start(folder, "sender2", SENDER, &[&to[..], &publish].concat());
        let words = if damage { "saved model set aside" } else { "goes on from its saved model" };
        run.process.logged(words, MOMENT);
        sender.end_cleanly(MOMENT);
        run.process.interrupt();
        assert_eq!(run.process.end(MOMENT), 0, "{}", run.process.stderr());
        assert!(!damage || folder.join("models/cam.live-1x8-x2.hnl.corrupt").exists());
    }
}

#[test]
fn what_makes_no_sense_is_said_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    hone(folder, &["token", "key", "token.key"]);
    let key = std::fs::read_to_string(folder.join("token.key")).unwrap();
    let refused = |binary: &str, arguments: &[&str], words: &[&str]| {
        let mut process = Process::start(folder, "refused", binary, arguments);
        let code = process.end(MOMENT);
        let text = process.stderr();
        assert!((1..=2).contains(&code), "{arguments:?}: {code}\n{text}");
        assert!(words.iter().all(|word| text.contains(word)), "{arguments:?}: {words:?} in\n{text}");
        assert!(!text.contains("panicked"), "{text}");
    };
    // An older key is never written over.
    refused(HONE, &["token", "key", "token.key"], &["cannot make key file token.key"]);
    assert_eq!(std::fs::read_to_string(folder.join("token.key")).unwrap(), key);
    #[cfg(unix)]
    {
        let mode = std::fs::metadata(folder.join("token.key")).unwrap();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777, 0o600);
    }
    let make = ["token", "make", "--key", "token.key"];
    refused(HONE, &[&make[..], &["--publish", "cam", "--for", "forever"]].concat(), &["forever", "24h"]);
    refused(HONE, &[&make[..], &["--publish", "a//b", "--for", "1h"]].concat(), &["a//b"]);
    refused(HONE, &[&make[..], &["--for", "1h"]].concat(), &["--publish"]);
    refused(HONE, &["token", "show", "nonsense"], &["not a token"]);
    refused(HONE, &["top", "127.0.0.1:1", "--once"], &["write http://host:port"]);
    refused(HONE, &["top", "http://127.0.0.1:1", "--once"], &["is the server run with --http?"]);
    refused(SERVER, &["--bind", "127.0.0.1:0"], &["endpoint.certificate", "\"dev\""]);
    refused(SERVER, &["--bind", "0.0.0.0:0", "--dev-certificate"], &["loopback", "dev_anywhere"]);
    refused(SERVER, &["--bind", "0.0.0.0:0", "--dev-certificate=anywhere"], &["hone token key"]);
    let dev = ["--bind", "127.0.0.1:0", "--dev-certificate"];
    refused(SERVER, &[&dev[..], &["--token-key", "none.key"]].concat(), &["none.key"]);
    std::fs::write(folder.join("bad.key"), "SECRET").unwrap();
    refused(SERVER, &[&dev[..], &["--token-key", "bad.key"]].concat(), &["bad.key", "not a key file"]);
    refused(SERVER, &[&dev[..], &["--models", "token.key"]].concat(), &["token.key"]);
    let mut taken =
        Process::start(folder, "server", SERVER, &[&dev[..], &["--http", "127.0.0.1:0"]].concat());
    let http = taken.line("figures on http://").trim_end_matches("/metrics").to_owned();
    refused(SERVER, &[&dev[..], &["--http", &http]].concat(), &["cannot bind TCP", &http]);
}

#[test]
fn what_deploy_holds_fits_the_program() {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    let settings: hone_apps::settings::Server =
        hone_apps::cli::settings(Some(&deploy.join("server.toml"))).unwrap();
    settings.endpoint.validate().unwrap();
    assert!(settings.endpoint.token_key.is_some() && !settings.endpoint.allow_anonymous);
    // The unit names the program where it is installed; here it is where it was built.
    let unit = std::fs::read_to_string(deploy.join("hone-server.service")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path().join("hone-server.service");
    std::fs::write(&here, unit.replace("/usr/local/bin/hone-server", SERVER)).unwrap();
    let Ok(output) = Command::new("systemd-analyze").arg("verify").arg(&here).output() else {
        eprintln!("SKIPPED: systemd-analyze is not installed");
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
