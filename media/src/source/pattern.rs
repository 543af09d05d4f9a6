//! A test pattern: a texture that scrolls, a zone plate that holds every spatial frequency, and the time.
//!
//! The time is that of the clock given, in UTC: beside a clock of the same machine, a viewer's picture shows the
//! delay at a glance. Under it runs the number of the frame.

use std::sync::Arc;

use super::{Error, Info, Item, Source};
use crate::frame::{Colour, Frame, I420, SizeError};

/// Microseconds since 1970-01-01 UTC, or any other origin.
pub type Clock = Box<dyn FnMut() -> i64 + Send>;

/// The texture repeats after so many columns: whole cells, and an even number.
const PERIOD: u32 = 480;
/// Columns and rows of a shape.
const CELL: u32 = 12;
/// The texture's speed: columns of chroma a second. Luma moves twice as far.
const SCROLL_HZ: i64 = 30;

/// Frames without end, drawn as they are asked for.
pub struct Pattern {
    info: Info,
    clock: Clock,
    /// What the clock said when the first frame was drawn.
    start_us: Option<i64>,
    frames: u32,
    /// Y, U, V, each a period wider than the picture's.
    texture: [Vec<u8>; 3],
}

impl Pattern {
    /// A pattern of this size and rate. `clock` is asked once, when the first frame is drawn.
    ///
    /// # Errors
    /// [`SizeError`] for an odd, empty or too large size.
    pub fn new(width: u32, height: u32, fps: f64, clock: Clock) -> Result<Self, SizeError> {
        crate::frame::check_size(width, height)?;
        let colour = Colour::guess(height);
        let info = Info { width, height, fps, duration_us: None, colour, live: false };
        Ok(Self { info, clock, start_us: None, frames: 0, texture: texture(width, height) })
    }

    fn draw(&self, pts_us: i64, clock_us: i64) -> Result<I420, SizeError> {
        let Info { width, height, .. } = self.info;
        let mut image = I420::new(width, height)?;
        let shift = ((pts_us * SCROLL_HZ + 500_000) / 1_000_000).rem_euclid(i64::from(PERIOD / 2));
        let shift = usize::try_from(shift).expect("less than a period");
        let rows = |to: &mut [u8], from: &[u8], width: u32, shift: usize| {
            let (width, stride) = (width as usize, from.len() / (to.len() / width as usize));
            for (to, from) in to.chunks_exact_mut(width).zip(from.chunks_exact(stride)) {
                to.copy_from_slice(&from[shift..shift + width]);
            }
        };
        let [y, u, v] = &self.texture;
        rows(image.y_mut(), y, width, 2 * shift);
        rows(image.u_mut(), u, width / 2, shift);
        rows(image.v_mut(), v, width / 2, shift);
        zone_plate(&mut image);
        let time = time_of_day(clock_us);
        // Sixteen digits across the picture, in whole pixels.
        let dot = (width / (4 * 16)).min(height / 24);
        text(&mut image, &time, dot, 2 * dot);
        text(&mut image, &format!("{:>12}", self.frames), dot, 10 * dot);
        Ok(image)
    }
}

impl Source for Pattern {
    fn info(&self) -> &Info {
        &self.info
    }

    fn next(&mut self) -> Result<Option<Item>, Error> {
        let start_us = *self.start_us.get_or_insert_with(|| (self.clock)());
        #[expect(clippy::cast_possible_truncation, reason = "2^32 frames are years, which fit")]
        let pts_us = (f64::from(self.frames) * 1e6 / self.info.fps).round() as i64;
        let Ok(image) = self.draw(pts_us, start_us.saturating_add(pts_us)) else { return Ok(None) };
        let Some(next) = self.frames.checked_add(1) else { return Ok(None) };
        self.frames = next;
        let colour = self.info.colour;
        Ok(Some(Item::Frame(Frame { pts_us, image: Arc::new(image), colour, quantiser: None })))
    }
}

