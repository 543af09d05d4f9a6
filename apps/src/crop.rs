//! One place of one frame, side by side.

use crate::quality::Truth;

/// Side of the reports' crops, pixels.
const SIDE: usize = 224;

/// The same square of one frame as several contenders show it.
pub struct Crop {
    /// Media time, seconds.
    pub t_s: f64,
    /// Side of the square, pixels.
    pub side: usize,
    /// Columns of the whole picture.
    width: usize,
    /// First row and column.
    place: (usize, usize),
    /// Who shows it, and (side, side, 3) RGB.
    pub shown: Vec<(&'static str, Vec<u8>)>,
}

impl Crop {
    /// The square where what Hone shows is most better than bicubic, as bicubic, Hone and the camera have it. Both
    /// pictures are (H, W, 4).
    pub fn new(t_s: f64, truth: &Truth, bicubic: &[u8], hone: &[u8]) -> Self {
        let (w, h) = truth.size();
        let side = SIDE.min(w).min(h);
        let error = |shown: &[u8], y: usize, x: usize| -> i64 {
            let rows = (y..y + side).step_by(2);
            let row = |row: usize| {
                (x..x + side).map(move |col| {
                    let at = row * w + col;
                    (0..3)
                        .map(|c| i64::from(shown[at * 4 + c].abs_diff(truth.rgb()[at * 3 + c])).pow(2))
                        .sum::<i64>()
                })
            };
            rows.flat_map(row).sum()
        };
        let half = (side / 2).max(1);
        let places =
            (0..=h - side).step_by(half).flat_map(|y| (0..=w - side).step_by(half).map(move |x| (y, x)));
        let gain = |&(y, x): &(usize, usize)| error(bicubic, y, x) - error(hone, y, x);
        let place = places.max_by_key(gain).unwrap_or((0, 0));
        let mut crop = Self { t_s, side, width: w, place, shown: vec![] };
        crop.add("bicubic", bicubic, 4);
        crop.add("Hone", hone, 4);
        crop.add("camera", truth.rgb(), 3);
        crop
    }

    /// Adds the same place of another picture, `channels` bytes a pixel.
    pub fn add(&mut self, name: &'static str, image: &[u8], channels: usize) {
        let ((y, x), side) = (self.place, self.side);
        let rows = (y..y + side).map(|row| &image[(row * self.width + x) * channels..][..side * channels]);
        let rgb = rows.flat_map(|row| row.chunks_exact(channels)).flat_map(|p| [p[0], p[1], p[2]]).collect();
        self.shown.push((name, rgb));
    }
}
