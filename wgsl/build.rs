//! Holds every shader to naga's parser and validator, so that a bad one fails the build with its file and line.

use std::{fs, io};

use naga::front::wgsl;
use naga::valid::{Capabilities, ValidationFlags, Validator};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=src/shaders");
    for entry in fs::read_dir("src/shaders")? {
        let path = entry?.path();
        let source = fs::read_to_string(&path)?;
        // As `Shader::of` derives it for 16 bits.
        let half = source.replace("storage_2d_array<rgba32float", "storage_2d_array<rgba16float");
        for source in [source, half] {
            if let Err(error) = check(&path.display().to_string(), &source) {
                for line in error.lines() {
                    println!("cargo::error={line}");
                }
            }
        }
    }
    Ok(())
}

/// No capability is granted: the baseline must be valid in every browser.
fn check(path: &str, source: &str) -> Result<(), String> {
    let module = wgsl::parse_str(source).map_err(|e| e.emit_to_string_with_path(source, path))?;
    Validator::new(ValidationFlags::all(), Capabilities::empty())
        .validate(&module)
        .map_err(|e| e.emit_to_string_with_path(source, path))?;
    Ok(())
}
