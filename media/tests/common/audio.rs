//! Audio as ffprobe and ffmpeg see it: here and, by path, in the tests of `apps`.

use std::path::Path;
use std::process::Command;

/// Time in microseconds and bytes of each packet.
pub type Heard = Vec<(i64, Vec<u8>)>;

fn output(tool: &str, arguments: &[&str], path: &Path, more: &[&str]) -> Vec<u8> {
    let ran = Command::new(tool).args(arguments).arg(path).args(more).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    ran.stdout
}

/// The packets of a file's first audio track.
pub fn heard(path: &Path) -> Heard {
    let entries =
        ["-v", "error", "-select_streams", "a:0", "-of", "csv=p=0", "-show_entries", "packet=pts_time,size"];
    let text = String::from_utf8(output("ffprobe", &entries, path, &[])).unwrap();
    let copy = ["-map", "0:a:0", "-c", "copy", "-copyts", "-f", "data", "-"];
    let bytes = output("ffmpeg", &["-v", "error", "-i"], path, &copy);
    let mut rest = &bytes[..];
    let mut heard = Heard::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let mut fields = line.split(',');
        let pts_s: f64 = fields.next().unwrap().parse().unwrap();
        let size: usize = fields.next().unwrap().parse().unwrap();
        let (packet, after) = rest.split_at(size);
        rest = after;
        heard.push(((pts_s * 1e6).round() as i64, packet.to_vec()));
    }
    assert!(rest.is_empty(), "{}: {} bytes in no packet", path.display(), rest.len());
    heard
}

/// What is heard from a time on, counted from there.
pub fn since(heard: &[(i64, Vec<u8>)], zero_us: i64) -> Heard {
    let from = heard.iter().map(|(pts_us, data)| (pts_us - zero_us, data.clone()));
    from.filter(|(pts_us, _)| *pts_us >= 0).collect()
}

/// The same packets at the same times, but for so many microseconds.
pub fn in_step(what: &str, have: &[(i64, Vec<u8>)], expected: &[(i64, Vec<u8>)], tolerance_us: i64) {
    assert_eq!(have.len(), expected.len(), "{what}: packets");
    for (index, (have, expected)) in have.iter().zip(expected).enumerate() {
        let off = have.0 - expected.0;
        assert!(off.abs() <= tolerance_us, "{what}: packet {index} is off by {off} us, at {} us", have.0);
        assert!(have.1 == expected.1, "{what}: packet {index} was changed");
    }
}
