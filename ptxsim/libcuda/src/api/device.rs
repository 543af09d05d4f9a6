//! Initialisation, devices, contexts, error names.

use core::ffi::{c_char, c_int, c_uint};
use std::cell::Cell;

use super::{Handle, handle, number, put, with};
use crate::report;
use crate::state::{State, state};
use crate::status::*;

/// Name of the device.
const NAME: &[u8] = b"PTX interpreter\0";

/// The only context.
const CONTEXT: u64 = 0x10;

thread_local! {
    static CURRENT: Cell<u64> = const { Cell::new(0) };
}

#[unsafe(no_mangle)]
extern "C" fn cuInit(flags: c_uint) -> Status {
    with(|state| {
        if flags != 0 {
            return Err(ERROR_INVALID_VALUE);
        }
        if state.settings.devices == 0 {
            return Err(ERROR_NO_DEVICE);
        }
        state.initialised = true;
        report::write_at_exit();
        Ok(())
    })
}

/// # Safety
/// `version` is null or valid for a write.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuDriverGetVersion(version: *mut c_int) -> Status {
    // SAFETY: the caller's promise.
    with(|state| unsafe { put(version, state.settings.driver_version) })
}

fn device(state: &State, device: c_int) -> Result<(), Status> {
    if !state.initialised {
        return Err(ERROR_NOT_INITIALIZED);
    }
    if (0..state.settings.devices).contains(&device) { Ok(()) } else { Err(ERROR_INVALID_DEVICE) }
}

/// # Safety
/// `count` is null or valid for a write.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetCount(count: *mut c_int) -> Status {
    with(|state| {
        if !state.initialised {
            return Err(ERROR_NOT_INITIALIZED);
        }
        // SAFETY: the caller's promise.
        unsafe { put(count, state.settings.devices) }
    })
}

/// # Safety
/// `out` is null or valid for a write.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGet(out: *mut c_int, ordinal: c_int) -> Status {
    with(|state| {
        device(state, ordinal)?;
        // SAFETY: the caller's promise.
        unsafe { put(out, ordinal) }
    })
}

/// # Safety
/// `name` is null or valid for `len` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetName(name: *mut c_char, len: c_int, dev: c_int) -> Status {
    with(|state| {
        device(state, dev)?;
        let len = usize::try_from(len).ok().filter(|len| *len > 0).ok_or(ERROR_INVALID_VALUE)?;
        for (i, byte) in NAME.iter().take(len).enumerate() {
            let byte = if i + 1 == len { 0 } else { *byte };
            // SAFETY: the caller's promise; `i` is below `len`.
            unsafe { put(name.wrapping_add(i), byte as c_char) }?;
        }
        Ok(())
    })
}

/// # Safety
/// `uuid` is null or valid for 16 bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetUuid(uuid: *mut [u8; 16], dev: c_int) -> Status {
    with(|state| {
        device(state, dev)?;
        let mut bytes = *b"ptx-interpreter ";
        bytes[15] = dev as u8;
        // SAFETY: the caller's promise.
        unsafe { put(uuid, bytes) }
    })
}

/// # Safety
/// As [`cuDeviceGetUuid`].
#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetUuid_v2(uuid: *mut [u8; 16], dev: c_int) -> Status {
    // SAFETY: the caller's promise.
    unsafe { cuDeviceGetUuid(uuid, dev) }
}

/// # Safety
/// `bytes` is null or valid for a write.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceTotalMem_v2(bytes: *mut usize, dev: c_int) -> Status {
    with(|state| {
        device(state, dev)?;
        // SAFETY: the caller's promise.
        unsafe { put(bytes, state.memory.total() as usize) }
    })
}

