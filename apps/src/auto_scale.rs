//! Which LR scale pays: a rule from bits a pixel and how much moves.
//!
//! At equal bits, full resolution wins where there are bits enough for every pixel, and the more so the less changes
//! from frame to frame; below, fewer pixels that are coded well win. On six clips at 1080p and 540p the turns lie near
//! the thresholds here (`docs/lab.md`), before any learning.

use std::str::FromStr;

use anyhow::Result;
use hone_media::frame::Frame;
use hone_media::source::Source;
use serde::{Deserialize, Serialize};

/// Least bits a pixel of the shown picture and frame for scales 1, 2 and 3; below the last it is 4.
const BITS_MIN: [f64; 3] = [0.018, 0.0065, 0.004];
/// Luma change from frame to frame, code values, from which on more motion asks for no more bits.
const MOTION_USUAL: f64 = 3.0;
/// A still picture is worth at most so many times its bits: noise moves too.
const STILL_MAX: f64 = 2.5;
/// Frames looked at.
const FRAMES: usize = 25;
/// Every so many rows and columns are looked at.
const STRIDE: usize = 4;

/// HR size over LR size, or what pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "Word")]
pub enum Scale {
    /// Chosen from bits a pixel and motion.
    Auto,
    /// 1 to 4.
    Fixed(u32),
}

/// How a scale may be written in a file.
#[derive(Deserialize)]
#[serde(untagged)]
enum Word {
    Text(String),
    Number(i64),
}

impl TryFrom<Word> for Scale {
    type Error = String;

    fn try_from(word: Word) -> Result<Self, String> {
        match word {
            Word::Text(text) => text.parse(),
            Word::Number(number) => number.to_string().parse(),
        }
    }
}

impl FromStr for Scale {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "1" | "2" | "3" | "4" => Ok(Self::Fixed(u32::from(text.as_bytes()[0] - b'0'))),
            _ => Err(format!("`{text}` is no scale: auto, 1, 2, 3 or 4")),
        }
    }
}

impl std::fmt::Display for Scale {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Fixed(s) => write!(f, "{s}"),
        }
    }
}

impl From<Scale> for String {
    fn from(scale: Scale) -> Self {
        scale.to_string()
    }
}

impl Scale {
    /// The scale, 1 to 4, for `kbps` on an `hr` picture (columns, rows) at `fps`; `motion` is asked for with
    /// [`Scale::Auto`] alone.
    ///
    /// # Errors
    /// Those of `motion`.
    pub fn choose(
        self,
        kbps: f64,
        hr: (u32, u32),
        fps: f64,
        motion: impl FnOnce() -> Result<Motion>,
    ) -> Result<u32> {
        match self {
            Self::Fixed(scale) => Ok(scale),
            Self::Auto => Ok(choose(kbps, hr, fps, motion()?)),
        }
    }
}

/// Mean absolute luma change between neighbouring frames, code values: the median over some; none of fewer than two.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Motion(pub Option<f64>);

impl Motion {
    /// Of the first second of a source, which is used up by that.
    ///
    /// # Errors
    /// What the source says.
    pub fn of(source: &mut dyn Source) -> Result<Self> {
        let (mut last, mut changes): (Option<Frame>, Vec<f64>) = (None, vec![]);
        while changes.len() + 1 < FRAMES
            && let Some(frame) = source.next_frame()?
        {
            changes.extend(last.as_ref().map(|last| change(last, &frame)));
            last = Some(frame);
        }
        // Not the mean: one cut moves more than a still second.
        changes.sort_by(f64::total_cmp);
        Ok(Self(changes.get(changes.len() / 2).copied()))
    }
}

fn change(a: &Frame, b: &Frame) -> f64 {
    let width = a.image.width() as usize;
    let rows = a.image.y().chunks_exact(width).zip(b.image.y().chunks_exact(width)).step_by(STRIDE);
    let pixels = rows.flat_map(|(a, b)| a.iter().zip(b).step_by(STRIDE));
    let (sum, count) = pixels.fold((0u64, 0u64), |(sum, n), (a, b)| (sum + u64::from(a.abs_diff(*b)), n + 1));
    sum as f64 / count.max(1) as f64
}

fn choose(kbps: f64, (width, height): (u32, u32), fps: f64, motion: Motion) -> u32 {
    let bits = kbps * 1e3 / (f64::from(width) * f64::from(height) * fps);
    // What moves is coded anew, and noise grows with the root of what it is made of.
    let stillness =
        motion.0.map_or(1.0, |motion| (MOTION_USUAL / motion.max(1e-3)).sqrt().clamp(1.0, STILL_MAX));
    let enough = |least: &&f64| bits * stillness < **least;
    1 + BITS_MIN.iter().filter(enough).count() as u32
}

#[cfg(test)]
mod tests {
    use hone_media::source::{Item, Pattern};

    use super::*;

    #[test]
    fn more_bits_and_less_motion_ask_for_less_scaling() {
        let hd = (1920, 1080);
        let scales =
            |motion| [150.0, 300.0, 600.0, 1200.0, 5000.0].map(|kbps| choose(kbps, hd, 25.0, Motion(motion)));
        assert_eq!(scales(Some(10.0)), [4, 3, 2, 1, 1]);
        assert_eq!(scales(None), scales(Some(10.0)));
        assert_eq!(scales(Some(0.4)), [2, 2, 1, 1, 1]);
        assert_eq!(scales(Some(0.0)), scales(Some(0.4)));
        // The same bits a pixel at 540p.
        assert_eq!(choose(150.0, (960, 540), 25.0, Motion(None)), choose(600.0, hd, 25.0, Motion(None)));
    }

    /// Nothing moves but at one cut.
    struct Slides(hone_media::source::Info, u8);

    impl Source for Slides {
        fn info(&self) -> &hone_media::source::Info {
            &self.0
        }
        fn next(&mut self) -> Result<Option<Item>, hone_media::source::Error> {
            let mut image = hone_media::frame::I420::new(320, 180).unwrap();
            image.y_mut().fill(if self.1 > 4 { 200 } else { 30 });
            self.1 += 1;
            let frame = Frame {
                image: image.into(),
                pts_us: i64::from(self.1) * 40_000,
                colour: self.0.colour,
                quantiser: None,
            };
            Ok(Some(Item::Frame(frame)))
        }
    }

    #[test]
    fn a_cut_is_no_motion() {
        let info = *Pattern::new(320, 180, 25.0, Box::new(|| 0)).unwrap().info();
        assert_eq!(Motion::of(&mut Slides(info, 0)).unwrap(), Motion(Some(0.0)));
    }

    #[test]
    fn motion_is_measured_on_the_first_second() {
        let mut pattern = Pattern::new(320, 180, 25.0, Box::new(|| 0)).unwrap();
        let motion = Motion::of(&mut pattern).unwrap().0.unwrap();
        assert!((0.1..100.0).contains(&motion), "{motion}");
        struct Nothing(hone_media::source::Info);
        impl Source for Nothing {
            fn info(&self) -> &hone_media::source::Info {
                &self.0
            }
            fn next(&mut self) -> Result<Option<Item>, hone_media::source::Error> {
                Ok(None)
            }
        }
        assert_eq!(Motion::of(&mut Nothing(*pattern.info())).unwrap(), Motion(None));
    }
}
