//! Where the weights of each layer lie, as `conv3x3.wgsl` reads them.

use bytemuck::cast_slice;
use half::f16;
use hone_model::Layer;
use hone_wgsl::{CONV3X3_OUT_GROUPS_MAX, CONV3X3_UNIFORM_BYTES, Precision};
use wgpu::{Buffer, BufferUsages, Texture, TextureUsages};

use super::device::texture;
use super::{Gpu, Kernel, Size};
use crate::Error;

/// Where a binding may start: WebGPU's guaranteed alignment of uniform and storage offsets, in values of 16 bits.
const ALIGN: usize = 256 / 2;
/// Values in a matrix of 4 input by 4 output channels.
const MATRIX: usize = 16;

/// One layer: slices of `1 + 3 * in_groups` rows of `3 * out_groups` matrices, or biases and tiles for cooperative matrices.
#[derive(Clone, Debug)]
pub struct LayerLayout {
    layer: Layer,
    /// Rows and columns of its tiles, if it is tiles.
    tile: Option<usize>,
    /// Factor of the pixel shuffle that follows.
    pub shuffle: usize,
    /// Values before its first slice.
    offset: usize,
    /// Input channels over four.
    pub in_groups: usize,
    /// Groups of four output channels that a thread computes.
    pub out_groups: usize,
    /// Groups of four channels after the shuffle.
    pub sub_groups: usize,
}

impl LayerLayout {
    fn new(precision: Precision, layer: Layer, shuffle: usize, offset: usize) -> Self {
        let subpixels = shuffle * shuffle;
        let sub_groups = (layer.cout / subpixels).div_ceil(4);
        let groups = sub_groups * subpixels;
        // The fewest slices, filled evenly: 6 groups are 3 + 3, not 4 + 2.
        let out_groups = groups.div_ceil(groups.div_ceil(CONV3X3_OUT_GROUPS_MAX));
        let (tile, in_groups) = (precision.tile_side(), layer.cin.div_ceil(4));
        Self { tile, in_groups, out_groups, sub_groups, shuffle, offset, layer }
    }

    /// Workgroups in z.
    pub fn slices(&self) -> usize {
        (self.sub_groups * self.shuffle * self.shuffle).div_ceil(self.out_groups)
    }

    /// Output channels after the shuffle.
    pub fn channels(&self) -> usize {
        self.layer.cout / (self.shuffle * self.shuffle)
    }

    fn slice_rows(&self) -> usize {
        1 + 3 * self.in_groups
    }

    fn row(&self) -> usize {
        3 * self.out_groups * MATRIX
    }

    /// Columns and rows of four values.
    fn texels(&self) -> [usize; 2] {
        [self.row() / 4, self.slices() * self.slice_rows()]
    }

    /// Tiles of a slice along the input and along the output channels.
    fn tiles(&self, side: usize) -> [usize; 2] {
        [self.in_groups, self.out_groups].map(|groups| groups.div_ceil(side / 4))
    }

    fn slice_values(&self) -> usize {
        let Some(side) = self.tile else { return self.slice_rows() * self.row() };
        let [depth, width] = self.tiles(side);
        side * width * (1 + 9 * side * depth)
    }

    fn values(&self) -> usize {
        self.slices() * self.slice_values()
    }

    /// Bytes before its first slice.
    pub fn offset(&self, precision: Precision) -> usize {
        self.offset * value_bytes(precision)
    }

    /// Bytes of all slices.
    pub fn bytes(&self, precision: Precision) -> usize {
        self.values() * value_bytes(precision)
    }

    /// Whether they fit into uniform memory.
    pub fn in_uniform(&self, precision: Precision) -> bool {
        self.bytes(precision) <= CONV3X3_UNIFORM_BYTES
    }

