//! Memory and functions of the host that callers name by address.

/// Gives `f` the `bytes` at `address`.
pub(crate) fn with_slice<R>(address: usize, bytes: usize, f: impl FnOnce(&[u8]) -> R) -> R {
    if bytes == 0 {
        return f(&[]);
    }
    let pointer = std::ptr::with_exposed_provenance::<u8>(address);
    // SAFETY: the caller of the driver promised that `bytes` at this address are readable while the copy runs: now, or
    // when the graph into which it was captured is launched. A null pointer was refused when the copy was enqueued.
    f(unsafe { std::slice::from_raw_parts(pointer, bytes) })
}

/// Gives `f` the `bytes` at `address` to write.
pub(crate) fn with_slice_mut<R>(address: usize, bytes: usize, f: impl FnOnce(&mut [u8]) -> R) -> R {
    if bytes == 0 {
        return f(&mut []);
    }
    let pointer = std::ptr::with_exposed_provenance_mut::<u8>(address);
    // SAFETY: as in `with_slice`, and the caller promised that nobody else touches the bytes until the copy is done.
    f(unsafe { std::slice::from_raw_parts_mut(pointer, bytes) })
}

/// Calls a host function with its data.
pub(crate) fn call(function: usize, data: usize) {
    let function = std::ptr::with_exposed_provenance::<()>(function);
    // SAFETY: the caller of `cuLaunchHostFunc` passed a `CUhostFn` that is not null, which has this type.
    let function: extern "C" fn(*mut core::ffi::c_void) = unsafe { std::mem::transmute(function) };
    function(std::ptr::with_exposed_provenance_mut(data));
}
