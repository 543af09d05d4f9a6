//! Modules, functions and launches.

use core::ffi::{c_char, c_int, c_uint, c_void};

use hone_ptxsim::{Launch, SHARED_BYTES_DEFAULT};

use super::{Handle, handle, number, put, string, with};
use crate::state::Function;
use crate::status::*;

/// # Safety
/// `image` is null or PTX that ends with a zero; `out` is null or valid for a write.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuModuleLoadData(out: *mut Handle, image: *const c_void) -> Status {
    with(|state| {
        state.healthy()?;
        // SAFETY: the caller's promise. A cubin or fat binary is no text and ends at its first zero.
        let text = unsafe { string(image.cast()) }.map_err(|_| ERROR_INVALID_IMAGE)?;
        let module = state.load(&text)?;
        // SAFETY: the caller's promise.
        unsafe { put(out, handle(module)) }
    })
}

/// # Safety
/// As [`cuModuleLoadData`]; options are not read.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuModuleLoadDataEx(
    out: *mut Handle,
    image: *const c_void,
    _count: c_uint,
    _options: *mut c_int,
    _values: *mut *mut c_void,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe { cuModuleLoadData(out, image) }
}

/// # Safety
/// `path` is null or ends with a zero; `out` is null or valid for a write.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuModuleLoad(out: *mut Handle, path: *const c_char) -> Status {
    with(|state| {
        state.healthy()?;
        // SAFETY: the caller's promise.
        let path = unsafe { string(path) }?;
        let text = std::fs::read_to_string(path).map_err(|_| ERROR_FILE_NOT_FOUND)?;
        let module = state.load(&text)?;
        // SAFETY: the caller's promise.
        unsafe { put(out, handle(module)) }
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuModuleUnload(module: Handle) -> Status {
    with(|state| {
        let module = number(module);
        let loaded = state.modules.remove(&module).ok_or(ERROR_INVALID_HANDLE)?;
        state.functions.retain(|_, function| function.module != module);
        loaded.unload(&mut state.memory).map_err(crate::state::memory_status)
    })
}

/// # Safety
/// `name` is null or ends with a zero; `out` is null or valid for a write.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuModuleGetFunction(out: *mut Handle, module: Handle, name: *const c_char) -> Status {
    with(|state| {
        // SAFETY: the caller's promise.
        let name = unsafe { string(name) }?;
        let module = number(module);
        let loaded = state.modules.get(&module).ok_or(ERROR_INVALID_HANDLE)?;
        let kernel = loaded.module.kernel(&name).ok_or(ERROR_NOT_FOUND)?;
        let dynamic_shared_max = SHARED_BYTES_DEFAULT.saturating_sub(kernel.shared_bytes);
        let function = state.handle();
        state.functions.insert(function, Function { module, name, dynamic_shared_max });
        // SAFETY: the caller's promise.
        unsafe { put(out, handle(function)) }
    })
}

/// # Safety
/// `name` is null or ends with a zero; `address` and `bytes` are null or valid for a write.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuModuleGetGlobal_v2(
    address: *mut u64,
    bytes: *mut usize,
    module: Handle,
    name: *const c_char,
) -> Status {
    with(|state| {
        // SAFETY: the caller's promise.
        let name = unsafe { string(name) }?;
        let loaded = state.modules.get(&number(module)).ok_or(ERROR_INVALID_HANDLE)?;
        let (found, size) = loaded.global(&name).ok_or(ERROR_NOT_FOUND)?;
        if !address.is_null() {
            // SAFETY: the caller's promise.
            unsafe { put(address, found) }?;
        }
        if !bytes.is_null() {
            // SAFETY: the caller's promise.
            unsafe { put(bytes, size as usize) }?;
        }
        Ok(())
    })
}

/// Attribute numbers as in cuda.h.
const MAX_THREADS: c_int = 0;
const SHARED_BYTES: c_int = 1;
const PTX_VERSION: c_int = 5;
const MAX_DYNAMIC_SHARED: c_int = 8;
const SHARED_CARVEOUT: c_int = 9;

