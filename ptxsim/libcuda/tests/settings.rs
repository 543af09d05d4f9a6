//! Settings of the environment: another device, an old driver, another schedule, counts in a file.
#![allow(clippy::unwrap_used, reason = "tests fail by panic")]

use cudarc::driver::sys::CUresult;
use cudarc::driver::{CudaContext, LaunchConfig};

/// The last warp to write wins, which no barrier orders: who that is shows the schedule.
const LAST: &str = "
.version 7.8
.target sm_86
.address_size 64
.visible .entry last()
{
    .reg .b32 %r<3>;
    .reg .b64 %rd<2>;
    mov.u32 %r1, %warpid;
    mov.u64 %rd1, winner;
    st.global.u32 [%rd1], %r1;
    ret;
}";

#[test]
fn the_environment_sets_device_driver_schedule_and_counts() {
    let folder = tempfile::tempdir().unwrap();
    let counts = folder.path().join("counts.jsonl");
    for (name, value) in [
        ("PTXSIM_DEVICE_SM", "8.6"),
        ("PTXSIM_DRIVER_VERSION", "11080"),
        ("PTXSIM_SCHEDULE", "reverse/1"),
        ("PTXSIM_CHECKS", "races"),
        ("PTXSIM_STATS", counts.to_str().unwrap()),
    ] {
        // SAFETY: the only test of this process, and nobody reads the environment beside it.
        unsafe { std::env::set_var(name, value) };
    }
    hone_ptxsim_libcuda::preload().unwrap();
    let context = CudaContext::new(0).unwrap();
    assert_eq!(context.compute_capability().unwrap(), (8, 6));
    let text = LAST.replace(".visible", ".visible .global .align 4 .u32 winner;\n.visible");
    // Driver 11.8 reads PTX 7.8 and no newer.
    let newer = context.load_module(cudarc::nvrtc::Ptx::from_src(text.replace("7.8", "8.0")));
    assert_eq!(newer.unwrap_err().0, CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION);
    let module = context.load_module(cudarc::nvrtc::Ptx::from_src(text)).unwrap();
    let function = module.load_function("last").unwrap();
    let stream = context.default_stream();
    let config = LaunchConfig { grid_dim: (1, 1, 1), block_dim: (96, 1, 1), shared_mem_bytes: 0 };
    for _ in 0..2 {
        // SAFETY: the kernel has no arguments.
        unsafe { stream.launch_builder(&function).launch(config) }.unwrap();
    }
    {
        let winner = module.get_global("winner", &stream).unwrap();
        assert_eq!(stream.clone_dtoh(&winner).unwrap(), 0u32.to_le_bytes());
    }

    let told = hone_ptxsim_libcuda::stats();
    // Counts are written when the context goes.
    drop((stream, function, module));
    drop(context);
    let line = std::fs::read_to_string(&counts).unwrap();
    assert!(
        line.starts_with("{\"kernel\":\"last\",\"launches\":2,\"blocks\":2,\"instructions\":24,"),
        "{line}"
    );
    assert_eq!(told, line);
    assert_eq!(hone_ptxsim_libcuda::stats(), line, "what was written still counts");
}
