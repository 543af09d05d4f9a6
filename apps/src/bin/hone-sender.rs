//! `hone-sender`: a file, a pipe or a camera to a server.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Result, bail};
use clap::Parser;
use hone_apps::auto_scale::{SERVERS_NET, Scale};
use hone_apps::cli;
use hone_apps::dial::Dialer;
use hone_apps::ingest;
use hone_apps::input::{self, Input};
use hone_apps::placement::Placement;
use hone_apps::sender::{self, AsItComes, Beside, ByLooks, GOP_S, Lesson, Pace, Plan, Rate, RealTime, Scout};
use hone_apps::server::UPDATE_FORMAT;
use hone_apps::settings::Sender as Settings;
use hone_apps::sound;
use hone_apps::uplink::Uplink;
use hone_media::rtsp::{self, Address};

/// Sends a small H.264 stream, training patches and the source's audio to a Hone server, at the source's own pace.
#[derive(Parser)]
#[command(
    version,
    after_help = "Examples:\n  \
    hone-sender --server 192.168.1.10:4443 --pin HASH --name cam --input clip.mp4\n  \
    hone-sender --server hone.example:4443 --name cam --input clip.mp4 --loop --scale 3 --uplink-kbps auto\n  \
    hone-sender --server hone.example:4443 --name cam --input test:1280x720@30\n  \
    hone-sender --server hone.example:4443 --name cam --input rtsp://USER:PASSWORD@10.0.0.7/main\n  \
    hone-sender --server hone.example:4443 --name cam --input rtsp://10.0.0.7/main --sub-stream rtsp://10.0.0.7/sub\n  \
    ffmpeg -i INPUT -pix_fmt yuv420p -f yuv4mpegpipe - | hone-sender --server hone.example:4443 --input -\n\n\
    docs/sources.md has an example for each source."
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
    #[command(flatten)]
    source: input::Options,
    /// A camera's small stream: it is sent as it is, its audio with it, and the one of --input, its main stream, only sampled for training.
    #[arg(long, value_name = "rtsp://HOST/PATH", conflicts_with_all = ["fps", "mask", "lr_height", "uplink_kbps", "video_kbps", "no_patches", "keyframe_interval", "train_at"])]
    sub_stream: Option<Address>,
    /// Shown size over streamed size: 1 to 4, or `auto`: what pays at this rate, tried on some seconds of a file, or on the
    /// first of a camera, which is sent from its second one on; and again while it is sent, so that it may change. For --sub-stream,
    /// `auto` is 2.
    #[arg(long, default_value_t = Scale::Auto)]
    scale: Scale,
    /// Rows of the stream, even; the source's rows over the scale if left out.
    #[arg(long, value_name = "ROWS")]
    lr_height: Option<u32>,
    /// What the uplink may carry, video, patches and audio together: kbit/s, or `auto` for as much as it has room for. Where it
    /// has less room, video and patches give way [default: 600].
    #[arg(long, visible_alias = "total-kbps", value_name = "KBPS|auto", conflicts_with = "video_kbps", value_parser = uplink)]
    uplink_kbps: Option<Rate>,
    /// Video alone, kbit/s; patches and audio come on top.
    #[arg(long, visible_alias = "bitrate", value_name = "KBPS", value_parser = clap::value_parser!(u32).range(20..=100_000))]
    video_kbps: Option<u32>,
    /// Send no training patches: full-resolution pictures never leave this machine, and the server learns nothing new.
    #[arg(long)]
    no_patches: bool,
    /// Where the stream is learned: at the `server`, from patches, or at the `sender`, on this machine, which then sends model
    /// updates instead; `auto` is the sender where it has CUDA.
    #[arg(long, value_name = "PLACE", default_value = "server", value_parser = ["auto", "server", "sender"])]
    train_at: String,
    /// Seconds between keyframes: a late viewer has to catch up by as much, each keyframe costs as much as many frames.
    #[arg(long, value_name = "SECONDS", default_value_t = GOP_S, value_parser = keyframe_interval)]
    keyframe_interval: f64,
    /// Settings; examples/sender.toml explains them.
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
}

fn uplink(text: &str) -> Result<Rate, String> {
    let kbps = || text.parse::<u32>().ok().filter(|kbps| (20..=100_000).contains(kbps)).map(f64::from);
    match text {
        "auto" => Ok(Rate::Auto),
        _ => kbps().map(Rate::Total).ok_or_else(|| "neither `auto` nor 20 to 100000 kbit/s".to_owned()),
    }
}

