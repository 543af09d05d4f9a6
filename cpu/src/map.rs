//! Activations of one image.

use aligned_vec::{AVec, ConstAlign};

/// Values from the start of a cache line on: vectors of [`GROUP`] that cross lines cost twice.
pub type Values = AVec<f32, ConstAlign<64>>;

/// `n` zeros.
pub fn zeros(n: usize) -> Values {
    AVec::from_iter(64, std::iter::repeat_n(0.0, n))
}

/// Channels that lie side by side in memory: one AVX-512 vector.
pub const GROUP: usize = 16;
/// The same for what goes in, RGB and quantiser, which would waste most of a [`GROUP`].
pub const GROUP_RGB: usize = 4;

/// (C, H, W) activations as rows of channel groups, (H + 2, ceil(C / group), W + 2, group), with a border of zeros.
///
/// A row with all its channels is contiguous, so that threads can share a map by rows. Channels
/// beyond C are computed like the others, from zero weights, and stay zero.
#[derive(Clone, Debug)]
pub struct Map {
    pub h: usize,
    pub w: usize,
    pub c: usize,
    pub group: usize,
    pub data: Values,
}

impl Map {
    /// A map of zeros. What a convolution writes has whole [`GROUP`]s, also for three channels.
    pub fn new(c: usize, group: usize, h: usize, w: usize) -> Self {
        Self { h, w, c, group, data: zeros((h + 2) * c.div_ceil(group) * (w + 2) * group) }
    }

    pub fn groups(&self) -> usize {
        self.c.div_ceil(self.group)
    }

    /// Values in one row, borders and all groups included.
    pub fn stride(&self) -> usize {
        self.groups() * (self.w + 2) * self.group
    }

    /// Row `y` of the padded map: row 0 is border, image row 0 is row 1.
    pub fn padded_row(&self, y: usize) -> &[f32] {
        &self.data[y * self.stride()..(y + 1) * self.stride()]
    }

    /// Index of a value within its padded row.
    pub fn at(&self, c: usize, x: usize) -> usize {
        (c / self.group * (self.w + 2) + x + 1) * self.group + c % self.group
    }

    /// The image rows, without the borders above and below.
    pub fn rows_mut(&mut self) -> std::slice::ChunksExactMut<'_, f32> {
        let stride = self.stride();
        let end = (self.h + 1) * stride;
        self.data[stride..end].chunks_exact_mut(stride)
    }
}
