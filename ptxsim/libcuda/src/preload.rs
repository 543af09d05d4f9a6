//! Puts the stand-in where the driver's library would be looked for.

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
    static LOADED: OnceLock<Result<(), PreloadError>> = OnceLock::new();
    LOADED.get_or_init(load).clone()
}

fn load() -> Result<(), PreloadError> {
    let program = std::env::current_exe().unwrap_or_default();
    let beside = program.parent().map(PathBuf::from).unwrap_or_default();
    let looked = vec![beside.join(FILE), beside.join("deps").join(FILE), beside.join("..").join(FILE)];
    let Some(path) = looked.iter().find(|path| path.is_file()).cloned() else {
        return Err(PreloadError::NotFound { looked });
    };
    // SAFETY: the library is this crate, whose loading runs no code of ours.
    match unsafe { libloading::Library::new(&path) } {
        Ok(library) => {
            // Stays for the life of the process: others look it up by name.
            std::mem::forget(library);
            Ok(())
        }
        Err(error) => Err(PreloadError::NotLoaded { path, reason: error.to_string() }),
    }
}
