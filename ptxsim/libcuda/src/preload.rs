//! Puts the stand-in where the driver's library would be looked for.

use core::ffi::c_void;
use std::path::PathBuf;
use std::sync::OnceLock;

/// Name of the file that cargo builds.
const FILE: &str = "libhone_ptxsim_libcuda.so";

/// Why the stand-in could not be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PreloadError {
    /// The file is in none of the places where cargo puts it.
    NotFound {
        /// Where it was looked for.
        looked: Vec<PathBuf>,
    },
    /// It could not be opened.
    NotLoaded {
        /// The file.
        path: PathBuf,
        /// What the loader said.
        reason: String,
    },
}

impl std::error::Error for PreloadError {}

impl std::fmt::Display for PreloadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotFound { looked } => write!(f, "{FILE} is in none of {looked:?}"),
            Self::NotLoaded { path, reason } => write!(f, "{}: {reason}", path.display()),
        }
    }
}

/// Loads the stand-in from beside the running program (`target/<profile>/deps` or its parent), so that a later
/// `dlopen("libcuda.so.1")` in this process finds it by its name. Call it before the first use of CUDA; calling it
/// again does nothing.
///
/// A driver installed as `libcuda.so` (the name for linking, with the toolkit) is found first by cudarc, and wins.
///
/// # Errors
/// [`PreloadError`] if the file is not there or cannot be loaded.
pub fn preload() -> Result<(), PreloadError> {
    LOADED.get_or_init(load).as_ref().map(|_| ()).map_err(PreloadError::clone)
}

/// What ran on the preloaded stand-in in this process so far: the lines that `PTXSIM_STATS` has, a kernel each. Empty
/// where it was not preloaded.
pub fn stats() -> String {
    type Take = unsafe extern "C" fn(*mut c_void, *const u8, usize);
    /// # Safety
    /// `text` is a `Vec<u8>`; `data` is valid for `len` bytes.
    unsafe extern "C" fn take(text: *mut c_void, data: *const u8, len: usize) {
        // SAFETY: the caller's promise.
        let (text, data) = unsafe { (&mut *text.cast::<Vec<u8>>(), core::slice::from_raw_parts(data, len)) };
        text.extend_from_slice(data);
    }
    let Some(Ok(library)) = LOADED.get() else { return String::new() };
    let mut text = Vec::<u8>::new();
    // SAFETY: the library is this crate, where `ptxsim_stats` has this type; it calls `take` with what it is given.
    unsafe {
        if let Ok(stats) = library.get::<unsafe extern "C" fn(Take, *mut c_void)>(b"ptxsim_stats\0") {
            stats(take, (&raw mut text).cast());
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// The library, which stays for the life of the process: others look it up by name.
static LOADED: OnceLock<Result<libloading::Library, PreloadError>> = OnceLock::new();

fn load() -> Result<libloading::Library, PreloadError> {
    let program = std::env::current_exe().unwrap_or_default();
    let beside = program.parent().map(PathBuf::from).unwrap_or_default();
    let looked = vec![beside.join(FILE), beside.join("deps").join(FILE), beside.join("..").join(FILE)];
    let Some(path) = looked.iter().find(|path| path.is_file()).cloned() else {
        return Err(PreloadError::NotFound { looked });
    };
    // SAFETY: the library is this crate, whose loading runs no code of ours.
    unsafe { libloading::Library::new(&path) }
        .map_err(|error| PreloadError::NotLoaded { path, reason: error.to_string() })
}
