//! A viewer against streams that are damaged, change their mind, or lose their device: whatever is shown is right.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod common;

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Result;
use hone_apps::picture;
use hone_apps::screen::{Screen, Target};
use hone_apps::server::UPDATE_FORMAT;
use hone_apps::viewer::{self, Files, Format, Monitor, Outputs, Received, Shown, Sink, State};
use hone_media::encode::{self, Encoder, Packet};
use hone_media::frame::{Colour, I420, Matrix, Range};
use hone_media::source::{Mp4Source, Source};
use hone_model::{Arch, Origin, Published, Weights, update};
use hone_runtime::{Mode, Preference, Variant};
use hone_transport::catalog::{self, Catalog, Hone, Rendition};
use hone_transport::config::{Certificate, Trust};
use hone_transport::{Client, EndpointConfig, Server, Track, hex};

const FPS: f64 = 25.0;
const SIZE: (u32, u32) = (96, 64);
const ARCH: &str = "live-1x8-x2";
/// What may take longest on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Codes a scene of one size and colour.
struct Scene {
    encoder: Encoder,
    config: encode::Config,
}

impl Scene {
    fn new(size: (u32, u32), colour: Colour) -> Self {
        let config = encode::Config { colour, ..encode::Config::new(size.0, size.1, FPS, 800) };
        Self { encoder: Encoder::new(&config).unwrap(), config }
    }

    /// Frames `from..to`, keyframe first.
    fn group(&mut self, from: u32, to: u32) -> Vec<Packet> {
        let mut code = |index| {
            let frame = common::frame(self.config.width, self.config.height, index, 0, FPS);
            self.encoder.encode(&frame.image, frame.pts_us, index == from).unwrap()
        };
        (from..to).map(&mut code).collect()
    }
}

fn plain() -> Colour {
    Colour::guess(SIZE.1)
}

/// One frame as the sink got it.
#[derive(Clone)]
struct Seen {
    pts_us: i64,
    size: (u32, u32),
    mode: Mode,
    rgba: Vec<u8>,
}

/// Keeps what is shown, writes files, and breaks the device at a frame.
struct Keep {
    seen: Arc<Mutex<Vec<Seen>>>,
    outputs: Outputs,
    break_at: Option<usize>,
}

impl Sink for Keep {
    fn start(&mut self, stream: &viewer::Stream) -> Result<()> {
        self.outputs.start(stream)
    }

    fn packet(&mut self, packet: &Packet, format: &Format) -> Result<()> {
        self.outputs.packet(packet, format)
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
struct Viewed {
    received: Result<Received>,
    seen: Vec<Seen>,
    states: Vec<State>,
    notice: Option<String>,
    backend: String,
}

impl Viewed {
    fn times(&self) -> Vec<i64> {
        self.seen.iter().map(|seen| seen.pts_us).collect()
    }
}

/// How a stream is viewed.
#[derive(Default)]
struct How {
    target: Target,
    live: bool,
    files: Files,
    break_at: Option<usize>,
}

fn how(target: impl Into<Target>) -> How {
    How { target: target.into(), ..How::default() }
}

/// Any adapter, also one in software, without the time that choosing a variant takes.
fn software() -> Target {
    let device = Preference::Gpu { allow_software: true };
    let options = hone_runtime::Options { device, variant: Some(Variant::F32), ..Default::default() };
    Target { options, gpu: None }
}

fn rendition(size: (u32, u32)) -> Rendition {
    Rendition {
        codec: "avc1.64001f".into(),
        coded_width: size.0,
        coded_height: size.1,
        framerate: Some(FPS),
        bitrate: None,
        container: catalog::Container::default(),
    }
}

/// Serves updates, then groups of access units, to one viewer; in real time where the viewer is live.
fn view(updates: &[Vec<u8>], groups: &[Vec<Packet>], how: How) -> Viewed {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        tokio::time::timeout(PATIENCE, serve(updates, groups, how)).await.expect("the viewer ends in time")
    })
}

