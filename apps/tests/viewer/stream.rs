//! Serves a stream to one viewer, and keeps what it shows.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Result;
use hone_apps::screen::{Screen, Target};
use hone_apps::server::UPDATE_FORMAT;
use hone_apps::viewer::{self, Files, Format, Monitor, Outputs, Received, Shown, Sink, State};
use hone_media::audio;
use hone_media::encode::{self, Encoder, Packet};
use hone_media::frame::Colour;
use hone_model::{Arch, Origin, Published, Weights, update};
use hone_runtime::{Mode, Preference, Variant};
use hone_transport::catalog::{self, AudioRendition, Catalog, Hone, Rendition};
use hone_transport::config::{Certificate, Limits, Trust};
use hone_transport::{Client, EndpointConfig, Server, Track, hex};

use crate::common;

pub const FPS: f64 = 25.0;
pub const SIZE: (u32, u32) = (96, 64);
pub const ARCH: &str = "live-1x8-x2";
/// What may take longest on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Codes a scene of one size and colour.
pub struct Scene {
    pub encoder: Encoder,
    pub config: encode::Config,
}

impl Scene {
    pub fn new(size: (u32, u32), colour: Colour) -> Self {
        let config = encode::Config { colour, ..encode::Config::new(size.0, size.1, FPS, 800) };
        Self { encoder: Encoder::new(&config).unwrap(), config }
    }

    /// Frames `from..to`, keyframe first.
    pub fn group(&mut self, from: u32, to: u32) -> Vec<Packet> {
        let mut code = |index| {
            let frame = common::frame(self.config.width, self.config.height, index, 0, FPS);
            self.encoder.encode(&frame.image, frame.pts_us, index == from).unwrap()
        };
        (from..to).map(&mut code).collect()
    }
}

pub fn plain() -> Colour {
    Colour::guess(SIZE.1)
}

/// One frame as the sink got it.
#[derive(Clone)]
pub struct Seen {
    pub pts_us: i64,
    pub size: (u32, u32),
    pub mode: Mode,
    pub rgba: Vec<u8>,
}

/// Keeps what is shown, writes files, and breaks the device at a frame.
pub struct Keep {
    pub seen: Arc<Mutex<Vec<Seen>>>,
    pub outputs: Outputs,
    pub break_at: Option<usize>,
}

impl Sink for Keep {
    fn start(&mut self, stream: &viewer::Stream) -> Result<()> {
        self.outputs.start(stream)
    }

    fn packet(&mut self, packet: &Packet, format: &Format) -> Result<()> {
        self.outputs.packet(packet, format)
    }

    fn audio(&mut self, packet: audio::Packet) -> Result<()> {
        self.outputs.audio(packet)
    }

    fn shown(&mut self, shown: &Shown, screen: &mut Screen) -> Result<()> {
        self.outputs.shown(shown, screen)?;
        let mut seen = self.seen.lock().unwrap();
        let (pts_us, size, mode) = (shown.frame.pts_us, shown.size, shown.mode);
        seen.push(Seen { pts_us, size, mode, rgba: shown.rgba.to_vec() });
        if self.break_at == Some(seen.len()) {
            screen.gpu().expect("a device to break").destroy();
        }
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        self.outputs.end()
    }
}

/// What a viewer made of a stream.
pub struct Viewed {
    pub received: Result<Received>,
    pub seen: Vec<Seen>,
    pub states: Vec<State>,
    pub notice: Option<String>,
    pub backend: String,
}

impl Viewed {
    pub fn times(&self) -> Vec<i64> {
        self.seen.iter().map(|seen| seen.pts_us).collect()
    }
}

/// Times and bytes of packets of audio.
pub type Packets = Vec<(i64, Vec<u8>)>;

/// How a stream is viewed.
#[derive(Default)]
pub struct How {
    pub target: Target,
    pub live: bool,
    pub files: Files,
    pub break_at: Option<usize>,
    /// Whether a device that fails ends the viewer.
    pub strict: bool,
    /// Audio that the catalog tells, and its packets: all come before the pictures.
    pub sound: Option<(AudioRendition, Packets)>,
    /// The network and the frames a second that the catalog tells, if other than [`ARCH`] and [`FPS`].
    pub says: Option<(&'static str, f64)>,
}

pub fn how(target: impl Into<Target>) -> How {
    How { target: target.into(), ..How::default() }
}

/// Any adapter, also one in software, without the time that choosing a variant takes.
pub fn software() -> Target {
    let device = Preference::Gpu { allow_software: true };
    let options = hone_runtime::Options { device, variant: Some(Variant::F32), ..Default::default() };
    Target { options, gpu: None }
}

pub fn rendition(size: (u32, u32), fps: f64) -> Rendition {
    Rendition {
        codec: "avc1.64001f".into(),
        coded_width: size.0,
        coded_height: size.1,
        framerate: Some(fps),
        bitrate: None,
        container: catalog::Container::default(),
    }
}

/// Serves updates, then groups of access units, to one viewer; in real time where the viewer is live.
pub fn view(updates: &[Vec<u8>], groups: &[Vec<Packet>], how: How) -> Viewed {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        tokio::time::timeout(PATIENCE, serve(updates, groups, how)).await.expect("the viewer ends in time")
    })
}

