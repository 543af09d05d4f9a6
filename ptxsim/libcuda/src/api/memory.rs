//! Device memory, host memory, copies and fills.

use core::ffi::{c_uchar, c_uint, c_ushort, c_void};

use super::{Handle, number, put, with};
use crate::state::{DEFAULT_STREAM, Work, memory_status};
use crate::status::*;

/// # Safety
/// `out` is null or valid for a write.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemAlloc_v2(out: *mut u64, bytes: usize) -> Status {
    with(|state| {
        state.healthy()?;
        state.not_capturing()?;
        if bytes == 0 {
            return Err(ERROR_INVALID_VALUE);
        }
        let address = state.memory.allocate(bytes as u64).map_err(memory_status)?;
        // SAFETY: the caller's promise.
        unsafe { put(out, address) }
    })
}

/// # Safety
/// As [`cuMemAlloc_v2`].
#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemAllocAsync(out: *mut u64, bytes: usize, _stream: Handle) -> Status {
    // SAFETY: the caller's promise.
    unsafe { cuMemAlloc_v2(out, bytes) }
}

#[unsafe(no_mangle)]
extern "C" fn cuMemFree_v2(address: u64) -> Status {
    with(|state| {
        if address == 0 {
            return Ok(());
        }
        state.not_capturing()?;
        state.memory.free(address).map_err(memory_status)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemFreeAsync(address: u64, _stream: Handle) -> Status {
    cuMemFree_v2(address)
}

/// # Safety
/// `out` is null or valid for a write.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemHostAlloc(out: *mut *mut c_void, bytes: usize, _flags: c_uint) -> Status {
    with(|state| {
        state.healthy()?;
        let mut memory = vec![u128::MAX; bytes.div_ceil(16).max(1)].into_boxed_slice();
        let pointer = memory.as_mut_ptr().cast::<c_void>();
        state.pinned.insert(pointer.expose_provenance(), memory);
        // SAFETY: the caller's promise.
        unsafe { put(out, pointer) }
    })
}

/// # Safety
/// As [`cuMemHostAlloc`].
#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemAllocHost_v2(out: *mut *mut c_void, bytes: usize) -> Status {
    // SAFETY: the caller's promise.
    unsafe { cuMemHostAlloc(out, bytes, 0) }
}

#[unsafe(no_mangle)]
extern "C" fn cuMemFreeHost(pointer: *mut c_void) -> Status {
    with(|state| state.pinned.remove(&pointer.addr()).map(drop).ok_or(ERROR_INVALID_VALUE))
}

fn to_device(to: u64, from: *const c_void, bytes: usize) -> Result<Work, Status> {
    if from.is_null() && bytes > 0 {
        return Err(ERROR_INVALID_VALUE);
    }
    Ok(Work::HostToDevice { to, from: from.expose_provenance(), bytes })
}

fn to_host(to: *mut c_void, from: u64, bytes: usize) -> Result<Work, Status> {
    if to.is_null() && bytes > 0 {
        return Err(ERROR_INVALID_VALUE);
    }
    Ok(Work::DeviceToHost { to: to.expose_provenance(), from, bytes })
}

/// Runs work that the caller waits for.
fn now(work: Result<Work, Status>) -> Status {
    with(|state| {
        state.not_capturing()?;
        state.enqueue(DEFAULT_STREAM, work?)
    })
}

/// Runs work of a stream.
fn on(stream: Handle, work: Result<Work, Status>) -> Status {
    with(|state| state.enqueue(number(stream), work?))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyHtoD_v2(to: u64, from: *const c_void, bytes: usize) -> Status {
    now(to_device(to, from, bytes))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyHtoDAsync_v2(to: u64, from: *const c_void, bytes: usize, stream: Handle) -> Status {
    on(stream, to_device(to, from, bytes))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyDtoH_v2(to: *mut c_void, from: u64, bytes: usize) -> Status {
    now(to_host(to, from, bytes))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyDtoHAsync_v2(to: *mut c_void, from: u64, bytes: usize, stream: Handle) -> Status {
    on(stream, to_host(to, from, bytes))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyDtoD_v2(to: u64, from: u64, bytes: usize) -> Status {
    now(Ok(Work::DeviceToDevice { to, from, bytes: bytes as u64 }))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: Handle) -> Status {
    on(stream, Ok(Work::DeviceToDevice { to, from, bytes: bytes as u64 }))
}

fn fill(at: u64, value: u32, width: usize, count: usize) -> Result<Work, Status> {
    if !at.is_multiple_of(width as u64) {
        return Err(ERROR_INVALID_VALUE);
    }
    Ok(Work::Fill { at, value: value.to_le_bytes(), width, count: count as u64 })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemsetD8_v2(at: u64, value: c_uchar, count: usize) -> Status {
    now(fill(at, value.into(), 1, count))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemsetD32_v2(at: u64, value: c_uint, count: usize) -> Status {
    now(fill(at, value, 4, count))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemsetD8Async(at: u64, value: c_uchar, count: usize, stream: Handle) -> Status {
    on(stream, fill(at, value.into(), 1, count))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemsetD16Async(at: u64, value: c_ushort, count: usize, stream: Handle) -> Status {
    on(stream, fill(at, value.into(), 2, count))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemsetD32Async(at: u64, value: c_uint, count: usize, stream: Handle) -> Status {
    on(stream, fill(at, value, 4, count))
}