async fn serve(updates: &[Vec<u8>], groups: &[Vec<Packet>], how: How) -> Viewed {
    let loopback = EndpointConfig { bind: ([127, 0, 0, 1], 0).into(), ..EndpointConfig::default() };
    let server =
        Server::bind(&EndpointConfig { certificate: Certificate::Dev, ..loopback.clone() }).await.unwrap();
    let mut publisher = server.publish("cam", &[Track::Catalog, Track::Video, Track::Model]).unwrap();
    let mut catalog_out = publisher.track(Track::Catalog).unwrap();
    let mut video = publisher.track(Track::Video).unwrap();
    let mut model = publisher.track(Track::Model).unwrap();
    let hone = Hone {
        arch: ARCH.into(),
        update_format: UPDATE_FORMAT.into(),
        hr_width: 2 * SIZE.0,
        hr_height: 2 * SIZE.1,
        colour: catalog::Colour { matrix: "bt601".into(), range: "limited".into() },
        start_unix_us: 0,
    };
    catalog_out.write(true, 0, Catalog::new(rendition(SIZE), hone).to_json().into()).unwrap();

    let trust = Trust::Pinned(vec![hex(&server.certificate_hash())]);
    let client_config = EndpointConfig { trust, ..loopback };
    let client = Client::connect(&client_config, &server.local_addr().to_string()).await.unwrap();
    let states = Arc::new(Mutex::new(vec![]));
    let told = states.clone();
    let monitor = Arc::new(Monitor::new(move |state| told.lock().unwrap().push(state)));
    let seen = Arc::new(Mutex::new(vec![]));
    let sink =
        Keep { seen: seen.clone(), outputs: Outputs::open(how.files).unwrap(), break_at: how.break_at };
    let options =
        viewer::Options { target: how.target, every_frame: !how.live, fall_back: true, time_passes: true };
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
    for bytes in updates {
        model.write(true, 0, bytes.clone().into()).unwrap();
    }
    let taken = |monitor: &Monitor| {
        let stats = monitor.sample(Instant::now());
        stats.updates + stats.updates_refused
    };
    while !updates.is_empty() && taken(&monitor) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
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
    drop((video, model, catalog_out, publisher));
    let received = viewing.await.unwrap();
    let backend = monitor.sample(Instant::now()).backend;
    server.close().await;
    let (seen, states) = (seen.lock().unwrap().clone(), states.lock().unwrap().clone());
    Viewed { received, seen, states, notice: monitor.notice(), backend }
}

/// An update to weights of `arch` that change every picture.
fn an_update(arch: &str, gain_db: f32) -> Vec<u8> {
    let arch: Arch = arch.parse().unwrap();
    let origin = Origin::Seed(3);
    let base = Published::origin(arch, origin);
    let params = base.weights().params().iter().map(|v| v + 0.05).collect();
    update::encode(origin, &base, &base.next(&Weights::from_params(arch, params)), gain_db)
}

fn times(groups: &[&[Packet]]) -> Vec<i64> {
    groups.iter().flat_map(|packets| packets.iter().map(|packet| packet.pts_us)).collect()
}

#[test]
fn after_a_damaged_picture_nothing_is_shown_until_a_keyframe() {
    let mut scene = Scene::new(SIZE, plain());
    let groups = [scene.group(0, 10), scene.group(10, 20), scene.group(20, 30)];
    let clean = view(&[], &groups, how(Preference::Cpu));
    assert_eq!(clean.times(), times(&[&groups[0], &groups[1], &groups[2]]));
    assert_eq!(clean.states.last(), Some(&State::NoModel), "{:?}", clean.states);

    // In turn: noise, a unit cut short, and nothing at all.
    let noise =
        |packet: &mut Packet| packet.data.iter_mut().skip(5).for_each(|byte| *byte = byte.wrapping_mul(7));
    let cut: fn(&mut Packet) = |packet| packet.data.truncate(9);
    let none: fn(&mut Packet) = |packet| packet.data.clear();
    let damages: [fn(&mut Packet); 3] = [noise, cut, none];
    for (name, damage) in ["noise", "cut", "none"].into_iter().zip(damages) {
        let mut damaged = groups.clone();
        damage(&mut damaged[0][4]);
        let viewed = view(&[], &damaged, how(Preference::Cpu));
        let received = viewed.received.as_ref().unwrap();
        let expected = times(&[&groups[0][..4], &groups[1], &groups[2]]);
        assert_eq!(viewed.times(), expected, "{name}");
        assert_eq!((received.frames, received.dropped), (24, 6), "{name}");
        assert!(viewed.states.contains(&State::Damaged), "{name}: {:?}", viewed.states);
        assert_eq!(viewed.states.last(), Some(&State::NoModel), "{name}: {:?}", viewed.states);
        // What is shown is what an undamaged stream shows: nothing stale, nothing green.
        for seen in &viewed.seen {
            let same = clean.seen.iter().find(|clean| clean.pts_us == seen.pts_us).unwrap();
            assert!(seen.rgba == same.rgba, "{name}: the picture at {} us differs", seen.pts_us);
        }
    }
    // A keyframe is damaged: its whole group is missing.
    let mut damaged = groups.clone();
    noise(&mut damaged[1][0]);
    let viewed = view(&[], &damaged, how(Preference::Cpu));
    assert_eq!(viewed.times(), times(&[&groups[0], &groups[2]]));
    // The stream begins in the middle of a group.
    let viewed = view(&[], &[groups[0][3..].to_vec(), groups[1].clone()], how(Preference::Cpu));
    assert_eq!(viewed.times(), times(&[&groups[1]]));
}