/// # Safety
/// `out` is null or valid for a write.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuFuncGetAttribute(out: *mut c_int, attribute: c_int, function: Handle) -> Status {
    with(|state| {
        let function = state.functions.get(&number(function)).ok_or(ERROR_INVALID_HANDLE)?;
        let loaded = state.modules.get(&function.module).ok_or(ERROR_INVALID_HANDLE)?;
        let kernel = loaded.module.kernel(&function.name).ok_or(ERROR_INVALID_HANDLE)?;
        let value = match attribute {
            MAX_THREADS => kernel.threads_max.unwrap_or(1024).min(1024) as c_int,
            SHARED_BYTES => kernel.shared_bytes as c_int,
            PTX_VERSION => (loaded.module.version.0 * 10 + loaded.module.version.1) as c_int,
            MAX_DYNAMIC_SHARED => function.dynamic_shared_max as c_int,
            i32::MIN..0 => return Err(ERROR_INVALID_VALUE),
            // Registers, local and constant memory: nobody assembled the kernel, so that they are not known.
            _ => 0,
        };
        // SAFETY: the caller's promise.
        unsafe { put(out, value) }
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuFuncSetAttribute(function: Handle, attribute: c_int, value: c_int) -> Status {
    with(|state| match attribute {
        MAX_DYNAMIC_SHARED => state.set_dynamic_shared(number(function), value),
        SHARED_CARVEOUT => Ok(()),
        _ => Err(ERROR_INVALID_VALUE),
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuFuncSetCacheConfig(function: Handle, _config: c_int) -> Status {
    with(|state| state.functions.get(&number(function)).map(|_| ()).ok_or(ERROR_INVALID_HANDLE))
}

/// # Safety
/// `params` is null or points to as many pointers as the kernel has parameters, each valid for a read of that
/// parameter; or `extra` is a list as `cuLaunchKernel` documents it.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuLaunchKernel(
    function: Handle,
    grid_x: c_uint,
    grid_y: c_uint,
    grid_z: c_uint,
    block_x: c_uint,
    block_y: c_uint,
    block_z: c_uint,
    dynamic_shared: c_uint,
    stream: Handle,
    params: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> Status {
    with(|state| {
        state.healthy()?;
        let launch =
            Launch { grid: [grid_x, grid_y, grid_z], block: [block_x, block_y, block_z], dynamic_shared };
        if !extra.is_null() {
            return Err(ERROR_NOT_SUPPORTED);
        }
        let read = |index: usize, _offset: u32, bytes: u32| {
            if params.is_null() {
                return None;
            }
            // SAFETY: the caller promised a pointer for each parameter, and `index` is that of a parameter.
            let from = unsafe { params.add(index).read() }.cast::<u8>();
            if from.is_null() {
                return None;
            }
            // SAFETY: the caller promised that the parameter's bytes can be read.
            Some(unsafe { std::slice::from_raw_parts(from, bytes as usize) }.to_vec())
        };
        let work = state.launch(number(function), launch, read)?;
        state.enqueue(number(stream), work)
    })
}

/// # Safety
/// `out` is null or valid for a write.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
    out: *mut c_int,
    function: Handle,
    threads: c_int,
    dynamic_shared: usize,
) -> Status {
    with(|state| {
        let settings = &state.settings;
        let found = state.functions.get(&number(function)).ok_or(ERROR_INVALID_HANDLE)?;
        let loaded = state.modules.get(&found.module).ok_or(ERROR_INVALID_HANDLE)?;
        let fixed = loaded.module.kernel(&found.name).map_or(0, |kernel| kernel.shared_bytes) as usize;
        let threads = usize::try_from(threads).ok().filter(|threads| (1..=1024).contains(threads));
        let by_threads = 2048 / threads.ok_or(ERROR_INVALID_VALUE)?;
        // Each block reserves 1 KiB more.
        let by_shared = settings.shared_bytes_multiprocessor() as usize / (fixed + dynamic_shared + 1024);
        // SAFETY: the caller's promise.
        unsafe { put(out, by_threads.min(by_shared).min(32) as c_int) }
    })
}

/// # Safety
/// `out` is null or valid for a write.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
    out: *mut c_int,
    function: Handle,
    threads: c_int,
    dynamic_shared: usize,
    _flags: c_uint,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe { cuOccupancyMaxActiveBlocksPerMultiprocessor(out, function, threads, dynamic_shared) }
}
