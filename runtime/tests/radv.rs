//! What AMD's compiler makes of the shaders, without a GPU: registers, occupancy and instructions, by the null device of
//! Mesa's RADV. A gate against a change that spills or halves the occupancy where nobody sees it.
//!
//! `request_device` of wgpu fails on that device, so the pipelines are made through Vulkan itself, from the SPIR-V that naga
//! writes with the checks off, as for shaders that the runtime trusts.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use ash::vk;
use hone_wgsl::{BICUBIC, CONV3X3, Precision, REUSE, STILLNESS, Shader, YUV_RGB};
use naga::back::spv;
use naga::valid::{Capabilities, ValidationFlags, Validator};
use naga::{AddressSpace, ImageClass, TypeInner};

/// Where Debian and others put the driver's manifest.
const MANIFEST: &str = "/usr/share/vulkan/icd.d/radeon_icd.x86_64.json";
/// RDNA 3 and RDNA 2; the first by its name before and after Mesa 23.
const FAMILIES: [&[&str]; 2] = [&["gfx1100", "navi31"], &["navi21"]];

/// A pipeline, and what it may take.
struct Case {
    name: &'static str,
    shader: Shader,
    /// What differs from [`BODY`].
    constants: &'static [(&'static str, f64)],
    /// Vector registers of a thread.
    registers_max: u64,
    /// Waves that a SIMD holds.
    waves_min: u64,
    /// Of the whole program, 15% above what Mesa 22.3 needs.
    instructions_max: u64,
    /// The same with sums in 16 bits, where an instruction multiplies and adds twice.
    f16_instructions_max: u64,
}

/// A convolution inside a network with 16 channels, as GPUs run it.
const BODY: [(&str, f64); 18] = [
    ("IN_GROUPS", 4.0),
    ("OUT_GROUPS", 4.0),
    ("SUB_GROUPS", 4.0),
    ("S", 1.0),
    ("RELU", 1.0),
    ("ADD", 0.0),
    ("SCALE", 1.0),
    ("HEAD", 0.0),
    ("KEEP_RGB", 0.0),
    ("TAIL", 0.0),
    ("BASE", 0.0),
    ("MEAN_R", 0.4),
    ("MEAN_G", 0.4),
    ("MEAN_B", 0.4),
    ("TILED", 1.0),
    ("TALL", 0.0),
    ("WEIGHTS", 0.0),
    ("SUBGROUP", 64.0),
];

#[rustfmt::skip]
const CASES: [Case; 11] = [
    Case { name: "16 to 16", shader: CONV3X3, constants: &[], registers_max: 120, waves_min: 8, instructions_max: 3850, f16_instructions_max: 2650 },
    Case { name: "32 to 32, add", shader: CONV3X3, constants: &[("IN_GROUPS", 8.0), ("SUB_GROUPS", 8.0), ("RELU", 0.0), ("ADD", 1.0)], registers_max: 120, waves_min: 8, instructions_max: 3950, f16_instructions_max: 2750 },
    Case { name: "64 to 64", shader: CONV3X3, constants: &[("IN_GROUPS", 16.0), ("SUB_GROUPS", 16.0), ("WEIGHTS", 1.0)], registers_max: 120, waves_min: 8, instructions_max: 3850, f16_instructions_max: 2650 },
    Case { name: "head", shader: CONV3X3, constants: &[("IN_GROUPS", 1.0), ("HEAD", 1.0), ("KEEP_RGB", 1.0)], registers_max: 120, waves_min: 8, instructions_max: 2050, f16_instructions_max: 1650 },
    Case { name: "tail x2", shader: CONV3X3, constants: &[("SUB_GROUPS", 1.0), ("S", 2.0), ("RELU", 0.0), ("TAIL", 1.0), ("BASE", 1.0)], registers_max: 120, waves_min: 8, instructions_max: 6750, f16_instructions_max: 6200 },
    Case { name: "tail x3", shader: CONV3X3, constants: &[("OUT_GROUPS", 3.0), ("SUB_GROUPS", 1.0), ("S", 3.0), ("RELU", 0.0), ("TAIL", 1.0), ("BASE", 1.0)], registers_max: 120, waves_min: 8, instructions_max: 5050, f16_instructions_max: 4700 },
    Case { name: "tail x4", shader: CONV3X3, constants: &[("SUB_GROUPS", 1.0), ("S", 4.0), ("RELU", 0.0), ("TAIL", 1.0), ("BASE", 1.0)], registers_max: 120, waves_min: 8, instructions_max: 6750, f16_instructions_max: 6200 },
    Case { name: "planes", shader: YUV_RGB, constants: &[], registers_max: 32, waves_min: 16, instructions_max: 120, f16_instructions_max: 120 },
    Case { name: "x2", shader: BICUBIC, constants: &[("S", 2.0)], registers_max: 64, waves_min: 16, instructions_max: 260, f16_instructions_max: 260 },
    Case { name: "cells", shader: STILLNESS, constants: &[("STILL_CODES", 4.0)], registers_max: 32, waves_min: 16, instructions_max: 72, f16_instructions_max: 72 },
    Case { name: "x2", shader: REUSE, constants: &[("S", 2.0)], registers_max: 64, waves_min: 16, instructions_max: 500, f16_instructions_max: 500 },
];