#[test]
fn weights_for_another_network_are_refused_and_the_video_goes_on() {
    let mut scene = Scene::new(SIZE, plain());
    let groups = [scene.group(0, 10)];
    let viewed = view(&[an_update("live-1x16-x2", 1.0)], &groups, how(Preference::Cpu));
    let received = viewed.received.as_ref().unwrap();
    assert_eq!((received.frames, received.updates, received.version), (10, 0, 0));
    assert!(viewed.seen.iter().all(|seen| seen.mode == Mode::Bicubic));
    assert!(!viewed.states.contains(&State::Active), "{:?}", viewed.states);
    // The right ones: the network, or bicubic where the server says that is better.
    for (gain_db, mode, state) in
        [(1.0, Mode::Network, State::Active), (-1.0, Mode::Bicubic, State::Learning)]
    {
        let viewed = view(&[an_update(ARCH, gain_db)], &groups, how(Preference::Cpu));
        assert!(viewed.seen.iter().all(|seen| seen.mode == mode));
        assert_eq!(viewed.states.last(), Some(&state));
    }
}

#[test]
fn a_device_that_is_lost_is_replaced_by_the_cpu() {
    if let Err(error) = software().upscaler(ARCH.parse().unwrap()) {
        eprintln!("SKIPPED: {error}");
        return;
    }
    let mut scene = Scene::new(SIZE, plain());
    let groups = [scene.group(0, 10)];
    let updates = [an_update(ARCH, 1.0)];
    let cpu = view(&updates, &groups, how(Preference::Cpu));
    let viewed = view(&updates, &groups, How { break_at: Some(4), ..how(software()) });
    assert_eq!(viewed.times(), cpu.times());
    assert_eq!(viewed.backend, "cpu");
    let notice = viewed.notice.expect("a word on what happened");
    assert!(notice.contains("the CPU goes on"), "{notice}");
    for (index, (seen, cpu)) in viewed.seen.iter().zip(&cpu.seen).enumerate() {
        assert_eq!(seen.mode, Mode::Network);
        let most = seen.rgba.iter().zip(&cpu.rgba).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(most <= if index < 4 { 1 } else { 0 }, "frame {index} is off by {most}");
    }
}

/// Size, colour and number of frames of a file.
fn file(path: &Path) -> ((u32, u32), Colour, usize) {
    let mut source = Mp4Source::open(path).unwrap();
    let (size, colour) = ((source.info().width, source.info().height), source.info().colour);
    let mut frames = 0;
    while let Some(frame) = source.next_frame().unwrap() {
        assert_eq!(((frame.image.width(), frame.image.height()), frame.colour), (size, colour));
        frames += 1;
    }
    (size, colour, frames)
}

