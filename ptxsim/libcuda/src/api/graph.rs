//! Stream capture and graphs.

use core::ffi::{c_int, c_ulonglong};

use super::{Handle, handle, number, put, with};
use crate::state::{Capture, CaptureMode, DEFAULT_STREAM};
use crate::status::*;

#[unsafe(no_mangle)]
extern "C" fn cuStreamBeginCapture_v2(stream: Handle, mode: c_int) -> Status {
    with(|state| {
        state.healthy()?;
        let origin = number(stream);
        // By number as in cuda.h.
        let mode = match mode {
            0 => CaptureMode::Global,
            1 => CaptureMode::ThreadLocal,
            2 => CaptureMode::Relaxed,
            _ => return Err(ERROR_INVALID_VALUE),
        };
        // The legacy stream cannot be captured.
        if origin == DEFAULT_STREAM {
            return Err(ERROR_STREAM_CAPTURE_UNSUPPORTED);
        }
        let id = state.handle();
        let stream = state.streams.get_mut(&origin).ok_or(ERROR_INVALID_HANDLE)?;
        if stream.capture.is_some() {
            return Err(ERROR_INVALID_VALUE);
        }
        stream.capture = Some(id);
        let thread = Some(std::thread::current().id());
        state.captures.insert(id, Capture { origin, mode, thread, ..Capture::default() });
        Ok(())
    })
}

/// # Safety
/// `out` is null or valid for a write.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuStreamEndCapture(stream: Handle, out: *mut Handle) -> Status {
    with(|state| {
        let stream = number(stream);
        let capture = state.streams.get(&stream).ok_or(ERROR_INVALID_HANDLE)?.capture;
        let id = capture.ok_or(ERROR_INVALID_VALUE)?;
        if state.captures.get(&id).is_none_or(|capture| capture.origin != stream) {
            return Err(ERROR_STREAM_CAPTURE_UNMATCHED);
        }
        let this = Some(std::thread::current().id());
        if state.captures.get(&id).is_some_and(|c| c.mode != CaptureMode::Relaxed && c.thread != this) {
            return Err(ERROR_STREAM_CAPTURE_WRONG_THREAD);
        }
        let capture = state.captures.remove(&id).ok_or(ERROR_INVALID_HANDLE)?;
        state.streams.values_mut().filter(|stream| stream.capture == Some(id)).for_each(|s| s.capture = None);
        // SAFETY: the caller's promise.
        unsafe { put(out, std::ptr::null_mut()) }?;
        if capture.invalid {
            return Err(ERROR_STREAM_CAPTURE_INVALIDATED);
        }
        if !capture.forked.is_empty() {
            return Err(ERROR_STREAM_CAPTURE_UNJOINED);
        }
        let graph = state.handle();
        state.graphs.insert(graph, capture.work.into());
        // SAFETY: the caller's promise.
        unsafe { put(out, handle(graph)) }
    })
}

/// # Safety
/// `out` is null or valid for a write.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuStreamIsCapturing(stream: Handle, out: *mut c_int) -> Status {
    with(|state| {
        let capture = state.streams.get(&number(stream)).ok_or(ERROR_INVALID_HANDLE)?.capture;
        let found = match capture.and_then(|capture| state.captures.get(&capture)) {
            None => 0,
            Some(capture) if capture.invalid => 2,
            Some(_) => 1,
        };
        // SAFETY: the caller's promise.
        unsafe { put(out, found) }
    })
}

/// # Safety
/// `out` is null or valid for a write.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuGraphInstantiateWithFlags(
    out: *mut Handle,
    graph: Handle,
    _flags: c_ulonglong,
) -> Status {
    with(|state| {
        let work = state.graphs.get(&number(graph)).ok_or(ERROR_INVALID_HANDLE)?.clone();
        let executable = state.handle();
        state.executables.insert(executable, work);
        // SAFETY: the caller's promise.
        unsafe { put(out, handle(executable)) }
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphUpload(executable: Handle, _stream: Handle) -> Status {
    with(|state| state.executables.get(&number(executable)).map(|_| ()).ok_or(ERROR_INVALID_HANDLE))
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphLaunch(executable: Handle, stream: Handle) -> Status {
    with(|state| {
        let work = state.executables.get(&number(executable)).ok_or(ERROR_INVALID_HANDLE)?.clone();
        // Into a stream that is captured, the graph's work is captured.
        work.iter().try_for_each(|work| state.enqueue(number(stream), work.clone()))
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphDestroy(graph: Handle) -> Status {
    with(|state| state.graphs.remove(&number(graph)).map(drop).ok_or(ERROR_INVALID_HANDLE))
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphExecDestroy(executable: Handle) -> Status {
    with(|state| state.executables.remove(&number(executable)).map(drop).ok_or(ERROR_INVALID_HANDLE))
}
