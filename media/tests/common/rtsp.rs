//! GStreamer's RTSP server as a camera: here and, by path, in the tests of `apps`.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

const SCRIPT: &str = include_str!("camera.py");
/// What the pipelines below are made of.
const NEEDED: [&str; 6] = ["x264enc", "rtph264pay", "avenc_aac", "alawenc", "jpegenc", "h264parse"];

/// A camera that runs until it is dropped.
pub struct Camera {
    child: Child,
    pub port: u16,
}

/// Whether such a camera can be run here; says so if tests have to be skipped for lack of it.
pub fn have_camera() -> bool {
    static HAVE: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    let have = *HAVE.get_or_init(|| {
        let check = format!(
            "import gi\ngi.require_version('Gst', '1.0')\ngi.require_version('GstRtspServer', '1.0')\n\
             from gi.repository import Gst, GstRtspServer\nGst.init(None)\n\
             assert all(Gst.ElementFactory.find(name) for name in {NEEDED:?})"
        );
        python().args(["-c", &check]).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    });
    if !have {
        eprintln!("SKIPPED: GStreamer's RTSP server for Python is not installed");
    }
    have
}

/// The system's own python3, for which Debian packages GStreamer; another may come first in the path.
fn python() -> Command {
    let system = std::path::Path::new("/usr/bin/python3");
    Command::new(if system.exists() { system } else { std::path::Path::new("python3") })
}

impl Camera {
    /// Starts a camera; `camera.py` explains its arguments.
    pub fn start(arguments: &[&str]) -> Self {
        let mut child = python()
            .args(["-c", SCRIPT])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut port = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
        let port = port.trim().parse().unwrap_or_else(|_| panic!("the camera does not start: {arguments:?}"));
        Self { child, port }
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        // Fails only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
