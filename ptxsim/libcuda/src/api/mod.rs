//! The functions of the driver, under their names.
//!
//! Every pointer is the caller's promise of the driver API: out-pointers are valid for a write, strings end with a
//! zero. A null pointer is refused where the driver refuses it.
#![allow(non_snake_case, reason = "the names are the driver's")]

mod device;
mod graph;
mod memory;
mod module;
mod stream;
mod unsupported;

use core::ffi::c_void;

use crate::state::{State, state};
use crate::status::*;

/// A handle as callers see it.
type Handle = *mut c_void;

fn number(handle: Handle) -> u64 {
    handle.addr() as u64
}

fn handle(number: u64) -> Handle {
    std::ptr::without_provenance_mut(number as usize)
}

fn status(result: Result<(), Status>) -> Status {
    result.err().unwrap_or(SUCCESS)
}

/// Runs `f` on the state.
fn with(f: impl FnOnce(&mut State) -> Result<(), Status>) -> Status {
    status(f(&mut state()))
}

/// Writes through an out-pointer.
///
/// # Safety
/// `out` is null or valid for a write.
unsafe fn put<T>(out: *mut T, value: T) -> Result<(), Status> {
    if out.is_null() {
        return Err(ERROR_INVALID_VALUE);
    }
    // SAFETY: not null, and the caller of this function promised the rest.
    unsafe { out.write(value) };
    Ok(())
}

/// Reads a string of C.
///
/// # Safety
/// `text` is null or ends with a zero.
unsafe fn string(text: *const core::ffi::c_char) -> Result<String, Status> {
    if text.is_null() {
        return Err(ERROR_INVALID_VALUE);
    }
    // SAFETY: not null, and the caller of this function promised the rest.
    let text = unsafe { core::ffi::CStr::from_ptr(text) };
    text.to_str().map(str::to_owned).map_err(|_| ERROR_INVALID_VALUE)
}
