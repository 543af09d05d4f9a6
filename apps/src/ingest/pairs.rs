//! Which picture of a camera's small stream shows the same moment as one of its main stream.

use std::collections::VecDeque;
use std::sync::Arc;

use hone_media::frame::{Frame, I420};
use hone_media::scale::downscale;

/// How far the camera's reports on its two streams may be apart. Many take the time when they send a report, and not
/// when the picture was taken.
const WINDOW_US: i64 = 200_000;
/// Pictures of the small stream that are kept: more than two windows of 60 Hz.
const SMALL_MAX: usize = 32;
/// Pictures of the main stream that wait for the small one.
const LARGE_MAX: usize = 3;
/// Mean squared luma difference above which two pictures show different things: 20 dB. A coarsely coded picture is
/// above 25 dB of its original; another section of the scene is far below.
const DIFFERENCE_MAX: f64 = 650.0;
/// Differences closer than this are coding noise, as in a scene that stands still: the clock decides between them.
const NOISE: f64 = 1.02;

/// A picture of the small stream, and its twin of the main stream under the small one's media time.
#[derive(Debug, Clone)]
pub struct Pair {
    /// HR.
    pub large: Frame,
    /// LR, as viewers see it.
    pub small: Frame,
}

/// What becomes of a main picture.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Its twin was found.
    pub paired: u64,
    /// The small stream has no picture of that time.
    pub alone: u64,
    /// It has, but they do not look alike.
    pub unlike: u64,
}

/// Finds twins by the camera's clock, and among those of nearly the same time by the picture itself.
#[derive(Debug, Default)]
pub struct Pairs {
    /// With the camera's time of day, in microseconds; oldest first.
    small: VecDeque<(i64, Frame)>,
    large: VecDeque<(i64, Frame)>,
    /// What became of the main pictures.
    pub counts: Counts,
}

impl Pairs {
    /// Takes a decoded picture of the small stream, taken at `unix_us`.
    pub fn small(&mut self, frame: Frame, unix_us: i64) {
        if self.small.len() == SMALL_MAX {
            self.small.pop_front();
        }
        self.small.push_back((unix_us, frame));
    }

    /// Takes a picture of the main stream, taken at `unix_us`, at HR size.
    pub fn large(&mut self, frame: Frame, unix_us: i64) {
        if self.large.len() == LARGE_MAX {
            self.large.pop_front();
            self.counts.alone += 1;
        }
        self.large.push_back((unix_us, frame));
    }

    /// The next pair that can be told by now.
    pub fn pair(&mut self) -> Option<Pair> {
        loop {
            let &(newest_us, _) = self.small.back()?;
            let &(unix_us, _) = self.large.front()?;
            // All that may be its twin has to be here; a clock that was set back leaves it waiting for others.
            if newest_us < unix_us.saturating_add(WINDOW_US) {
                return None;
            }
            let (unix_us, large) = self.large.pop_front()?;
            match self.twin(&large, unix_us) {
                Ok(small) => {
                    self.counts.paired += 1;
                    return Some(Pair { large: Frame { pts_us: small.pts_us, ..large }, small });
                }
                Err(count) => *count += 1,
            }
        }
    }

    fn twin(&mut self, large: &Frame, unix_us: i64) -> Result<Frame, &mut u64> {
        let near = |time: i64| time.abs_diff(unix_us);
        let mut candidates: Vec<&(i64, Frame)> =
            self.small.iter().filter(|(time, _)| near(*time) <= WINDOW_US.unsigned_abs()).collect();
        candidates.sort_by_key(|(time, _)| near(*time));
        let mut best: Option<(f64, &Frame)> = None;
        let mut scaled: Option<I420> = None;
        for (_, small) in candidates {
            let (width, height) = (small.image.width(), small.image.height());
            if scaled.as_ref().is_none_or(|image| (image.width(), image.height()) != (width, height)) {
                scaled = downscale(&large.image, width, height).ok();
            }
            let Some(scaled) = &scaled else { continue };
            let difference = difference(scaled, &small.image);
            if best.is_none_or(|(least, _)| difference * NOISE < least) {
                best = Some((difference, small));
            }
        }
        match best {
            Some((difference, small)) if difference <= DIFFERENCE_MAX => Ok(small.clone()),
            Some(_) => Err(&mut self.counts.unlike),
            None => Err(&mut self.counts.alone),
        }
    }
}

