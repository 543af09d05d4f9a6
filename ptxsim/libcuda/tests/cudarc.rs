//! cudarc as it is published, on the stand-in: load, launch, capture, replay, refusals and faults.
#![allow(clippy::unwrap_used, reason = "tests fail by panic")]

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cudarc::driver::sys::{self, CUgraphInstantiate_flags, CUstreamCaptureMode};
use cudarc::driver::{CudaContext, CudaFunction, CudaStream, DriverError, LaunchConfig, PushKernelArg};

/// `y[i] = a * x[i] + y[i]` for i < n.
const SAXPY: &str = "
.version 8.0
.target sm_80
.address_size 64
.visible .entry saxpy(.param .f32 a, .param .u64 x, .param .u64 y, .param .u32 n)
.maxntid 128, 1, 1
{
    .reg .pred %p<2>;
    .reg .f32 %f<5>;
    .reg .b32 %r<6>;
    .reg .b64 %rd<6>;
    ld.param.f32 %f1, [a];
    ld.param.u64 %rd1, [x];
    ld.param.u64 %rd2, [y];
    ld.param.u32 %r1, [n];
    mov.u32 %r2, %ctaid.x;
    mov.u32 %r3, %ntid.x;
    mov.u32 %r4, %tid.x;
    mad.lo.s32 %r5, %r2, %r3, %r4;
    setp.ge.u32 %p1, %r5, %r1;
    @%p1 bra DONE;
    mul.wide.u32 %rd3, %r5, 4;
    add.s64 %rd4, %rd1, %rd3;
    add.s64 %rd5, %rd2, %rd3;
    ld.global.f32 %f2, [%rd4];
    ld.global.f32 %f3, [%rd5];
    fma.rn.f32 %f4, %f1, %f2, %f3;
    st.global.f32 [%rd5], %f4;
DONE:
    ret;
}";

/// The context, and the right to be the only test: a capture forbids things to other threads.
fn context() -> (MutexGuard<'static, ()>, Arc<CudaContext>) {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    hone_ptxsim_libcuda::preload().unwrap();
    (alone, CudaContext::new(0).unwrap())
}

fn function(context: &Arc<CudaContext>, text: &str, name: &str) -> Result<CudaFunction, DriverError> {
    let module = context.load_module(cudarc::nvrtc::Ptx::from_src(text))?;
    module.load_function(name)
}

fn config(blocks: u32, threads: u32) -> LaunchConfig {
    LaunchConfig { grid_dim: (blocks, 1, 1), block_dim: (threads, 1, 1), shared_mem_bytes: 0 }
}

fn saxpy(
    stream: &Arc<CudaStream>,
    function: &CudaFunction,
    config: LaunchConfig,
    a: f32,
    x: &cudarc::driver::CudaSlice<f32>,
    y: &mut cudarc::driver::CudaSlice<f32>,
    n: u32,
) -> Result<(), DriverError> {
    let mut launch = stream.launch_builder(function);
    launch.arg(&a).arg(x).arg(y).arg(&n);
    // SAFETY: the arguments are those of the kernel, and both slices hold `n` elements or the test wants the fault.
    unsafe { launch.launch(config) }.map(|_| ())
}

#[test]
fn a_kernel_runs_and_a_graph_replays() {
    let (_alone, context) = context();
    assert_eq!(context.name().unwrap(), "PTX interpreter");
    assert_eq!(context.compute_capability().unwrap(), (8, 0));
    // SAFETY: event tracking is what capture cannot have; everything here is on one stream.
    unsafe { context.disable_event_tracking() };
    let stream = context.new_stream().unwrap();
    let function = function(&context, SAXPY, "saxpy").unwrap();
    let x = stream.clone_htod(&[1.0f32, 2.0, 3.0]).unwrap();
    let mut y = stream.clone_htod(&[0.5f32, 0.0, -1.0]).unwrap();
    saxpy(&stream, &function, config(2, 2), 2.0, &x, &mut y, 3).unwrap();
    assert_eq!(stream.clone_dtoh(&y).unwrap(), [2.5, 4.0, 5.0]);

    stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_GLOBAL).unwrap();
    saxpy(&stream, &function, config(2, 2), 10.0, &x, &mut y, 3).unwrap();
    // Nothing of it ran yet.
    let flags = CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
    let graph = stream.end_capture(flags).unwrap().unwrap();
    assert_eq!(stream.clone_dtoh(&y).unwrap(), [2.5, 4.0, 5.0]);
    graph.launch().unwrap();
    graph.launch().unwrap();
    assert_eq!(stream.clone_dtoh(&y).unwrap(), [22.5, 44.0, 65.0]);
}

