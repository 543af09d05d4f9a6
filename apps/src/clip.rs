//! Clips that demo and lab stream: files, repeated or cut to a duration, and the one that is bundled.

use std::path::Path;

use anyhow::Result;
use hone_media::source::{Looped, Mp4Source, Source};

/// The bundled clip: see `assets/LICENSES.md`.
const BUNDLED: &[u8] = include_bytes!("../assets/bbb_landscape_1080p24.mp4");
const BUNDLED_NAME: &str = "bbb_landscape_1080p24.mp4";

/// File name of a clip; none is the bundled one.
pub fn name(input: Option<&Path>) -> String {
    input.and_then(Path::file_name).map_or(BUNDLED_NAME.into(), |name| name.to_string_lossy().into())
}

/// Opens a clip, H.264 in MP4, repeated or cut to `seconds` of media time if these are given.
///
/// # Errors
/// One line that names the file.
pub fn open(input: Option<&Path>, seconds: Option<f64>) -> Result<Box<dyn Source>> {
    let input = input.map(Path::to_owned);
    let once = move || match &input {
        Some(path) => Mp4Source::open(path),
        None => Mp4Source::from_bytes(BUNDLED_NAME, BUNDLED),
    };
    Ok(match seconds {
        Some(seconds) => Box::new(Looped::new(once, (seconds * 1e6) as i64)?),
        None => Box::new(once()?),
    })
}

/// The bytes of a clip's file, to tell clips apart.
///
/// # Errors
/// If the file cannot be read.
pub fn bytes(input: Option<&Path>) -> std::io::Result<std::borrow::Cow<'static, [u8]>> {
    Ok(match input {
        Some(path) => std::fs::read(path)?.into(),
        None => BUNDLED.into(),
    })
}
