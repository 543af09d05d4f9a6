//! Privacy masks: parts of a picture that never leave the camera.

use std::str::FromStr;
use std::sync::Arc;

use hone_media::audio;
use hone_media::frame::{Frame, Range};
use hone_media::source::{Error, Info, Item, Source};

/// A rectangle in pixels of the source, painted black before anything is scaled, coded or cut out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mask {
    /// First column and row.
    pub at: (u32, u32),
    /// Columns and rows.
    pub size: (u32, u32),
}

impl FromStr for Mask {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (size, at) = text.split_once('+')?;
            let (width, height) = size.split_once('x')?;
            let (x, y) = at.split_once('+')?;
            let mask = Self {
                at: (x.parse().ok()?, y.parse().ok()?),
                size: (width.parse().ok()?, height.parse().ok()?),
            };
            (mask.size.0 > 0 && mask.size.1 > 0).then_some(mask)
        };
        parse().ok_or_else(|| format!("'{text}' is no mask; write WIDTHxHEIGHT+X+Y, as in 320x180+0+540"))
    }
}

impl Mask {
    /// Paints over a frame; what lies outside of it is nothing.
    pub fn paint(&self, frame: &mut Frame) {
        let black = if frame.colour.range == Range::Full { 0 } else { 16 };
        let image = Arc::make_mut(&mut frame.image);
        let (width, height) = (image.width(), image.height());
        // Whole chroma samples: half of one would show.
        let span = |from: u32, length: u32, whole: u32| {
            let end = from.saturating_add(length).min(whole);
            let (from, end) = ((from / 2).min(end.div_ceil(2)), end.div_ceil(2));
            (from as usize, end as usize)
        };
        let (x, x_end) = span(self.at.0, self.size.0, width);
        let (y, y_end) = span(self.at.1, self.size.1, height);
        let fill = |plane: &mut [u8], scale: usize, value: u8| {
            let stride = width as usize * scale / 2;
            for row in plane.chunks_exact_mut(stride).take(y_end * scale).skip(y * scale) {
                row[x * scale..x_end * scale].fill(value);
            }
        };
        fill(image.y_mut(), 2, black);
        fill(image.u_mut(), 1, 128);
        fill(image.v_mut(), 1, 128);
    }
}

/// A source whose frames are painted over.
pub struct Masked<S> {
    source: S,
    masks: Vec<Mask>,
}

impl<S: Source> Masked<S> {
    /// Covers each frame of `source`.
    pub fn new(source: S, masks: Vec<Mask>) -> Self {
        Self { source, masks }
    }
}

impl<S: Source> Source for Masked<S> {
    fn info(&self) -> &Info {
        self.source.info()
    }

    fn audio(&self) -> Option<&audio::Track> {
        self.source.audio()
    }

    fn next(&mut self) -> Result<Option<Item>, Error> {
        let mut item = self.source.next()?;
        if let Some(Item::Frame(frame)) = &mut item {
            self.masks.iter().for_each(|mask| mask.paint(frame));
        }
        Ok(item)
    }
}

#[cfg(test)]
mod tests {
    use hone_media::frame::{Colour, I420};

    use super::*;

    fn painted(mask: &str) -> Frame {
        let mut image = I420::new(16, 8).unwrap();
        image.y_mut().fill(200);
        image.u_mut().fill(60);
        image.v_mut().fill(60);
        let mut frame =
            Frame { pts_us: 0, image: Arc::new(image), colour: Colour::guess(8), quantiser: None };
        mask.parse::<Mask>().unwrap().paint(&mut frame);
        frame
    }

    #[test]
    fn covers_whole_chroma_samples_and_no_more() {
        let image = painted("3x3+5+1").image;
        for y in 0..8 {
            for x in 0..16 {
                let inside = (4..8).contains(&x) && (0..4).contains(&y);
                assert_eq!(image.y()[y * 16 + x] == 16, inside, "luma {x}, {y}");
                assert_eq!(image.u()[y / 2 * 8 + x / 2] == 128, inside, "chroma {x}, {y}");
            }
        }
    }

    #[test]
    fn what_lies_outside_is_nothing() {
        assert!(painted("100x100+16+8").image.y().iter().all(|&v| v == 200));
        assert!(painted("4294967295x4294967295+0+0").image.y().iter().all(|&v| v == 16));
        assert!(painted("4294967295x1+4294967295+0").image.y().iter().all(|&v| v == 200));
    }

    #[test]
    fn is_written_as_people_write_geometry() {
        let mask = Mask { at: (0, 540), size: (320, 180) };
        assert_eq!("320x180+0+540".parse(), Ok(mask));
        for bad in ["", "320x180", "0x4+1+1", "320x180+0", "axb+0+0", "320x180-5+0", "1x1+1+1+1"] {
            assert!(bad.parse::<Mask>().is_err(), "{bad}");
        }
    }
}
