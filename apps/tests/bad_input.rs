//! Bad input ends with one line that names the thing and what to do.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod common;

use std::net::UdpSocket;
use std::path::Path;
use std::time::Duration;

use common::Process;

const HONE: &str = env!("CARGO_BIN_EXE_hone");
const SERVER: &str = env!("CARGO_BIN_EXE_hone-server");
const SENDER: &str = env!("CARGO_BIN_EXE_hone-sender");
const VIEWER: &str = env!("CARGO_BIN_EXE_hone-viewer");

const LIMIT: Duration = Duration::from_secs(30);

/// Runs `binary` in `folder`, which must end with an error that holds every one of `words`, in one line.
fn refused(folder: &Path, binary: &str, arguments: &[&str], words: &[&str]) {
    refused_with(folder, binary, arguments, &[], words);
}

/// The same with more in its environment.
fn refused_with(
    folder: &Path,
    binary: &str,
    arguments: &[&str],
    environment: &[(&str, &str)],
    words: &[&str],
) {
    let mut process = Process::start_with(folder, "refused", binary, arguments, environment);
    let code = process.end(LIMIT);
    let text = process.stderr();
    assert!(code == 1 || code == 2, "{arguments:?}: exit code {code}\n{text}");
    let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("error: ")).collect();
    let [error] = errors[..] else { panic!("{arguments:?}: not one line of error:\n{text}") };
    for word in words {
        assert!(error.contains(word), "{arguments:?}: no {word:?} in\n{error}");
    }
    // The command line's own errors come with a usage line; all others are alone with what the log says.
    let strays = text.lines().filter(|line| *line != error && !line.contains(" INFO "));
    let strays: Vec<&str> = strays.filter(|_| code == 1).collect();
    assert!(strays.is_empty(), "{arguments:?}:\n{text}");
    for bad in ["panicked", "backtrace"] {
        assert!(!text.contains(bad), "{arguments:?}: {bad:?} in\n{text}");
    }
}

/// Runs the demo on a file.
fn demo_refuses(folder: &Path, input: &str, words: &[&str]) {
    refused(folder, HONE, &["demo", "--input", input, "--seconds", "1", "--out", "out"], words);
    assert!(!folder.join("out").join("report.json").exists());
}

#[test]
fn files_that_are_no_clip() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("text.mp4"), "This is no video.\n".repeat(100)).unwrap();
    std::fs::write(folder.join("empty.mp4"), "").unwrap();
    std::fs::create_dir(folder.join("folder.mp4")).unwrap();
    common::clip(&folder.join("whole.mp4"), (64, 48), 4, 25.0);
    let whole = std::fs::read(folder.join("whole.mp4")).unwrap();
    std::fs::write(folder.join("cut.mp4"), &whole[..40]).unwrap();
    demo_refuses(folder, "none.mp4", &["none.mp4", "no such file", "check the path"]);
    demo_refuses(folder, "text.mp4", &["text.mp4", "MP4"]);
    demo_refuses(folder, "empty.mp4", &["empty.mp4"]);
    demo_refuses(folder, "folder.mp4", &["folder.mp4", "directory"]);
    demo_refuses(folder, "cut.mp4", &["cut.mp4"]);
    // A base model needs scenes to train on and others to judge by.
    let train = |more: &[&str], words: &[&str]| {
        let arguments = ["train-base", "--input", "whole.mp4", "--out", "base.hnu"];
        refused(folder, HONE, &[&arguments[..], more].concat(), words);
    };
    train(&[], &["whole.mp4", "4 frames", "at least 48"]);
    train(&["--from", "none.hnu"], &["none.hnu"]);
    train(&["--bits-per-pixel", "0.5", "0.1"], &["--bits-per-pixel 0.5 0.1", "least first"]);
    // The sender reads its file before it connects.
    let to = ["--server", "127.0.0.1:9", "--input", "none.mp4"];
    refused(folder, SENDER, &to, &["none.mp4", "no such file"]);
}

