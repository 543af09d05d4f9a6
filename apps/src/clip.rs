//! Clips that demo and lab stream: files, repeated or cut to a duration, and the one that is bundled.

use std::path::Path;

use anyhow::Result;
use hone_media::source::{Looped, Mp4Source, Source, Thinned};

use crate::auto_scale::Looks;

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

/// Seconds here and there of the part that [`open`] gives once, of at most `fps` frames a second.
///
/// # Errors
/// One line that names the file.
pub fn looks(input: Option<&Path>, seconds: Option<f64>, fps: Option<f64>) -> Result<Looks<'static>> {
    let input = input.map(Path::to_owned);
    let from = move |at_us| -> Result<Box<dyn Source>> {
        let clip = match &input {
            Some(path) => Mp4Source::open_at(path, at_us)?,
            None => Mp4Source::from_bytes_at(BUNDLED_NAME, BUNDLED, at_us)?,
        };
        Ok(match fps {
            Some(fps) => Box::new(Thinned::new(clip, fps)),
            None => Box::new(clip),
        })
    };
    let whole_us = from(0)?.info().duration_us;
    let asked_us = seconds.map(|seconds| (seconds * 1e6) as i64);
    Ok(Looks::into_file(whole_us.map(|us| asked_us.map_or(us, |asked| us.min(asked))), from))
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