fn keyframe_interval(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|s| (0.1..=60.0).contains(s));
    seconds.ok_or_else(|| "not a number of seconds from 0.1 to 60".to_owned())
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    cli::main("info", async |stop| {
        let mut settings: Settings = cli::settings(cli.config.as_deref())?;
        cli::pin(&mut settings.endpoint, &cli.pin);
        cli.access.apply(&mut settings.endpoint)?;
        let dialer = Dialer::new(settings.endpoint, cli.server);
        if let Some(sub) = &cli.sub_stream {
            let Input::Rtsp(main) = &cli.source.input else {
                bail!("--sub-stream belongs to a camera: --input rtsp://...")
            };
            let (sub, main) = (cli.source.camera.config(sub)?, cli.source.camera.config(main)?);
            let sub = rtsp::Config { audio: !cli.source.no_audio, ..sub };
            let scale = if let Scale::Fixed(scale) = cli.scale { scale } else { 2 };
            return ingest::relay(sub, main, scale, dialer, cli.name, stop).await;
        }
        let mut source = cli.source.open(&stop)?;
        let opened = SystemTime::now();
        let rate = match (cli.video_kbps, cli.uplink_kbps) {
            (Some(video), _) => Rate::Video(video.into()),
            (None, rate) => rate.unwrap_or(Rate::Total(600.0)),
        };
        let info = *source.info();
        let audio = source.audio().filter(|_| !cli.source.no_audio).cloned();
        let audio_kbps = audio.as_ref().map_or(0.0, |audio| audio.kbps);
        let rate = rate.beside_audio(audio_kbps)?;
        let mut trainer = settings.trainer;
        let placement = match cli.train_at.as_str() {
            "sender" => Placement::Sender,
            "auto" if !cli.no_patches && trainer.has_cuda() => Placement::Sender,
            _ => Placement::Server,
        };
        trainer.learn = placement.learn(trainer.learn);
        let net = match placement {
            Placement::Server => SERVERS_NET,
            Placement::Sender => (trainer.blocks, trainer.features),
        };
        let plan = |scale| Plan::new(&info, scale, cli.lr_height, rate);
        let mut plan = cli.scale.choose(net, plan, || cli.source.looks(source.as_mut(), &stop))?;
        plan.audio_kbps = audio_kbps;
        plan.keyframe_interval_s = cli.keyframe_interval;
        if cli.no_patches || placement == Placement::Sender {
            plan = plan.without_patches();
        }
        let client = dialer.connect().await?;
        // A camera's clock runs; a file's starts with its first frame.
        let media_0 = if info.live { opened } else { SystemTime::now() };
        let mut catalog = plan.catalog(media_0).with_audio(audio.as_ref().map(sound::rendition));
        let lesson = match placement {
            Placement::Server => None,
            Placement::Sender => {
                let arch = trainer.arch(plan.scale as u8)?;
                catalog.hone = catalog.hone.map(|hone| hone.learned_here(&arch.to_string(), UPDATE_FORMAT));
                Some(Lesson::start(trainer.trainer(arch)?)?)
            }
        };
        // A height that was given stays; a sender that learns would begin anew at another scale, and sends no patches.
        let free = cli.scale == Scale::Auto && cli.lr_height.is_none();
        let looks = lesson.is_none() && (free || !cli.no_patches);
        let scout = looks.then(|| Box::new(ByLooks::new(net, free)) as Box<dyn Scout>);
        let beside = Beside { lesson, scout };
        let mut uplink = Uplink::new(client, Some(dialer), &cli.name, &catalog)?;
        let audio = audio.as_ref().map(|audio| audio.config.codec_string());
        tracing::info!(stream = cli.name, scale = plan.scale, lr = ?plan.lr, hr = ?plan.hr, video_kbps = plan.video_kbps, patch_kbps = plan.patch_kbps, audio, audio_kbps, "sending");
        let (uplink, sent) = tokio::task::spawn_blocking(move || {
            let mut pace: Box<dyn Pace> = match info.live {
                true => Box::new(AsItComes(stop)),
                false => Box::new(RealTime::new(stop)),
            };
            let sent = sender::run_with(&mut uplink, source.as_mut(), &plan, pace.as_mut(), beside);
            (uplink, sent)
        })
        .await?;
        uplink.close().await;
        sent.map(|_| ())
    })
}