#[test]
fn streams_that_we_do_not_read() {
    if !common::ffmpeg::have("ffmpeg") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let source = "-f lavfi -i testsrc2=size=192x108:rate=25:duration=0.4 -an";
    let make = |options: &str, name: &str| {
        common::ffmpeg::ffmpeg(&format!("{source} {options}"), &folder.join(name))
    };
    make("-c:v libx264 -pix_fmt yuv420p10le", "ten.mp4");
    make("-c:v libx264 -pix_fmt yuv420p -flags +ilme+ildct -x264opts tff=1", "fields.mp4");
    make("-c:v libx264 -pix_fmt yuv444p", "chroma.mp4");
    make("-c:v mpeg4", "mpeg4.mp4");
    demo_refuses(folder, "ten.mp4", &["ten.mp4", "10", "bit", "re-encode"]);
    demo_refuses(folder, "fields.mp4", &["fields.mp4", "interlaced", "deinterlace"]);
    demo_refuses(folder, "chroma.mp4", &["chroma.mp4", "4:2:0"]);
    demo_refuses(folder, "mpeg4.mp4", &["mpeg4.mp4", "H.264"]);
    common::ffmpeg::ffmpeg("-f lavfi -i sine=duration=0.5 -c:a aac", &folder.join("sound.mp4"));
    demo_refuses(folder, "sound.mp4", &["sound.mp4", "video"]);
}

#[test]
fn options_that_make_no_sense() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    common::clip(&folder.join("clip.mp4"), (192, 108), 4, 25.0);
    let demo = |more: &[&str], words: &[&str]| {
        refused(folder, HONE, &[&["demo", "--input", "clip.mp4", "--out", "out"], more].concat(), words);
    };
    demo(&["--scale", "2", "--lr-height", "51"], &["--lr-height 51", "192x108", "even"]);
    demo(&["--scale", "2", "--lr-height", "56"], &["--lr-height 56", "192x108", "54"]);
    demo(&["--scale", "5"], &["--scale", "5", "auto, 1, 2, 3 or 4"]);
    demo(&["--net", "4by16"], &["4by16", "4x16"]);
    demo(&["--net", "4x7"], &["7"]);
    demo(&["--total-kbps", "600", "--video-kbps", "500"], &["--total-kbps", "--video-kbps"]);
    demo(&["--slowdown", "0.5"], &["--slowdown 0.5"]);
    demo(&["--slowdown", "NaN"], &["--slowdown NaN"]);
    demo(&["--seconds", "0"], &["--seconds", "1..=86400"]);
    demo(&["--video-kbps", "1"], &["--video-kbps", "20..=100000"]);
    demo(&["--wall-seconds", "NaN", "--seconds", "1"], &["--wall-seconds"]);
    std::fs::write(folder.join("file"), "").unwrap();
    refused(
        folder,
        HONE,
        &["demo", "--input", "clip.mp4", "--scale", "2", "--out", "file/out"],
        &["cannot make folder file/out"],
    );
    if cfg!(unix) && hone_kernels_missing() {
        demo(&["--scale", "2", "--trainer", "cuda"], &["cuda"]);
    }
}

/// Whether this build has no kernels for CUDA: where it has them, asking for them is no mistake.
fn hone_kernels_missing() -> bool {
    let options = hone_apps::server::Options {
        backend: hone_apps::server::Backend::Cuda,
        ..hone_apps::server::Options::default()
    };
    options.trainer(options.arch(2).unwrap()).is_err()
}

#[test]
fn servers_that_are_not_there_or_not_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    common::clip(&folder.join("clip.mp4"), (192, 108), 4, 25.0);
    std::fs::write(folder.join("short.toml"), "[endpoint]\nconnect_timeout_ms = 300\n").unwrap();
    // A port that is ours and never answers.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap().to_string();
    let zeros = "0".repeat(64);
    let both = |server: &str, more: &[&str], words: &[&str]| {
        let to = [&["--server", server, "--config", "short.toml"], more].concat();
        refused(folder, VIEWER, &[&to[..], &["--headless"]].concat(), words);
        refused(folder, SENDER, &[&to[..], &["--input", "clip.mp4"]].concat(), words);
    };
    both(&silent, &["--pin", &zeros], &[&silent, "300 ms", "is the server running"]);
    both("no-port", &[], &["no-port", "host:port"]);
    both("no such host:4443", &["--pin", &zeros], &["no such host"]);
    both(&silent, &["--pin", "abc"], &["abc", "64"]);

    let mut server =
        Process::start(folder, "server", SERVER, &["--bind", "127.0.0.1:0", "--dev-certificate"]);
    let address = server.line("listening on ");
    let hash = server.line("certificate for development, pin it: ");
    both(&address, &["--pin", &zeros], &[&address, "certificate", "not trusted"]);
    both(&address, &[], &[&address, "certificate", "not trusted"]);
    // Its port is taken now; and a name that cannot be one.
    refused(folder, SERVER, &["--bind", &address, "--dev-certificate"], &[&address, "cannot bind"]);
    let named = ["--server", &address, "--pin", &hash, "--headless", "--name", "a/b"];
    refused(folder, VIEWER, &named, &["a/b", "letters"]);
    server.interrupt();
    assert_eq!(server.end(LIMIT), 0, "{}", server.stderr());
}

