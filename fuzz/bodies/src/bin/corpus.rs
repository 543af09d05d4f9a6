//! Writes the small corpus from which fuzzing begins: `cargo run -p hone-fuzz --bin corpus`. What other programs write,
//! ffmpeg makes, where it is installed.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use hone_apps::patch::{self, Place, Purpose};
use hone_fuzz::{KEY, NOW_S, versions};
use hone_media::encode::{Config, Encoder};
use hone_media::frame::{Colour, I420};
use hone_media::jpeg;
use hone_media::record::{self, Recorder};
use hone_model::{Arch, Origin, Published, file, update};
use hone_transport::token::{Grant, Keys, Scope};

/// Writes a file of a target: its name, the file's, the bytes.
type Put<'a> = dyn Fn(&str, &str, &[u8]) -> Result<()> + 'a;
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const CATALOG: &str = r#"{"video":{"renditions":{"video":{"codec":"avc1.640034","codedWidth":640,"codedHeight":360,"framerate":24.0,"bitrate":546000,"container":{"kind":"annexb"}}}},"hone":{"arch":"live-4x16-x3","update_format":"hone-update-1","hr_width":1920,"hr_height":1080,"colour":{"matrix":"bt709","range":"limited"},"start_unix_us":1700000000000000}}"#;
const FIGURES: &str =
    "HTTP/1.1 200 OK\r\n\r\n# HELP x y\nhone_viewers{stream=\"cam\"} 3\nhone_gain_db{stream=\"cam\"} -0.12\n";

