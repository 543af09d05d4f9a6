//! `hone`: the demo and the tools.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{Args, Parser, Subcommand, ValueEnum};
use hone_apps::auto_scale::Scale;
use hone_apps::cli::{self, Device};
#[cfg(feature = "lab")]
use hone_apps::lab;
use hone_apps::sender::Rate;
use hone_apps::{base, bench, demo, server, tokens, top};
use hone_model::{Arch, Family};

/// Live video made sharp by a network that learns while the stream runs.
#[derive(Parser)]
#[command(version, after_help = "Without a command, `hone` runs the demo. HONE_LOG=debug shows more.")]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Streams a clip from camera to server to viewer over loopback QUIC and reports what that gained.
    #[command(after_help = "Examples:\n  \
        hone demo\n  \
        hone demo --input clip.mp4 --scale 2 --total-kbps 800\n  \
        hone demo --input clip.mp4 --scale 2 --lr-height 270 --video-kbps 400 --seconds 60 --out /tmp/run")]
    Demo(Demo),
    /// Measures quality in simulated time, against what else the same bits could buy.
    #[cfg(feature = "lab")]
    #[command(after_help = lab::HELP)]
    Lab(Box<lab::Options>),
    /// Trains a generic start for every stream from a clip of many scenes.
    #[command(after_help = "Example:\n  \
        hone train-base --input photos.mp4 --arch live-4x16-x2 --steps 60000 --out model/bases/live-4x16-x2.hnu")]
    TrainBase(TrainBase),
    /// Measures how fast networks run here.
    #[command(subcommand)]
    Bench(Bench),
    /// Works on the files of models.
    #[command(subcommand)]
    Model(Model),
    /// Makes keys and tokens: who may publish and view.
    #[command(subcommand, after_help = tokens::HELP)]
    Token(tokens::Command),
    /// Shows a server's figures, live.
    #[command(after_help = top::HELP)]
    Top(top::Options),
}

#[derive(Subcommand)]
enum Bench {
    /// Whole frames of a viewer, on the CPU and on an adapter, beside what these do at most.
    #[command(after_help = bench::viewer::HELP)]
    Viewer(bench::viewer::Options),
}

#[derive(Subcommand)]
enum Model {
    /// Writes a network as an ONNX file, for other engines.
    #[command(after_help = bench::export::HELP)]
    Export(bench::export::Options),
}

#[derive(Args)]
struct TrainBase {
    /// H.264 in an MP4 file: many scenes, high quality.
    #[arg(long, value_name = "FILE.mp4")]
    input: PathBuf,
    /// The network.
    #[arg(long, default_value = "live-4x16-x2")]
    arch: Arch,
    /// Least and most bits a pixel of the small stream.
    #[arg(long, num_args = 2, default_values_t = [0.012, 0.5])]
    bits_per_pixel: Vec<f64>,
    /// Steps of the optimiser, 16 crops each.
    #[arg(long, default_value_t = 60_000, value_parser = clap::value_parser!(u64).range(500..))]
    steps: u64,
    /// Start from this model update instead of drawn weights: of this network or a smaller one; of another scale, from all but its last layer.
    #[arg(long, value_name = "FILE.hnu")]
    from: Option<PathBuf>,
    /// Adam's step size at the start, halved six times on the way [default: 0.002, with --from 0.001].
    #[arg(long)]
    learning_rate: Option<f32>,
    /// The model update to write.
    #[arg(long, value_name = "FILE.hnu")]
    out: PathBuf,
}

impl TrainBase {
    fn run(self, stop: &AtomicBool) -> anyhow::Result<()> {
        let (low, high) = (self.bits_per_pixel[0], self.bits_per_pixel[1]);
        anyhow::ensure!(
            0.001 <= low && low <= high && high <= 8.0,
            "--bits-per-pixel {low} {high}: least first, 0.001 to 8"
        );
        let usual = if self.from.is_some() { 1e-3 } else { 2e-3 };
        let learning_rate = self.learning_rate.unwrap_or(usual);
        anyhow::ensure!(
            0.0 < learning_rate && learning_rate <= 0.1,
            "--learning-rate {learning_rate}: over 0, 0.1 at most"
        );
        let options = base::Options {
            learning_rate,
            input: self.input,
            arch: self.arch,
            bits_per_pixel: (low, high),
            steps: self.steps,
            from: self.from,
            out: self.out,
        };
        let gain_db = base::run(&options, stop)?;
        println!("{}: {gain_db:+.3} dB over bicubic on held-out patches", options.out.display());
        Ok(())
    }
}

