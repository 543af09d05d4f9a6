//! One prepared dispatch for each operation.

use hone_wgsl::{BICUBIC, CONV3X3, CONV3X3_TILE, CONV3X3_UNIFORM_BYTES, PIXEL_SHUFFLE, PIXEL_TILE, YUV_RGB};
use wgpu::{BindGroup, BindGroupEntry, BindingResource, Buffer, BufferBinding, ComputePipeline};

use super::{Activation, Gpu, LayerLayout, Planes, Rgba, Size, WeightsBuffer};

/// Pipeline, bindings and grid. Convolutions have one set of bindings for each of the two weight buffers.
pub struct Pass {
    pipeline: ComputePipeline,
    bindings: [BindGroup; 2],
    grid: [u32; 3],
}

/// What a convolution does besides convolving.
#[derive(Clone, Copy, Debug)]
pub struct Conv3x3 {
    /// Whether negative outputs become zero.
    pub relu: bool,
    /// Factor on the output, after ReLU and before the add.
    pub scale: f32,
}

fn flag(on: bool) -> f64 {
    f64::from(u8::from(on))
}

fn bind(gpu: &Gpu, pipeline: &ComputePipeline, resources: &[BindingResource]) -> BindGroup {
    let entries: Vec<BindGroupEntry> = (0..)
        .zip(resources)
        .map(|(binding, resource)| BindGroupEntry { binding, resource: resource.clone() })
        .collect();
    gpu.device().create_bind_group(&wgpu::BindGroupDescriptor {
        label: None,
        layout: &pipeline.get_bind_group_layout(0),
        entries: &entries,
    })
}

fn part(buffer: &Buffer, offset: usize, bytes: usize) -> BindingResource<'_> {
    BindingResource::Buffer(BufferBinding {
        buffer,
        offset: offset as u64,
        size: wgpu::BufferSize::new(bytes as u64),
    })
}

impl Pass {
    fn new(pipeline: ComputePipeline, bindings: BindGroup, grid: [u32; 3]) -> Self {
        Self { pipeline, bindings: [bindings.clone(), bindings], grid }
    }

    /// `y = scale * relu?(conv3x3(x)) + add?`, with the weights of `layer` in either buffer.
    ///
    /// # Panics
    /// If groups or sizes do not fit together.
    pub fn conv3x3(
        gpu: &Gpu,
        conv: Conv3x3,
        layer: &LayerLayout,
        weights: [&WeightsBuffer; 2],
        [x, y]: [&Activation; 2],
        add: Option<&Activation>,
    ) -> Self {
        assert!(x.groups() == layer.in_groups && y.groups() == layer.groups && x.size() == y.size());
        assert!(add.is_none_or(|add| add.groups() == y.groups() && add.size() == y.size()));
        let pipeline = gpu.pipeline(
            CONV3X3,
            &[
                ("IN_GROUPS", layer.in_groups as f64),
                ("OUT_GROUPS", layer.out_groups as f64),
                ("GROUPS", layer.groups as f64),
                ("RELU", flag(conv.relu)),
                ("ADD", flag(add.is_some())),
                ("SCALE", f64::from(conv.scale)),
                ("WEIGHTS_IN_UNIFORM", flag(layer.in_uniform())),
            ],
        );
        let bindings = weights.map(|weights| {
            let resources = [
                y.uniform().as_entire_binding(),
                x.buffer().as_entire_binding(),
                part(weights.buffer(), layer.offset, CONV3X3_UNIFORM_BYTES),
                part(weights.buffer(), layer.offset, layer.bytes()),
                add.unwrap_or(x).buffer().as_entire_binding(),
                y.buffer().as_entire_binding(),
            ];
            bind(gpu, &pipeline, &resources)
        });
        Self { pipeline, bindings, grid: y.size().grid(CONV3X3_TILE, layer.slices()) }
    }

    /// (C·s², H, W) -> (C, s·H, s·W).
    ///
    /// # Panics
    /// If groups or sizes do not fit together.
    pub fn pixel_shuffle(gpu: &Gpu, c: usize, s: usize, [x, y]: [&Activation; 2]) -> Self {
        assert!(x.groups() == (c * s * s).div_ceil(4) && y.groups() == c.div_ceil(4));
        assert!(y.size() == Size { h: x.size().h * s, w: x.size().w * s });
        let pipeline = gpu.pipeline(PIXEL_SHUFFLE, &[("S", s as f64), ("C", c as f64)]);
        let resources = [
            x.uniform().as_entire_binding(),
            y.uniform().as_entire_binding(),
            x.buffer().as_entire_binding(),
            y.buffer().as_entire_binding(),
        ];
        let bindings = bind(gpu, &pipeline, &resources);
        Self::new(pipeline, bindings, y.size().grid(PIXEL_TILE, y.groups()))
    }

    /// Planes to RGB minus the mean that they were written with: (1 group, H, W), the fourth channel zero.
    ///
    /// # Panics
    /// If groups or sizes do not fit together.
    pub fn yuv_rgb(gpu: &Gpu, planes: &Planes, rgb: &Activation) -> Self {
        assert!(rgb.groups() == 1 && rgb.size() == planes.size());
        let pipeline = gpu.pipeline(YUV_RGB, &[]);
        let [luma, cb, cr] = planes.textures().each_ref().map(|t| t.create_view(&Default::default()));
        let resources = [
            rgb.uniform().as_entire_binding(),
            BindingResource::TextureView(&luma),
            BindingResource::TextureView(&cb),
            BindingResource::TextureView(&cr),
            planes.matrix().as_entire_binding(),
            rgb.buffer().as_entire_binding(),
        ];
        let bindings = bind(gpu, &pipeline, &resources);
        Self::new(pipeline, bindings, rgb.size().grid(PIXEL_TILE, 1))
    }

    /// `rgba = round(255 * clamp(bicubic(x) + mean + pixel_shuffle(residual)?))`, upscaled by `s`.
    ///
    /// # Panics
    /// If groups or sizes do not fit together.
    pub fn bicubic(
        gpu: &Gpu,
        s: usize,
        mean: [f32; 3],
        x: &Activation,
        residual: Option<&Activation>,
        rgba: &Rgba,
    ) -> Self {
        assert!(x.groups() == 1 && residual.is_none_or(|r| r.groups() == (3 * s * s).div_ceil(4)));
        assert!(rgba.size() == Size { h: x.size().h * s, w: x.size().w * s });
        let pipeline = gpu.pipeline(
            BICUBIC,
            &[
                ("S", s as f64),
                ("RESIDUAL", flag(residual.is_some())),
                ("MEAN_R", f64::from(mean[0])),
                ("MEAN_G", f64::from(mean[1])),
                ("MEAN_B", f64::from(mean[2])),
            ],
        );
        let resources = [
            x.uniform().as_entire_binding(),
            x.buffer().as_entire_binding(),
            residual.unwrap_or(x).buffer().as_entire_binding(),
            BindingResource::TextureView(&rgba.texture().create_view(&Default::default())),
        ];
        let bindings = bind(gpu, &pipeline, &resources);
        Self::new(pipeline, bindings, rgba.size().grid(PIXEL_TILE, 1))
    }

    /// Records it, with the weights of buffer `current`.
    pub(super) fn encode(&self, compute: &mut wgpu::ComputePass, current: usize) {
        compute.set_pipeline(&self.pipeline);
        compute.set_bind_group(0, &self.bindings[current], &[]);
        compute.dispatch_workgroups(self.grid[0], self.grid[1], self.grid[2]);
    }
}