    /// Writes (Cout, Cin, 3, 3) weights and Cout biases into `packed`, which covers the whole buffer.
    fn pack(&self, weight: &[f32], bias: &[f32], packed: &mut [f32]) {
        // Where a slice begins, which of its groups, and which channel of that.
        let place = |co: usize| {
            // The shuffle has the subpixel innermost in the channel; here it is outermost.
            let (c, subpixel) = (co / (self.shuffle * self.shuffle), co % (self.shuffle * self.shuffle));
            let group = subpixel * self.sub_groups + c / 4;
            let at = self.offset + group / self.out_groups * self.slice_values();
            (at, group % self.out_groups, c % 4)
        };
        for (co, b) in bias.iter().enumerate() {
            let (at, group, lane) = place(co);
            packed[at + group * 4 + lane] = *b;
        }
        for (k, v) in weight.iter().enumerate() {
            let (co, ci, tap) = (k / 9 / self.layer.cin, k / 9 % self.layer.cin, k % 9);
            let (at, group, lane) = place(co);
            if let Some(side) = self.tile {
                let ([_, width], out) = (self.tiles(side), group * 4 + lane);
                let tile = (ci / side * 9 + tap) * width + out / side;
                packed[at + side * width + tile * side * side + ci % side * side + out % side] = *v;
                continue;
            }
            // The shader walks columns of taps first: it keeps a column of pixels and slides down it.
            let row = 1 + ci / 4 * 3 + tap % 3;
            let matrix = group * 3 + tap / 3;
            packed[at + row * self.row() + matrix * MATRIX + ci % 4 * 4 + lane] = *v;
        }
    }
}

/// All layers in one buffer.
#[derive(Clone, Debug)]
pub struct WeightsLayout {
    /// In the order of [`hone_model::Arch::layers`].
    pub layers: Vec<LayerLayout>,
    values: usize,
}

impl WeightsLayout {
    /// Lays layers out one after the other, each with the factor of the pixel shuffle that follows it.
    pub fn new(precision: Precision, layers: Vec<(Layer, usize)>) -> Self {
        let mut offset = 0;
        let layers = layers
            .into_iter()
            .map(|(layer, shuffle)| {
                let layout = LayerLayout::new(precision, layer, shuffle, offset);
                offset += layout.values().next_multiple_of(ALIGN);
                layout
            })
            .collect();
        Self { layers, values: offset }
    }

    /// Packs the parameters of all layers, laid out as [`hone_model::Weights::params`]; what fills up groups is zero.
    ///
    /// # Panics
    /// If there are fewer parameters than the layers have.
    pub fn pack(&self, params: &[f32]) -> Vec<f32> {
        let mut packed = vec![0.0; self.values];
        for layout in &self.layers {
            let Layer { offset, .. } = layout.layer;
            let (weight, bias) =
                params[offset..offset + layout.layer.params()].split_at(layout.layer.weights());
            layout.pack(weight, bias, &mut packed);
        }
        packed
    }
}

/// Bytes of a weight in a buffer.
fn value_bytes(precision: Precision) -> usize {
    match precision {
        Precision::F32 | Precision::F16Storage => 4,
        Precision::F16 | Precision::Coop8 | Precision::Coop16 => 2,
    }
}

/// Packed weights on the device.
pub struct WeightsBuffer {
    buffer: Buffer,
    precision: Precision,
    /// The same, layer by layer, where textures are what the device reads best.
    textures: Vec<Texture>,
}

impl WeightsBuffer {
    /// All zeros.
    ///
    /// # Errors
    /// [`Error::Buffer`] if the device cannot hold them.
    pub fn new(gpu: &Gpu, kernel: Kernel, layout: &WeightsLayout) -> Result<Self, Error> {
        let usage = BufferUsages::UNIFORM | BufferUsages::STORAGE | BufferUsages::COPY_DST;
        // Every uniform binding is declared at its full size, the last one too.
        let bytes = layout.values * value_bytes(kernel.precision) + CONV3X3_UNIFORM_BYTES;
        let buffer = gpu.buffer(bytes as u64, usage)?;
        let side_max = gpu.device().limits().max_texture_dimension_2d as usize;
        // Where a layer has too many rows for a texture, all are read from the buffer.
        let fits = kernel.tall && layout.layers.iter().all(|layer| layer.texels()[1] <= side_max);
        let of_layer = |layer: &LayerLayout| {
            let [w, h] = layer.texels();
            let usage = TextureUsages::STORAGE_BINDING | TextureUsages::COPY_DST;
            texture(gpu.device(), Size { h, w }, wgpu::TextureFormat::Rgba32Float, usage)
        };
        let textures = if fits { layout.layers.iter().map(of_layer).collect() } else { Vec::new() };
        Ok(Self { buffer, precision: kernel.precision, textures })
    }