#[derive(Args)]
struct Demo {
    /// H.264 in an MP4 file; the bundled clip if left out.
    #[arg(long, value_name = "FILE.mp4")]
    input: Option<PathBuf>,
    /// Shown size over streamed size: 1 to 4, or `auto`: what pays, by the first second; 1 removes compression artefacts only.
    #[arg(long, default_value_t = Scale::Auto)]
    scale: Scale,
    /// Rows of the stream, even; the clip's rows over the scale if left out.
    #[arg(long, value_name = "ROWS")]
    lr_height: Option<u32>,
    /// Video and patches together, kbit/s [default: 600].
    #[arg(long, value_name = "KBPS", conflicts_with = "video_kbps", value_parser = clap::value_parser!(u32).range(20..=100_000))]
    total_kbps: Option<u32>,
    /// Video alone, kbit/s; patches come on top.
    #[arg(long, value_name = "KBPS", value_parser = clap::value_parser!(u32).range(20..=100_000))]
    video_kbps: Option<u32>,
    /// Media time; the clip is repeated or cut to it [default: the clip's own].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    seconds: Option<u32>,
    /// Folder for sr.mp4, lr.mp4, report.json, frames.jsonl and report.html.
    #[arg(long, default_value = "hone-demo")]
    out: PathBuf,
    /// Network of the live family: residual blocks x features.
    #[arg(long, default_value = "4x16", value_parser = net)]
    net: (u16, u16),
    /// Where training runs.
    #[arg(long, default_value = "auto")]
    trainer: Trainer,
    /// Where the viewer computes.
    #[arg(long, default_value = "auto")]
    device: Device,
    /// How many times slower than life the clip runs [default: what this machine needs].
    #[arg(long, value_name = "TIMES")]
    slowdown: Option<f64>,
    /// Seconds that the stream may take; used to choose the slowdown [default: 75 for the bundled clip].
    #[arg(long, value_name = "SECONDS")]
    wall_seconds: Option<f64>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Trainer {
    /// CUDA where it can be used, else the CPU.
    Auto,
    /// CUDA or an error.
    Cuda,
    /// The CPU.
    Cpu,
}

/// Seconds that the stream of the bundled clip should take, so that the whole demo can end within three minutes.
const BUNDLED_WALL_SECONDS: f64 = 75.0;

fn net(text: &str) -> Result<(u16, u16), String> {
    let parse = || {
        let (blocks, features) = text.split_once('x')?;
        Some((blocks.parse().ok()?, features.parse().ok()?))
    };
    parse().ok_or_else(|| format!("`{text}` is no network: expected blocks x features, such as 4x16"))
}

impl Demo {
    fn options(self) -> anyhow::Result<demo::Options> {
        let rate = match (self.video_kbps, self.total_kbps) {
            (Some(video), _) => Rate::Video(video.into()),
            (None, total) => Rate::Total(total.unwrap_or(600).into()),
        };
        if let Some(slowdown) = self.slowdown
            && !(1.0..=1000.0).contains(&slowdown)
        {
            anyhow::bail!("--slowdown {slowdown}: 1 is real time, 1000 the most");
        }
        if let Some(seconds) = self.wall_seconds
            && !(1.0..=86_400.0).contains(&seconds)
        {
            anyhow::bail!("--wall-seconds {seconds}: 1 to 86400, a day");
        }
        let wall_seconds = self.wall_seconds.or(self.input.is_none().then_some(BUNDLED_WALL_SECONDS));
        let backend = match self.trainer {
            Trainer::Auto => server::Backend::Auto,
            Trainer::Cuda => server::Backend::Cuda,
            Trainer::Cpu => server::Backend::Cpu,
        };
        let (blocks, features) = self.net;
        Ok(demo::Options {
            input: self.input,
            scale: self.scale,
            lr_height: self.lr_height,
            rate,
            seconds: self.seconds.map(f64::from),
            out: self.out,
            learn: server::Options { backend, family: Family::Live, blocks, features, ..Default::default() },
            device: self.device.into(),
            slowdown: self.slowdown,
            wall_seconds,
        })
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let command = cli.command.or_else(|| Cli::parse_from(["hone", "demo"]).command);
    cli::main("warn", async |stop| match command {
        Some(Command::TrainBase(train)) => tokio::task::block_in_place(|| train.run(&stop)),
        #[cfg(feature = "lab")]
        Some(Command::Lab(options)) => tokio::task::block_in_place(|| lab::main(*options, &stop)),
        Some(Command::Demo(demo)) => run_demo(demo, stop).await,
        Some(Command::Bench(Bench::Viewer(options))) => {
            tokio::task::block_in_place(|| bench::viewer::run(&options, &stop))
        }
        Some(Command::Model(Model::Export(options))) => bench::export::run(&options),
        Some(Command::Token(command)) => tokens::run(command, &stop).await,
        Some(Command::Top(options)) => tokio::task::block_in_place(|| top::run(&options, &stop)),
        None => Ok(()),
    })
}

async fn run_demo(demo: Demo, stop: Arc<AtomicBool>) -> anyhow::Result<()> {
    let options = demo.options()?;
    let out = options.out.clone();
    let report = demo::run(options, stop).await?;
    let q = &report.quality;
    println!(
        "PSNR-Y   Hone {:.2} dB, plain H.264 {:.2} dB, bicubic {:.2} dB",
        q.hone.psnr_y_db, q.plain_h264.psnr_y_db, q.bicubic.psnr_y_db
    );
    println!(
        "gain     {:+.2} dB over plain H.264 with the same bits; over bicubic {:+.2} dB, last quarter {:+.2} dB",
        q.hone.psnr_y_db - q.plain_h264.psnr_y_db,
        report.gain_db,
        report.gain_last_quarter_db
    );
    println!(
        "bits     {:.0} kbit/s ({:.0} video + {:.0} patches), plain {:.0}; model updates {:.1} kbit/s a viewer",
        q.hone.total_kbps,
        report.uplink_kbps.video,
        report.uplink_kbps.patches,
        q.plain_h264.total_kbps,
        report.downlink_kbps.model
    );
    println!("results  {}/: sr.mp4 lr.mp4 report.json frames.jsonl report.html", out.display());
    Ok(())
}
