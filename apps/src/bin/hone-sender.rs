//! `hone-sender`: a file to a server.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use hone_apps::cli;
use hone_apps::sender::{self, Plan, Rate, RealTime};
use hone_apps::settings::Client as Settings;
use hone_media::source::{Looped, Mp4Source, Source};
use hone_transport::Client;

/// Sends a small H.264 stream and training patches to a Hone server, at the clip's own pace.
#[derive(Parser)]
#[command(
    version,
    after_help = "Examples:\n  \
    hone-sender --server 192.168.1.10:4443 --pin HASH --name cam --input clip.mp4\n  \
    hone-sender --server hone.example:4443 --name cam --input clip.mp4 --loop --scale 3 --total-kbps 600"
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
    /// Name of the stream.
    #[arg(long, default_value = "cam")]
    name: String,
    /// H.264 in an MP4 file.
    #[arg(long, value_name = "FILE.mp4")]
    input: PathBuf,
    /// Start the clip again when it ends.
    #[arg(long = "loop")]
    repeat: bool,
    /// Shown size over streamed size.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=4))]
    scale: u32,
    /// Rows of the stream, even; the clip's rows over the scale if left out.
    #[arg(long, value_name = "ROWS")]
    lr_height: Option<u32>,
    /// Video and patches together, kbit/s [default: 600].
    #[arg(long, value_name = "KBPS", conflicts_with = "video_kbps", value_parser = clap::value_parser!(u32).range(20..=100_000))]
    total_kbps: Option<u32>,
    /// Video alone, kbit/s; patches come on top.
    #[arg(long, value_name = "KBPS", value_parser = clap::value_parser!(u32).range(20..=100_000))]
    video_kbps: Option<u32>,
    /// Settings; examples/sender.toml explains them.
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
}

/// As long as a loop may run: 30 years, to stay far from the end of time.
const LOOP_US: i64 = 30 * 365 * 86_400 * 1_000_000;

fn main() -> ExitCode {
    let cli = Cli::parse();
    cli::main("info", async |stop| {
        let mut settings: Settings = cli::settings(cli.config.as_deref())?;
        cli::pin(&mut settings.endpoint, &cli.pin);
        cli.access.apply(&mut settings.endpoint)?;
        let input = cli.input.clone();
        let mut source: Box<dyn Source> = match cli.repeat {
            true => Box::new(Looped::new(move || Mp4Source::open(&input), LOOP_US)?),
            false => Box::new(Mp4Source::open(&input)?),
        };
        let rate = match (cli.video_kbps, cli.total_kbps) {
            (Some(video), _) => Rate::Video(video.into()),
            (None, total) => Rate::Total(total.unwrap_or(600).into()),
        };
        let plan = Plan::new(source.info(), cli.scale, cli.lr_height, rate)?;
        let client = Client::connect(&settings.endpoint, &cli.server).await?;
        tracing::info!(stream = cli.name, lr = ?plan.lr, hr = ?plan.hr, video_kbps = plan.video_kbps, patch_kbps = plan.patch_kbps, "sending");
        let (client, sent) = tokio::task::spawn_blocking(move || {
            let mut pace = RealTime::new(stop);
            let sent = sender::run(&client, &cli.name, source.as_mut(), &plan, &mut pace);
            (client, sent)
        })
        .await?;
        client.close().await;
        sent.map(|_| ())
    })
}