/// Mean squared luma difference of two pictures of one size.
fn difference(a: &I420, b: &Arc<I420>) -> f64 {
    let sum: u64 = a.y().iter().zip(b.y()).map(|(&a, &b)| u64::from(a.abs_diff(b)).pow(2)).sum();
    sum as f64 / a.y().len() as f64
}

#[cfg(test)]
mod tests {
    use hone_media::frame::Colour;

    use super::*;

    const S: u32 = 2;
    const NOON: i64 = 1_700_000_000_000_000;
    const STEP_US: i64 = 40_000;

    /// A scene in which a square moves by 4 HR pixels from frame to frame; `noise` stands for coding.
    fn scene(scale: u32, index: i64, noise: u8) -> Arc<I420> {
        let (width, height) = (64 * scale, 48 * scale);
        let mut image = I420::new(width, height).unwrap();
        let left = (index * 2).rem_euclid(40) as u32;
        for (at, sample) in (0..).zip(image.y_mut()) {
            let (x, y) = (at % width / scale, at / width / scale);
            let inside = (left..left + 16).contains(&x) && (10..30).contains(&y);
            *sample = if inside { 200 } else { 60 + (x + y) as u8 / 2 } + (at * 7 % 5) as u8 * noise;
        }
        Arc::new(image)
    }

    fn frame(image: Arc<I420>, pts_us: i64) -> Frame {
        Frame { pts_us, image, colour: Colour::guess(48), quantiser: None }
    }

    fn small(pairs: &mut Pairs, index: i64) {
        pairs.small(frame(scene(1, index, 1), index * STEP_US), NOON + index * STEP_US);
    }

    #[test]
    fn the_twin_shows_the_same_moment_even_if_the_clocks_are_a_little_apart() {
        for apart_us in [0, 7_000, -55_000, 150_000, -150_000] {
            let mut pairs = Pairs::default();
            (0..20).for_each(|index| small(&mut pairs, index));
            pairs.large(frame(scene(S, 10, 0), 5), NOON + 10 * STEP_US + apart_us);
            let pair = pairs.pair().unwrap();
            assert_eq!(pair.small.pts_us, 10 * STEP_US, "{apart_us} us apart");
            assert_eq!(pair.large.pts_us, pair.small.pts_us, "under the small stream's time");
            assert_eq!(pair.large.image, scene(S, 10, 0));
            assert!(pairs.pair().is_none());
            assert_eq!(pairs.counts, Counts { paired: 1, ..Counts::default() });
        }
    }

    #[test]
    fn where_nothing_moves_the_clock_decides() {
        let mut pairs = Pairs::default();
        for index in 0..20 {
            pairs.small(frame(scene(1, 0, 1), index * STEP_US), NOON + index * STEP_US);
        }
        pairs.large(frame(scene(S, 0, 0), 0), NOON + 9 * STEP_US + 12_000);
        assert_eq!(pairs.pair().unwrap().small.pts_us, 9 * STEP_US);
    }

    #[test]
    fn a_main_picture_waits_for_the_small_stream_and_goes_if_it_has_none() {
        let mut pairs = Pairs::default();
        pairs.large(frame(scene(S, 3, 0), 0), NOON + 3 * STEP_US);
        for index in 0..8 {
            small(&mut pairs, index);
            assert!(pairs.pair().is_none(), "{index}: a better one may come");
        }
        small(&mut pairs, 8);
        assert_eq!(pairs.pair().unwrap().small.pts_us, 3 * STEP_US);
        // One from before the small stream began, and one that shows something else.
        pairs.large(frame(scene(S, 0, 0), 0), NOON - 60_000_000);
        pairs.large(frame(Arc::new(I420::new(128, 96).unwrap()), 0), NOON + 2 * STEP_US);
        assert!(pairs.pair().is_none());
        assert_eq!(pairs.counts, Counts { paired: 1, alone: 1, unlike: 1 });
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut pairs = Pairs::default();
        for index in 0..1000 {
            pairs.large(frame(scene(S, 0, 0), 0), NOON + 1_000_000_000 + index);
            small(&mut pairs, index % 50);
        }
        assert_eq!((pairs.large.len(), pairs.small.len()), (LARGE_MAX, SMALL_MAX));
        assert_eq!(pairs.counts.alone, 997);
    }
}
