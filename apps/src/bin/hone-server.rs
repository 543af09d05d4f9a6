//! `hone-server`: relays, trains, publishes.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::Result;
use clap::{Parser, ValueEnum};
use hone_apps::cli::{self, LogFormat};
use hone_apps::server::http::{Http, Page, Request};
use hone_apps::server::models::Models;
use hone_apps::server::{self, Setup, Unwatched, cameras};
use hone_apps::settings::Server as Settings;
use hone_transport::config::{Certificate, Trust};
use hone_transport::{Server, hex};

/// Relays streams untouched, trains a network on each one's patches and publishes the weights to its viewers.
#[derive(Parser)]
#[command(
    version,
    after_help = "Examples:\n  \
    hone-server --bind 127.0.0.1:4443 --dev-certificate\n  \
    hone-server --bind 0.0.0.0:4443 --dev-certificate=anywhere --token-key token.key\n  \
    hone-server --config /etc/hone/server.toml --log-format json\n  \
    hone-server --config server.toml --relay https://relay.example:4443/live --relay-token @relay.token\n\n\
    SIGHUP reads keys, certificates and limits again. SIGTERM and Ctrl-C end cleanly."
)]
struct Cli {
    /// UDP address to listen on.
    #[arg(long, value_name = "IP:PORT")]
    bind: Option<SocketAddr>,
    /// Make a certificate for this run and print its hash; `=anywhere` also for an address beyond loopback.
    #[arg(long, value_name = "WHERE", num_args = 0..=1, require_equals = true, default_missing_value = "loopback")]
    dev_certificate: Option<Where>,
    /// Key file of `hone token key`: senders and viewers must show a token.
    #[arg(long, value_name = "FILE")]
    token_key: Option<PathBuf>,
    /// Let everybody publish and view, also beyond loopback.
    #[arg(long)]
    allow_anonymous: bool,
    /// TCP address of /metrics, /healthz and /readyz.
    #[arg(long, value_name = "IP:PORT")]
    http: Option<SocketAddr>,
    /// Folder where models are kept from one run to the next.
    #[arg(long, value_name = "FOLDER")]
    models: Option<PathBuf>,
    /// A moq-relay to publish to, for its viewers: https://HOST:PORT/PATH; docs/scale.md.
    #[arg(long, value_name = "URL")]
    relay: Option<String>,
    /// A moq-relay to take streams from that senders publish there, at a path that viewers have no token for.
    #[arg(long, value_name = "URL")]
    relay_from: Option<String>,
    /// Share the streams of --relay-from with other servers; each has a name of its own.
    #[arg(long, value_name = "NAME")]
    relay_name: Option<String>,
    /// The relay's token for this server; @FILE reads it from a file.
    #[arg(long, value_name = "TOKEN|@FILE")]
    relay_token: Option<String>,
    /// SHA-256 of the relay's certificate, where it is not from a known authority.
    #[arg(long, value_name = "HASH")]
    relay_pin: Vec<String>,
    /// How logs are written.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
    /// Settings; examples/server.toml explains them.
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
}

/// Where a certificate for development may be shown.
#[derive(Clone, Copy, ValueEnum)]
enum Where {
    Loopback,
    Anywhere,
}

