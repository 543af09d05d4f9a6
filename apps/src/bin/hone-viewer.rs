//! `hone-viewer`: shows a stream, upscaled.

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use hone_apps::cli::{self, Device};
use hone_apps::picture;
use hone_apps::screen::Screen;
use hone_apps::settings::Client as Settings;
use hone_apps::viewer::{self, Shown, Sink, Stream};
use hone_media::encode::{self, Encoder, Packet};
use hone_media::record::{self, Recorder};
use hone_transport::Client;

/// Receives a stream and its weights and upscales it, into files or a pipe.
#[derive(Parser)]
#[command(
    version,
    after_help = "Examples:\n  \
    hone-viewer --server 192.168.1.10:4443 --pin HASH --name cam --record sr.mp4\n  \
    hone-viewer --server 192.168.1.10:4443 --pin HASH --name cam --y4m - | mpv -\n  \
    hone-viewer --server hone.example:4443 --name cam --record-raw lr.mp4 --device cpu"
)]
struct Cli {
    /// The server, host:port.
    #[arg(long, value_name = "HOST:PORT")]
    server: String,
    /// SHA-256 of the server's certificate, where it is not from a known authority; the server prints it.
    #[arg(long, value_name = "HASH")]
    pin: Vec<String>,
    /// Name of the stream; the viewer waits for it to begin.
    #[arg(long, default_value = "cam")]
    name: String,
    /// Record what is shown.
    #[arg(long, value_name = "FILE.mp4")]
    record: Option<PathBuf>,
    /// Record the small stream as it comes.
    #[arg(long, value_name = "FILE.mp4")]
    record_raw: Option<PathBuf>,
    /// Write what is shown as uncompressed YUV4MPEG2; `-` is standard output, for a player.
    #[arg(long, value_name = "FILE.y4m")]
    y4m: Option<PathBuf>,
    /// Where to compute.
    #[arg(long, default_value = "auto")]
    device: Device,
    /// Show every frame, however late, instead of keeping up with the camera.
    #[arg(long)]
    every_frame: bool,
    /// Settings; examples/viewer.toml explains them.
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
}

/// Rate of the recording of what is shown, kbit/s a megapixel.
const RECORD_KBPS_PER_MEGAPIXEL: f64 = 6000.0;

/// Files and pipes.
struct Outputs {
    record: Option<PathBuf>,
    record_raw: Option<PathBuf>,
    y4m: Option<Box<dyn Write + Send>>,
    fps: f64,
    shown: Option<(Encoder, Recorder)>,
    raw: Option<Recorder>,
    raw_size: (u32, u32),
    y4m_started: bool,
}

impl Sink for Outputs {
    fn start(&mut self, stream: &Stream) -> Result<()> {
        self.fps = stream.fps;
        self.raw_size = stream.lr;
        Ok(())
    }

    fn packet(&mut self, packet: &Packet) -> Result<()> {
        if let (Some(path), None) = (&self.record_raw, &self.raw) {
            let (width, height) = self.raw_size;
            let colour = hone_media::frame::Colour::guess(height);
            self.raw = Some(Recorder::create(path, record::Config { width, height, fps: self.fps, colour })?);
        }
        if let Some(raw) = &mut self.raw {
            raw.write(packet)?;
        }
        Ok(())
    }

    fn shown(&mut self, shown: &Shown, _screen: &mut Screen) -> Result<()> {
        if self.record.is_none() && self.y4m.is_none() {
            return Ok(());
        }
        let colour = shown.frame.colour;
        let lr_width = shown.frame.image.width();
        // The scale follows from the sizes: both sides grow by it.
        let pixels = shown.rgba.len() / 4 / (lr_width * shown.frame.image.height()) as usize;
        let scale = pixels.isqrt() as u32;
        let (width, height) = (lr_width * scale, shown.frame.image.height() * scale);
        let image = picture::i420_from_rgba(shown.rgba, width, height, colour)?;
        if let (Some(path), None) = (&self.record, &self.shown) {
            let kbps = RECORD_KBPS_PER_MEGAPIXEL * f64::from(width * height) / 1e6;
            let config = encode::Config::new(width, height, self.fps, kbps.clamp(200.0, 50_000.0) as u32);
            let config = encode::Config { colour, threads: 2, ..config };
            let recorder = Recorder::create(path, record::Config { width, height, fps: self.fps, colour })?;
            self.shown = Some((Encoder::new(&config)?, recorder));
        }
        if let Some((encoder, recorder)) = &mut self.shown {
            recorder.write(&encoder.encode(&image, shown.frame.pts_us, false)?)?;
        }
        if let Some(y4m) = &mut self.y4m {
            if !self.y4m_started {
                self.y4m_started = true;
                let rate = (self.fps * 1000.0).round() as u64;
                writeln!(y4m, "YUV4MPEG2 W{width} H{height} F{rate}:1000 Ip A1:1 C420mpeg2")?;
            }
            writeln!(y4m, "FRAME")?;
            for plane in [image.y(), image.u(), image.v()] {
                y4m.write_all(plane)?;
            }
            y4m.flush()?;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        if let Some((_, recorder)) = self.shown.take() {
            recorder.finish()?;
        }
        if let Some(raw) = self.raw.take() {
            raw.finish()?;
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    cli::main("info", async |stop| {
        let mut settings: Settings = cli::settings(cli.config.as_deref())?;
        cli::pin(&mut settings.endpoint, &cli.pin);
        let y4m: Option<Box<dyn Write + Send>> = match &cli.y4m {
            Some(path) if path.as_os_str() == "-" => Some(Box::new(BufWriter::new(std::io::stdout()))),
            Some(path) => {
                let file = std::fs::File::create(path)
                    .with_context(|| format!("cannot write {}", path.display()))?;
                Some(Box::new(BufWriter::new(file)))
            }
            None => None,
        };
        let outputs = Outputs {
            record: cli.record,
            record_raw: cli.record_raw,
            y4m,
            fps: 30.0,
            shown: None,
            raw: None,
            raw_size: (0, 0),
            y4m_started: false,
        };
        let client = Client::connect(&settings.endpoint, &cli.server).await?;
        let options = viewer::Options { device: cli.device.into(), every_frame: cli.every_frame };
        let (received, _) = viewer::run(&client, &cli.name, options, outputs, stop).await?;
        client.close().await;
        let hash: String = received.weights_hash.iter().map(|byte| format!("{byte:02x}")).collect();
        tracing::info!(
            frames = received.frames,
            dropped = received.dropped,
            version = received.version,
            weights = hash,
            "stream ended"
        );
        Ok(())
    })
}
