//! What the build and the tests use beyond Rust, and where it comes from.

use std::path::Path;
use std::process::{Command, Stdio};

/// Something outside the workspace.
struct Tool {
    name: &'static str,
    /// Packages of Debian and Ubuntu.
    packages: &'static [&'static str],
    /// What happens without it.
    without: &'static str,
    present: fn() -> bool,
}

const TOOLS: &[Tool] = &[
    Tool {
        name: "C++ compiler",
        packages: &["g++"],
        without: "openh264 cannot be built",
        present: || ["c++", "g++", "clang++", "cl"].iter().any(|name| runs(name, "--version")),
    },
    Tool {
        name: "nasm",
        packages: &["nasm"],
        without: "no test is skipped, H.264 is 2 to 3 times slower",
        present: || runs("nasm", "-v"),
    },
    Tool {
        name: "ffmpeg",
        packages: &["ffmpeg"],
        without: "comparisons with ffmpeg and ffprobe are skipped",
        present: || runs("ffmpeg", "-version") && runs("ffprobe", "-version"),
    },
    Tool {
        name: "Vulkan driver",
        packages: &["libvulkan1", "mesa-vulkan-drivers"],
        without: "comparisons on wgpu are skipped",
        present: vulkan,
    },
    Tool {
        name: "X server without a screen, and keys for it",
        packages: &["xvfb", "xdotool"],
        without: "tests of the viewer's window are skipped",
        present: || runs("Xvfb", "-help") && runs("xdotool", "version"),
    },
    Tool {
        name: "ImageMagick's import",
        packages: &["imagemagick"],
        without: "what the viewer's window shows is not looked at",
        present: || runs("import", "-version"),
    },
    Tool {
        name: "ip and tc",
        packages: &["iproute2"],
        without: "the test with a cable that is pulled is skipped",
        // Network namespaces are Linux' own.
        present: || !cfg!(target_os = "linux") || (runs("ip", "-V") && runs("tc", "-V")),
    },
    Tool {
        name: "GStreamer's RTSP server for Python",
        packages: &[
            "python3-gi",
            "gir1.2-gst-rtsp-server-1.0",
            "gstreamer1.0-plugins-base",
            "gstreamer1.0-plugins-good",
            "gstreamer1.0-plugins-bad",
            "gstreamer1.0-plugins-ugly",
            "gstreamer1.0-libav",
        ],
        without: "tests of cameras are skipped",
        present: rtsp_server,
    },
    Tool {
        name: "ALSA's headers",
        packages: &["libasound2-dev", "pkg-config"],
        without: "the device of the viewer's sound is not checked",
        present: alsa,
    },
    Tool {
        name: "libclang",
        packages: &["libclang-dev", "linux-libc-dev"],
        without: "webcams are not checked",
        present: libclang,
    },
    Tool {
        name: "Chromium",
        packages: &["chromium"],
        without: "no unmodified MoQ client reads our video",
        present: || {
            ["chromium", "chromium-browser", "google-chrome"].iter().any(|name| runs(name, "--version"))
        },
    },
];

/// Installs what is missing where that is allowed: as root, with apt-get. Says what is still missing.
pub fn provide() {
    let missing = || -> Vec<&Tool> { TOOLS.iter().filter(|tool| !(tool.present)()).collect() };
    let mut still = missing();
    if !still.is_empty() && is_root() && runs("apt-get", "--version") {
        let packages: Vec<&str> = still.iter().flat_map(|tool| tool.packages).copied().collect();
        println!("== apt-get install {}", packages.join(" "));
        // A failure shows in what is missing afterwards.
        apt_get(&["update"]);
        apt_get(&[&["install", "--yes", "--no-install-recommends"], &packages[..]].concat());
        still = missing();
    }
    if let Some(line) = missing_line(&still) {
        println!("{line}");
    }
    npm("wgsl/tests/dawn", "webgpu", "shaders are not held to a browser's front end");
    npm("apps/tests/moq", "@moq/net", "no unmodified MoQ client reads our video");
    onnxruntime();
}

/// Where packages for python3 are put; [`crate::suite`] names it to the tests.
pub fn python_packages() -> std::path::PathBuf {
    crate::wheels::target().join("python")
}

/// onnxruntime, which exported networks are compared with, from PyPI.
fn onnxruntime() {
    let folder = python_packages();
    if folder.join("onnxruntime").is_dir() {
        return;
    }
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--root-user-action=ignore"];
    println!("== pip install numpy onnxruntime");
    let status = Command::new("python3")
        .args(pip)
        .args(["--only-binary=:all:", "numpy", "onnxruntime", "--target"])
        .arg(&folder)
        .status();
    if !status.is_ok_and(|status| status.success()) {
        println!(
            "MISSING: onnxruntime (exported networks are not compared with it); it needs python3 with pip"
        );
    }
}