#[test]
fn recordings_follow_a_change_of_size_and_colour_with_their_tags() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let bt709_full = Colour { matrix: Matrix::Bt709, range: Range::Full };
    let bt2020 = Colour { matrix: Matrix::Bt2020, range: Range::Limited };
    let parts = [(SIZE, plain()), (SIZE, bt709_full), ((64, 96), bt709_full), (SIZE, bt2020)];
    let mut groups = vec![];
    for ((size, colour), from) in parts.into_iter().zip([0, 5, 10, 15]) {
        groups.push(Scene::new(size, colour).group(from, from + 5));
    }
    let files = Files { record: Some(path("sr.mp4")), record_raw: Some(path("lr.mp4")), y4m: None };
    let viewed = view(&[], &groups, How { files: files.clone(), ..how(Preference::Cpu) });
    viewed.received.unwrap();
    assert_eq!(viewed.seen.len(), 20);
    assert_eq!(viewed.seen[12].size, (128, 192));
    for ((size, colour), number) in parts.into_iter().zip(["", "-2", "-3", "-4"]) {
        assert_eq!(file(&path(&format!("lr{number}.mp4"))), (size, colour, 5));
        assert_eq!(file(&path(&format!("sr{number}.mp4"))), ((2 * size.0, 2 * size.1), colour, 5));
    }
    assert!(!path("sr-5.mp4").exists() && !path("lr-5.mp4").exists());
    // A pipe has one size: it ends with a word on why, and holds what came before.
    let files = Files { y4m: Some(path("all.y4m")), ..Files::default() };
    let viewed = view(&[], &groups, How { files, ..how(Preference::Cpu) });
    let error = format!("{:#}", viewed.received.unwrap_err());
    assert!(error.contains("--y4m") && error.contains("192x128"), "{error}");
    assert_eq!(viewed.seen.len(), 5);
}

#[test]
fn a_live_viewer_shows_frames_at_their_time() {
    let mut scene = Scene::new(SIZE, plain());
    let groups = [scene.group(0, 25), scene.group(25, 50)];
    let start = Instant::now();
    let viewed = view(&[], &groups, How { live: true, ..how(Preference::Cpu) });
    let received = viewed.received.as_ref().unwrap();
    // Two seconds of video take two seconds; a busy machine may drop a frame, and says so.
    assert!(start.elapsed() >= Duration::from_millis(1900), "{:?}", start.elapsed());
    assert_eq!(received.frames + received.dropped, 50, "{received:?}");
    assert!(viewed.times().is_sorted_by(|a, b| a < b));
    assert!(received.frames >= 25, "{received:?}");
}

/// Kr and Kb of each matrix. Source: ITU-R BT.601-7, BT.709-6, BT.2020-2.
const MATRICES: [(Matrix, f64, f64); 3] =
    [(Matrix::Bt601, 0.299, 0.114), (Matrix::Bt709, 0.2126, 0.0722), (Matrix::Bt2020, 0.2627, 0.0593)];
/// Side of a patch of one colour: its middle is far from what the codec and the filters mix in from others.
const PATCH: u32 = 32;
/// R'G'B' of the patches: primaries, secondaries, greys, and skin.
const PATCHES: [[f64; 3]; 12] = [
    [0.0, 0.0, 0.0],
    [1.0, 1.0, 1.0],
    [0.5, 0.5, 0.5],
    [1.0, 0.0, 0.0],
    [0.0, 1.0, 0.0],
    [0.0, 0.0, 1.0],
    [1.0, 1.0, 0.0],
    [0.0, 1.0, 1.0],
    [1.0, 0.0, 1.0],
    [0.9, 0.7, 0.6],
    [0.2, 0.4, 0.3],
    [0.75, 0.75, 0.75],
];

/// Y', Cb, Cr code values of R'G'B', written out from the recommendations: the reference.
fn reference_yuv(rgb: [f64; 3], (kr, kb): (f64, f64), range: Range) -> [f64; 3] {
    let y = kr * rgb[0] + (1.0 - kr - kb) * rgb[1] + kb * rgb[2];
    let (cb, cr) = ((rgb[2] - y) / (2.0 * (1.0 - kb)), (rgb[0] - y) / (2.0 * (1.0 - kr)));
    match range {
        Range::Limited => [219.0 * y + 16.0, 224.0 * cb + 128.0, 224.0 * cr + 128.0],
        Range::Full => [255.0 * y, 255.0 * cb + 128.0, 255.0 * cr + 128.0],
    }
}