pub async fn serve(updates: &[Vec<u8>], groups: &[Vec<Packet>], how: How) -> Viewed {
    let loopback = EndpointConfig { bind: ([127, 0, 0, 1], 0).into(), ..EndpointConfig::default() };
    // A server that lets larger packets of audio through than any viewer takes.
    let limits = Limits { audio_bytes_max: 1 << 20, ..Limits::default() };
    let config = EndpointConfig { certificate: Certificate::Dev, limits, ..loopback.clone() };
    let server = Server::bind(&config).await.unwrap();
    let tracks = [Track::Catalog, Track::Video, Track::Model, Track::Audio];
    let mut publisher = server.publish("cam", &tracks).unwrap();
    let mut catalog_out = publisher.track(Track::Catalog).unwrap();
    let mut video = publisher.track(Track::Video).unwrap();
    let mut model = publisher.track(Track::Model).unwrap();
    let mut audio = publisher.track(Track::Audio).unwrap();
    let (arch, fps) = how.says.unwrap_or((ARCH, FPS));
    let hone = Hone {
        arch: arch.into(),
        update_format: UPDATE_FORMAT.into(),
        hr_width: 2 * SIZE.0,
        hr_height: 2 * SIZE.1,
        colour: catalog::Colour { matrix: "bt601".into(), range: "limited".into() },
        start_unix_us: 0,
    };
    let (told, sound) = how.sound.unzip();
    let catalog = Catalog::new(rendition(SIZE, fps), hone).with_audio(told);
    catalog_out.write(true, 0, catalog.to_json().into()).unwrap();

    let trust = Trust::Pinned(vec![hex(&server.certificate_hash())]);
    let client_config = EndpointConfig { trust, ..loopback };
    let client = Client::connect(&client_config, &server.local_addr().to_string()).await.unwrap();
    let states = Arc::new(Mutex::new(vec![]));
    let told = states.clone();
    let monitor = Arc::new(Monitor::new(move |state| told.lock().unwrap().push(state)));
    let seen = Arc::new(Mutex::new(vec![]));
    let sink =
        Keep { seen: seen.clone(), outputs: Outputs::open(how.files).unwrap(), break_at: how.break_at };
    let options = viewer::Options {
        target: how.target,
        every_frame: !how.live,
        fall_back: !how.strict,
        time_passes: true,
    };
    let viewing = tokio::spawn({
        let monitor = monitor.clone();
        async move {
            let never = Arc::new(AtomicBool::new(false));
            viewer::run(client, "cam", options, sink, &monitor, &never).await.0
        }
    });
    while !(video.has_subscriber() && model.has_subscriber()) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for (index, bytes) in updates.iter().enumerate() {
        model.write(index == 0, 0, bytes.clone().into()).unwrap();
    }
    let taken = |monitor: &Monitor| {
        let stats = monitor.sample(Instant::now());
        stats.updates + stats.updates_refused
    };
    while taken(&monitor) < updates.len() as u64 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for (index, (pts_us, packet)) in sound.into_iter().flatten().enumerate() {
        audio.write(index % 20 == 0, pts_us, packet.into()).unwrap();
    }
    let start = tokio::time::Instant::now();
    for packets in groups {
        for (index, packet) in packets.iter().enumerate() {
            if how.live {
                tokio::time::sleep_until(start + Duration::from_micros(packet.pts_us as u64)).await;
            }
            video.write(index == 0, packet.pts_us, packet.data.clone().into()).unwrap();
        }
    }
    drop((audio, video, model, catalog_out, publisher));
    let received = viewing.await.unwrap();
    let backend = monitor.sample(Instant::now()).backend;
    server.close().await;
    let (seen, states) = (seen.lock().unwrap().clone(), states.lock().unwrap().clone());
    Viewed { received, seen, states, notice: monitor.notice(), backend }
}

/// An update to weights of `arch` that change every picture.
pub fn an_update(arch: &str, gain_db: f32) -> Vec<u8> {
    let arch: Arch = arch.parse().unwrap();
    let origin = Origin::Seed(3);
    let base = Published::origin(arch, origin);
    let params = base.weights().params().iter().map(|v| v + 0.05).collect();
    update::encode(origin, &base, &base.next(&Weights::from_params(arch, params)), gain_db)
}

pub fn times(groups: &[&[Packet]]) -> Vec<i64> {
    groups.iter().flat_map(|packets| packets.iter().map(|packet| packet.pts_us)).collect()
}
