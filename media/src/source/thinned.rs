//! Any source at a fraction of its frame rate.

use super::{Error, Info, Item, Source};
use crate::audio;

/// Every n-th frame of a source, with its own time, and all of its audio.
pub struct Thinned<S> {
    source: S,
    info: Info,
    every: u32,
    /// Frames to leave out before the next one.
    skip: u32,
}

/// A source that runs this much faster than asked for is left as it is: rates are written 29.97 or 30.
const RATE_TOLERANCE: f64 = 1.05;

impl<S: Source> Thinned<S> {
    /// Leaves out frames evenly, so that at most `fps_max` a second remain: one in n for a whole n.
    pub fn new(source: S, fps_max: f64) -> Self {
        let info = *source.info();
        let ratio = info.fps / fps_max / RATE_TOLERANCE;
        #[expect(clippy::cast_possible_truncation, reason = "clamped first")]
        #[expect(clippy::cast_sign_loss, reason = "clamped first; NaN becomes 0")]
        let every = (ratio.ceil().clamp(1.0, 1e6) as u32).max(1);
        Self { source, info: Info { fps: info.fps / f64::from(every), ..info }, every, skip: 0 }
    }
}

impl<S: Source> Source for Thinned<S> {
    fn info(&self) -> &Info {
        &self.info
    }

    fn audio(&self) -> Option<&audio::Track> {
        self.source.audio()
    }

    fn next(&mut self) -> Result<Option<Item>, Error> {
        loop {
            let item = self.source.next()?;
            if !matches!(item, Some(Item::Frame(_))) {
                return Ok(item);
            }
            if self.skip == 0 {
                self.skip = self.every - 1;
                return Ok(item);
            }
            self.skip -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Pattern;

    #[test]
    fn one_in_n_frames_remain_with_their_own_times() {
        for (fps, fps_max, expected) in [
            (30.0, 30.0, 1),
            (29.97, 30.0, 1),
            (30.0, 29.97, 1),
            (30.0, 15.0, 2),
            (30.0, 14.9, 2),
            (25.0, 10.0, 3),
            (30.0, 100.0, 1),
        ] {
            let source = Pattern::new(64, 48, fps, Box::new(|| 0)).unwrap();
            let mut thinned = Thinned::new(source, fps_max);
            assert!((thinned.info().fps - fps / f64::from(expected)).abs() < 1e-9, "{fps} to {fps_max}");
            for index in 0..4 {
                let pts_us = thinned.next_frame().unwrap().unwrap().pts_us;
                let truth = f64::from(index * expected) * 1e6 / fps;
                assert!((pts_us as f64 - truth).abs() < 1.0, "{fps} to {fps_max}: {pts_us} for {truth}");
            }
        }
    }
}
