//! The device: its faults, its buffers and textures, its pipelines.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hone_wgsl::{Precision, Shader};
use wgpu::{Adapter, Buffer, BufferDescriptor, BufferUsages, ComputePipeline, Instance, Surface};

use super::adapter::{AdapterChoice, choose, instance};
use super::unused::Unused;
use super::{Pass, Size};
use crate::Error;

/// A frame that takes longer than this is a hang: below a user's patience.
const FRAME_TIMEOUT: Duration = Duration::from_secs(30);
/// The same in software, where the first frame also compiles, and the machine may have more to do.
const SOFTWARE_TIMEOUT: Duration = Duration::from_secs(300);

/// What a pipeline is compiled from: a shader and its override constants, bit for bit.
type PipelineKey = (&'static str, Precision, Vec<(&'static str, u64)>);

/// Where the text of shaders comes from: [`Shader::of`], but for tests of what a driver may do to it.
pub(super) type Source = fn(&Shader, Precision) -> Cow<'static, str>;

/// One open device. A clone is the same device.
#[derive(Clone)]
pub struct Gpu(Arc<Inner>);

struct Inner {
    adapter: Adapter,
    device: wgpu::Device,
    queue: wgpu::Queue,
    name: String,
    software: bool,
    /// How subgroups multiply tiles.
    tiles: Tiles,
    unused: Unused,
    source: Source,
    /// The first fault that no call returned, as wgpu reports it from inside.
    fault: Arc<Mutex<Option<String>>>,
    modules: Mutex<HashMap<(&'static str, Precision), wgpu::ShaderModule>>,
    pipelines: Mutex<HashMap<PipelineKey, ComputePipeline>>,
}

/// Compiles one of our shaders without the bounds checks and loop limits that wgpu adds to those of strangers.
#[allow(unsafe_code, reason = "the shaders are ours and are shown to stay in bounds")]
fn trusted(device: &wgpu::Device, descriptor: wgpu::ShaderModuleDescriptor) -> wgpu::ShaderModule {
    // SAFETY: the shaders are those of `hone_wgsl`, and `Pass` makes every dispatch of them and checks that layers and sizes
    // fit. Loops: `conv3x3` counts groups up to IN_GROUPS, columns to 3 and texels of a tile to 324, in steps of 1 and 64; as
    // tiles depth() times, taps to 9, texels to 108, their groups to SIDE / 4 and sums to 64 * OUT_GROUPS, in steps of 1 and
    // SUBGROUP, and emulated to SIDE * SIDE; of the others `stillness` alone has some. Divisors: S, SUB_GROUPS and constants,
    // never zero. Weights: read below row slices * (1 + 3 * IN_GROUPS) and matrix 3 * OUT_GROUPS of it, which is how
    // `LayerLayout` sizes the binding of storage memory and the texture; from uniform memory only if that fits into its
    // declared size. Workgroup memory: a tile is written below 18 * 18 and read up to row 4 * 3 + 5 and column 15 + 2. As
    // tiles, weights lie within a slice of `LayerLayout`, pixels are written below 6 * 18 * SIDE and read up to row 3 + 2 and
    // column 2 + 15, and sums, emulated products too, are 64 * 16.
    // Activations: padded to whole tiles of 16, of
    // which 8 rows are a part, and a border of 1 each side; layers below IN_GROUPS are read, and the one more for RGB where
    // `Pass` has seen it. Planes are read inside the picture, the base is clamped to it, stores are guarded by its size.
    // `stillness` loops over at most 16 by 16 pixels of the picture; its corners, (ceil(H/8) + 1, ceil(W/8) + 1) as `Kept` makes
    // them, are all that `reuse` reads.
    unsafe { device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) }
}

/// Tiles of halves that subgroups multiply and add up in f32.
#[derive(Clone, Debug, Default)]
struct Tiles {
    /// Their rows and columns.
    sides: Vec<usize>,
    /// Threads of a subgroup.
    subgroup: u32,
}

