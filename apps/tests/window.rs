//! The window on a display of its own: it opens, shows a stream, listens to keys, and closes cleanly.

#![cfg(all(feature = "window", target_os = "linux"))]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod common;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use common::Process;

const SERVER: &str = env!("CARGO_BIN_EXE_hone-server");
const SENDER: &str = env!("CARGO_BIN_EXE_hone-sender");
const VIEWER: &str = env!("CARGO_BIN_EXE_hone-viewer");
/// The most that starting may take on a busy machine.
const MOMENT: Duration = Duration::from_secs(60);

/// An X server without a screen. It is killed when the test drops it.
struct Display {
    child: Child,
    name: String,
}

impl Display {
    /// None where there is no Xvfb, or nothing to draw with.
    fn open() -> Option<Self> {
        if hone_runtime::gpu::adapters().is_empty() {
            eprintln!("SKIPPED: no graphics adapter");
            return None;
        }
        // A display of its own for each test, also beside another run of them.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = 100 + std::process::id() % 1000 * 10 + NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!(":{number}");
        let child = Command::new("Xvfb")
            .args([&name, "-screen", "0", "1280x720x24", "-nolisten", "tcp"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(child) = child else {
            eprintln!("SKIPPED: no Xvfb");
            return None;
        };
        let socket = format!("/tmp/.X11-unix/X{number}");
        let start = Instant::now();
        while !Path::new(&socket).exists() {
            assert!(start.elapsed() < MOMENT, "Xvfb does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(Self { child, name })
    }

    fn environment(&self) -> [(&str, &str); 2] {
        [("DISPLAY", &self.name), ("WAYLAND_DISPLAY", "")]
    }

    /// What xdotool prints; none where it is missing or fails.
    fn xdotool(&self, arguments: &[&str]) -> Option<String> {
        // Whatever it does is drawn before the next.
        std::thread::sleep(Duration::from_millis(200));
        let output = Command::new("xdotool").args(arguments).env("DISPLAY", &self.name).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The one window that there is; none without xdotool.
    fn window(&self) -> Option<String> {
        Some(self.xdotool(&["search", "--name", "Hone"])?.lines().next()?.to_owned())
    }

    /// Presses keys in the window; false without xdotool.
    fn press(&self, keys: &[&str]) -> bool {
        // Nobody manages windows here: the key goes where the focus is put.
        let focus = |window: String| self.xdotool(&["windowfocus", &window]);
        self.window().and_then(focus).is_some()
            && keys.iter().all(|key| self.xdotool(&["key", key]).is_some())
    }

    /// Moves the pointer from one place of the window to another with the left button down.
    fn drag(&self, from: (u32, u32), to: (u32, u32)) {
        let [from, to] = [from, to].map(|(x, y)| [x.to_string(), y.to_string()]);
        for step in [
            &["mousemove", &from[0], &from[1]][..],
            &["mousedown", "1"],
            &["mousemove", &to[0], &to[1]],
            &["mouseup", "1"],
        ] {
            self.xdotool(step).unwrap();
        }
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server, a clip to send, and how senders and viewers find the server.
fn server(folder: &Path) -> (Process, [String; 4]) {
    common::clip(&folder.join("clip.mp4"), (256, 144), 50, 25.0);
    let settings = "[endpoint]\nbind = \"127.0.0.1:0\"\ncertificate = \"dev\"\n[trainer]\nbackend = \"cpu\"\nblocks = 1\nfeatures = 8\n";
    std::fs::write(folder.join("server.toml"), settings).unwrap();
    let mut server = Process::start(folder, "server", SERVER, &["--config", "server.toml"]);
    let address = server.line("listening on ");
    let hash = server.line("certificate for development, pin it: ");
    (server, ["--server".into(), address, "--pin".into(), hash])
}

#[test]
fn a_window_shows_a_stream_and_closes_cleanly() {
    let Some(display) = Display::open() else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (_server, to) = server(folder);
    let to = to.each_ref().map(String::as_str);
    let more = ["--record-raw", "lr.mp4", "--stats", "stats.jsonl"];
    let mut viewer =
        Process::start_with(folder, "viewer", VIEWER, &[&to[..], &more].concat(), &display.environment());
    viewer.logged("state=waiting", MOMENT);
    let send = [&to[..], &["--input", "clip.mp4", "--scale", "2", "--loop"]].concat();
    let mut sender = Process::start(folder, "sender", SENDER, &send);
    viewer.logged("first picture", MOMENT);
    // Everything that can be opened is, and the program goes on.
    let pressed = display.press(&["i", "c", "l", "plus", "Left", "question", "g", "s", "space", "space"]);
    if pressed {
        viewer.logged("saved ./cam-", MOMENT);
    } else {
        eprintln!("SKIPPED: no xdotool: no keys are pressed");
    }
    // The stream ends, the window waits, another begins.
    sender.interrupt();
    sender.end_cleanly(MOMENT);
    viewer.wait_for("waiting again", MOMENT, |process| {
        (process.stderr().matches("state=waiting").count() >= 2).then_some(())
    });
    let _sender = Process::start(folder, "again", SENDER, &send);
    viewer.wait_for("another first picture", MOMENT, |process| {
        (process.stderr().matches("first picture").count() >= 2).then_some(())
    });
    if pressed {
        assert!(display.press(&["q"]));
    } else {
        viewer.interrupt();
    }
    let code = viewer.end(MOMENT);
    let log = viewer.stderr();
    assert_eq!(code, 0, "{log}");
    assert!(!log.contains("panicked") && !log.contains("ERROR"), "{log}");
    // Both streams were recorded, each in a file of its own, and every line of statistics can be read.
    for name in ["lr.mp4", "lr-2.mp4"] {
        assert!(!common::read(&folder.join(name)).1.is_empty(), "{name}");
    }
    let stats = std::fs::read_to_string(folder.join("stats.jsonl")).unwrap();
    let states: Vec<String> = stats
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["state"].as_str().unwrap().into()
        })
        .collect();
    assert!(states.iter().any(|state| state == "waiting"), "{states:?}");
    assert!(
        states.iter().any(|state| state == "no_model" || state == "learning" || state == "active"),
        "{states:?}"
    );
}

/// What X shows: columns, and (pixels, 3) RGB; none where ImageMagick is missing.
fn picture_of(display: &Display, folder: &Path) -> Option<(usize, Vec<[u8; 3]>)> {
    let file = folder.join("screen.png");
    let mut shot = Command::new("import");
    shot.args(["-silent", "-window", "root"]).arg(&file).env("DISPLAY", &display.name);
    assert!(shot.status().ok()?.success());
    Some(read_png(&file))
}

/// A file's columns and pixels.
fn read_png(file: &Path) -> (usize, Vec<[u8; 3]>) {
    let mut decoder = png::Decoder::new(std::io::BufReader::new(std::fs::File::open(file).unwrap()));
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().unwrap();
    let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut bytes).unwrap();
    let channels = info.color_type.samples();
    assert!(channels >= 3, "a picture in colour");
    let pixels = bytes[..info.buffer_size()].chunks_exact(channels).map(|p| [p[0], p[1], p[2]]);
    (info.width as usize, pixels.collect())
}

/// The clip that is bundled, by the base model, in a window of its size: a pixel of the screen is one of the picture.
#[test]
fn the_divider_is_dragged_between_bicubic_and_the_network() {
    const SIZE: (usize, usize) = (640, 360);
    let Some(display) = Display::open() else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut server =
        Process::start(folder, "server", SERVER, &["--bind", "127.0.0.1:0", "--dev-certificate"]);
    let address = server.line("listening on ");
    let hash = server.line("certificate for development, pin it: ");
    let to = ["--server", &address, "--pin", &hash];
    let clip = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/bbb_landscape_1080p24.mp4");
    // The clip fades in from black.
    let send = [
        "--input",
        clip,
        "--start",
        "4",
        "--loop",
        "--scale",
        "2",
        "--lr-height",
        "180",
        "--total-kbps",
        "200",
    ];
    let _sender = Process::start(folder, "sender", SENDER, &[&to[..], &send].concat());
    // By the network however slow it is here.
    let more = ["--device", "cpu", "--every-frame"];
    let mut viewer =
        Process::start_with(folder, "viewer", VIEWER, &[&to[..], &more].concat(), &display.environment());
    viewer.logged("state=active", 3 * MOMENT);
    let Some(window) = display.window() else { return eprintln!("SKIPPED: no xdotool") };
    display.xdotool(&["windowsize", &window, "640", "360"]).unwrap();
    // It stands still in both versions, which are saved.
    assert!(display.press(&["c", "space"]));
    std::thread::sleep(Duration::from_secs(1));
    assert!(display.press(&["s"]));
    viewer.logged("saved ./cam-", MOMENT);
    let saved = |what: &str| {
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let mut files = files.filter(|path| path.to_string_lossy().ends_with(what));
        let (width, pixels) = read_png(&files.next().unwrap());
        assert_eq!((width, pixels.len()), (SIZE.0, SIZE.0 * SIZE.1));
        pixels
    };
    let (bicubic, network) = (saved("-bicubic.png"), saved("-network.png"));
    let far = |a: [u8; 3], b: [u8; 3]| (0..3).map(|c| a[c].abs_diff(b[c])).max().unwrap();
    let mut divider = SIZE.0 / 2;
    for to in [SIZE.0 / 4, 7 * SIZE.0 / 8, SIZE.0 / 2] {
        let at = |x: usize| (x as u32, SIZE.1 as u32 / 2);
        display.drag(at(divider), at(to));
        divider = to;
        // Away from the divider, so that nothing is taken for it.
        std::thread::sleep(Duration::from_secs(1));
        let Some((width, pixels)) = picture_of(&display, folder) else {
            return eprintln!("SKIPPED: no ImageMagick: nobody looks at the window");
        };
        let mut told = [0; 2];
        // Above lies the line of the state, below the names of both sides.
        for (y, x) in (SIZE.1 / 4..3 * SIZE.1 / 4).flat_map(|y| (0..SIZE.0).map(move |x| (y, x))) {
            let (shown, at) = (pixels[y * width + x], y * SIZE.0 + x);
            let right = usize::from(x >= divider);
            if x.abs_diff(divider) > 3 {
                let (mine, other) = [(bicubic[at], network[at]), (network[at], bicubic[at])][right];
                assert!(
                    far(shown, mine) <= 1,
                    "{x}, {y} with the divider at {divider}: {shown:?}, not {mine:?}"
                );
                told[right] += usize::from(far(shown, other) > 2);
            } else if x.abs_diff(divider) == 0 {
                assert_eq!(shown, [255; 3], "the divider at {divider}, row {y}");
            }
        }
        // Both versions are told apart on either side.
        assert!(told.iter().all(|pixels| *pixels > 200), "{told:?} with the divider at {divider}");
    }
    viewer.interrupt();
    assert_eq!(viewer.end(MOMENT), 0, "{}", viewer.stderr());
}

#[test]
fn frames_that_stay_on_the_device_are_drawn() {
    let Some(display) = Display::open() else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (_server, to) = server(folder);
    let to = to.each_ref().map(String::as_str);
    // An adapter that is named is used, also one in software.
    let more = ["--adapter", "0", "--stats", "stats.jsonl"];
    let mut viewer =
        Process::start_with(folder, "viewer", VIEWER, &[&to[..], &more].concat(), &display.environment());
    let send = [&to[..], &["--input", "clip.mp4", "--scale", "2", "--loop"]].concat();
    let _sender = Process::start(folder, "sender", SENDER, &send);
    // Until the device is open, the CPU upscales.
    viewer.wait_for("frames made by the adapter", 3 * MOMENT, |_| {
        let stats = std::fs::read_to_string(folder.join("stats.jsonl")).unwrap_or_default();
        let made = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
            line["backend"].as_str().is_some_and(|name| name.starts_with("wgpu"))
                && line["fps"].as_f64() > Some(0.0)
        };
        (stats.lines().filter(|line| made(line)).count() >= 2).then_some(())
    });
    for keys in [&[][..], &["c"]] {
        let _ = display.press(keys);
        std::thread::sleep(Duration::from_secs(1));
        let Some((_, pixels)) = picture_of(&display, folder) else {
            eprintln!("SKIPPED: no ImageMagick: nobody looks at the window");
            break;
        };
        let colours: std::collections::BTreeSet<_> = pixels.iter().collect();
        // The clip moves over the whole range; a window that draws nothing is black with white letters.
        assert!(colours.len() > 1000, "{} colours with {keys:?}", colours.len());
    }
    viewer.interrupt();
    assert_eq!(viewer.end(MOMENT), 0, "{}", viewer.stderr());
    assert!(!viewer.stderr().contains("panicked"), "{}", viewer.stderr());
}

#[test]
fn without_a_server_the_window_says_so_and_tries_again() {
    let Some(display) = Display::open() else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("short.toml"), "[endpoint]\nconnect_timeout_ms = 300\n").unwrap();
    let arguments = ["--server", "127.0.0.1:9", "--pin", &"0".repeat(64), "--config", "short.toml"];
    let mut viewer = Process::start_with(folder, "viewer", VIEWER, &arguments, &display.environment());
    viewer.logged("state=lost", MOMENT);
    viewer.wait_for("another try", MOMENT, |process| {
        (process.stderr().matches("no answer from 127.0.0.1:9").count() >= 2).then_some(())
    });
    viewer.interrupt();
    assert_eq!(viewer.end(MOMENT), 0, "{}", viewer.stderr());
}

#[test]
fn without_a_display_or_an_adapter_it_names_headless() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let refused = |environment: &[(&str, &str)], word: &str| {
        let arguments = ["--server", "127.0.0.1:9", "--pin", &"0".repeat(64)];
        let mut viewer = Process::start_with(folder, "viewer", VIEWER, &arguments, environment);
        assert_eq!(viewer.end(MOMENT), 1, "{}", viewer.stderr());
        let log = viewer.stderr();
        let errors: Vec<&str> = log.lines().filter(|line| line.starts_with("error: ")).collect();
        assert!(
            matches!(errors[..], [error] if error.contains(word) && error.contains("--headless")),
            "{log}"
        );
    };
    refused(&[("DISPLAY", ""), ("WAYLAND_DISPLAY", "")], "no display");
    refused(&[("DISPLAY", ":9999"), ("WAYLAND_DISPLAY", "")], "cannot open a window");
    let Some(display) = Display::open() else { return };
    // A Vulkan loader that finds no driver.
    let none = [("VK_DRIVER_FILES", "/nonexistent"), ("VK_ICD_FILENAMES", "/nonexistent")];
    refused(&[&display.environment()[..], &none].concat(), "no graphics driver");
}