    /// Uploads what [`WeightsLayout::pack`] made: in order with the frames that are submitted before and after.
    pub fn write(&self, gpu: &Gpu, layout: &WeightsLayout, packed: &[f32]) {
        if value_bytes(self.precision) == 2 {
            let half: Vec<u16> = packed.iter().map(|&v| f16::from_f32(v).to_bits()).collect();
            gpu.queue().write_buffer(&self.buffer, 0, cast_slice(&half));
        } else {
            gpu.queue().write_buffer(&self.buffer, 0, cast_slice(packed));
        }
        for (texture, layer) in self.textures.iter().zip(&layout.layers) {
            let texels = wgpu::TexelCopyBufferLayout {
                offset: 4 * layer.offset as u64,
                bytes_per_row: Some(4 * layer.row() as u32),
                rows_per_image: None,
            };
            let bytes = cast_slice(packed);
            gpu.queue().write_texture(texture.as_image_copy(), bytes, texels, texture.size());
        }
    }

    pub(super) fn buffer(&self) -> &Buffer {
        &self.buffer
    }

    pub(super) fn texture(&self, layer: usize) -> Option<&Texture> {
        self.textures.get(layer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(cin: usize, cout: usize) -> Layer {
        Layer { name: String::new(), cin, cout, offset: 0, zero_init: false }
    }

    #[test]
    fn groups_are_split_evenly() {
        for (cout, out_groups, slices) in
            [(3, 1, 1), (8, 2, 1), (12, 3, 1), (16, 4, 1), (24, 3, 2), (27, 4, 2), (48, 4, 3), (64, 4, 4)]
        {
            let layout = LayerLayout::new(Precision::F32, layer(16, cout), 1, 0);
            assert_eq!((layout.out_groups, layout.slices()), (out_groups, slices), "{cout}");
        }
    }

    #[test]
    fn sixty_four_to_sixty_four_is_the_first_in_storage() {
        for precision in [Precision::F32, Precision::F16] {
            assert!(LayerLayout::new(precision, layer(32, 32), 1, 0).in_uniform(precision));
            assert!(!LayerLayout::new(precision, layer(64, 64), 1, 0).in_uniform(precision));
        }
    }

    #[test]
    fn a_shuffle_puts_subpixels_outermost() {
        // 27 channels are 3 colours of 9 subpixels: each subpixel has a group of its own.
        let layout = LayerLayout::new(Precision::F32, layer(8, 27), 3, 0);
        assert_eq!((layout.sub_groups, layout.out_groups, layout.slices(), layout.channels()), (1, 3, 3, 3));
        let layout = LayerLayout::new(Precision::F32, layer(8, 32), 2, 0);
        assert_eq!((layout.sub_groups, layout.out_groups, layout.slices(), layout.channels()), (2, 4, 2, 8));
    }

    #[test]
    fn every_parameter_has_its_own_place() {
        for precision in [Precision::F32, Precision::Coop8, Precision::Coop16] {
            let layers =
                WeightsLayout::new(precision, vec![(layer(3, 8), 1), (layer(8, 27), 3), (layer(8, 32), 2)]);
            for layout in &layers.layers {
                let (cin, cout) = (layout.layer.cin, layout.layer.cout);
                let weight: Vec<f32> = (1..=9 * cin * cout).map(|v| v as f32).collect();
                let bias: Vec<f32> = (1..=cout).map(|v| -(v as f32)).collect();
                let mut packed = vec![0.0; layers.values];
                layout.pack(&weight, &bias, &mut packed);
                let range = layout.offset..layout.offset + layout.values();
                let mut placed: Vec<f32> = packed[range].iter().copied().filter(|v| *v != 0.0).collect();
                let mut all = [weight, bias].concat();
                placed.sort_by(f32::total_cmp);
                all.sort_by(f32::total_cmp);
                assert_eq!(placed, all);
            }
        }
    }
}