#[test]
fn what_the_driver_refuses_is_refused() {
    let (_alone, context) = context();
    let stream = context.new_stream().unwrap();
    let saxpy_function = function(&context, SAXPY, "saxpy").unwrap();
    let x = stream.alloc_zeros::<f32>(4).unwrap();
    let mut y = stream.alloc_zeros::<f32>(4).unwrap();
    for config in [config(0, 2), config(1, 0), config(1, 1025), config(1, 129)] {
        let error = saxpy(&stream, &saxpy_function, config, 1.0, &x, &mut y, 4).unwrap_err();
        assert_eq!(error.0, sys::CUresult::CUDA_ERROR_INVALID_VALUE, "{config:?}");
    }
    let shared = LaunchConfig { shared_mem_bytes: 48 * 1024 + 1, ..config(1, 2) };
    assert!(saxpy(&stream, &saxpy_function, shared, 1.0, &x, &mut y, 4).is_err());
    let attribute = sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    saxpy_function.set_attribute(attribute, 100 * 1024).unwrap();
    saxpy(&stream, &saxpy_function, shared, 1.0, &x, &mut y, 4).unwrap();
    assert!(saxpy_function.set_attribute(attribute, 164 * 1024).is_err());

    let code = |text: &str| function(&context, text, "saxpy").unwrap_err().0;
    assert_eq!(code(&SAXPY.replace("saxpy", "other")), sys::CUresult::CUDA_ERROR_NOT_FOUND);
    assert_eq!(code(&SAXPY.replace("sm_80", "sm_90")), sys::CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU);
    assert_eq!(code(&SAXPY.replace("8.0", "8.7")), sys::CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION);
    assert_eq!(code(&SAXPY.replace("fma.rn.f32", "fma.rx.f32")), sys::CUresult::CUDA_ERROR_INVALID_PTX);
    assert_eq!(code("\u{7f}ELF"), sys::CUresult::CUDA_ERROR_INVALID_PTX);

    // A capture in which the host waits is worth nothing.
    let other = context.new_stream().unwrap();
    other.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED).unwrap();
    assert_eq!(other.synchronize().unwrap_err().0, sys::CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    let flags = CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
    let error = other.end_capture(flags).err().unwrap();
    assert_eq!(error.0, sys::CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
}

#[test]
fn a_capture_of_one_thread_leaves_the_others_alone() {
    let (_alone, context) = context();
    // SAFETY: as above.
    unsafe { context.disable_event_tracking() };
    let stream = context.new_stream().unwrap();
    let other = context.new_stream().unwrap();
    let flags = CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
    stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let slice = other.clone_htod(&[1.0f32, 2.0]).unwrap();
            other.synchronize().unwrap();
            assert_eq!(other.clone_dtoh(&slice).unwrap(), [1.0, 2.0]);
            // Nor may it end what it did not begin.
            let error = stream.end_capture(flags).err().unwrap();
            assert_eq!(error.0, sys::CUresult::CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD);
        });
    });
    stream.end_capture(flags).unwrap();
    // The thread itself may not allocate.
    stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
    let error = other.alloc_zeros::<f32>(2).unwrap_err();
    assert_eq!(error.0, sys::CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    assert!(stream.end_capture(flags).is_err());

    // A global capture forbids it to everyone.
    stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_GLOBAL).unwrap();
    let elsewhere =
        std::thread::scope(|scope| scope.spawn(|| other.alloc_zeros::<f32>(2).map(|_| ())).join());
    assert_eq!(elsewhere.unwrap().unwrap_err().0, sys::CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    assert!(stream.end_capture(flags).is_err());
}
