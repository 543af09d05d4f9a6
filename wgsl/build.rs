//! Holds every shader to naga's parser and validator, so that a bad one fails the build with its file and line.

use naga::front::wgsl;
use naga::valid::{Capabilities, ValidationFlags, Validator};

#[allow(dead_code, reason = "the crate itself: what is built is what is checked")]
#[path = "src/lib.rs"]
mod shaders;

use shaders::{Precision, SHADERS};

fn main() {
    println!("cargo::rerun-if-changed=src");
    for shader in SHADERS {
        for precision in Precision::ALL {
            let path = format!("src/shaders/{}.wgsl at {precision:?}", shader.name);
            if let Err(error) = check(&path, &shader.of(precision), capabilities(precision)) {
                for line in error.lines() {
                    println!("cargo::error={line}");
                }
            }
        }
    }
}

/// None but what a precision is about: all else must be valid in every browser.
fn capabilities(precision: Precision) -> Capabilities {
    match precision {
        Precision::F32 | Precision::F16Storage => Capabilities::empty(),
        Precision::F16 => Capabilities::SHADER_FLOAT16,
        Precision::Coop8 | Precision::Coop16 => {
            Capabilities::SHADER_FLOAT16 | Capabilities::COOPERATIVE_MATRIX
        }
    }
}

fn check(path: &str, source: &str, capabilities: Capabilities) -> Result<(), String> {
    let module = wgsl::parse_str(source).map_err(|e| e.emit_to_string_with_path(source, path))?;
    Validator::new(ValidationFlags::all(), capabilities)
        .validate(&module)
        .map_err(|e| e.emit_to_string_with_path(source, path))?;
    Ok(())
}
