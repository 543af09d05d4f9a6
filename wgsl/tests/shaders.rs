//! What a shader file must be: listed, described and translatable to every platform's language.

use std::collections::BTreeSet;
use std::{fs, path::Path};

use hone_wgsl::{CONV3X3, Precision, SHADERS, Shader};
use naga::back::{self, PipelineConstants, pipeline_constants::process_overrides};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};

/// What draws the window, in a room of its own: it has to pass the same gates.
const PRESENT: &str = include_str!("../../apps/src/window/present.wgsl");

#[test]
fn the_table_lists_every_file() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/shaders");
    let files: BTreeSet<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .filter(|stem| !stem.contains('.')) // a part of another
        .collect();
    let table: BTreeSet<String> = SHADERS.iter().map(|s| s.name.to_owned()).collect();
    assert_eq!(files, table);
}

#[test]
fn every_header_is_complete_and_names_files_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for Shader { name, source } in SHADERS {
        let lines: Vec<&str> = source.lines().collect();
        assert!(lines[0].starts_with(&format!("// {name}: ")), "{name}: {}", lines[0]);
        for (line, key) in lines[1..].iter().zip(["Shapes", "Launch", "Limits", "Cost", "Oracle"]) {
            let rest = line.strip_prefix(&format!("// {key}"));
            assert!(rest.is_some_and(|r| r.starts_with("  ") && r.len() > 10), "{name}: {key}: {line}");
        }
        let (oracle, cases) =
            lines[5].trim_start_matches("// Oracle").split_once("| Cases").expect("oracle and cases");
        let oracle = oracle.split(',').next().unwrap().trim();
        if oracle.starts_with("none: ") {
            assert!(root.join(cases.trim()).is_file(), "{name}: no file {cases}");
            continue;
        }
        for path in [oracle, cases.trim()] {
            assert!(root.join(path).is_file(), "{name}: no file {path}");
            assert_eq!(Path::new(path).file_stem().unwrap().to_str(), Some(*name));
        }
    }
}

#[test]
fn a_precision_enables_its_own_extensions_and_no_other() {
    for (shader, precision) in all() {
        let source = shader.of(precision);
        let enabled: Vec<&str> = source.lines().filter_map(|line| line.strip_prefix("enable ")).collect();
        let expected = if *shader == CONV3X3 { extensions(precision) } else { &[] };
        assert_eq!(enabled, expected, "{} {precision:?}", shader.name);
        assert!(!source.lines().any(|line| line.starts_with("requires ")), "{}", shader.name);
    }
}

#[test]
fn emulated_tiles_take_no_more_than_f16() {
    for (shader, precision) in all() {
        let source = shader.emulated(precision);
        let module = naga::front::wgsl::parse_str(&source).expect("parses");
        let needed =
            if precision == Precision::F32 { Capabilities::empty() } else { Capabilities::SHADER_FLOAT16 };
        Validator::new(ValidationFlags::all(), needed).validate(&module).expect("is valid");
        assert!(source == shader.of(precision) || precision.tile_side().is_some(), "{}", shader.name);
    }
}

fn all() -> impl Iterator<Item = (&'static Shader, Precision)> {
    SHADERS.iter().flat_map(|shader| Precision::ALL.map(|precision| (shader, precision)))
}

fn extensions(precision: Precision) -> &'static [&'static str] {
    match precision {
        Precision::F32 | Precision::F16Storage => &[],
        Precision::F16 => &["f16;"],
        Precision::Coop8 | Precision::Coop16 => &["wgpu_cooperative_matrix;", "f16;"],
    }
}

fn capabilities(precision: Precision) -> Capabilities {
    match precision {
        Precision::F32 | Precision::F16Storage => Capabilities::empty(),
        Precision::F16 => Capabilities::SHADER_FLOAT16,
        Precision::Coop8 | Precision::Coop16 => {
            Capabilities::SHADER_FLOAT16 | Capabilities::COOPERATIVE_MATRIX
        }
    }
}