/// A package that a test in `folder` uses, from the npm registry at the version of its lock file.
fn npm(folder: &str, package: &str, without: &str) {
    let folder = crate::root().join(folder);
    if folder.join("node_modules").join(package).is_dir() {
        return;
    }
    // Scripts of packages are not run: there is nothing to build.
    let npm = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
    println!("== npm {} ({package})", npm.join(" "));
    let status = Command::new("npm").args(npm).current_dir(&folder).status();
    if !status.is_ok_and(|status| status.success()) {
        println!("MISSING: {package} ({without}); it needs Node.js and npm");
    }
}

fn missing_line(missing: &[&Tool]) -> Option<String> {
    let tools: Vec<String> = missing.iter().map(|tool| format!("{} ({})", tool.name, tool.without)).collect();
    let packages: Vec<&str> = missing.iter().flat_map(|tool| tool.packages).copied().collect();
    let line = || {
        format!("MISSING: {}; on Debian or Ubuntu: apt-get install {}", tools.join(", "), packages.join(" "))
    };
    (!missing.is_empty()).then(line)
}

/// Whether a program starts.
fn runs(name: &str, argument: &str) -> bool {
    Command::new(name)
        .arg(argument)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok()
}

/// Whether there is a loader with a driver behind it. Other systems bring an API of their own.
fn vulkan() -> bool {
    if !cfg!(target_os = "linux") {
        return true;
    }
    let drivers = ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d", "/usr/local/share/vulkan/icd.d"];
    libraries().iter().any(|folder| holds(folder, |name| name.starts_with("libvulkan.so")))
        && drivers.iter().any(|folder| holds(folder, |name| name.ends_with(".json")))
}

/// Where Linux has its libraries.
fn libraries() -> [String; 4] {
    let arch = std::env::consts::ARCH;
    [format!("/usr/lib/{arch}-linux-gnu"), "/usr/lib64".into(), "/usr/lib".into(), "/usr/local/lib".into()]
}

/// Whether a folder holds a file whose name is `wanted`.
fn holds(folder: &str, wanted: fn(&str) -> bool) -> bool {
    let entries = Path::new(folder).read_dir().into_iter().flatten().flatten();
    entries.into_iter().any(|entry| wanted(&entry.file_name().to_string_lossy()))
}

/// Whether the system's python3 finds the server and what the tests' cameras are made of. Debian packages it for its
/// own python3, which need not be the first in the path.
fn rtsp_server() -> bool {
    let check = "import gi\ngi.require_version('Gst', '1.0')\ngi.require_version('GstRtspServer', '1.0')\n\
        from gi.repository import Gst, GstRtspServer\nGst.init(None)\n\
        names = ['x264enc', 'rtph264pay', 'avenc_aac', 'jpegenc', 'h264parse', 'alawenc']\n\
        assert all(Gst.ElementFactory.find(name) for name in names)";
    let system = "/usr/bin/python3";
    let python = if Path::new(system).exists() { system } else { "python3" };
    let mut command = Command::new(python);
    command.args(["-c", check]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Whether a viewer with sound can be built. Other systems bring an API of their own.
pub fn alsa() -> bool {
    !cfg!(target_os = "linux")
        || Command::new("pkg-config").args(["--exists", "alsa"]).status().is_ok_and(|status| status.success())
}

/// Whether a sender with webcams can be built. Elsewhere than on Linux there is nothing to build.
pub fn libclang() -> bool {
    // libclang-cpp is another library.
    let wanted = |name: &str| {
        name.starts_with("libclang") && !name.starts_with("libclang-cpp") && name.contains(".so")
    };
    !cfg!(target_os = "linux")
        || (Path::new("/usr/include/linux/videodev2.h").exists()
            && libraries().iter().any(|at| holds(at, wanted)))
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

fn apt_get(arguments: &[&str]) {
    let status = Command::new("apt-get").args(arguments).env("DEBIAN_FRONTEND", "noninteractive").status();
    if !status.is_ok_and(|status| status.success()) {
        println!("apt-get {} failed", arguments.join(" "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_one_line_with_its_consequence() {
        let missing: Vec<&Tool> =
            TOOLS.iter().filter(|tool| ["nasm", "Vulkan driver"].contains(&tool.name)).collect();
        let line = missing_line(&missing).unwrap();
        for part in [
            "nasm (",
            "comparisons on wgpu are skipped",
            "apt-get install nasm libvulkan1 mesa-vulkan-drivers",
        ] {
            assert!(line.starts_with("MISSING: ") && line.contains(part) && !line.contains('\n'), "{line}");
        }
        assert_eq!(missing_line(&[]), None);
    }

    #[test]
    fn a_program_that_is_not_there_does_not_run() {
        assert!(runs("cargo", "--version"));
        assert!(!runs("hone-no-such-program", "--version"));
    }
}
