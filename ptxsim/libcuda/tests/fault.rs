//! What a kernel does wrong comes back as the driver's error, and stays.
#![allow(clippy::unwrap_used, reason = "tests fail by panic")]

use cudarc::driver::sys::CUresult;
use cudarc::driver::{CudaContext, LaunchConfig, PushKernelArg};

const KERNEL: &str = "
.version 8.0
.target sm_80
.address_size 64
.visible .entry touch(.param .u64 p, .param .u64 offset)
{
    .reg .b64 %rd<4>;
    ld.param.u64 %rd1, [p];
    ld.param.u64 %rd2, [offset];
    add.s64 %rd3, %rd1, %rd2;
    st.global.u32 [%rd3], 1;
    ret;
}";

#[test]
fn a_fault_stays_until_the_end() {
    hone_ptxsim_libcuda::preload().unwrap();
    let context = CudaContext::new(0).unwrap();
    let stream = context.default_stream();
    let module = context.load_module(cudarc::nvrtc::Ptx::from_src(KERNEL)).unwrap();
    let function = module.load_function("touch").unwrap();
    let buffer = stream.alloc_zeros::<u32>(4).unwrap();
    let config = LaunchConfig { grid_dim: (1, 1, 1), block_dim: (1, 1, 1), shared_mem_bytes: 0 };
    let touch = |offset: u64| {
        let mut launch = stream.launch_builder(&function);
        launch.arg(&buffer).arg(&offset);
        // SAFETY: the arguments are those of the kernel; the interpreter catches the access outside the buffer.
        unsafe { launch.launch(config) }.map(|_| ())
    };
    touch(12).unwrap();
    assert_eq!(stream.clone_dtoh(&buffer).unwrap(), [0, 0, 0, 1]);
    // A copy outside the buffer is refused and does no lasting harm.
    let mut two = [0u32; 2];
    stream.memcpy_dtoh(&buffer.slice(2..4), &mut two[..]).unwrap();
    assert_eq!(touch(16).unwrap_err().0, CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
    // From now on every call fails with it, even one that would be right.
    assert_eq!(touch(0).unwrap_err().0, CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
    assert_eq!(stream.synchronize().unwrap_err().0, CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
    assert!(stream.clone_dtoh(&buffer).is_err());
    assert!(stream.alloc_zeros::<u32>(4).is_err());
}