/// Sharp shapes, which a bicubic upscale blurs, over soft slopes.
fn texture(width: u32, height: u32) -> [Vec<u8>; 3] {
    let stride = width + PERIOD;
    let turn = |x: u32, times: f32| (x % PERIOD) as f32 * std::f32::consts::TAU * times / PERIOD as f32;
    let luma = |x: u32, y: u32| {
        let (cell_x, cell_y) = (x % PERIOD / CELL, y / CELL);
        let (dx, dy) = (x % CELL, y % CELL);
        let shape = match (cell_x * 7 + cell_y * 13 + cell_x * cell_y) % 5 {
            0 => dx < 5,
            1 => dy < 5,
            2 => dx + dy < 12,
            3 => dx.abs_diff(6) + dy.abs_diff(6) < 6,
            _ => dx.abs_diff(6).max(dy.abs_diff(6)) < 4,
        };
        let soft = 20.0 * (turn(x, 4.0).sin() + (y as f32 * 0.037).cos());
        byte(if shape { 170.0 } else { 80.0 } + soft)
    };
    let chroma = |x: u32, y: u32, phase: f32| {
        byte(128.0 + 30.0 * ((turn(2 * x, 3.0) + phase).sin() + (y as f32 * 0.05).cos()))
    };
    let plane = |width: u32, height: u32, value: &dyn Fn(u32, u32) -> u8| -> Vec<u8> {
        (0..height).flat_map(|y| (0..width).map(move |x| (x, y))).map(|(x, y)| value(x, y)).collect()
    };
    [
        plane(stride, height, &luma),
        plane(stride / 2, height / 2, &|x, y| chroma(x, y, 0.0)),
        plane(stride / 2, height / 2, &|x, y| chroma(x, y, 1.5)),
    ]
}

/// Rings that grow finer outwards, down to a pixel each, in the lower right quarter; they stand still.
fn zone_plate(image: &mut I420) {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let side = (width.min(height) * 2 / 5) & !1;
    let (left, top) = ((width - side - width / 16) & !1, (height - side - height / 16) & !1);
    let centre = side as f32 / 2.0;
    for y in 0..side {
        for x in 0..side {
            let (dx, dy) = (x as f32 - centre, y as f32 - centre);
            // The phase grows by pi a pixel at the edge.
            let phase = std::f32::consts::PI * (dx * dx + dy * dy) / side as f32;
            image.y_mut()[(top + y) * width + left + x] = byte(126.0 + 90.0 * phase.cos());
        }
    }
    for y in top / 2..(top + side) / 2 {
        let grey = y * (width / 2) + left / 2..y * (width / 2) + (left + side) / 2;
        image.u_mut()[grey.clone()].fill(128);
        image.v_mut()[grey].fill(128);
    }
}

/// Rows of three dots for each of 0 to 9, the top one in the highest bits.
const DIGITS: [u16; 10] =
    [0o75557, 0o26227, 0o71747, 0o71717, 0o55711, 0o74717, 0o74757, 0o71122, 0o75757, 0o75717];

/// Writes digits, `:` and `.` in white on black, `dot` pixels a dot, from row `top` on.
fn text(image: &mut I420, text: &str, dot: u32, top: u32) {
    let width = image.width() as usize;
    let (dot, top) = (dot as usize, top as usize);
    for (place, letter) in text.chars().enumerate() {
        let shape = match letter {
            '0'..='9' => DIGITS[letter as usize - '0' as usize],
            ':' => 0o02020,
            '.' => 0o00002,
            _ => 0,
        };
        let left = (2 + 4 * place) * dot;
        for y in 0..7 * dot {
            for x in 0..4 * dot {
                // A border of one dot above, below and to the left.
                let (row, column) = (y / dot, x / dot);
                let inside = (1..6).contains(&row) && column > 0;
                let lit = inside && shape >> ((5 - row) * 3 + (3 - column)) & 1 == 1;
                image.y_mut()[(top + y) * width + left + x] = if lit { 235 } else { 16 };
            }
        }
    }
}

