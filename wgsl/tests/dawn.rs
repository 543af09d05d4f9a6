//! A second front end: what naga accepts must pass Dawn's as well, which Chromium uses.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::path::Path;
use std::process::{Command, Output};

use hone_wgsl::{Precision, SHADERS};

/// What draws the window, in a room of its own.
const PRESENT: &str = include_str!("../../apps/src/window/present.wgsl");

/// Runs `dawn/check.mjs` on shaders; none where Node.js or Dawn is missing.
fn check(shaders: &[(String, &str)]) -> Option<Output> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dawn");
    let lacks = |what: &str| {
        println!("SKIPPED: {what}; `npm ci --ignore-scripts` in wgsl/tests/dawn brings Dawn");
        None
    };
    if !folder.join("node_modules/webgpu").is_dir() {
        return lacks("Dawn is not installed");
    }
    let files = tempfile::tempdir().unwrap();
    let paths = shaders.iter().map(|(name, source)| {
        let path = files.path().join(format!("{name}.wgsl"));
        std::fs::write(&path, source).unwrap();
        path
    });
    let output = Command::new("node").arg("check.mjs").args(paths).current_dir(&folder).output();
    match output {
        Ok(output) if output.status.code() == Some(2) => {
            lacks(String::from_utf8_lossy(&output.stderr).trim())
        }
        Ok(output) => Some(output),
        Err(_) => lacks("Node.js is not installed"),
    }
}

#[test]
fn dawn_accepts_every_shader() {
    // Cooperative matrices are an extension of wgpu's that Dawn does not know.
    let precisions = || Precision::ALL.into_iter().filter(|precision| precision.tile_side().is_none());
    let all = SHADERS.iter().flat_map(|shader| precisions().map(move |precision| (shader, precision)));
    let all: Vec<_> = all.map(|(shader, p)| (format!("{}_{p:?}", shader.name), shader.of(p))).collect();
    let present = ("present".to_owned(), PRESENT);
    let shaders: Vec<_> =
        all.iter().map(|(name, source)| (name.clone(), &**source)).chain([present]).collect();
    let Some(output) = check(&shaders) else { return };
    let [said, complaints] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(output.status.success() && complaints.is_empty(), "{complaints}");
    assert_eq!(said.matches(": accepted").count(), shaders.len(), "{said}");
}

#[test]
fn dawn_refuses_what_naga_would_take() {
    // naga lets a texture be sampled where control flow is not uniform; browsers do not.
    let source = "
@group(0) @binding(0) var t: texture_2d<f32>;
@group(0) @binding(1) var s: sampler;
@fragment fn main(@builtin(position) p: vec4<f32>) -> @location(0) vec4<f32> {
    if p.x > 4.0 { return textureSample(t, s, p.xy); }
    return vec4(0.0);
}";
    let Some(output) = check(&[("not_uniform".to_owned(), source)]) else { return };
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("not_uniform.wgsl:5:"), "{output:?}");
}
