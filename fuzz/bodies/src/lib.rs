//! Every parser that reads bytes of a peer, a file or a person: a function each, which must return whatever it is
//! given. `fuzz_targets/` hands them to libFuzzer, `tests/smoke.rs` to a bounded test.
//!
//! Where there is an answer it is checked: what was read and written again is the same.
#![forbid(unsafe_code)]

use std::io::Cursor;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, UNIX_EPOCH};

use hone_apps::lab::trace::Trace;
use hone_apps::mask::Mask;
use hone_apps::server::http::{Heard, Request, hear};
use hone_apps::tokens::serve;
use hone_apps::{patch, settings, top};
use hone_media::audio::{self, Config};
use hone_media::decode::{Decoder, Limits};
use hone_media::frame::{Colour, Frame, I420};
use hone_media::rtsp::Address;
use hone_media::source::{Item, Mp4Source, Source, Y4mSource};
use hone_media::webcam;
use hone_model::{Arch, Origin, Published, file, update};
use hone_trainer::Library;
use hone_transport::catalog::Catalog;
use hone_transport::token::{Grant, Keys};

/// A parser that takes anything.
pub type Body = fn(&[u8]);

/// Name and function of each.
pub const TARGETS: &[(&str, Body)] = &[
    ("update", update),
    ("library", library),
    ("weights", weights),
    ("patch", patch),
    ("catalog", catalog),
    ("settings", settings),
    ("h264", h264),
    ("mp4", mp4),
    ("mkv", mkv),
    ("audio", audio),
    ("sound", sound),
    ("token", token),
    ("http", http),
    ("question", question),
    ("y4m", y4m),
    ("webcam", webcam),
    ("address", address),
    ("mask", mask),
    ("trace", trace),
];

/// The network of the updates in the corpus.
pub const ARCH: &str = "live-1x8-x2";
/// The key of the tokens in the corpus: a secret that everybody knows.
pub const KEY: &str = r#"{"kty":"oct","alg":"HS256","key_ops":["sign","verify"],"k":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}"#;
/// When the tokens in the corpus are looked at, seconds since 1970.
pub const NOW_S: u64 = 1_000_000;

/// What viewers of the updates in the corpus hold: versions 0, 1 and 2.
pub fn versions() -> [Published; 3] {
    let first = Published::origin(ARCH.parse().expect("a good one"), Origin::Seed(3));
    let next = |held: &Published, step: f32| {
        let mut weights = held.weights();
        weights.params_mut().iter_mut().enumerate().for_each(|(i, w)| *w += (i % 7) as f32 * step);
        held.next(&weights)
    };
    let second = next(&first, 1.0 / 64.0);
    let third = next(&second, -1.0 / 1024.0);
    [first, second, third]
}

/// A model update, from a server or a saved model.
pub fn update(data: &[u8]) {
    static VERSIONS: LazyLock<[Published; 3]> = LazyLock::new(versions);
    let header = update::header(data);
    for held in &*VERSIONS {
        if let Ok(published) = update::apply(held, data) {
            let header = header.as_ref().expect("what applies has a header");
            assert_eq!((published.hash(), published.version()), (header.hash, header.version));
        }
    }
}

/// What a server has saved of a stream.
pub fn library(data: &[u8]) {
    if let Ok(library) = Library::from_bytes(ARCH.parse().expect("a good one"), data) {
        assert!(library.newest().is_some());
    }
}

/// A weights file.
pub fn weights(data: &[u8]) {
    if let Ok(weights) = file::load(data) {
        let again = file::save(&weights).expect("what was read can be written");
        assert_eq!(file::load(&again).expect("and read again"), weights);
    }
}

/// A patch message.
pub fn patch(data: &[u8]) {
    if let Ok((place, _)) = patch::header(data, 640, 360) {
        assert!(place.fits(640, 360));
        for scale in [1, 2, 3, 4] {
            if let Ok(hr) = patch::hr(data, place, scale) {
                assert_eq!(hr.len(), usize::from(place.h) * usize::from(place.w) * scale * scale * 3);
            }
        }
    }
}

