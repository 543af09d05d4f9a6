//! Where one scene ends and the next begins.

use crate::frame::I420;

/// Columns and rows of cells whose mean luma describes a frame: motion moves little between them.
const GRID: (usize, usize) = (16, 9);
/// So many pixels of a cell, each way, are looked at.
const SAMPLES: usize = 12;
/// A cut changes the cells by at least so many code values in the mean,
pub const CHANGE_MIN: f32 = 10.0;
/// and by so many times the change that was usual before it: a fast pan is no cut.
const CHANGE_OVER_USUAL: f32 = 4.0;
/// Weight of the newest frame in what is usual.
const USUAL_SHARE: f32 = 0.1;

/// Finds cuts in a stream of pictures.
#[derive(Clone, Debug, Default)]
pub struct Cuts {
    cells: Vec<f32>,
    usual: f32,
}

impl Cuts {
    /// Whether `image`, the next picture, begins a new scene. The first does not.
    pub fn see(&mut self, image: &I420) -> bool {
        let before = std::mem::replace(&mut self.cells, cells(image));
        if before.is_empty() {
            return false;
        }
        let change = difference(&before, &self.cells);
        let cut = change >= CHANGE_MIN && change >= CHANGE_OVER_USUAL * self.usual;
        self.usual += USUAL_SHARE * (change - self.usual);
        cut
    }

    /// The mean luma of each cell of the last picture, code values; empty before the first.
    pub fn cells(&self) -> &[f32] {
        &self.cells
    }

    /// What [`difference`] from picture to picture is usual.
    pub fn usual(&self) -> f32 {
        self.usual
    }
}

/// How far the cells of two pictures are apart in the mean, code values.
pub fn difference(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f32>() / a.len().max(1) as f32
}

fn cells(image: &I420) -> Vec<f32> {
    let (w, h) = (image.width() as usize, image.height() as usize);
    let range = |i: usize, n: usize, len: usize| {
        (i * len / n..((i + 1) * len / n).max(i * len / n + 1)).step_by((len / n).div_ceil(SAMPLES).max(1))
    };
    let mut cells = Vec::with_capacity(GRID.0 * GRID.1);
    for row in 0..GRID.1 {
        for col in 0..GRID.0 {
            let (mut sum, mut count) = (0u32, 0u32);
            for y in range(row, GRID.1, h) {
                for x in range(col, GRID.0, w) {
                    sum += u32::from(image.y()[y.min(h - 1) * w + x.min(w - 1)]);
                    count += 1;
                }
            }
            cells.push(sum as f32 / count as f32);
        }
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grey(luma: u8) -> I420 {
        let mut image = I420::new(64, 36).unwrap();
        image.y_mut().fill(luma);
        image
    }

    #[test]
    fn cuts_stand_out_from_what_is_usual() {
        let mut cuts = Cuts::default();
        let steps = [50, 52, 50, 90, 88].map(|luma| cuts.see(&grey(luma)));
        assert_eq!(steps, [false, false, false, true, false]);
        // Lights that flicker are no cuts for long.
        let flicker = (0..40).filter(|i| cuts.see(&grey(if i % 2 == 0 { 60 } else { 100 }))).count();
        assert!(flicker <= 4, "{flicker}");
    }
}