/// The driver reads its settings from the environment, so it gets a process of its own: this program, with the next test.
#[test]
fn shaders_fit_amd_gpus() {
    if !Path::new(MANIFEST).exists() {
        println!("SKIPPED: no RADV (Debian: mesa-vulkan-drivers)");
        return;
    }
    for names in FAMILIES {
        let outputs = names.iter().map(|name| {
            let output = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "compile_for_one_family", "--ignored", "--nocapture"])
                .env("RADV_FORCE_FAMILY", name)
                .envs([("VK_DRIVER_FILES", MANIFEST), ("VK_ICD_FILENAMES", MANIFEST)])
                .env("MESA_SHADER_CACHE_DISABLE", "true")
                .output()
                .unwrap();
            let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
            (output.status.success(), said.concat())
        });
        let outputs: Vec<(bool, String)> = outputs.collect();
        let Some((success, said)) = outputs.iter().find(|(_, said)| !said.contains("Unknown family")) else {
            println!("SKIPPED: RADV does not know {names:?}");
            continue;
        };
        assert!(success, "{said}");
        said.lines().filter(|line| line.contains("registers")).for_each(|line| println!("{line}"));
    }
}

#[test]
#[ignore = "the process of the test before"]
fn compile_for_one_family() {
    let gpu = NullGpu::open();
    // RADV of Mesa 22.3 has no cooperative matrices; later ones have those of 16x16 on RDNA 3.
    let has = |precision: &Precision| match precision.tile_side() {
        None => true,
        Some(side) => side == 16 && gpu.multiplies_tiles,
    };
    let precisions = || Precision::ALL.into_iter().filter(has);
    for (case, precision) in
        CASES.iter().flat_map(|case| precisions().map(move |precision| (case, precision)))
    {
        let &Case { shader, constants, registers_max, waves_min, .. } = case;
        let (registers_max, waves_min, instructions_max) = match precision {
            Precision::F32 | Precision::F16Storage => (registers_max, waves_min, case.instructions_max),
            Precision::F16 => (registers_max, waves_min, case.f16_instructions_max),
            // Sums of all of a subgroup's pixels and the factors of several taps are in registers at a time.
            Precision::Coop8 | Precision::Coop16 => (256, 4, case.f16_instructions_max),
        };
        let found = gpu.statistics(&Program::new(&shader.of(precision), constants));
        let of = |name: &str| *found.get(name).unwrap_or_else(|| panic!("no {name} in {found:?}"));
        let (registers, waves, instructions) = (of("VGPRs"), of("Subgroups per SIMD"), of("Instructions"));
        let name = format!("{}: {} {}, {precision:?}", gpu.name, shader.name, case.name);
        println!("{name}: {registers} registers, {waves} waves, {instructions} instructions");
        assert_eq!(of("Spilled VGPRs") + of("Spilled SGPRs") + of("Scratch size"), 0, "{name} spills");
        assert!(registers <= registers_max, "{name}: {registers} registers, allowed {registers_max}");
        assert!(waves >= waves_min, "{name}: {waves} waves, needed {waves_min}");
        assert!(
            instructions <= instructions_max,
            "{name}: {instructions} instructions, allowed {instructions_max}"
        );
    }
}

/// SPIR-V, and what it binds.
struct Program {
    code: Vec<u32>,
    bindings: Vec<(u32, vk::DescriptorType)>,
}

impl Program {
    fn new(source: &str, constants: &[(&str, f64)]) -> Self {
        let module = naga::front::wgsl::parse_str(source).unwrap();
        let info = Validator::new(ValidationFlags::all(), Capabilities::all()).validate(&module).unwrap();
        let declared = |name: &str| module.overrides.iter().any(|(_, o)| o.name.as_deref() == Some(name));
        // The later of two counts.
        let constants = BODY.iter().chain(constants).filter(|(name, _)| declared(name));
        let constants = constants.map(|(name, value)| ((*name).to_owned(), *value)).collect();
        let (module, info) =
            naga::back::pipeline_constants::process_overrides(&module, &info, None, &constants).unwrap();
        let unchecked = naga::proc::BoundsCheckPolicy::Unchecked;
        let options = spv::Options {
            lang_version: (1, 3),
            bounds_check_policies: naga::proc::BoundsCheckPolicies {
                index: unchecked,
                buffer: unchecked,
                image_load: unchecked,
                binding_array: unchecked,
            },
            zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
            force_loop_bounding: false,
            ..Default::default()
        };
        let entry =
            spv::PipelineOptions { shader_stage: naga::ShaderStage::Compute, entry_point: "main".into() };
        let code = spv::write_vec(&module, &info, &options, Some(&entry)).unwrap();
        let bindings = module.global_variables.iter().filter_map(|(_, variable)| {
            let kind = match (variable.space, &module.types[variable.ty].inner) {
                (AddressSpace::Uniform, _) => vk::DescriptorType::UNIFORM_BUFFER,
                (AddressSpace::Storage { .. }, _) => vk::DescriptorType::STORAGE_BUFFER,
                (_, TypeInner::Image { class: ImageClass::Storage { .. }, .. }) => {
                    vk::DescriptorType::STORAGE_IMAGE
                }
                _ => vk::DescriptorType::SAMPLED_IMAGE,
            };
            Some((variable.binding.as_ref()?.binding, kind))
        });
        let bindings = bindings.collect();
        Self { code, bindings }
    }
}