/// A catalog, and the name of a network in it.
pub fn catalog(data: &[u8]) {
    if let Ok(catalog) = Catalog::parse(data) {
        let again = Catalog::parse(&catalog.to_json()).expect("what was taken is taken again");
        assert_eq!(again.hone, catalog.hone);
        if let Some(hone) = &catalog.hone {
            // A stranger's word: an error is as good as a network.
            let _ = hone.arch.parse::<Arch>();
        }
    }
}

/// The files of settings.
pub fn settings(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(server) = toml::from_str::<settings::Server>(text) {
        // Good values or an error.
        let _ = server.endpoint.validate();
        let _ = server.trainer.arch(2);
    }
    // Any error is fine, a panic is not.
    let _ = toml::from_str::<settings::Sender>(text).map(|sender| sender.endpoint.validate());
    let _ = toml::from_str::<settings::Viewer>(text).map(|viewer| viewer.endpoint.validate());
}

/// Most access units that are decoded, and pixels in each: a fuzzer wants many runs a second.
const ACCESS_UNITS_MAX: usize = 16;
const PIXELS_MAX: u64 = 320 * 192;

/// H.264 from a stream: NAL units, parameter sets, quantisers, then the codec. Access units are told apart by their
/// first start code of four bytes.
pub fn h264(data: &[u8]) {
    let limits = Limits { max_pixels: PIXELS_MAX, max_access_unit_bytes: 1 << 20 };
    let Ok(mut decoder) = Decoder::new(limits) else { return };
    let mut starts: Vec<usize> = data
        .windows(5)
        .enumerate()
        .filter(|(_, w)| matches!(w, [0, 0, 0, 1, t] if t & 31 == 9 || t & 31 == 7))
        .map(|(i, _)| i)
        .collect();
    starts.push(data.len());
    let first = starts[0];
    for (i, unit) in std::iter::once(&data[..first])
        .chain(starts.windows(2).map(|ends| &data[ends[0]..ends[1]]))
        .take(ACCESS_UNITS_MAX)
        .enumerate()
    {
        if let Ok(frames) = decoder.decode(unit, i as i64 * 40_000) {
            for frame in frames {
                assert!(u64::from(frame.image.width()) * u64::from(frame.image.height()) <= PIXELS_MAX);
            }
        }
    }
    // What is still inside may come, or not.
    let _ = decoder.flush();
}

/// An MP4 file, its first frames, and the audio between them.
pub fn mp4(data: &[u8]) {
    let Ok(mut source) = Mp4Source::from_bytes("fuzz.mp4", data.to_vec()) else { return };
    let mut frames = 0;
    while let (0..4, Ok(Some(item))) = (frames, source.next()) {
        frames += u32::from(matches!(item, Item::Frame(_)));
    }
}

/// A Matroska file, likewise.
pub fn mkv(data: &[u8]) {
    mp4(data);
}

/// What a decoder of audio is set up with. The first byte says where it is from: a catalog's `a` for AAC and `o` for Opus,
/// or an MP4 file's sample entry, `A` and `O`.
pub fn audio(data: &[u8]) {
    let Some((&from, rest)) = data.split_first() else { return };
    let config = match from {
        b'a' => Config::new("mp4a.40.2", rest),
        b'o' => Config::new("opus", rest),
        b'A' => Config::from_sample_entry(*b"mp4a", rest),
        _ => Config::from_sample_entry(*b"Opus", rest),
    };
    if let Ok(config) = config {
        let again = Config::new(config.codec_string(), config.description());
        assert_eq!(again.expect("what was taken is taken again"), config);
        assert!((1..=8).contains(&config.channels()) && (7_000..=96_000).contains(&config.sample_rate()));
        // 120 ms at 48 kHz.
        assert!(config.packet_samples(rest) <= 5_760);
    }
}

/// Most packets of audio that are decoded.
const PACKETS_MAX: usize = 8;