#[test]
fn devices_that_are_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    common::clip(&folder.join("clip.mp4"), (96, 64), 50, 25.0);
    let mut server =
        Process::start(folder, "server", SERVER, &["--bind", "127.0.0.1:0", "--dev-certificate"]);
    let (address, hash) =
        (server.line("listening on "), server.line("certificate for development, pin it: "));
    let to = ["--server", &address, "--pin", &hash];
    let send = [&to[..], &["--input", "clip.mp4", "--scale", "2", "--loop"]].concat();
    let sender = Process::start(folder, "sender", SENDER, &send);
    let view = |more: &[&'static str]| [&to[..], &["--headless"], more].concat();
    // A Vulkan loader that finds no driver, as on a machine without one.
    let none = [("VK_DRIVER_FILES", "/nonexistent"), ("VK_ICD_FILENAMES", "/nonexistent")];
    refused(folder, VIEWER, &view(&["--adapter", "no such"]), &["no adapter `no such`"]);
    if cfg!(target_os = "linux") {
        refused_with(folder, VIEWER, &view(&["--device", "gpu"]), &none, &["no GPU found", "use the CPU"]);
        let mut viewer =
            Process::start_with(folder, "viewer", VIEWER, &view(&["--record-raw", "lr.mp4"]), &none);
        viewer.logged("first picture", LIMIT);
        sender.interrupt();
        viewer.end_cleanly(LIMIT);
        assert!(!common::read(&folder.join("lr.mp4")).1.is_empty());
    }
}

#[test]
fn settings_with_mistakes() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let wrong = |binary: &str, text: &str, words: &[&str]| {
        std::fs::write(folder.join("settings.toml"), text).unwrap();
        let server: &[&str] = if binary == VIEWER {
            &["--headless", "--server", "127.0.0.1:9"]
        } else {
            &["--server", "127.0.0.1:9"]
        };
        let to = if binary == SERVER { &[][..] } else { server };
        refused(folder, binary, &[to, &["--config", "settings.toml"]].concat(), words);
    };
    wrong(SERVER, "[endpoint]\n\nlimts = 3\n", &["settings.toml", "line 3", "limts"]);
    wrong(SERVER, "[trainer.learn]\nbatch = \"many\"\n", &["settings.toml", "line 2", "many"]);
    wrong(SERVER, "[trainer]\nblocks = \n", &["settings.toml", "line 2"]);
    wrong(SERVER, "[endpoint]\nbind = \"127.0.0.1:0\"\nkeep_alive_ms = 9000\n", &["keep_alive_ms"]);
    wrong(
        SERVER,
        "[endpoint]\nbind = \"127.0.0.1:0\"\ncertificate = \"dev\"\n[trainer]\nfeatures = 7\n",
        &["7"],
    );
    wrong(
        SERVER,
        "[endpoint]\nbind = \"127.0.0.1:0\"\n[endpoint.certificate]\nfiles = { cert = \"a.pem\", key = \"b.pem\" }\n",
        &["a.pem"],
    );
    wrong(VIEWER, "[endpoint]\npin = [\"a\"]\n", &["settings.toml", "line 2", "pin"]);
    wrong(VIEWER, "[endpoint]\ntrust = { ca_file = \"none.pem\" }\n", &["none.pem"]);
    refused(folder, SERVER, &["--config", "none.toml"], &["none.toml"]);
    refused(folder, SERVER, &["--config", "."], &["cannot read ."]);
    if hone_kernels_missing() {
        wrong(
            SERVER,
            "[endpoint]\nbind = \"127.0.0.1:0\"\ncertificate = \"dev\"\n[trainer]\nbackend = \"cuda\"\n",
            &["cuda"],
        );
    }
}
