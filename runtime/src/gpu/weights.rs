//! Where the weights of each layer lie in one buffer, as `conv3x3.wgsl` reads them.

use bytemuck::cast_slice;
use hone_model::Layer;
use hone_wgsl::{CONV3X3_OUT_GROUPS_MAX, CONV3X3_UNIFORM_BYTES};
use wgpu::{Buffer, BufferUsages};

use super::Gpu;
use crate::Error;

/// Where a binding may start: WebGPU's guaranteed alignment of uniform and storage offsets.
const ALIGN: usize = 256;
/// Floats in a matrix of 4 input by 4 output channels.
const MATRIX: usize = 16;

/// One layer: slices of `1 + 9 * in_groups * out_groups` matrices.
#[derive(Clone, Debug)]
pub struct LayerLayout {
    layer: Layer,
    /// Bytes before its first slice.
    pub offset: usize,
    /// Input channels over four.
    pub in_groups: usize,
    /// Groups of four output channels that a thread computes.
    pub out_groups: usize,
    /// Output channels over four.
    pub groups: usize,
}

impl LayerLayout {
    fn new(layer: Layer, offset: usize) -> Self {
        let groups = layer.cout.div_ceil(4);
        // The fewest slices, filled evenly: 6 groups are 3 + 3, not 4 + 2.
        let out_groups = groups.div_ceil(groups.div_ceil(CONV3X3_OUT_GROUPS_MAX));
        Self { in_groups: layer.cin.div_ceil(4), out_groups, groups, offset, layer }
    }

    /// Workgroups in z.
    pub fn slices(&self) -> usize {
        self.groups.div_ceil(self.out_groups)
    }

    /// Output channels.
    pub fn cout(&self) -> usize {
        self.layer.cout
    }

    fn slice_matrices(&self) -> usize {
        1 + 9 * self.in_groups * self.out_groups
    }

    /// Bytes of all slices.
    pub fn bytes(&self) -> usize {
        self.slices() * self.slice_matrices() * MATRIX * 4
    }

    /// Whether they fit into uniform memory.
    pub fn in_uniform(&self) -> bool {
        self.bytes() <= CONV3X3_UNIFORM_BYTES
    }

    /// Writes (Cout, Cin, 3, 3) weights and Cout biases into `packed`, which covers the whole buffer.
    fn pack(&self, weight: &[f32], bias: &[f32], packed: &mut [f32]) {
        let slice_of = |co: usize| {
            let (group, lane) = (co / 4, co % 4);
            let at = self.offset / 4 + group / self.out_groups * self.slice_matrices() * MATRIX;
            (at, group % self.out_groups, lane)
        };
        for (co, b) in bias.iter().enumerate() {
            let (at, group, lane) = slice_of(co);
            packed[at + group * 4 + lane] = *b;
        }
        for (k, v) in weight.iter().enumerate() {
            let (co, ci, tap) = (k / 9 / self.layer.cin, k / 9 % self.layer.cin, k % 9);
            // The shader walks columns first: it keeps one column of six inputs and slides down it.
            let step = tap % 3 * 3 + tap / 3;
            let (at, group, lane) = slice_of(co);
            let matrix = 1 + (ci / 4 * 9 + step) * self.out_groups + group;
            packed[at + matrix * MATRIX + ci % 4 * 4 + lane] = *v;
        }
    }
}

/// All layers in one buffer.
#[derive(Clone, Debug)]
pub struct WeightsLayout {
    /// In the order of [`hone_model::Arch::layers`].
    pub layers: Vec<LayerLayout>,
    bytes: usize,
}

impl WeightsLayout {
    /// Lays layers out one after the other.
    pub fn new(layers: Vec<Layer>) -> Self {
        let mut offset = 0;
        let layers = layers
            .into_iter()
            .map(|layer| {
                let layout = LayerLayout::new(layer, offset);
                offset += layout.bytes().next_multiple_of(ALIGN);
                layout
            })
            .collect();
        // Every uniform binding is declared at its full size, the last one too.
        Self { layers, bytes: offset + CONV3X3_UNIFORM_BYTES }
    }

    /// Packs the parameters of all layers, laid out as [`hone_model::Weights::params`]; what fills up groups is zero.
    ///
    /// # Panics
    /// If there are fewer parameters than the layers have.
    pub fn pack(&self, params: &[f32]) -> Vec<f32> {
        let mut packed = vec![0.0; self.bytes / 4];
        for layout in &self.layers {
            let Layer { offset, .. } = layout.layer;
            let (weight, bias) =
                params[offset..offset + layout.layer.params()].split_at(layout.layer.weights());
            layout.pack(weight, bias, &mut packed);
        }
        packed
    }
}

/// Packed weights on the device.
pub struct WeightsBuffer(Buffer);

impl WeightsBuffer {
    /// All zeros.
    ///
    /// # Errors
    /// [`Error::Buffer`] if the device cannot hold them.
    pub fn new(gpu: &Gpu, layout: &WeightsLayout) -> Result<Self, Error> {
        let usage = BufferUsages::UNIFORM | BufferUsages::STORAGE | BufferUsages::COPY_DST;
        Ok(Self(gpu.buffer(layout.bytes as u64, usage)?))
    }

    /// Uploads what [`WeightsLayout::pack`] made: in order with the frames that are submitted before and after.
    pub fn write(&self, gpu: &Gpu, packed: &[f32]) {
        gpu.queue().write_buffer(&self.0, 0, cast_slice(packed));
    }

    pub(super) fn buffer(&self) -> &Buffer {
        &self.0
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
            let layout = LayerLayout::new(layer(16, cout), 0);
            assert_eq!((layout.out_groups, layout.slices()), (out_groups, slices), "{cout}");
        }
    }

    #[test]
    fn sixty_four_to_sixty_four_is_the_first_in_storage() {
        assert!(LayerLayout::new(layer(32, 32), 0).in_uniform());
        assert!(!LayerLayout::new(layer(64, 64), 0).in_uniform());
    }

    #[test]
    fn every_parameter_has_its_own_place() {
        let layers = WeightsLayout::new(vec![layer(3, 8), layer(8, 27)]);
        for layout in &layers.layers {
            let (cin, cout) = (layout.layer.cin, layout.layer.cout);
            let weight: Vec<f32> = (1..=9 * cin * cout).map(|v| v as f32).collect();
            let bias: Vec<f32> = (1..=cout).map(|v| -(v as f32)).collect();
            let mut packed = vec![0.0; layers.bytes / 4];
            layout.pack(&weight, &bias, &mut packed);
            let range = layout.offset / 4..(layout.offset + layout.bytes()) / 4;
            let mut placed: Vec<f32> = packed[range].iter().copied().filter(|v| *v != 0.0).collect();
            let mut all = [weight, bias].concat();
            placed.sort_by(f32::total_cmp);
            all.sort_by(f32::total_cmp);
            assert_eq!(placed, all);
        }
    }
}
