//! CUDA: the kernels, their launchers and the training backend made of them.
//!
//! What is here so far is the way to a device. There is no kernel yet, so [`unavailable`] always has a reason.

use cudarc::driver::{CudaContext, sys};

/// Why training cannot run on CUDA here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unavailable {
    /// The driver's library is not installed.
    #[error("no CUDA driver on this machine (libcuda is not installed)")]
    NoDriver,
    /// The driver has no device, or cannot open it.
    #[error("the CUDA driver offers no device: {0}")]
    NoDevice(String),
    /// There is a device, and nothing to run on it.
    #[error("{device} is there, but this version of Hone has no CUDA kernels")]
    NoKernels {
        /// Name of the device.
        device: String,
    },
}

/// Says why CUDA cannot be used.
pub fn unavailable() -> Unavailable {
    // Everything else in cudarc panics where the library is missing.
    // SAFETY: looks for the library and loads it; no function of it is called and no pointer is kept.
    if !unsafe { sys::is_culib_present() } {
        return Unavailable::NoDriver;
    }
    match CudaContext::new(0).and_then(|context| context.name()) {
        Ok(device) => Unavailable::NoKernels { device },
        Err(error) => Unavailable::NoDevice(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_driver_is_a_reason_and_not_a_panic() {
        let reason = unavailable();
        assert!(!reason.to_string().is_empty());
        if !["/usr/lib/x86_64-linux-gnu/libcuda.so.1", "/usr/lib64/libcuda.so.1"]
            .iter()
            .any(|path| std::path::Path::new(path).exists())
            && std::env::var_os("LD_LIBRARY_PATH").is_none()
        {
            assert_eq!(reason, Unavailable::NoDriver);
        }
    }
}
