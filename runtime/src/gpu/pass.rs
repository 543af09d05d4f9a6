//! One prepared dispatch for each operation.

use hone_wgsl::{BICUBIC, CONV3X3, CONV3X3_ROWS, CONV3X3_TILE, CONV3X3_UNIFORM_BYTES, PIXEL_TILE, YUV_RGB};
use hone_wgsl::{Precision, Shader};
use wgpu::{BindGroup, BindGroupEntry, BindingResource, Buffer, BufferBinding, ComputePipeline};

use super::{Activation, Gpu, LayerLayout, Planes, Rgba, WeightsBuffer};

/// Pipeline, bindings and grid. Convolutions have one set of bindings for each of the two weight buffers.
pub struct Pass {
    name: &'static str,
    pipeline: ComputePipeline,
    bindings: [BindGroup; 2],
    grid: [u32; 3],
}

/// How convolutions are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kernel {
    /// Of activations and sums.
    pub precision: Precision,
    /// What an adapter in software likes: eight pixels a thread, weights from a texture and no workgroup memory.
    pub tall: bool,
}

impl Kernel {
    /// The one for this device.
    pub fn of(gpu: &Gpu, precision: Precision) -> Self {
        Self { precision, tall: gpu.software() && precision.tile_side().is_none() }
    }
}

/// What a convolution does besides convolving.
#[derive(Clone, Copy, Debug)]
pub struct Conv3x3 {
    /// Whether negative outputs become zero.
    pub relu: bool,
    /// Factor on the output, after ReLU and before the add.
    pub scale: f32,
}

