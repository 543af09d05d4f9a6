//! One folder for a machine with a GPU and neither Rust nor a network: parity tests, benchmarks of kernels and of the
//! viewer, peers.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::{cargo, root};

/// Largest bundle: what is carried by hand or over a thin link.
const BYTES_MAX: u64 = 64 << 20;
/// The stand-in for the driver, as cargo names it.
const STANDIN: &str = "libhone_ptxsim_libcuda.so";
/// Vulkan's loader: drivers come without it. Its licence is Apache-2.0.
const LOADER: &str = "libvulkan.so.1";
/// Where Debian, Fedora and Arch keep it.
const LOADER_FOLDERS: &[&str] = &["/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib"];
/// Runs all of it.
const RUN: &str = include_str!("gpu_bundle.sh");

/// Builds `target/gpu-bundle` and says what is in it.
///
/// # Errors
/// If something cannot be built or copied, or the folder is too large.
pub fn make() -> Result<()> {
    let folder = root().join("target/gpu-bundle");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    for sub in ["tests", "standin", "peers"] {
        std::fs::create_dir_all(folder.join(sub))?;
    }
    let tests = build(&["test", "--release", "-p", "hone-parity", "--test", "cuda", "--no-run"])?;
    let Some((_, test)) = tests.first() else { bail!("cargo built no tests") };
    for (name, executable) in &tests {
        copy(executable, &folder.join("tests").join(name))?;
    }
    let parity = build(&["test", "--release", "-p", "hone-parity", "--test", "parity", "--no-run"])?;
    let Some((_, shaders)) = parity.first() else { bail!("cargo built no tests of shaders") };
    copy(shaders, &folder.join("shaders"))?;
    // Cargo leaves it beside the test that depends on it.
    let standin = test.with_file_name(STANDIN);
    copy(&standin, &folder.join("standin/libcuda.so.1"))?;
    // Tests look for it above their own folder.
    copy(&standin, &folder.join(STANDIN))?;
    let benches = build(&["bench", "-p", "hone-kernels", "--bench", "kernels", "--no-run"])?;
    let Some((_, bench)) = benches.first() else { bail!("cargo built no benchmark") };
    copy(bench, &folder.join("kernels"))?;
    copy(&root().join("kernels/benches/peers/step.py"), &folder.join("peers/step.py"))?;
    let tools = build(&["build", "--release", "-p", "hone-apps", "--bin", "hone"])?;
    let Some((_, hone)) = tools.first() else { bail!("cargo built no hone") };
    copy(hone, &folder.join("hone"))?;
    match LOADER_FOLDERS.iter().map(|at| Path::new(at).join(LOADER)).find(|path| path.is_file()) {
        Some(loader) => {
            std::fs::create_dir_all(folder.join("vulkan"))?;
            copy(&loader, &folder.join("vulkan").join(LOADER))?;
        }
        None => println!("no {LOADER} on this machine: bring one along in vulkan/, or have it on the other"),
    }
    let run = folder.join("run.sh");
    std::fs::write(&run, RUN)?;
    executable(&run)?;
    let bytes = size(&folder)?;
    println!("{}: {} tests, {:.1} MiB", folder.display(), tests.len(), bytes as f64 / f64::from(1 << 20));
    ensure!(bytes <= BYTES_MAX, "more than {} MiB", BYTES_MAX >> 20);
    println!("on the machine with the GPU: sh run.sh, which fills a folder results/");
    Ok(())
}

/// Runs cargo and gives the names and executables that it built.
fn build(arguments: &[&str]) -> Result<Vec<(String, PathBuf)>> {
    println!("== cargo {}", arguments.join(" "));
    let output = cargo()
        .args(arguments)
        .arg("--message-format=json-render-diagnostics")
        // Symbols are most of an executable.
        .envs([("CARGO_PROFILE_RELEASE_STRIP", "symbols"), ("CARGO_PROFILE_BENCH_STRIP", "symbols")])
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    ensure!(output.status.success(), "cargo {}", arguments.join(" "));
    let messages = output.stdout.split(|byte| *byte == b'\n');
    Ok(messages.filter_map(|line| built(&serde_json::from_slice(line).ok()?)).collect())
}

/// Name and place of the executable that a message of cargo is about.
fn built(message: &Value) -> Option<(String, PathBuf)> {
    let executable = message.get("executable")?.as_str()?;
    Some((message.get("target")?.get("name")?.as_str()?.to_owned(), executable.into()))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::copy(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

#[cfg(unix)]
fn executable(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    Ok(std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?)
}

#[cfg(not(unix))]
fn executable(_: &Path) -> Result<()> {
    Ok(())
}

fn size(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in folder.read_dir()? {
        let entry = entry?;
        bytes += if entry.file_type()?.is_dir() { size(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executables_are_found_among_the_messages() {
        let message = |text: &str| built(&serde_json::from_str(text).unwrap());
        let artifact =
            r#"{"reason":"compiler-artifact","target":{"name":"loss"},"executable":"/t/deps/loss-1"}"#;
        assert_eq!(message(artifact), Some(("loss".into(), "/t/deps/loss-1".into())));
        assert_eq!(
            message(r#"{"reason":"compiler-artifact","target":{"name":"a"},"executable":null}"#),
            None
        );
        assert_eq!(message(r#"{"reason":"build-finished","success":true}"#), None);
    }
}