impl Cli {
    /// What the file says, and the command line over it.
    fn settings(&self) -> Result<Settings> {
        let mut settings: Settings = cli::settings(self.config.as_deref())?;
        let endpoint = &mut settings.endpoint;
        endpoint.bind = self.bind.unwrap_or(endpoint.bind);
        match self.dev_certificate {
            Some(Where::Loopback) => endpoint.certificate = Certificate::Dev,
            Some(Where::Anywhere) => endpoint.certificate = Certificate::DevAnywhere,
            None => {}
        }
        endpoint.token_key = self.token_key.clone().or(endpoint.token_key.take());
        endpoint.allow_anonymous |= self.allow_anonymous;
        let operation = &mut settings.operation;
        operation.http = self.http.or(operation.http);
        operation.models = self.models.clone().or(operation.models.take());
        let relay = &mut settings.relay;
        relay.url = self.relay.clone().or(relay.url.take());
        relay.from = self.relay_from.clone().or(relay.from.take());
        relay.name = self.relay_name.clone().or(relay.name.take());
        if let Some(token) = &self.relay_token {
            relay.token = Some(cli::secret(token)?);
        }
        if !self.relay_pin.is_empty() {
            relay.trust = Trust::Pinned(self.relay_pin.clone());
        }
        Ok(settings)
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    cli::main_with("info", cli.log_format, async |stop| -> Result<()> {
        let settings = cli.settings()?;
        let endpoint = &settings.endpoint;
        let server = Arc::new(Server::bind(endpoint).await?);
        let operation = &settings.operation;
        let models = operation.models.as_deref().map(|folder| Models::open(folder, operation.models_max));
        let setup = Setup {
            trainer: settings.trainer,
            limits: Arc::new(RwLock::new(settings.streams)),
            models: models.transpose()?,
            ..Setup::default()
        };
        let http = match operation.http {
            Some(addr) => Some(Http::bind(addr, pages(&server, &setup)).await?),
            None => None,
        };
        // On stdout, for scripts: what senders and viewers must be told.
        println!("listening on {}", server.local_addr());
        if matches!(endpoint.certificate, Certificate::Dev | Certificate::DevAnywhere) {
            println!("certificate for development, pin it: {}", hex(&server.certificate_hash()));
        }
        if let Some(http) = &http {
            println!("figures on http://{}/metrics", http.local_addr);
        }
        if endpoint.token_key.is_none() && !endpoint.bind.ip().is_loopback() {
            tracing::warn!("no token key: whoever reaches this server may publish and view");
        }
        let served = server::run(server.clone(), setup.clone(), Arc::new(Unwatched), stop.clone());
        let cameras = cameras::run(&settings.cameras, &server, endpoint, &stop);
        tokio::select! {
            served = async { tokio::try_join!(served, cameras) } => served.map(|_| ()),
            failed = settings.relay.run(&server, endpoint) => failed,
            never = reload(&cli, &server, &setup) => never,
        }
    })
}

/// What the HTTP port shows.
fn pages(server: &Arc<Server>, setup: &Setup) -> impl Fn(Request<'_>) -> Page + Send + Sync + use<> {
    let (server, metrics) = (server.clone(), setup.metrics.clone());
    move |asked| {
        let (status, body) = match asked.path {
            _ if asked.method != "GET" => (405, "only GET\n".into()),
            "/metrics" => (200, metrics.text(&server)),
            "/healthz" => (200, "alive\n".into()),
            "/readyz" if metrics.draining() => (503, "draining\n".into()),
            "/readyz" => (200, "ready\n".into()),
            _ => (404, "there are /metrics, /healthz and /readyz\n".into()),
        };
        Page { status, body }
    }
}

/// Reads the settings again at each SIGHUP.
#[cfg(unix)]
async fn reload(cli: &Cli, server: &Server, setup: &Setup) -> Result<()> {
    let mut hangups = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?;
    while hangups.recv().await.is_some() {
        if setup.metrics.draining() {
            // Whoever reads the settings anew lets sessions in.
            continue;
        }
        let reloaded = cli.settings().and_then(|settings| {
            server.reload(&settings.endpoint)?;
            *setup.limits.write().unwrap_or_else(PoisonError::into_inner) = settings.streams;
            Ok(())
        });
        match reloaded {
            Ok(()) => {
                setup.metrics.reloads.add(1);
                tracing::info!("keys, certificates and limits were read again");
            }
            Err(error) => {
                setup.metrics.reloads_failed.add(1);
                tracing::error!(error = format!("{error:#}"), "settings refused, the old ones stay");
            }
        }
    }
    Ok(())
}

#[cfg(not(unix))]
async fn reload(_: &Cli, _: &Server, _: &Setup) -> Result<()> {
    std::future::pending().await
}
