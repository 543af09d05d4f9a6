//! `hone-viewer`: shows a stream, upscaled.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Result;
use clap::Parser;
use hone_apps::cli::{self, Device};
use hone_apps::dial::Dialer;
use hone_apps::screen::Target;
use hone_apps::settings::Viewer as Settings;
use hone_apps::viewer::{self, Files, Log, Monitor, Outputs, Session, Until};

/// Receives a stream and its weights, upscales it and shows it: in a window, into files or a pipe.
#[derive(Parser)]
#[command(
    version,
    after_help = "Examples:\n  \
    hone-viewer --server 192.168.1.10:4443 --pin HASH --name cam\n  \
    hone-viewer --server 192.168.1.10:4443 --pin HASH --headless --record sr.mp4 --record-raw lr.mp4\n  \
    hone-viewer --server 192.168.1.10:4443 --pin HASH --headless --y4m - | mpv -\n  \
    hone-viewer --server hone.example:4443 --headless --stats stats.jsonl --device cpu"
)]
struct Cli {
    /// The server, host:port.
    #[arg(long, value_name = "HOST:PORT")]
    server: String,
    /// SHA-256 of the server's certificate, where it is not from a known authority; the server prints it.
    #[arg(long, value_name = "HASH")]
    pin: Vec<String>,
    #[command(flatten)]
    access: cli::Access,
    /// Name of the stream; the viewer waits for it to begin.
    #[arg(long, default_value = "cam")]
    name: String,
    /// No window: for recordings, pipes and measurements; ends with the stream.
    #[arg(long)]
    headless: bool,
    /// Record what is shown; if the stream changes its size, in FILE-2.mp4 and so on.
    #[arg(long, value_name = "FILE.mp4")]
    record: Option<PathBuf>,
    /// Record the small stream as it comes.
    #[arg(long, value_name = "FILE.mp4")]
    record_raw: Option<PathBuf>,
    /// Write what is shown as uncompressed YUV4MPEG2; `-` is standard output, for a player.
    #[arg(long, value_name = "FILE.y4m")]
    y4m: Option<PathBuf>,
    /// Write statistics, a line of JSON a second; docs/viewer.md explains the fields.
    #[arg(long, value_name = "FILE.jsonl")]
    stats: Option<PathBuf>,
    /// Where to compute.
    #[arg(long, default_value = "auto")]
    device: Device,
    /// Which adapter: its number, or a part of its name.
    #[arg(long, value_name = "NAME")]
    adapter: Option<String>,
    /// How the GPU computes: f32, f16-storage, f16, coop8 or coop16; by default the fastest that is right.
    #[arg(long, value_name = "VARIANT")]
    shader_variant: Option<hone_runtime::Variant>,
    /// Begin with the sound off; M turns it on.
    #[arg(long, hide = !cfg!(feature = "sound"))]
    mute: bool,
    /// Show every frame, however late, instead of keeping up with the camera.
    #[arg(long)]
    every_frame: bool,
    /// Settings; examples/viewer.toml explains them.
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
}

impl Cli {
    fn settings(&self) -> Result<Settings> {
        let mut settings: Settings = cli::settings(self.config.as_deref())?;
        cli::pin(&mut settings.endpoint, &self.pin);
        self.access.apply(&mut settings.endpoint)?;
        Ok(settings)
    }

    fn session(&self, settings: Settings) -> Session {
        let dialer = Dialer::new(settings.endpoint, self.server.clone());
        Session { dialer, name: self.name.clone(), options: self.options() }
    }

    fn outputs(&self) -> Result<Outputs> {
        Outputs::open(Files {
            record: self.record.clone(),
            record_raw: self.record_raw.clone(),
            y4m: self.y4m.clone(),
        })
    }

    fn options(&self) -> viewer::Options {
        let options = hone_runtime::Options {
            device: self.device.into(),
            adapter: self.adapter.clone(),
            variant: self.shader_variant,
            cache: cli::cache_file("shader-variants"),
        };
        viewer::Options {
            target: Target { options, gpu: None },
            every_frame: self.every_frame,
            time_passes: self.stats.is_some() || !self.headless,
            fall_back: !self.headless,
        }
    }
}

async fn headless(cli: &Cli, stop: Arc<AtomicBool>) -> Result<()> {
    let settings = cli.settings()?;
    let outputs = cli.outputs()?;
    let monitor = Arc::new(Monitor::default());
    let log = Log::start(cli.stats.as_deref(), monitor.clone())?;
    let (received, _) = cli.session(settings).run(Until::Ended, outputs, &monitor, &stop).await;
    log.end().await;
    let received = received?;
    let weights: String = received.weights_hash.iter().map(|byte| format!("{byte:02x}")).collect();
    tracing::info!(
        frames = received.frames,
        dropped = received.dropped,
        version = received.version,
        weights,
        "viewer ended"
    );
    Ok(())
}

#[cfg(feature = "window")]
fn windowed(cli: &Cli) -> Result<()> {
    let (runtime, stop) = cli::start("info")?;
    let result = hone_apps::window::run(
        hone_apps::window::Setup {
            session: cli.session(cli.settings()?),
            outputs: cli.outputs()?,
            stats: cli.stats.clone(),
            mute: cli.mute,
        },
        runtime.handle(),
        stop,
    );
    runtime.shutdown_background();
    result
}

#[cfg(not(feature = "window"))]
fn windowed(_cli: &Cli) -> Result<()> {
    anyhow::bail!("this build has no window (cargo feature `window`): use --headless")
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if cli.headless {
        cli::main("info", async |stop| headless(&cli, stop).await)
    } else {
        cli::exit(windowed(&cli))
    }
}