/// What a convolution reads.
#[derive(Clone, Copy)]
pub enum Input<'a> {
    /// A value of the network.
    Activation(&'a Activation),
    /// A decoded picture: RGB minus the mean it was written with, and the quantiser.
    Planes(&'a Planes),
}

/// What a convolution writes, after the pixel shuffle of its layer.
#[derive(Clone, Copy)]
pub enum Output<'a> {
    /// A value of the network. A layer more than the convolution needs takes the RGB: of a picture that is read, or else
    /// the layer more that `add` has.
    Activation(&'a Activation),
    /// The picture: `round(255 * clamp(v + mean + base?))`.
    Picture {
        /// Where to.
        rgba: &'a Rgba,
        /// Whether the bicubic upscale of the RGB is added, a layer more of the input than the convolution needs.
        base: bool,
        /// Added to each colour.
        mean: [f32; 3],
    },
}

fn flag(on: bool) -> f64 {
    f64::from(u8::from(on))
}

pub(super) fn bind<'a>(
    gpu: &Gpu,
    pipeline: &ComputePipeline,
    resources: impl Iterator<Item = (u32, &'a BindingResource<'a>)>,
) -> BindGroup {
    let entries: Vec<BindGroupEntry> =
        resources.map(|(binding, resource)| BindGroupEntry { binding, resource: resource.clone() }).collect();
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
    pub(super) fn new(
        shader: Shader,
        pipeline: ComputePipeline,
        bindings: BindGroup,
        grid: [u32; 3],
    ) -> Self {
        Self { name: shader.name, pipeline, bindings: [bindings.clone(), bindings], grid }
    }

    /// Its shader.
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// `output = pixel_shuffle(scale * relu?(conv3x3(input))) + add?`, with the weights of layer `index` in either
    /// buffer.
    ///
    /// # Panics
    /// If layers or sizes do not fit together.
    pub fn conv3x3(
        gpu: &Gpu,
        kernel: Kernel,
        conv: Conv3x3,
        (index, layer): (usize, &LayerLayout),
        weights: [&WeightsBuffer; 2],
        (input, output): (Input, Output),
        add: Option<&Activation>,
    ) -> Self {
        let (size, size_uniform) = match input {
            Input::Activation(x) => (x.size(), x.uniform()),
            Input::Planes(planes) => (planes.size(), planes.uniform()),
        };
        let s = layer.shuffle;
        let head = matches!(input, Input::Planes(_));
        let (in_layers, in_precision) = match input {
            Input::Activation(x) => (x.layers(), x.precision()),
            Input::Planes(_) => (1, kernel.precision),
        };
        assert!(in_layers >= layer.in_groups && in_precision == kernel.precision);
        let keep_rgb = match output {
            Output::Activation(y) => {
                assert!(y.size() == size.times(s) && y.precision() == kernel.precision);
                assert!(y.layers() == layer.sub_groups || y.layers() == layer.sub_groups + 1);
                match add {
                    _ if y.layers() == layer.sub_groups => 0u8,
                    None => {
                        assert!(in_layers == 1, "RGB is read");
                        1
                    }
                    Some(add) => {
                        assert!(add.layers() == y.layers(), "RGB is added to");
                        2
                    }
                }
            }
            Output::Picture { rgba, base, .. } => {
                assert!(rgba.size() == size.times(s) && layer.sub_groups == 1);
                assert!(!base || in_layers == layer.in_groups + 1);
                0
            }
        };
        assert!(add.is_none_or(|add| s == 1 && add.layers() >= layer.sub_groups && add.size() == size));

        let source = match weights[0].texture(index) {
            Some(_) => 2.0,
            None if layer.in_uniform(kernel.precision) => 0.0,
            None => 1.0,
        };
        let (mean, base) = match output {
            Output::Picture { mean, base, .. } => (mean, base),
            Output::Activation(_) => ([0.0; 3], false),
        };
        let coop = kernel.precision.tile_side().is_some();
        let height = if kernel.tall || coop { 1 } else { CONV3X3_TILE / CONV3X3_ROWS[0] };
        let constants = if coop { 19 } else { 18 };
        let pipeline = gpu.pipeline(
            CONV3X3,
            kernel.precision,
            &[
                ("IN_GROUPS", layer.in_groups as f64),
                ("OUT_GROUPS", layer.out_groups as f64),
                ("SUB_GROUPS", layer.sub_groups as f64),
                ("S", s as f64),
                ("RELU", flag(conv.relu)),
                ("ADD", flag(add.is_some())),
                ("SCALE", f64::from(conv.scale)),
                ("HEAD", flag(head)),
                ("KEEP_RGB", f64::from(keep_rgb)),
                ("TAIL", flag(matches!(output, Output::Picture { .. }))),
                ("BASE", flag(base)),
                ("MEAN_R", f64::from(mean[0])),
                ("MEAN_G", f64::from(mean[1])),
                ("MEAN_B", f64::from(mean[2])),
                ("HEIGHT", height as f64),
                ("TILED", flag(!kernel.tall)),
                ("TALL", flag(kernel.tall)),
                ("WEIGHTS", source),
                ("SUBGROUP", f64::from(gpu.subgroup())),
            ][..constants],
        );

        let unused = gpu.unused();
        let planes = match input {
            Input::Planes(planes) => planes.views(),
            Input::Activation(_) => [unused.plane(); 3],
        };
        let bindings = weights.map(|weights| {
            let texture = weights.texture(index).map(|t| t.create_view(&Default::default()));
            let resources = [
                size_uniform.as_entire_binding(),
                BindingResource::TextureView(match input {
                    Input::Activation(x) => x.view(),
                    Input::Planes(_) => unused.read(kernel.precision),
                }),
                part(weights.buffer(), layer.offset(kernel.precision), CONV3X3_UNIFORM_BYTES),
                part(weights.buffer(), layer.offset(kernel.precision), layer.bytes(kernel.precision)),
                BindingResource::TextureView(texture.as_ref().unwrap_or(unused.weights())),
                BindingResource::TextureView(add.map_or(unused.sampled(), Activation::view)),
                BindingResource::TextureView(match output {
                    Output::Activation(y) => y.view(),
                    Output::Picture { .. } => unused.written(kernel.precision),
                }),
                BindingResource::TextureView(match output {
                    Output::Picture { rgba, .. } => rgba.view(),
                    Output::Activation(_) => unused.rgba(),
                }),
                BindingResource::TextureView(planes[0]),
                BindingResource::TextureView(planes[1]),
                BindingResource::TextureView(planes[2]),
                match input {
                    Input::Planes(planes) => planes.matrix().as_entire_binding(),
                    Input::Activation(_) => unused.matrix().as_entire_binding(),
                },
                part(weights.buffer(), layer.offset(kernel.precision), layer.bytes(kernel.precision)),
            ];
            // Cooperative matrices are read as tiles, the others as what is best for the adapter.
            let bound = (0..).zip(&resources).filter(|(binding, _)| match binding {
                2..=4 => !coop,
                12 => coop,
                _ => true,
            });
            bind(gpu, &pipeline, bound)
        });
        let tile = (height * CONV3X3_ROWS[usize::from(kernel.tall)], CONV3X3_TILE);
        Self { name: CONV3X3.name, pipeline, bindings, grid: size.grid(tile, layer.slices()) }
    }

    /// Planes to RGB minus the mean that they were written with: (1 layer, H, W), the fourth channel the quantiser.
    ///
    /// # Panics
    /// If layers or sizes do not fit together.
    pub fn yuv_rgb(gpu: &Gpu, planes: &Planes, rgb: &Activation) -> Self {
        assert!(rgb.layers() == 1 && rgb.size() == planes.size());
        let pipeline = gpu.pipeline(YUV_RGB, rgb.precision(), &[]);
        let [luma, cb, cr] = planes.views();
        let resources = [
            rgb.uniform().as_entire_binding(),
            BindingResource::TextureView(luma),
            BindingResource::TextureView(cb),
            BindingResource::TextureView(cr),
            planes.matrix().as_entire_binding(),
            BindingResource::TextureView(rgb.view()),
        ];
        let bindings = bind(gpu, &pipeline, (0..).zip(&resources));
        Self::new(YUV_RGB, pipeline, bindings, rgb.size().grid((PIXEL_TILE, PIXEL_TILE), 1))
    }

    /// `rgba = round(255 * clamp(bicubic(x) + mean))`, upscaled by `s`.
    ///
    /// # Panics
    /// If layers or sizes do not fit together.
    pub fn bicubic(gpu: &Gpu, s: usize, mean: [f32; 3], x: &Activation, rgba: &Rgba) -> Self {
        assert!(rgba.size() == x.size().times(s));
        let pipeline = gpu.pipeline(
            BICUBIC,
            x.precision(),
            &[
                ("S", s as f64),
                ("MEAN_R", f64::from(mean[0])),
                ("MEAN_G", f64::from(mean[1])),
                ("MEAN_B", f64::from(mean[2])),
            ],
        );
        let resources = [
            x.uniform().as_entire_binding(),
            BindingResource::TextureView(x.view()),
            BindingResource::TextureView(rgba.view()),
        ];
        let bindings = bind(gpu, &pipeline, (0..).zip(&resources));
        Self::new(BICUBIC, pipeline, bindings, rgba.size().grid((PIXEL_TILE, PIXEL_TILE), 1))
    }

    /// Records it, with the weights of buffer `current`.
    pub(super) fn encode(&self, compute: &mut wgpu::ComputePass, current: usize) {
        compute.set_pipeline(&self.pipeline);
        compute.set_bind_group(0, &self.bindings[current], &[]);
        compute.dispatch_workgroups(self.grid[0], self.grid[1], self.grid[2]);
    }
}
