//! Result codes of the driver, by name.

/// A `CUresult`.
pub(crate) type Status = i32;

macro_rules! statuses {
    ($($name:ident = $value:literal: $text:literal,)*) => {
        $(pub(crate) const $name: Status = $value;)*

        /// Name and description of a code, both with a zero at the end.
        pub(crate) fn describe(status: Status) -> Option<(&'static core::ffi::CStr, &'static core::ffi::CStr)> {
            let (name, text) = match status {
                $($value => (concat!("CUDA_", stringify!($name), "\0"), concat!($text, "\0")),)*
                _ => return None,
            };
            let name = core::ffi::CStr::from_bytes_with_nul(name.as_bytes()).ok()?;
            Some((name, core::ffi::CStr::from_bytes_with_nul(text.as_bytes()).ok()?))
        }
    };
}

statuses! {
    SUCCESS = 0: "no error",
    ERROR_INVALID_VALUE = 1: "invalid argument",
    ERROR_OUT_OF_MEMORY = 2: "out of memory",
    ERROR_NOT_INITIALIZED = 3: "initialization error",
    ERROR_NO_DEVICE = 100: "no CUDA-capable device is detected",
    ERROR_INVALID_DEVICE = 101: "invalid device ordinal",
    ERROR_INVALID_IMAGE = 200: "device kernel image is invalid",
    ERROR_INVALID_CONTEXT = 201: "invalid device context",
    ERROR_NO_BINARY_FOR_GPU = 209: "no kernel image is available for execution on the device",
    ERROR_INVALID_PTX = 218: "a PTX JIT compilation failed",
    ERROR_UNSUPPORTED_PTX_VERSION = 222: "the provided PTX was compiled with an unsupported toolchain.",
    ERROR_FILE_NOT_FOUND = 301: "file not found",
    ERROR_INVALID_HANDLE = 400: "invalid resource handle",
    ERROR_NOT_FOUND = 500: "named symbol not found",
    ERROR_ILLEGAL_ADDRESS = 700: "an illegal memory access was encountered",
    ERROR_LAUNCH_TIMEOUT = 702: "the launch timed out and was terminated",
    ERROR_MISALIGNED_ADDRESS = 716: "misaligned address",
    ERROR_LAUNCH_FAILED = 719: "unspecified launch failure",
    ERROR_NOT_SUPPORTED = 801: "operation not supported",
    ERROR_STREAM_CAPTURE_UNSUPPORTED = 900: "operation not permitted when stream is capturing",
    ERROR_STREAM_CAPTURE_INVALIDATED = 901: "operation failed due to a previous error during capture",
    ERROR_STREAM_CAPTURE_MERGE = 902: "operation would result in a merge of separate capture sequences",
    ERROR_STREAM_CAPTURE_UNMATCHED = 903: "capture was not initiated in this stream",
    ERROR_STREAM_CAPTURE_UNJOINED = 904: "capturing stream has unjoined work",
    ERROR_STREAM_CAPTURE_ISOLATION = 905: "dependency created on uncaptured work in another stream",
    ERROR_STREAM_CAPTURE_WRONG_THREAD = 908: "attempt to terminate a thread-local capture sequence from another thread",
    ERROR_CAPTURED_EVENT = 907: "operation not permitted on an event last recorded in a capturing stream",
}
