//! `hone-server`: relays, trains, publishes.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use clap::Parser;
use hone_apps::cli;
use hone_apps::server::{self, Unwatched};
use hone_apps::settings::Server as Settings;
use hone_transport::config::Certificate;
use hone_transport::{Server, hex};

/// Relays streams untouched, trains a network on each one's patches and publishes the weights to its viewers.
#[derive(Parser)]
#[command(
    version,
    after_help = "Examples:\n  \
    hone-server --bind 0.0.0.0:4443\n  \
    hone-server --config examples/server.toml"
)]
struct Cli {
    /// UDP address to listen on.
    #[arg(long, value_name = "IP:PORT")]
    bind: Option<std::net::SocketAddr>,
    /// Settings; examples/server.toml explains them.
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    cli::main("info", async |stop| -> Result<()> {
        let mut settings: Settings = cli::settings(cli.config.as_deref())?;
        if let Some(bind) = cli.bind {
            settings.endpoint.bind = bind;
        }
        let server = Server::bind(&settings.endpoint).await?;
        // On stdout, for scripts: what senders and viewers must be told.
        println!("listening on {}", server.local_addr());
        if settings.endpoint.certificate == Certificate::Dev {
            println!("certificate for development, pin it: {}", hex(&server.certificate_hash()));
        }
        server::run(Arc::new(server), settings.trainer, Arc::new(Unwatched), stop).await
    })
}
