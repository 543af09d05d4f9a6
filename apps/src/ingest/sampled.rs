//! A camera's main stream, sampled: its keyframes at HR size.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};

use anyhow::{Context, Result};
use hone_media::decode::{self, Decoder};
use hone_media::frame::Frame;
use hone_media::rtsp::{Camera, Unit};
use hone_media::scale::downscale;

use super::WAIT;

/// The main stream's pictures at HR size, with the camera's time of day.
pub(super) struct Main {
    pub(super) pictures: Receiver<(Frame, i64)>,
    flags: Arc<Flags>,
}

#[derive(Default)]
struct Flags {
    stop: AtomicBool,
    /// Nobody wants pictures now.
    rest: AtomicBool,
}

impl Drop for Main {
    fn drop(&mut self) {
        self.flags.stop.store(true, Ordering::Relaxed);
    }
}

impl Main {
    /// Decodes keyframes on a thread of its own, at most one ahead.
    pub(super) fn start(camera: Camera, name: String, hr: (u32, u32)) -> Self {
        let (to_us, pictures) = mpsc::sync_channel(1);
        let flags = Arc::new(Flags::default());
        let theirs = flags.clone();
        std::thread::spawn(move || {
            if let Err(error) = sample(camera, hr, &to_us, &theirs) {
                tracing::error!(camera = name, error = format!("{error:#}"), "no more patches");
            }
        });
        Self { pictures, flags }
    }

    /// Whether to decode nothing for now.
    pub(super) fn rest(&self, rest: bool) {
        self.flags.rest.store(rest, Ordering::Relaxed);
    }
}

fn sample(
    mut camera: Camera,
    (width, height): (u32, u32),
    to_us: &SyncSender<(Frame, i64)>,
    flags: &Flags,
) -> Result<()> {
    let mut decoder = Decoder::new(decode::Limits::default())?;
    while !flags.stop.load(Ordering::Relaxed) {
        let Some(Unit::Picture(unit)) = camera.next(WAIT)? else { continue };
        let Some(zero_us) = unit.zero_unix_us.filter(|_| unit.keyframe) else { continue };
        if flags.rest.load(Ordering::Relaxed) {
            continue;
        }
        let frames = match decoder.decode(&unit.data, unit.pts_us) {
            Ok(mut frames) => {
                frames.extend(decoder.flush()?);
                frames
            }
            Err(error) => {
                tracing::debug!(%error, "a keyframe of the main stream is damaged");
                continue;
            }
        };
        for frame in frames {
            let image =
                Arc::new(downscale(&frame.image, width, height).context("the main stream became smaller")?);
            // The other side decides how many it can use.
            let _ = to_us.try_send((Frame { image, ..frame }, zero_us.saturating_add(unit.pts_us)));
        }
    }
    Ok(())
}
