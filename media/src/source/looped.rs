//! Any source, repeated or shortened.

use super::{Error, Info, Item, Source};
use crate::audio;

/// Repeats or shortens a source to a given duration.
///
/// Each round is shifted by the rounds before it, so that times grow strictly and the interval across the
/// seam is the source's own last frame duration. Audio is shifted by as much: it stays in step however often.
pub struct Looped<S, F> {
    open: F,
    source: S,
    info: Info,
    total_us: i64,
    shift_us: i64,
    given_in_round: u64,
    /// Time of the newest packet of audio.
    audio_us: i64,
}

impl<S: Source, F: FnMut() -> Result<S, Error> + Send> Looped<S, F> {
    /// Repeats what `open` gives for `total_us` microseconds of media time; each round opens it anew.
    ///
    /// # Errors
    /// What `open` returns, or [`Error::Nothing`] for a source of no or unknown duration.
    pub fn new(mut open: F, total_us: i64) -> Result<Self, Error> {
        let source = open()?;
        let info = Info { duration_us: Some(total_us), ..*source.info() };
        if source.info().duration_us.is_none_or(|duration_us| duration_us <= 0) {
            return Err(Error::Nothing { name: "loop".into() });
        }
        Ok(Self { open, source, info, total_us, shift_us: 0, given_in_round: 0, audio_us: -1 })
    }
}

impl<S: Source, F: FnMut() -> Result<S, Error> + Send> Source for Looped<S, F> {
    fn info(&self) -> &Info {
        &self.info
    }

    fn audio(&self) -> Option<&audio::Track> {
        self.source.audio()
    }

    fn next(&mut self) -> Result<Option<Item>, Error> {
        loop {
            if self.shift_us >= self.total_us {
                return Ok(None);
            }
            match self.source.next()? {
                Some(Item::Frame(mut frame)) => {
                    frame.pts_us = frame.pts_us.saturating_add(self.shift_us);
                    if frame.pts_us >= self.total_us {
                        self.shift_us = i64::MAX;
                        return Ok(None);
                    }
                    self.given_in_round += 1;
                    return Ok(Some(Item::Frame(frame)));
                }
                Some(Item::Audio(mut packet)) => {
                    packet.pts_us = packet.pts_us.saturating_add(self.shift_us);
                    if packet.pts_us > self.audio_us && packet.pts_us < self.total_us {
                        self.audio_us = packet.pts_us;
                        return Ok(Some(Item::Audio(packet)));
                    }
                }
                None => self.again()?,
            }
        }
    }
}

impl<S: Source, F: FnMut() -> Result<S, Error> + Send> Looped<S, F> {
    /// Begins the next round.
    fn again(&mut self) -> Result<(), Error> {
        if self.given_in_round == 0 {
            return Err(Error::Nothing { name: "loop".into() });
        }
        let round_us = self.source.info().duration_us.unwrap_or(0).max(1);
        self.shift_us = self.shift_us.saturating_add(round_us);
        self.given_in_round = 0;
        if self.shift_us < self.total_us {
            self.source = (self.open)()?;
        }
        Ok(())
    }
}
