//! What the binaries share: logs, errors, Ctrl-C, files of settings.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use clap::ValueEnum;
use hone_runtime::Preference;
use hone_transport::config::{EndpointConfig, Secret, Trust};
use serde::de::DeserializeOwned;

/// Where a viewer computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Device {
    /// A GPU if there is one, else the CPU.
    #[default]
    Auto,
    /// A GPU, or an error.
    Gpu,
    /// Any adapter, also one in software: for tests.
    SoftwareGpu,
    /// The CPU.
    Cpu,
}

impl From<Device> for Preference {
    fn from(device: Device) -> Self {
        match device {
            Device::Auto => Self::Auto,
            Device::Gpu => Self::Gpu { allow_software: false },
            Device::SoftwareGpu => Self::Gpu { allow_software: true },
            Device::Cpu => Self::Cpu,
        }
    }
}

/// Libraries that warn of every session that ends, cleanly or not, and of every display that is not a usual one; what
/// matters of it comes back as an error.
const QUIET: &str = "moq_net=error,web_transport_quinn=error,winit=error,egui_winit=error,retina=error";

/// Libraries whose `debug` shows the address that was asked for, and so the token in it.
const TELLS_TOKENS: &str = "web_transport_quinn=info";

/// How logs are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// A JSON object a line, for log collectors.
    Json,
}

/// How a client is let in; part of the command lines of sender and viewer.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Access {
    /// Token of `hone token make`, where the server wants one; @FILE reads it from a file, where no list of processes
    /// shows it.
    #[arg(long, value_name = "TOKEN|@FILE")]
    token: Option<String>,
}

impl Access {
    /// Lets the command line's token replace what the file says.
    ///
    /// # Errors
    /// If there is no such file.
    pub fn apply(&self, endpoint: &mut EndpointConfig) -> Result<()> {
        if let Some(token) = &self.token {
            endpoint.token = Some(secret(token)?);
        }
        Ok(())
    }
}

/// A token, or the one in a file if it is written `@FILE`.
///
/// # Errors
/// If there is no such file.
pub fn secret(token: &str) -> Result<Secret> {
    let token = match token.strip_prefix('@') {
        Some(file) => {
            std::fs::read_to_string(file).with_context(|| format!("cannot read token file {file}"))?
        }
        None => token.to_owned(),
    };
    Ok(Secret(token.trim().to_owned()))
}

/// Runs a binary's body: logs to stderr, stops on Ctrl-C, one line for an error.
pub fn main(default_log: &str, body: impl AsyncFnOnce(Arc<AtomicBool>) -> Result<()>) -> ExitCode {
    main_with(default_log, LogFormat::Text, body)
}

/// The same with a choice of how logs are written.
pub fn main_with(
    default_log: &str,
    format: LogFormat,
    body: impl AsyncFnOnce(Arc<AtomicBool>) -> Result<()>,
) -> ExitCode {
    exit(start_with(default_log, format).and_then(|(runtime, stop)| {
        let result = runtime.block_on(body(stop));
        // Threads that wait for the network must not keep an ended program alive.
        runtime.shutdown_background();
        result
    }))
}

/// Sets up logs to stderr, the threads for the network, and a flag that Ctrl-C sets.
///
/// # Errors
/// If the system gives no threads.
pub fn start(default_log: &str) -> Result<(tokio::runtime::Runtime, Arc<AtomicBool>)> {
    start_with(default_log, LogFormat::Text)
}

/// The same with a choice of how logs are written.
///
/// # Errors
/// If the system gives no threads.
pub fn start_with(
    default_log: &str,
    format: LogFormat,
) -> Result<(tokio::runtime::Runtime, Arc<AtomicBool>)> {
    hone_runtime::quiet_mesa();
    let filter = match tracing_subscriber::EnvFilter::try_from_env("HONE_LOG") {
        Ok(asked) => asked.add_directive(TELLS_TOKENS.parse().context("log filter")?),
        Err(_) => tracing_subscriber::EnvFilter::new(format!("{default_log},{QUIET}")),
    };
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => logs.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => {
            logs.json().flatten_event(true).with_current_span(false).with_span_list(false).init()
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start")?;
    let stop = Arc::new(AtomicBool::new(false));
    runtime.spawn(on_ctrl_c(stop.clone()));
    Ok((runtime, stop))
}

/// Says what went wrong in one line, causes included: what went wrong, then why.
pub fn exit(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The first Ctrl-C asks for a clean end, the second does not ask. On Unix SIGTERM does the same: service managers
/// send that.
async fn on_ctrl_c(stop: Arc<AtomicBool>) {
    while end_asked().await.is_ok() {
        if stop.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!("\nstopping; press Ctrl-C again to stop at once");
    }
}

#[cfg(unix)]
async fn end_asked() -> std::io::Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        asked = tokio::signal::ctrl_c() => asked,
        _ = terminate.recv() => Ok(()),
    }
}

#[cfg(not(unix))]
async fn end_asked() -> std::io::Result<()> {
    tokio::signal::ctrl_c().await
}

/// Reads a TOML file, or gives the defaults if there is none.
///
/// # Errors
/// One that names the file, the line and the key.
pub fn settings<T: DeserializeOwned + Default>(path: Option<&Path>) -> Result<T> {
    let Some(path) = path else { return Ok(T::default()) };
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    toml::from_str(&text).map_err(|error| {
        let line =
            error.span().map_or(0, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        anyhow::anyhow!("{}, line {line}: {}", path.display(), error.message())
    })
}

/// A file in the user's folder for what can be found out again; none where there is no such folder.
pub fn cache_file(name: &str) -> Option<PathBuf> {
    let folder = |variable: &str| std::env::var_os(variable).filter(|v| !v.is_empty()).map(PathBuf::from);
    let caches = if cfg!(windows) {
        folder("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        folder("HOME").map(|home| home.join("Library/Caches"))
    } else {
        folder("XDG_CACHE_HOME").or_else(|| folder("HOME").map(|home| home.join(".cache")))
    };
    let ours = caches?.join("hone");
    std::fs::create_dir_all(&ours).ok().map(|()| ours.join(name))
}

/// Lets command-line hashes replace what the file says of trust.
pub fn pin(endpoint: &mut EndpointConfig, hashes: &[String]) {
    if !hashes.is_empty() {
        endpoint.trust = Trust::Pinned(hashes.to_vec());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn example_files_parse_and_unknown_keys_are_refused_with_their_line() {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
        let server: crate::settings::Server = settings(Some(&examples.join("server.toml"))).unwrap();
        let defaults = crate::settings::Server::default();
        assert_eq!(server.trainer, defaults.trainer, "the example shows the defaults");
        assert_eq!((server.streams, server.operation), (defaults.streams, defaults.operation));
        assert_eq!(server.relay, defaults.relay);
        settings::<crate::settings::Sender>(Some(&examples.join("sender.toml"))).unwrap();
        settings::<crate::settings::Viewer>(Some(&examples.join("viewer.toml"))).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bad.toml");
        std::fs::write(&path, "[trainer]\nblocks = 4\nfeatrues = 16\n").unwrap();
        let error = settings::<crate::settings::Server>(Some(&path)).unwrap_err().to_string();
        assert!(error.contains("bad.toml, line 3") && error.contains("featrues"), "{error}");
        assert!(settings::<crate::settings::Server>(Some(&folder.path().join("none.toml"))).is_err());
    }
}
