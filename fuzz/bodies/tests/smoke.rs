//! A bounded run of every fuzz target: the corpus, and seeded changes of it. The same bytes every time.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use hone_fuzz::TARGETS;

/// Changed inputs of each target: some seconds in all on two cores.
const RUNS: u64 = 1500;
/// Of those that set up a codec each time.
const SLOW_RUNS: u64 = 300;
const SLOW: [&str; 4] = ["h264", "mp4", "mkv", "sound"];

struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

/// What fuzzers try first: ends of ranges, and what text formats are made of.
const BYTES: &[u8] = &[0, 1, 0x7f, 0x80, 0xff, b'0', b'9', b'-', b'"', b'{', b'[', b'.', b'\n', b'/', b'*'];

fn change(rng: &mut Rng, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = corpus[rng.below(corpus.len())].clone();
    for _ in 0..=rng.below(4) {
        let at = rng.below(bytes.len());
        let length = rng.below(bytes.len() - at.min(bytes.len())).min(1 + rng.below(64));
        match rng.below(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.below(8),
            1 if at < bytes.len() => bytes[at] = BYTES[rng.below(BYTES.len())],
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..at + length)),
            4 => {
                let copy = bytes[at..at + length].to_vec();
                let to = rng.below(bytes.len());
                bytes.splice(to..to, copy);
            }
            5 => {
                let other = &corpus[rng.below(corpus.len())];
                let from = rng.below(other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            // A length or a count of four bytes, either way round.
            6 if at + 4 <= bytes.len() => {
                let value = [u32::MAX, 0x7fff_ffff, 0x8000_0000, 1 << 24, 65_536][rng.below(5)];
                bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
            }
            _ => bytes.push(BYTES[rng.below(BYTES.len())]),
        }
    }
    bytes
}

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus").join(target)
}

fn file(target: &str, name: &str) -> Vec<u8> {
    fs::read(folder(target).join(name)).unwrap()
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = folder(target);
    let mut files: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{}", folder.display());
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

#[test]
fn no_target_panics_on_its_corpus_or_on_changes_of_it() {
    for (name, body) in TARGETS {
        let corpus = corpus(name);
        let runs = if SLOW.contains(name) { SLOW_RUNS } else { RUNS };
        let mut rng = Rng(0x9e37_79b9_7f4a_7c15);
        let changed = (0..runs).map(|_| change(&mut rng, &corpus)).collect::<Vec<_>>();
        for (i, input) in corpus.iter().chain(&changed).chain([&vec![]]).enumerate() {
            if catch_unwind(AssertUnwindSafe(|| body(input))).is_err() {
                let kept = std::env::temp_dir().join(format!("hone-fuzz-{name}-{i}"));
                fs::write(&kept, input).unwrap();
                panic!("{name}: input {i} panics; it is kept in {}", kept.display());
            }
        }
    }
}

#[test]
fn the_corpus_is_what_the_parsers_take() {
    // A corpus that is refused at the first byte would find nothing.
    let text = |target: &str, name: &str| String::from_utf8(file(target, name)).unwrap();
    let [first, second, third] = hone_fuzz::versions();
    let hash = |held, name: &str| hone_model::update::apply(held, &file("update", name)).unwrap().hash();
    assert_eq!(hash(&first, "snapshot"), second.hash());
    assert_eq!((hash(&first, "snapshot-2"), hash(&second, "delta")), (third.hash(), third.hash()));
    for library in corpus("library") {
        hone_trainer::Library::from_bytes(hone_fuzz::ARCH.parse().unwrap(), &library).unwrap();
    }
    for weights in corpus("weights") {
        hone_model::file::load(&weights).unwrap();
    }
    for (name, scale) in [("x1", 1), ("x2", 2), ("x3-in-the-corner", 3)] {
        let patch = file("patch", name);
        let (place, _) = hone_apps::patch::header(&patch, 640, 360).unwrap();
        hone_apps::patch::hr(&patch, place, scale).unwrap();
    }
    hone_transport::catalog::Catalog::parse(&file("catalog", "sender")).unwrap();
    for name in ["baseline", "high-b-frames", "main-slices", "cropped"] {
        let mut decoder = hone_media::decode::Decoder::new(hone_media::decode::Limits::default()).unwrap();
        decoder.decode(&file("h264", name), 0).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    for (name, size) in
        [("yuyv", (8, 4)), ("yuyv-padded", (6, 4)), ("mjpeg-444", (32, 16)), ("mjpeg-420", (64, 48))]
    {
        let picture = file("webcam", name);
        let format = match picture[0] {
            b'j' => hone_media::webcam::Format::Mjpeg,
            _ => hone_media::webcam::Format::Yuyv,
        };
        format.picture(&picture[4..], size, 16).unwrap();
    }
    text("address", "credentials").parse::<hone_media::rtsp::Address>().unwrap();
    text("mask", "outside").parse::<hone_apps::mask::Mask>().unwrap();
    text("trace", "lift").parse::<hone_apps::lab::trace::Trace>().unwrap();
    for mp4 in [corpus("mp4"), corpus("mkv")].concat() {
        hone_media::source::Mp4Source::from_bytes("corpus", mp4).unwrap();
    }
    hone_media::audio::Config::new("mp4a.40.2", &file("audio", "aac")[1..]).unwrap();
    for (stream, packet) in corpus("sound").iter().map(|stream| stream[2..].split_at(stream[1].into())) {
        let codec = if stream.starts_with(b"OpusHead") { "opus" } else { "mp4a.40.2" };
        let config = hone_media::audio::Config::new(codec, stream).unwrap();
        let length = usize::from(u16::from_le_bytes([packet[0], packet[1]]));
        let mut decoder = hone_media::audio::decode::Decoder::new(&config).unwrap();
        assert!(!decoder.decode(&packet[2..2 + length]).unwrap().is_empty());
    }
}

#[test]
fn every_target_is_there_for_cargo_fuzz() {
    let room = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let manifest = fs::read_to_string(room.join("Cargo.toml")).unwrap();
    for (name, _) in TARGETS {
        let target = fs::read_to_string(room.join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(target.contains(&format!("hone_fuzz::{name}(data)")), "{name}");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
    }
}