impl Tiles {
    /// Those that the adapter lists, if the size of its subgroups is one number.
    fn of(adapter: &Adapter) -> Self {
        let needed = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX | wgpu::Features::SHADER_F16;
        let info = adapter.get_info();
        let subgroup = match info.backend {
            // wgpu does not ask, and says 4 to 64: every GPU of Apple's that has simdgroup matrices has 32.
            wgpu::Backend::Metal => 32,
            _ if info.subgroup_min_size == info.subgroup_max_size => info.subgroup_min_size,
            _ => return Self::default(),
        };
        if !adapter.features().contains(needed) {
            return Self::default();
        }
        let listed = adapter.cooperative_matrix_properties();
        let has = |side: &usize| {
            listed.iter().any(|shape| {
                [shape.m_size, shape.n_size, shape.k_size] == [*side as u32; 3]
                    && shape.ab_type == wgpu::CooperativeScalarType::F16
                    && shape.cr_type == wgpu::CooperativeScalarType::F32
            })
        };
        let sides = Precision::ALL.into_iter().filter_map(Precision::tile_side);
        Self { sides: sides.filter(has).collect(), subgroup }
    }
}

/// Leave to use wgpu's cooperative matrices.
#[allow(unsafe_code, reason = "wgpu asks for it")]
fn experimental() -> wgpu::ExperimentalFeatures {
    // SAFETY: `conv3x3.coop8.wgsl` and `conv3x3.coop16.wgsl` alone use an experimental feature. They load and store whole tiles
    // within their arrays, in uniform control flow and by full subgroups, as Vulkan asks; and their results are probed before
    // they are shown.
    unsafe { wgpu::ExperimentalFeatures::enabled() }
}

