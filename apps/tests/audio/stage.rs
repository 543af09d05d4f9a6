//! A server, and who goes to it, as processes.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use crate::common::Process;

const SERVER: &str = env!("CARGO_BIN_EXE_hone-server");
const SENDER: &str = env!("CARGO_BIN_EXE_hone-sender");
const VIEWER: &str = env!("CARGO_BIN_EXE_hone-viewer");
/// The most that starting, or ending after the last frame, may take on a busy machine.
pub const MOMENT: Duration = Duration::from_secs(60);
const SETTINGS: &str = r#"
[endpoint]
bind = "127.0.0.1:0"
certificate = "dev"

[trainer]
backend = "cpu"
blocks = 1
features = 8
"#;

/// A server, and who goes to it.
pub struct Stage {
    folder: tempfile::TempDir,
    server: Process,
    pub address: String,
    pub hash: String,
    http: String,
}

impl Stage {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("server.toml"), SETTINGS).unwrap();
        let arguments = ["--config", "server.toml", "--http", "127.0.0.1:0"];
        let mut server = Process::start(folder.path(), "server", SERVER, &arguments);
        let address = server.line("listening on ");
        let hash = server.line("certificate for development, pin it: ");
        let http = server.line("figures on http://").trim_end_matches("/metrics").to_owned();
        Self { folder, server, address, hash, http }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start(&self, name: &str, binary: &str, address: &str, more: &[&str]) -> Process {
        let to = ["--server", address, "--pin", &self.hash, "--name", "cam"];
        Process::start(self.folder.path(), name, binary, &[&to[..], more].concat())
    }

    pub fn view(&self, name: &str, files: &[&str]) -> Process {
        let more = [&["--headless", "--device", "cpu"][..], files].concat();
        self.start(name, VIEWER, &self.address, &more)
    }

    pub fn send(&self, address: &str, source: &[&str]) -> Process {
        self.start("sender", SENDER, address, source)
    }

    /// A figure of the server's.
    pub fn figure(&self, name: &str) -> Option<f64> {
        let mut stream = TcpStream::connect(&self.http).unwrap();
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: {}\r\n\r\n", self.http).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        hone_apps::top::parse(&text).get(name).copied()
    }

    pub fn end(mut self) -> (tempfile::TempDir, String) {
        self.server.interrupt();
        assert_eq!(self.server.end(MOMENT), 0, "{}", self.server.stderr());
        let log = self.server.stderr();
        (self.folder, log)
    }
}