/// A device that compiles and does nothing else.
struct NullGpu {
    name: String,
    multiplies_tiles: bool,
    device: ash::Device,
    executables: ash::khr::pipeline_executable_properties::Device,
    _instance: ash::Instance,
    _entry: ash::Entry,
}

impl NullGpu {
    fn open() -> Self {
        // SAFETY: the system's Vulkan loader; every structure below lives through the call that reads it, and nothing is
        // destroyed before the process ends.
        unsafe {
            let entry = ash::Entry::load().unwrap();
            let application = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_3);
            let instance = entry
                .create_instance(&vk::InstanceCreateInfo::default().application_info(&application), None)
                .unwrap();
            let physical = instance.enumerate_physical_devices().unwrap()[0];
            let properties = instance.get_physical_device_properties(physical);
            let name = properties.device_name_as_c_str().unwrap().to_string_lossy().into_owned();
            let mut executables = vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default()
                .pipeline_executable_info(true);
            let mut halves = vk::PhysicalDeviceVulkan12Features::default()
                .shader_float16(true)
                .vulkan_memory_model(true)
                .vulkan_memory_model_device_scope(true);
            let mut stored_halves = vk::PhysicalDeviceVulkan11Features::default()
                .storage_buffer16_bit_access(true)
                .uniform_and_storage_buffer16_bit_access(true);
            let mut tiles =
                vk::PhysicalDeviceCooperativeMatrixFeaturesKHR::default().cooperative_matrix(true);
            let listed = instance.enumerate_device_extension_properties(physical).unwrap();
            let tiles_name = ash::khr::cooperative_matrix::NAME;
            let multiplies_tiles = listed.iter().any(|e| e.extension_name_as_c_str() == Ok(tiles_name));
            let queues = [vk::DeviceQueueCreateInfo::default().queue_priorities(&[1.0])];
            let mut extensions = vec![ash::khr::pipeline_executable_properties::NAME.as_ptr()];
            let mut info = vk::DeviceCreateInfo::default()
                .queue_create_infos(&queues)
                .push_next(&mut executables)
                .push_next(&mut halves)
                .push_next(&mut stored_halves);
            if multiplies_tiles {
                extensions.push(tiles_name.as_ptr());
                info = info.push_next(&mut tiles);
            }
            let info = info.enabled_extension_names(&extensions);
            let device = instance.create_device(physical, &info, None).unwrap();
            let executables = ash::khr::pipeline_executable_properties::Device::new(&instance, &device);
            Self { name, multiplies_tiles, device, executables, _instance: instance, _entry: entry }
        }
    }

    /// What the compiler tells of a pipeline.
    fn statistics(&self, program: &Program) -> BTreeMap<String, u64> {
        let device = &self.device;
        let bindings: Vec<_> = program
            .bindings
            .iter()
            .map(|&(binding, kind)| {
                vk::DescriptorSetLayoutBinding::default()
                    .binding(binding)
                    .descriptor_type(kind)
                    .descriptor_count(1)
                    .stage_flags(vk::ShaderStageFlags::COMPUTE)
            })
            .collect();
        // SAFETY: valid SPIR-V from naga, a layout with just its bindings, and structures that live through their calls.
        // RADV gives all of its statistics as u64.
        unsafe {
            let module = vk::ShaderModuleCreateInfo::default().code(&program.code);
            let module = device.create_shader_module(&module, None).unwrap();
            let set = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings);
            let set = [device.create_descriptor_set_layout(&set, None).unwrap()];
            let layout = vk::PipelineLayoutCreateInfo::default().set_layouts(&set);
            let layout = device.create_pipeline_layout(&layout, None).unwrap();
            let stage = vk::PipelineShaderStageCreateInfo::default()
                .stage(vk::ShaderStageFlags::COMPUTE)
                .module(module)
                .name(c"main");
            let info = [vk::ComputePipelineCreateInfo::default()
                .flags(vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR)
                .stage(stage)
                .layout(layout)];
            let pipelines = device.create_compute_pipelines(vk::PipelineCache::null(), &info, None).unwrap();
            let executable = vk::PipelineExecutableInfoKHR::default().pipeline(pipelines[0]);
            let statistics = self.executables.get_pipeline_executable_statistics(&executable).unwrap();
            statistics
                .iter()
                .map(|s| (s.name_as_c_str().unwrap().to_string_lossy().into_owned(), s.value.u64))
                .collect()
        }
    }
}
