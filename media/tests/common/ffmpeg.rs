//! ffmpeg in tests: here and, by path, in those of `apps`.

use std::path::Path;
use std::process::Command;

/// Whether a tool runs here; says so if a test has to be skipped for lack of it.
pub fn have(tool: &str) -> bool {
    let found = Command::new(tool).arg("-version").output().is_ok_and(|output| output.status.success());
    if !found {
        println!("SKIPPED: {tool} is not installed");
    }
    found
}

/// Runs ffmpeg; `arguments` are separated by blanks, the output file comes last.
pub fn ffmpeg(arguments: &str, output: &Path) {
    let ran = Command::new("ffmpeg")
        .args(["-v", "error", "-y"])
        .args(arguments.split_whitespace())
        .arg(output)
        .output()
        .unwrap();
    assert!(ran.status.success(), "{arguments}: {}", String::from_utf8_lossy(&ran.stderr));
}
