//! A driver without a device, which is how a machine looks whose GPU is gone.
#![allow(clippy::unwrap_used, reason = "tests fail by panic")]

use cudarc::driver::CudaContext;
use cudarc::driver::sys::CUresult;

#[test]
fn no_device_is_an_error() {
    // SAFETY: the only test of this process, and nobody reads the environment beside it.
    unsafe { std::env::set_var("PTXSIM_DEVICES", "0") };
    hone_ptxsim_libcuda::preload().unwrap();
    assert_eq!(CudaContext::new(0).unwrap_err().0, CUresult::CUDA_ERROR_NO_DEVICE);
}
