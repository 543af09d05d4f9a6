//! CUDA's compilers, from PyPI's wheels of them: no CUDA installation, no change outside the target folder.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::root;

/// A wheel at one version, and the folder inside it that holds what we use.
pub struct Wheel {
    package: &'static str,
    version: &'static str,
    folder: &'static str,
}

/// CUDA C++ to PTX. By NVIDIA's tables PTX of CUDA 12.0 loads on drivers from R525 on.
pub const NVRTC: Wheel =
    Wheel { package: "nvidia-cuda-nvrtc-cu12", version: "12.0.140", folder: "nvidia/cuda_nvrtc/lib" };
/// PTX to machine code, like the driver does it. The last one of CUDA 12; it reads older PTX.
pub const PTXAS: Wheel =
    Wheel { package: "nvidia-cuda-nvcc-cu12", version: "12.9.86", folder: "nvidia/cuda_nvcc/bin" };
/// Machine code to text.
pub const NVDISASM: Wheel =
    Wheel { package: "nvidia-cuda-nvdisasm", version: "13.2.51", folder: "nvidia/cu13/bin" };

/// The target folder.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

impl Wheel {
    /// The version of what is in it.
    pub fn version(&self) -> &'static str {
        self.version
    }

    /// The wheel's folder on this machine, with pip's help at the first call.
    ///
    /// # Errors
    /// Without python3 and pip, or if the package cannot be fetched.
    pub fn provide(&self) -> Result<PathBuf> {
        let unpacked = target().join("cuda-tools").join(format!("{}-{}", self.package, self.version));
        let folder = unpacked.join(self.folder);
        if folder.is_dir() {
            return Ok(folder);
        }
        let wanted = format!("{}=={}", self.package, self.version);
        println!("== pip install {wanted}");
        // Into a folder of this process's own, then renamed: another run sees all of it or nothing.
        let partial = unpacked.with_extension(format!("{}.partial", std::process::id()));
        let output = Command::new("python3")
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--root-user-action=ignore",
            ])
            .args(["--no-deps", "--only-binary=:all:", "--target"])
            .arg(&partial)
            .arg(&wanted)
            .output()
            .with_context(|| format!("python3 with pip is needed to fetch {wanted} from PyPI"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("pip cannot fetch {wanted} (is there pip, is there a network?): {}", said.trim());
        }
        if std::fs::rename(&partial, &unpacked).is_err() {
            // Another run was first.
            std::fs::remove_dir_all(&partial)?;
        }
        ensure!(folder.is_dir(), "{wanted} holds no {}", self.folder);
        Ok(folder)
    }
}