/// Values like those of `live-4x16-x2`; both truths of each flag are tried.
fn constants(flag: bool) -> PipelineConstants {
    let flag = f64::from(u8::from(flag));
    [
        ("IN_GROUPS", 4.0),
        ("OUT_GROUPS", 3.0),
        ("SUB_GROUPS", 1.0),
        ("SCALE", 0.1),
        ("S", 2.0),
        ("ROUNDS", 2.0),
        ("STILL_CODES", 4.0),
        ("MEAN_R", 0.4),
        ("MEAN_G", 0.4),
        ("MEAN_B", 0.4),
        ("RELU", flag),
        ("ADD", flag),
        ("HEAD", flag),
        ("KEEP_RGB", 1.0 + flag),
        ("TAIL", flag),
        ("BASE", flag),
        ("TILED", 1.0 - flag),
        ("TALL", flag),
        ("WEIGHTS", 2.0 * flag),
        ("SUBGROUP", 32.0),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

fn compiled(
    shader: &Shader,
    precision: Precision,
    constants: &PipelineConstants,
) -> (naga::Module, ModuleInfo) {
    let module = naga::front::wgsl::parse_str(&shader.of(precision)).expect("parses");
    let validate = |module: &naga::Module| {
        Validator::new(ValidationFlags::all(), capabilities(precision)).validate(module).expect("is valid")
    };
    let info = validate(&module);
    let declared = |name: &String| module.overrides.iter().any(|(_, o)| o.name.as_ref() == Some(name));
    let constants =
        constants.iter().filter(|(name, _)| declared(name)).map(|(n, v)| (n.clone(), *v)).collect();
    let (module, info) = process_overrides(&module, &info, None, &constants).expect("takes its constants");
    (module.into_owned(), info.into_owned())
}

#[test]
fn every_shader_translates_to_spirv_msl_and_hlsl() {
    for (shader, precision) in all() {
        for flag in [false, true] {
            let (module, info) = compiled(shader, precision, &constants(flag));
            assert_spirv(&module, &info);
            // Metal has those of 8x8 alone,
            if precision != Precision::Coop16 {
                assert!(msl(&module, &info, precision).contains("kernel void"), "{}", shader.name);
            }
            // and Direct3D, as naga translates to it, none.
            if precision.tile_side().is_none() {
                assert!(hlsl(&module, &info).contains("[numthreads("), "{}", shader.name);
            }
        }
    }
}

#[test]
fn what_draws_the_window_translates_too() {
    let module = naga::front::wgsl::parse_str(PRESENT).expect("parses");
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::empty());
    let info = validator.validate(&module).expect("is valid without any extension");
    assert_spirv(&module, &info);
    let (msl, hlsl) = (msl(&module, &info, Precision::F32), hlsl(&module, &info));
    assert!(msl.contains("vertex vertex_Output") && msl.contains("fragment fragment_Output"), "{msl}");
    assert!(hlsl.contains("SV_Position") && hlsl.contains("SV_Target0"), "{hlsl}");
}

fn assert_spirv(module: &naga::Module, info: &ModuleInfo) {
    let spirv = back::spv::write_vec(module, info, &back::spv::Options::default(), None);
    let spirv = spirv.expect("translates to SPIR-V");
    assert_eq!(spirv[0], 0x0723_0203, "SPIR-V's magic number");
}

fn msl(module: &naga::Module, info: &ModuleInfo, precision: Precision) -> String {
    // Simdgroup matrices came with Metal 2.3.
    let options = back::msl::Options {
        lang_version: if precision.tile_side().is_some() { (2, 3) } else { (1, 0) },
        fake_missing_bindings: true,
        ..Default::default()
    };
    let pipeline = back::msl::PipelineOptions::default();
    back::msl::write_string(module, info, &options, &pipeline).expect("translates to MSL").0
}

fn hlsl(module: &naga::Module, info: &ModuleInfo) -> String {
    let mut hlsl = String::new();
    let options = back::hlsl::Options { fake_missing_bindings: true, ..Default::default() };
    let pipeline = back::hlsl::PipelineOptions::default();
    let mut writer = back::hlsl::Writer::new(&mut hlsl, &options, &pipeline);
    writer.write(module, info, None).expect("translates to HLSL");
    hlsl
}