/// What is behind these locks stays whole whatever a thread that held one did.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gpu {
    /// Opens an adapter: discrete before integrated before virtual, software only if allowed.
    ///
    /// # Errors
    /// [`Error::NoAdapter`], [`Error::NoSuchAdapter`]; [`Error::Open`] if it lacks what WebGPU guarantees.
    pub fn open(choice: &AdapterChoice) -> Result<Self, Error> {
        Self::on(choose(&instance(), None, choice)?, Shader::of, None)
    }

    /// Opens an adapter that can draw on `surface`, which was made with `instance`.
    ///
    /// # Errors
    /// As [`Gpu::open`].
    pub fn for_surface(
        instance: &Instance,
        surface: &Surface,
        choice: &AdapterChoice,
    ) -> Result<Self, Error> {
        Self::on(choose(instance, Some(surface), choice)?, Shader::of, None)
    }

    /// Another device of this adapter: whatever becomes of it, this one stays.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub(super) fn another(&self) -> Result<Self, Error> {
        Self::on(self.adapter().clone(), self.0.source, Some(self.0.tiles.clone()))
    }

    /// A device of this adapter that multiplies tiles by plain arithmetic, whatever the adapter has, if it has halves: to test
    /// shaders with.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn emulating_tiles(&self) -> Result<Self, Error> {
        let halves = self.lacks(Precision::F16).is_none();
        let sides = Precision::ALL.into_iter().filter_map(Precision::tile_side).filter(|_| halves).collect();
        Self::on(self.adapter().clone(), Shader::emulated, Some(Tiles { sides, subgroup: 8 }))
    }

    /// The same with shaders of `source`.
    #[cfg(test)]
    pub(super) fn with_source(&self, source: Source) -> Result<Self, Error> {
        Self::on(self.adapter().clone(), source, Some(self.0.tiles.clone()))
    }

    fn on(adapter: Adapter, source: Source, tiles: Option<Tiles>) -> Result<Self, Error> {
        let info = adapter.get_info();
        let name = format!("wgpu {}: {}", info.backend.to_str(), info.name);
        // WebGPU's guaranteed limits, but the largest buffers and textures that there are.
        let offered = adapter.limits();
        let required_limits = wgpu::Limits {
            max_buffer_size: offered.max_buffer_size,
            max_storage_buffer_binding_size: offered.max_storage_buffer_binding_size,
            max_texture_dimension_2d: offered.max_texture_dimension_2d,
            ..wgpu::Limits::default()
        };
        let mut optional = wgpu::Features::TIMESTAMP_QUERY | wgpu::Features::SHADER_F16;
        let own = Tiles::of(&adapter);
        let mut experimental_features = wgpu::ExperimentalFeatures::disabled();
        if !own.sides.is_empty() {
            optional |= wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
            experimental_features = experimental();
        }
        let descriptor = wgpu::DeviceDescriptor {
            required_limits,
            required_features: adapter.features() & optional,
            experimental_features,
            ..Default::default()
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor))
            .map_err(|e| Error::Open { adapter: name.clone(), reason: e.to_string() })?;

        let fault = Arc::new(Mutex::new(None));
        let record = |fault: &Arc<Mutex<Option<String>>>| {
            let fault = Arc::clone(fault);
            move |reason: String| {
                lock(&fault).get_or_insert(reason);
            }
        };
        let (on_error, on_loss) = (record(&fault), record(&fault));
        device.on_uncaptured_error(Arc::new(move |e: wgpu::Error| on_error(e.to_string())));
        device.set_device_lost_callback(move |reason, text| {
            on_loss(format!("device lost ({reason:?}): {text}"))
        });
        let software = info.device_type == wgpu::DeviceType::Cpu;
        let unused = Unused::new(&device);
        let (modules, pipelines) = Default::default();
        Ok(Self(Arc::new(Inner {
            adapter,
            device,
            queue,
            name,
            software,
            tiles: tiles.unwrap_or(own),
            unused,
            source,
            fault,
            modules,
            pipelines,
        })))
    }

    /// Whether it computes on the CPU.
    pub fn software(&self) -> bool {
        self.0.software
    }

    /// What the device would need to compute with this precision, and has not.
    pub fn lacks(&self, precision: Precision) -> Option<&'static str> {
        match precision {
            Precision::F32 | Precision::F16Storage => None,
            Precision::F16 => (!self.device().features().contains(wgpu::Features::SHADER_F16))
                .then_some("16-bit arithmetic in shaders"),
            Precision::Coop8 => {
                (!self.multiplies(8)).then_some("cooperative matrices of 8x8, f16 added up in f32")
            }
            Precision::Coop16 => {
                (!self.multiplies(16)).then_some("cooperative matrices of 16x16, f16 added up in f32")
            }
        }
    }

    fn multiplies(&self, side: usize) -> bool {
        self.0.tiles.sides.contains(&side)
    }

    /// Threads of a subgroup that multiplies tiles.
    pub(super) fn subgroup(&self) -> u32 {
        self.0.tiles.subgroup.max(1)
    }

    /// A texture of one texel, to bind where a shader has a binding that it does not use.
    pub(super) fn unused(&self) -> &Unused {
        &self.0.unused
    }

    /// Backend and adapter, such as `wgpu vulkan: NVIDIA GeForce RTX 4060`.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The adapter, to configure a surface with.
    pub fn adapter(&self) -> &Adapter {
        &self.0.adapter
    }

    /// The device. What is made on it may fail with it: see [`Gpu::check`].
    pub fn device(&self) -> &wgpu::Device {
        &self.0.device
    }

    /// The queue, in whose order everything happens.
    pub fn queue(&self) -> &wgpu::Queue {
        &self.0.queue
    }

    /// # Errors
    /// [`Error::Lost`] once the device has failed in any way.
    pub fn check(&self) -> Result<(), Error> {
        match &*lock(&self.0.fault) {
            None => Ok(()),
            Some(reason) => Err(self.lost(reason.clone())),
        }
    }

    pub(super) fn lost(&self, reason: String) -> Error {
        Error::Lost { adapter: self.name().to_owned(), reason }
    }

    /// Gives the device up: every later call on it fails with [`Error::Lost`].
    pub fn destroy(&self) {
        self.device().destroy();
    }

    /// Whether the device takes so many bytes at once, as a texture or as a buffer that is no storage of a shader's.
    ///
    /// # Errors
    /// [`Error::Buffer`] over its limit.
    pub(super) fn fits(&self, bytes: u64) -> Result<(), Error> {
        self.within(bytes, self.device().limits().max_buffer_size)
    }

    fn within(&self, bytes: u64, limit: u64) -> Result<(), Error> {
        if bytes > limit {
            return Err(Error::Buffer { adapter: self.name().to_owned(), bytes, limit });
        }
        Ok(())
    }

    /// # Errors
    /// [`Error::Texture`] for one with more rows, columns or layers than the device has.
    pub(super) fn fits_sides(&self, size: Size, layers: usize) -> Result<(), Error> {
        let limits = self.device().limits();
        for (side, limit) in
            [(size.h.max(size.w), limits.max_texture_dimension_2d), (layers, limits.max_texture_array_layers)]
        {
            if side > limit as usize {
                let adapter = self.name().to_owned();
                return Err(Error::Texture { adapter, side, limit: limit as usize });
            }
        }
        Ok(())
    }

    /// A zeroed buffer.
    ///
    /// # Errors
    /// [`Error::Buffer`] over the device's limit.
    pub(super) fn buffer(&self, bytes: u64, usage: BufferUsages) -> Result<Buffer, Error> {
        self.fits(bytes)?;
        if usage.contains(BufferUsages::STORAGE) {
            self.within(bytes, self.device().limits().max_storage_buffer_binding_size)?;
        }
        let descriptor = BufferDescriptor { label: None, size: bytes, usage, mapped_at_creation: false };
        Ok(self.device().create_buffer(&descriptor))
    }

    /// A uniform that holds `data`.
    pub(super) fn uniform(&self, data: &[u8]) -> Result<Buffer, Error> {
        let buffer = self.buffer(data.len() as u64, BufferUsages::UNIFORM | BufferUsages::COPY_DST)?;
        self.queue().write_buffer(&buffer, 0, data);
        Ok(buffer)
    }

    /// The pipeline of a shader with these override constants, compiled once.
    pub(super) fn pipeline(
        &self,
        shader: Shader,
        precision: Precision,
        constants: &[(&'static str, f64)],
    ) -> ComputePipeline {
        let bits = constants.iter().map(|&(name, v)| (name, v.to_bits())).collect();
        let mut pipelines = lock(&self.0.pipelines);
        let pipeline = pipelines.entry((shader.name, precision, bits)).or_insert_with(|| {
            let mut modules = lock(&self.0.modules);
            let module = modules.entry((shader.name, precision)).or_insert_with(|| {
                let source = wgpu::ShaderSource::Wgsl((self.0.source)(&shader, precision));
                let descriptor = wgpu::ShaderModuleDescriptor { label: Some(shader.name), source };
                trusted(self.device(), descriptor)
            });
            self.device().create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(shader.name),
                layout: None,
                module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants,
                    // Each shader writes a tile before it reads it.
                    zero_initialize_workgroup_memory: false,
                },
                cache: None,
            })
        });
        pipeline.clone()
    }

    /// Runs dispatches in order and waits for them.
    ///
    /// # Errors
    /// [`Error::Lost`] if the device failed.
    pub fn run(&self, passes: &[&Pass]) -> Result<(), Error> {
        let mut encoder = self.device().create_command_encoder(&Default::default());
        {
            let mut compute = encoder.begin_compute_pass(&Default::default());
            for pass in passes {
                pass.encode(&mut compute, 0);
            }
        }
        let submission = self.queue().submit([encoder.finish()]);
        self.wait(submission)
    }

    /// Waits for a submission and runs its callbacks.
    ///
    /// # Errors
    /// [`Error::Lost`] if the device failed or does not answer.
    pub(super) fn wait(&self, submission: wgpu::SubmissionIndex) -> Result<(), Error> {
        let timeout = if self.software() { SOFTWARE_TIMEOUT } else { FRAME_TIMEOUT };
        let wait = wgpu::PollType::Wait { submission_index: Some(submission), timeout: Some(timeout) };
        let polled = self.device().poll(wait);
        self.check()?;
        polled.map(|_| ()).map_err(|e| self.lost(e.to_string()))
    }

    /// Copies a whole buffer back.
    ///
    /// # Errors
    /// [`Error::Lost`] if the device failed.
    pub(super) fn read(&self, buffer: &Buffer) -> Result<Vec<u8>, Error> {
        let size = buffer.size();
        let mapped = self.buffer(size, BufferUsages::COPY_DST | BufferUsages::MAP_READ)?;
        let mut encoder = self.device().create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(buffer, 0, &mapped, 0, size);
        let submission = self.queue().submit([encoder.finish()]);
        mapped.map_async(wgpu::MapMode::Read, .., |_| ());
        self.wait(submission)?;
        let view = mapped.get_mapped_range(..).map_err(|e| self.lost(e.to_string()))?;
        Ok(view.to_vec())
    }
}

/// A flat texture; its sides are within the device's limits.
pub(super) fn texture(
    device: &wgpu::Device,
    Size { h, w }: Size,
    format: wgpu::TextureFormat,
    usage: wgpu::TextureUsages,
) -> wgpu::Texture {
    device.create_texture(&wgpu::TextureDescriptor {
        label: None,
        size: wgpu::Extent3d { width: w as u32, height: h as u32, depth_or_array_layers: 1 },
        mip_level_count: 1,
        sample_count: 1,
        dimension: wgpu::TextureDimension::D2,
        format,
        usage,
        view_formats: &[],
    })
}