/// # Safety
/// `value` is null or valid for a write.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetAttribute(value: *mut c_int, attribute: c_int, dev: c_int) -> Status {
    with(|state| {
        device(state, dev)?;
        let settings = &state.settings;
        // By number as in cuda.h; what says how fast the device is, is zero.
        let found = match attribute {
            1..=3 => 1024,
            4 => 64,
            5 => i32::MAX,
            6 | 7 => 65535,
            8 => 48 * 1024,
            9 => 65536,
            10 => 32,
            12 | 82 => 65536,
            // Few, so that what is shared out by multiprocessor stays small.
            16 => 4,
            // Unified addressing, asynchronous copies, concurrent kernels, memory pools.
            31 | 40 | 41 | 115 => 1,
            39 => 2048,
            75 => (settings.sm / 10) as c_int,
            76 => (settings.sm % 10) as c_int,
            81 => settings.shared_bytes_multiprocessor() as c_int,
            97 => settings.shared_bytes_optin() as c_int,
            i32::MIN..=0 => return Err(ERROR_INVALID_VALUE),
            _ => 0,
        };
        // SAFETY: the caller's promise.
        unsafe { put(value, found) }
    })
}

/// # Safety
/// `context` is null or valid for a write.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuDevicePrimaryCtxRetain(context: *mut Handle, dev: c_int) -> Status {
    with(|state| {
        device(state, dev)?;
        state.contexts += 1;
        // SAFETY: the caller's promise.
        unsafe { put(context, handle(CONTEXT)) }
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuDevicePrimaryCtxRelease_v2(dev: c_int) -> Status {
    with(|state| {
        device(state, dev)?;
        state.contexts = state.contexts.checked_sub(1).ok_or(ERROR_INVALID_CONTEXT)?;
        report::append(state);
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxSetCurrent(context: Handle) -> Status {
    let context = number(context);
    if context != 0 && context != CONTEXT {
        return ERROR_INVALID_CONTEXT;
    }
    CURRENT.set(context);
    SUCCESS
}

/// # Safety
/// `context` is null or valid for a write.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuCtxGetCurrent(context: *mut Handle) -> Status {
    // SAFETY: the caller's promise.
    super::status(unsafe { put(context, handle(CURRENT.get())) })
}

/// Work runs when it is enqueued, so that there is nothing to wait for but what went wrong.
#[unsafe(no_mangle)]
extern "C" fn cuCtxSynchronize() -> Status {
    with(|state| {
        state.healthy()?;
        state.not_capturing()
    })
}

/// # Safety
/// Both are null or valid for a write.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuCtxGetStreamPriorityRange(least: *mut c_int, greatest: *mut c_int) -> Status {
    // Null means that the caller does not want to know.
    for (out, value) in [(least, 0), (greatest, -5)] {
        if !out.is_null() {
            // SAFETY: the caller's promise.
            let _ = unsafe { put(out, value) };
        }
    }
    SUCCESS
}

/// # Safety
/// `text` is null or valid for a write.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuGetErrorName(error: c_int, text: *mut *const c_char) -> Status {
    let found = describe(error).map_or(std::ptr::null(), |(name, _)| name.as_ptr());
    // SAFETY: the caller's promise.
    let written = super::status(unsafe { put(text, found) });
    if found.is_null() { ERROR_INVALID_VALUE } else { written }
}

/// # Safety
/// `text` is null or valid for a write.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuGetErrorString(error: c_int, text: *mut *const c_char) -> Status {
    let found = describe(error).map_or(std::ptr::null(), |(_, text)| text.as_ptr());
    // SAFETY: the caller's promise.
    let written = super::status(unsafe { put(text, found) });
    if found.is_null() { ERROR_INVALID_VALUE } else { written }
}

/// Free and total bytes.
///
/// # Safety
/// Both are null or valid for a write.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) -> Status {
    let (have, all) = {
        let state = state();
        (state.memory.free_bytes() as usize, state.memory.total() as usize)
    };
    // SAFETY: the caller's promise.
    super::status(unsafe { put(free, have).and_then(|()| put(total, all)) })
}
