//! Writes the small corpus from which fuzzing begins: `cargo run -p hone-fuzz --bin corpus`.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use hone_apps::patch::{self, Place, Purpose};
use hone_fuzz::{ARCH, KEY, NOW_S};
use hone_media::encode::{Config, Encoder};
use hone_media::frame::{Colour, I420};
use hone_media::record::{self, Recorder};
use hone_model::{Arch, Origin, Published, file, update};
use hone_transport::token::{Grant, Keys, Scope};

/// Writes a file of a target: its name, the file's, the bytes.
type Put<'a> = dyn Fn(&str, &str, &[u8]) -> Result<()> + 'a;
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const CATALOG: &str = r#"{"video":{"renditions":{"video":{"codec":"avc1.640034","codedWidth":640,"codedHeight":360,"framerate":24.0,"bitrate":546000,"container":{"kind":"annexb"}}}},"hone":{"arch":"live-4x16-x3","update_format":"hone-update-1","hr_width":1920,"hr_height":1080,"colour":{"matrix":"bt709","range":"limited"},"start_unix_us":1700000000000000}}"#;
const FIGURES: &str =
    "HTTP/1.1 200 OK\r\n\r\n# HELP x y\nhone_viewers{stream=\"cam\"} 3\nhone_gain_db{stream=\"cam\"} -0.12\n";

fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let put = |target: &str, name: &str, bytes: &[u8]| -> Result<()> {
        let folder = root.join("fuzz/corpus").join(target);
        fs::create_dir_all(&folder)?;
        Ok(fs::write(folder.join(name), bytes)?)
    };
    models(&put)?;
    video(&put)?;
    let (h, w) = (16u16, 24u16);
    let hr: Vec<u8> = (0..usize::from(h) * usize::from(w) * 4 * 3).map(|i| (i * 7 % 251) as u8).collect();
    put("patch", "x2", &patch::encode(Place { y: 8, x: 16, h, w }, Purpose::Judge, &hr, 2, 90)?)?;
    put("catalog", "sender", CATALOG.as_bytes())?;
    for name in ["server", "sender", "viewer"] {
        put("settings", name, &fs::read(root.join(format!("examples/{name}.toml")))?)?;
    }
    let scope = |name: &str| Scope::new(&[name.to_owned()]);
    let until = Some(UNIX_EPOCH + Duration::from_secs(NOW_S + 60));
    let keys = Keys::parse(KEY)?;
    let grant = Grant { publish: scope("cam")?, view: scope("lobby-*")?, until };
    put("token", "good", keys.sign(&grant, UNIX_EPOCH)?.as_bytes())?;
    put("token", "key", KEY.as_bytes())?;
    put("http", "request", b"GET /metrics?x=1 HTTP/1.1\r\nHost: a\r\n\r\n")?;
    put("http", "answer", FIGURES.as_bytes())
}

fn models(put: &Put) -> Result<()> {
    let arch: Arch = ARCH.parse()?;
    let origin = Published::origin(arch, Origin::Seed(3));
    let mut weights = origin.weights();
    weights.params_mut().iter_mut().enumerate().for_each(|(i, w)| *w += (i % 7) as f32 / 64.0);
    let next = origin.next(&weights);
    put("update", "snapshot", &update::encode(Origin::Seed(3), &origin, &next, 0.5))?;
    put("weights", "live", &file::save(&weights)?)
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