/// Texts that people and programs write: target, file, text.
const TEXTS: &[(&str, &str, &str)] = &[
    ("catalog", "foreign", r#"{"video":{"renditions":{"hd":{"codec":"avc1.64001f"}}}}"#),
    ("settings", "small", "[endpoint]\nbind = \"0.0.0.0:4443\"\ncertificate = \"dev\"\n"),
    ("http", "request", "GET /metrics?x=1 HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("http", "head", "HEAD /healthz HTTP/1.0\r\n\r\n"),
    ("http", "post", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 15\r\n\r\n{\"event\":\"end\"}"),
    ("http", "chunked", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("http", "part", "GET /metrics HTTP/1.1\r\nHost"),
    ("http", "answer", FIGURES),
    ("question", "end", r#"{"id":"0","event":"end","node":"a","transport":"quic","path":"/live"}"#),
    ("question", "no-token", r#"{"id":"0","event":"connect","path":"/live","query":null}"#),
    ("address", "plain", "rtsp://10.0.0.7/main"),
    ("address", "credentials", "rtsp://ad%6Din:s%40cr:et@10.0.0.7:8554/Streaming/101?user=x&pw=hidden#a"),
    ("address", "ipv6", "rtsp://[fe80::1]:554/"),
    ("address", "tls", "rtsps://cam/1"),
    ("mask", "plain", "320x180+0+540"),
    ("mask", "odd", "3x3+5+1"),
    ("mask", "outside", "4294967295x1+4294967295+0"),
    ("trace", "lift", "# a phone in a lift\n0 600\n2.5 0 # nothing\n\n4 300\n"),
    ("trace", "constant", "0 1e3\n"),
];

/// What ffmpeg makes of a moving picture and a tone: target, file, arguments.
const FFMPEG: &[(&str, &str, &str)] = &[
    ("h264", "high-b-frames", "-an -c:v libx264 -bf 2 -g 6 -f h264"),
    ("h264", "main-slices", "-an -c:v libx264 -profile:v main -slices 2 -tune zerolatency -f h264"),
    ("h264", "interlaced", "-an -c:v libx264 -flags +ildct -x264-params interlaced=1 -f h264"),
    ("h264", "cropped", "-an -vf crop=62:46 -c:v libx264 -color_range pc -f h264"),
    ("mp4", "b-frames-at-the-end", "-an -c:v libx264 -bf 2 -f mp4"),
    ("mkv", "b-frames", "-an -c:v libx264 -bf 2 -f matroska"),
    ("mkv", "live", "-an -c:v libx264 -g 4 -live 1 -cluster_time_limit 100 -f matroska"),
    ("mkv", "with-aac", "-c:v libx264 -c:a aac -f matroska"),
    ("mkv", "with-opus", "-c:v libx264 -c:a libopus -f matroska"),
    ("webcam", "mjpeg-420", "-an -frames:v 1 -c:v mjpeg -f image2pipe"),
    ("webcam", "mjpeg-422", "-an -frames:v 1 -pix_fmt yuvj422p -c:v mjpeg -f image2pipe"),
    ("y4m", "ffmpeg", "-an -frames:v 2 -pix_fmt yuv420p -f yuv4mpegpipe"),
];

fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let put = |target: &str, name: &str, bytes: &[u8]| -> Result<()> {
        let folder = root.join("fuzz/corpus").join(target);
        fs::create_dir_all(&folder)?;
        Ok(fs::write(folder.join(name), bytes)?)
    };
    for (target, name, text) in TEXTS {
        put(target, name, text.as_bytes())?;
    }
    models(&put)?;
    video(&put)?;
    patches(&put)?;
    pictures(&put)?;
    tokens(&put)?;
    ffmpeg(&put)?;
    put("catalog", "sender", CATALOG.as_bytes())?;
    put(
        "catalog",
        "empty-arch",
        CATALOG.replace("live-4x16-x3", "").replace("hone-update-1", "").as_bytes(),
    )?;
    for name in ["server", "sender", "viewer"] {
        put("settings", name, &fs::read(root.join(format!("examples/{name}.toml")))?)?;
    }
    Ok(())
}

fn models(put: &Put) -> Result<()> {
    let [first, second, third] = versions();
    let origin = Origin::Seed(3);
    put("update", "snapshot", &update::encode(origin, &first, &second, 0.5))?;
    put("update", "snapshot-2", &update::encode(origin, &first, &third, -0.01))?;
    put("update", "delta", &update::encode(origin, &second, &third, 12.0))?;
    put("update", "recall", &update::encode_recall(origin, &second, &third, 12.0))?;
    let scene = |cells: &[u8], update: &[u8]| {
        let lengths = ((cells.len() as u16).to_le_bytes(), (update.len() as u32).to_le_bytes());
        [&lengths.0, cells, &lengths.1, update].concat()
    };
    let scenes = [
        scene(&[16, 90, 120, 235], &update::encode(origin, &first, &second, 0.0)),
        scene(&[], &update::encode(origin, &first, &third, 0.0)),
    ];
    put("library", "two-scenes", &[&b"HNL1\x02"[..], &scenes[0], &scenes[1]].concat())?;
    put("library", "one-scene", &[&b"HNL1\x01"[..], &scenes[1]].concat())?;
    put("weights", "live", &file::save(&second.weights())?)?;
    for (name, arch) in [("edsr", "edsr-1x8-x2"), ("live-x1", "live-1x8-x1")] {
        let other = Published::origin(arch.parse::<Arch>()?, origin);
        put("weights", name, &file::save(&other.weights())?)?;
    }
    Ok(())
}

fn patches(put: &Put) -> Result<()> {
    let patch = |name: &str, place: Place, purpose, scale: usize, quality| {
        let pixels = usize::from(place.h) * usize::from(place.w) * scale * scale;
        let hr: Vec<u8> = (0..pixels * 3).map(|i| (i * 7 % 251) as u8).collect();
        put("patch", name, &patch::encode(place, purpose, &hr, scale, quality)?)
    };
    patch("x1", Place { y: 0, x: 0, h: 32, w: 32 }, Purpose::Learn, 1, 60)?;
    patch("x2", Place { y: 8, x: 16, h: 16, w: 24 }, Purpose::Judge, 2, 90)?;
    patch("x3-in-the-corner", Place { y: 344, x: 624, h: 16, w: 16 }, Purpose::Learn, 3, 100)
}

fn pictures(put: &Put) -> Result<()> {
    let frame = |value: u8| [b"FRAME\n".to_vec(), (0..12).map(|i| value + i).collect()].concat();
    let header = "YUV4MPEG2 W4 H2 F30000:1001 Ip A1:1 C420mpeg2 XYSCSS=420MPEG2 XCOLORRANGE=FULL\n";
    put("y4m", "three", &[header.as_bytes(), &frame(16), &frame(64), &frame(128)].concat())?;
    put("y4m", "cut", &[b"YUV4MPEG2 W4 H2 F25:1\n", &frame(16)[..9]].concat())?;
    put("y4m", "chroma", b"YUV4MPEG2 W4 H2 F25:1 C422\nFRAME\n0123456789abcdef")?;
    let yuyv: Vec<u8> = (0..8 * 4 * 2).map(|i| i * 3).collect();
    put("webcam", "yuyv", &[&[b'y', 8, 4, 16], &yuyv[..]].concat())?;
    put("webcam", "yuyv-padded", &[&[b'y', 6, 4, 16], &yuyv[..]].concat())?;
    let rgb: Vec<u8> = (0..32 * 16 * 3).map(|i| (i * 5 % 251) as u8).collect();
    put("webcam", "mjpeg-444", &[&[b'j', 32, 16, 0], &jpeg::encode(&rgb, 32, 16, 80)?[..]].concat())
}

fn tokens(put: &Put) -> Result<()> {
    let keys = Keys::parse(KEY)?;
    let token = |publish: &[&str], view: &[&str], until_s: u64| -> Result<String> {
        let scope =
            |names: &[&str]| Scope::new(&names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
        let until = Some(UNIX_EPOCH + Duration::from_secs(until_s));
        Ok(keys.sign(&Grant { publish: scope(publish)?, view: scope(view)?, until }, UNIX_EPOCH)?)
    };
    put("token", "good", token(&["cam"], &["lobby-*"], NOW_S + 60)?.as_bytes())?;
    put("token", "all", token(&["*"], &["*"], NOW_S + 60)?.as_bytes())?;
    put("token", "expired", token(&["cam"], &[], NOW_S - 60)?.as_bytes())?;
    put("token", "key", KEY.as_bytes())?;
    let relayed = token(&["live", "in"], &["live/cam", "live/lobby-*"], NOW_S + 60)?;
    for event in ["connect", "revalidate"] {
        let question =
            format!(r#"{{"id":"0","event":"{event}","path":"/live","query":"x=1&jwt={relayed}"}}"#);
        put("question", event, question.as_bytes())?;
    }
    Ok(())
}

fn video(put: &Put) -> Result<()> {
    let (width, height, fps) = (64, 48, 25.0);
    let mut encoder = Encoder::new(&Config::new(width, height, fps, 200))?;
    let file = tempfile::NamedTempFile::new()?;
    let mut recorder =
        Recorder::create(file.path(), record::Config { width, height, fps, colour: Colour::guess(height) })?;
    let mut stream = Vec::new();
    for index in 0..6u32 {
        let mut image = I420::new(width, height)?;
        for (i, luma) in (0..).zip(image.y_mut()) {
            *luma = ((i % width + 2 * index) * 3 % 200 + i / width) as u8;
        }
        let packet = encoder.encode(&image, i64::from(index) * 40_000, index == 3)?;
        stream.extend_from_slice(&packet.data);
        recorder.write(&packet)?;
    }
    recorder.finish()?;
    put("h264", "baseline", &stream)?;
    put("mp4", "fragmented", &fs::read(file.path())?)
}

fn ffmpeg(put: &Put) -> Result<()> {
    if Command::new("ffmpeg").arg("-version").output().is_err() {
        eprintln!("ffmpeg is not installed: what it makes stays as it is");
        return Ok(());
    }
    for (target, name, arguments) in FFMPEG {
        let file = tempfile::NamedTempFile::new()?;
        let ran = Command::new("ffmpeg")
            .args(["-v", "error", "-y", "-f", "lavfi", "-i", "testsrc=size=64x48:rate=25"])
            .args(["-f", "lavfi", "-i", "sine=sample_rate=48000", "-t", "0.32"])
            .args(["-pix_fmt", "yuv420p", "-bitexact", "-threads", "1"])
            .args(arguments.split_whitespace())
            .arg(file.path())
            .output()?;
        if !ran.status.success() {
            return Err(format!("{target}/{name}: {}", String::from_utf8_lossy(&ran.stderr)).into());
        }
        let mut bytes = fs::read(file.path())?;
        if *target == "webcam" {
            bytes.splice(0..0, [b'j', 64, 48, 0]);
        }
        put(target, name, &bytes)?;
    }
    Ok(())
}