/// Packets of audio, decoded: `a` for AAC or `o` for Opus, the description behind its length of one byte, then the packets
/// behind theirs of two.
pub fn sound(data: &[u8]) {
    let Some((&[from, length], rest)) = data.split_first_chunk() else { return };
    let Some((description, mut rest)) = rest.split_at_checked(length.into()) else { return };
    let codec = if from == b'a' { "mp4a.40.2" } else { "opus" };
    let Ok(config) = Config::new(codec, description) else { return };
    let Ok(mut decoder) = audio::decode::Decoder::new(&config) else { return };
    for _ in 0..PACKETS_MAX {
        let Some((length, packets)) = rest.split_first_chunk() else { return };
        let (packet, after) = packets.split_at(usize::from(u16::from_le_bytes(*length)).min(packets.len()));
        if let Ok(samples) = decoder.decode(packet) {
            // 120 ms at 48 kHz.
            assert!(samples.len() <= 5_760);
            assert!(samples.iter().flatten().all(|sample| (-1.0..=1.0).contains(sample)));
        }
        rest = after;
    }
}

/// A token, and a key file.
pub fn token(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let keys = Keys::parse(KEY).expect("a good one");
    let said = Grant::unverified(text);
    if let Ok(granted) = keys.verify(text, UNIX_EPOCH + Duration::from_secs(NOW_S)) {
        assert_eq!(said, Ok(granted));
    }
    // A key or an error.
    let _ = Keys::parse(text).map(drop);
}

/// A request to an HTTP port, whole and as far as it has come, and an answer that `hone top` reads.
pub fn http(data: &[u8]) {
    let heard = hear(data);
    if let Heard::Whole { request, .. } = &heard {
        assert!(request.path.starts_with('/') && request.method != "HEAD");
    }
    // What was said of a part stays true.
    let part = hear(&data[..data.len() / 2]);
    assert!(part == Heard::Part || part == heard);
    top::parse(&String::from_utf8_lossy(data));
}

/// What a relay asks about a session.
pub fn question(data: &[u8]) {
    let asked = Request { method: "POST", path: "/", body: data };
    let now = UNIX_EPOCH + Duration::from_secs(NOW_S);
    let page = serve::page(asked, || Ok(Keys::parse(KEY).expect("a good one")), now);
    assert!([200, 400, 403].contains(&page.status));
}

/// Frames that other programs pipe.
pub fn y4m(data: &[u8]) {
    let Ok(mut source) = Y4mSource::new("fuzz.y4m", Box::new(Cursor::new(data.to_vec()))) else { return };
    let (width, height) = (source.info().width, source.info().height);
    let mut last_us = -1;
    while let Ok(Some(Item::Frame(frame))) = source.next() {
        assert_eq!((frame.image.width(), frame.image.height()), (width, height));
        assert!(frame.pts_us > last_us);
        last_us = frame.pts_us;
    }
}

/// A webcam's picture: `j` for MJPEG or `y` for YUYV, columns and rows in a byte each, the bytes of a row, then the picture.
pub fn webcam(data: &[u8]) {
    let Some((&[format, width, height, stride], picture)) = data.split_first_chunk() else { return };
    let format = if format == b'j' { webcam::Format::Mjpeg } else { webcam::Format::Yuyv };
    let size = (width.into(), height.into());
    if let Ok(image) = format.picture(picture, size, stride.into()) {
        assert_eq!((image.width(), image.height()), size);
    }
}

/// A camera's address.
pub fn address(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(address) = text.parse::<Address>() {
        let shown = address.to_string();
        let again: Address = shown.parse().expect("what is shown is an address");
        assert!(again.credentials.is_none() && again.to_string() == shown && !shown.contains('?'));
    }
}

/// A privacy mask, painted on a picture.
pub fn mask(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(mask) = text.parse::<Mask>() {
        let image = Arc::new(I420::new(64, 48).expect("a good size"));
        mask.paint(&mut Frame { pts_us: 0, image, colour: Colour::guess(48), quantiser: None });
    }
}

/// The rate of a link over time, for the lab.
pub fn trace(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(trace) = text.parse::<Trace>() {
        let mut at_us = 0;
        while let (kbps, Some(next_us)) = trace.at(at_us) {
            assert!(next_us > at_us && (0.0..=1e7).contains(&kbps));
            at_us = next_us;
        }
        assert!(trace.at(at_us).0 > 0.0 && trace.mean_kbps(at_us) >= 0.0);
    }
}