/// R'G'B' code values of Y', Cb, Cr code values: the inverse, clamped.
fn reference_rgb(yuv: [f64; 3], (kr, kb): (f64, f64), range: Range) -> [f64; 3] {
    let [y, cb, cr] = match range {
        Range::Limited => [(yuv[0] - 16.0) / 219.0, (yuv[1] - 128.0) / 224.0, (yuv[2] - 128.0) / 224.0],
        Range::Full => [yuv[0] / 255.0, (yuv[1] - 128.0) / 255.0, (yuv[2] - 128.0) / 255.0],
    };
    let (r, b) = (y + 2.0 * (1.0 - kr) * cr, y + 2.0 * (1.0 - kb) * cb);
    let g = (y - kr * r - kb * b) / (1.0 - kr - kb);
    [r, g, b].map(|v| (v * 255.0).clamp(0.0, 255.0))
}

/// From what the codec gives to the screen, and from the screen to what the recording gets: within one code value of
/// the reference in every matrix and range, on every device.
#[test]
fn colours_are_those_of_the_reference() {
    for target in [Preference::Cpu.into(), software()] {
        let mut screen = match Screen::new(ARCH.parse().unwrap(), target) {
            Ok(screen) => screen,
            Err(error) => {
                eprintln!("SKIPPED: {error}");
                continue;
            }
        };
        for (matrix, kr, kb) in MATRICES {
            for range in [Range::Limited, Range::Full] {
                let colour = Colour { matrix, range };
                let (width, height) = (4 * PATCH, 3 * PATCH);
                let mut image = I420::new(width, height).unwrap();
                let patch = |i: u32, w: u32, side: u32| ((i / w / side) * 4 + i % w / side) as usize;
                let codes = PATCHES.map(|rgb| reference_yuv(rgb, (kr, kb), range).map(|v| v.round() as u8));
                (0..).zip(image.y_mut()).for_each(|(i, v)| *v = codes[patch(i, width, PATCH)][0]);
                (0..).zip(image.u_mut()).for_each(|(i, v)| *v = codes[patch(i, width / 2, PATCH / 2)][1]);
                (0..).zip(image.v_mut()).for_each(|(i, v)| *v = codes[patch(i, width / 2, PATCH / 2)][2]);
                let config = encode::Config { colour, ..encode::Config::new(width, height, FPS, 20_000) };
                let packet = Encoder::new(&config).unwrap().encode(&image, 0, true).unwrap();
                let frame = screen.decode(&packet.data, 0).unwrap().remove(0);
                assert_eq!(frame.colour, colour, "the stream's tags");
                let mut rgba = vec![];
                screen.upscale(&frame, Mode::Bicubic, &mut rgba).unwrap();
                let back = picture::i420_from_rgba(&rgba, 2 * width, 2 * height, colour).unwrap();
                for (index, code) in (0..).zip(codes) {
                    let (x, y) = (index % 4 * PATCH + PATCH / 2, index / 4 * PATCH + PATCH / 2);
                    let at = |plane: &[u8], x: u32, y: u32, w: u32| f64::from(plane[(y * w + x) as usize]);
                    let decoded = [
                        at(frame.image.y(), x, y, width),
                        at(frame.image.u(), x / 2, y / 2, width / 2),
                        at(frame.image.v(), x / 2, y / 2, width / 2),
                    ];
                    let what = format!("{} {matrix:?} {range:?} patch {index}", screen.backend());
                    for c in 0..3 {
                        let off = (decoded[c] - f64::from(code[c])).abs();
                        assert!(off <= 2.0, "{what}: the codec is off by {off}");
                    }
                    let rgb = reference_rgb(decoded, (kr, kb), range);
                    let shown = (2 * y * 2 * width + 2 * x) as usize * 4;
                    for c in 0..3 {
                        let off = (f64::from(rgba[shown + c]) - rgb[c]).abs();
                        assert!(off <= 1.0, "{what}: R'G'B' {c} is off by {off}");
                    }
                    let yuv = reference_yuv(rgb.map(|v| v / 255.0), (kr, kb), range);
                    let recorded = [
                        at(back.y(), 2 * x, 2 * y, 2 * width),
                        at(back.u(), x, y, width),
                        at(back.v(), x, y, width),
                    ];
                    for c in 0..3 {
                        let off = (recorded[c] - yuv[c]).abs();
                        assert!(off <= 1.0, "{what}: recorded plane {c} is off by {off}");
                    }
                }
            }
        }
    }
}