/// `HH:MM:SS.mmm` of a time in microseconds.
fn time_of_day(us: i64) -> String {
    let ms = us.div_euclid(1000);
    let (s, ms) = (ms.div_euclid(1000), ms.rem_euclid(1000));
    format!(
        "{:02}:{:02}:{:02}.{ms:03}",
        s.div_euclid(3600).rem_euclid(24),
        s.div_euclid(60).rem_euclid(60),
        s.rem_euclid(60)
    )
}

/// To the nearest code value.
fn byte(value: f32) -> u8 {
    #[expect(clippy::cast_possible_truncation, reason = "clamped first")]
    #[expect(clippy::cast_sign_loss, reason = "clamped first")]
    let byte = value.round().clamp(0.0, 255.0) as u8;
    byte
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_move_and_their_times_are_those_of_the_rate() {
        let mut pattern = Pattern::new(320, 180, 30.0, Box::new(|| 0)).unwrap();
        let frames: Vec<Frame> = (0..31).map(|_| pattern.next_frame().unwrap().unwrap()).collect();
        assert_eq!(frames.iter().take(4).map(|f| f.pts_us).collect::<Vec<_>>(), [0, 33_333, 66_667, 100_000]);
        // After a second the texture has moved 60 columns; the first rows hold nothing else.
        for y in 0..9 {
            let row = |frame: &Frame, from: usize| frame.image.y()[y * 320 + from..][..50].to_vec();
            assert_eq!(row(&frames[30], 210), row(&frames[0], 270), "row {y}");
            assert_ne!(row(&frames[1], 210), row(&frames[0], 210), "row {y}");
        }
        // What a viewer has to restore: neighbours differ.
        let y = frames[0].image.y();
        let steps: u64 = y.windows(2).map(|pair| u64::from(pair[0].abs_diff(pair[1]))).sum();
        assert!(steps / y.len() as u64 > 5, "{steps}");
    }

    #[test]
    fn any_even_size_has_a_pattern() {
        for (width, height) in [(2, 2), (16, 16), (64, 48), (180, 320), (1922, 2), (2, 1082)] {
            let mut pattern = Pattern::new(width, height, 25.0, Box::new(|| i64::MIN)).unwrap();
            for _ in 0..3 {
                let image = pattern.next_frame().unwrap().unwrap().image;
                assert_eq!((image.width(), image.height()), (width, height));
            }
        }
        assert!(Pattern::new(63, 48, 25.0, Box::new(|| 0)).is_err());
    }

    #[test]
    fn the_time_is_readable() {
        assert_eq!(time_of_day(0), "00:00:00.000");
        assert_eq!(time_of_day(86_400_000_000 + 45_296_789_999), "12:34:56.789");
        assert_eq!(time_of_day(-1), "23:59:59.999");
        // A one is a stroke with a foot: read back dot by dot.
        let mut image = I420::new(64, 48).unwrap();
        text(&mut image, "1:.", 2, 0);
        let dots: Vec<String> = (1..6)
            .map(|row| {
                (3..14)
                    .map(|column| if image.y()[row * 2 * 64 + column * 2] > 128 { '#' } else { ' ' })
                    .collect()
            })
            .collect();
        assert_eq!(
            dots,
            [" #         ", "##   #     ", " #         ", " #   #     ", "###      # "].map(String::from)
        );
    }

    #[test]
    fn the_clock_is_asked_when_the_first_frame_is_drawn() {
        let asked = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let count = asked.clone();
        let clock = move || i64::from(count.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        let mut pattern = Pattern::new(64, 48, 25.0, Box::new(clock)).unwrap();
        assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), 0);
        (0..3).for_each(|_| drop(pattern.next_frame()));
        assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), 1);
    }
}
