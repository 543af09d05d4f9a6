//! Streams, events and host functions.

use core::ffi::{c_int, c_uint, c_void};
use std::time::Instant;

use super::{Handle, handle, number, put, with};
use crate::state::{DEFAULT_STREAM, Event, Stream, Work};
use crate::status::*;

/// # Safety
/// `out` is null or valid for a write.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuStreamCreate(out: *mut Handle, _flags: c_uint) -> Status {
    with(|state| {
        state.healthy()?;
        let stream = state.handle();
        state.streams.insert(stream, Stream::default());
        // SAFETY: the caller's promise.
        unsafe { put(out, handle(stream)) }
    })
}

/// # Safety
/// As [`cuStreamCreate`].
#[unsafe(no_mangle)]
unsafe extern "C" fn cuStreamCreateWithPriority(out: *mut Handle, flags: c_uint, _priority: c_int) -> Status {
    // SAFETY: the caller's promise.
    unsafe { cuStreamCreate(out, flags) }
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamDestroy_v2(stream: Handle) -> Status {
    with(|state| {
        let stream = number(stream);
        if stream == DEFAULT_STREAM {
            return Err(ERROR_INVALID_HANDLE);
        }
        state.streams.remove(&stream).map(drop).ok_or(ERROR_INVALID_HANDLE)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamSynchronize(stream: Handle) -> Status {
    with(|state| {
        state.healthy()?;
        let capture = state.streams.get(&number(stream)).ok_or(ERROR_INVALID_HANDLE)?.capture;
        if let Some(capture) = capture.and_then(|capture| state.captures.get_mut(&capture)) {
            capture.invalid = true;
            return Err(ERROR_STREAM_CAPTURE_UNSUPPORTED);
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamQuery(stream: Handle) -> Status {
    cuStreamSynchronize(stream)
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamWaitEvent(stream: Handle, event: Handle, _flags: c_uint) -> Status {
    with(|state| {
        let stream = number(stream);
        let captured = state.events.get(&number(event)).ok_or(ERROR_INVALID_HANDLE)?.captured;
        let own = state.streams.get(&stream).ok_or(ERROR_INVALID_HANDLE)?.capture;
        // An event of a capture that ended says nothing any more.
        let captured = captured.filter(|(capture, _)| state.captures.contains_key(capture));
        let Some((id, from)) = captured else {
            let Some(capture) = own.and_then(|own| state.captures.get_mut(&own)) else { return Ok(()) };
            capture.invalid = true;
            return Err(ERROR_STREAM_CAPTURE_ISOLATION);
        };
        let capture = state.captures.get_mut(&id).ok_or(ERROR_INVALID_HANDLE)?;
        match own {
            None => {
                capture.forked.push(stream);
                if let Some(stream) = state.streams.get_mut(&stream) {
                    stream.capture = Some(id);
                }
            }
            // What the event's stream did is joined.
            Some(own) if own == id => capture.forked.retain(|forked| *forked != from || from == stream),
            Some(_) => {
                capture.invalid = true;
                return Err(ERROR_STREAM_CAPTURE_MERGE);
            }
        }
        Ok(())
    })
}

/// # Safety
/// `out` is null or valid for a write.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuEventCreate(out: *mut Handle, _flags: c_uint) -> Status {
    with(|state| {
        state.healthy()?;
        let event = state.handle();
        state.events.insert(event, Event::default());
        // SAFETY: the caller's promise.
        unsafe { put(out, handle(event)) }
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuEventDestroy_v2(event: Handle) -> Status {
    with(|state| state.events.remove(&number(event)).map(drop).ok_or(ERROR_INVALID_HANDLE))
}

#[unsafe(no_mangle)]
extern "C" fn cuEventRecord(event: Handle, stream: Handle) -> Status {
    with(|state| {
        state.healthy()?;
        let stream = number(stream);
        let capture = state.streams.get(&stream).ok_or(ERROR_INVALID_HANDLE)?.capture;
        let event = state.events.get_mut(&number(event)).ok_or(ERROR_INVALID_HANDLE)?;
        event.recorded = Some(Instant::now());
        event.captured = capture.map(|capture| (capture, stream));
        Ok(())
    })
}

fn settled(event: Handle) -> Status {
    with(|state| {
        state.healthy()?;
        let captured = state.events.get(&number(event)).ok_or(ERROR_INVALID_HANDLE)?.captured;
        match captured.and_then(|(capture, _)| state.captures.get_mut(&capture)) {
            Some(capture) => {
                capture.invalid = true;
                Err(ERROR_CAPTURED_EVENT)
            }
            None => Ok(()),
        }
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuEventSynchronize(event: Handle) -> Status {
    settled(event)
}

#[unsafe(no_mangle)]
extern "C" fn cuEventQuery(event: Handle) -> Status {
    settled(event)
}

/// Milliseconds of this machine, which say nothing of a device.
///
/// # Safety
/// `out` is null or valid for a write.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuEventElapsedTime(out: *mut f32, start: Handle, end: Handle) -> Status {
    with(|state| {
        let at = |event: Handle| {
            let event = state.events.get(&number(event)).ok_or(ERROR_INVALID_HANDLE)?;
            event.recorded.ok_or(ERROR_INVALID_HANDLE)
        };
        let elapsed = at(end)?.saturating_duration_since(at(start)?);
        // SAFETY: the caller's promise.
        unsafe { put(out, elapsed.as_secs_f32() * 1e3) }
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuLaunchHostFunc(
    stream: Handle,
    function: Option<extern "C" fn(*mut c_void)>,
    data: *mut c_void,
) -> Status {
    with(|state| {
        let function = function.ok_or(ERROR_INVALID_VALUE)?;
        let function = (function as *const ()).expose_provenance();
        state.enqueue(number(stream), Work::Call { function, data: data.expose_provenance() })
    })
}
