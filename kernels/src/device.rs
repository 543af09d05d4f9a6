//! The way to a device: the driver's library, a card that the kernels run on, their functions, a stream.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::sys::{CUdevice_attribute as Attribute, CUfunction_attribute};
use cudarc::driver::{CudaContext, CudaEvent, CudaFunction, CudaModule, CudaStream, DriverError, sys};
use cudarc::nvrtc::Ptx;

use crate::ptx;

/// The oldest driver that reads PTX 8.0, as CUDA numbers it.
const DRIVER_MIN: i32 = 12_000;
/// The oldest cards that the kernels are compiled for: Ampere.
const CAPABILITY_MIN: (i32, i32) = (8, 0);

/// What a kernel may ask for at a launch without a word to the driver before.
const SHARED_BYTES_UNASKED: u32 = 48 * 1024;

/// Why CUDA cannot be used here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unavailable {
    /// The driver's library is not installed.
    #[error("no CUDA driver on this machine (libcuda is not installed)")]
    NoDriver,
    /// The driver is older than the kernels' PTX.
    #[error("the CUDA driver is too old: it knows CUDA {}.{}, needed is 12.0 (R525)", .have / 1000, .have % 1000 / 10)]
    OldDriver {
        /// What it knows, 1000 times the major version plus 10 times the minor.
        have: i32,
    },
    /// The driver has no such device, or cannot open it.
    #[error("the CUDA driver offers no device {device}: {reason}")]
    NoDevice {
        /// The number that was asked for.
        device: usize,
        /// What the driver said.
        reason: String,
    },
    /// The device is older than the kernels.
    #[error("{device} has compute capability {}.{}, needed is 8.0 (Ampere)", .have.0, .have.1)]
    OldDevice {
        /// Its name.
        device: String,
        /// Its compute capability.
        have: (i32, i32),
    },
}

/// The device failed, or its memory is full.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What the driver said.
    #[error("{0}")]
    Driver(String),
    /// The patches do not fit into what they may have.
    #[error("the patches would take {bytes} bytes, allowed are {bytes_max}")]
    Pool {
        /// What they would take.
        bytes: usize,
        /// What they may take.
        bytes_max: usize,
    },
    /// The network or its target holds an infinity or a NaN, at whatever loss scale.
    #[error("the loss is {0}")]
    Loss(f32),
}

impl From<DriverError> for Error {
    fn from(error: DriverError) -> Self {
        Self::Driver(error.to_string())
    }
}

/// A card that can run the kernels.
pub struct Device {
    context: Arc<CudaContext>,
    name: String,
    capability: (i32, i32),
    multiprocessors: u32,
    loaded: Mutex<Loaded>,
}

#[derive(Default)]
struct Loaded {
    modules: HashMap<&'static str, Arc<CudaModule>>,
    functions: HashMap<String, CudaFunction>,
}

impl Device {
    /// Opens the device of that number.
    ///
    /// # Errors
    /// [`Unavailable`] says why it cannot be used.
    pub fn open(ordinal: usize) -> Result<Arc<Self>, Unavailable> {
        // Everything else in cudarc panics where the library is missing.
        // SAFETY: looks for the library and loads it; no function of it is called and no pointer is kept.
        if !unsafe { sys::is_culib_present() } {
            return Err(Unavailable::NoDriver);
        }
        let mut have = 0;
        // SAFETY: the library is there and has had this function from its first version on; it writes one int, and may be
        // called before the driver is initialised. Asked first: an older library lacks functions that cudarc panics without.
        if let Err(error) = unsafe { sys::cuDriverGetVersion(&raw mut have) }.result() {
            return Err(Unavailable::NoDevice { device: ordinal, reason: error.to_string() });
        }
        if have < DRIVER_MIN {
            return Err(Unavailable::OldDriver { have });
        }
        Self::describe(ordinal)
            .map_err(|error| Unavailable::NoDevice { device: ordinal, reason: error.to_string() })
            .and_then(|device| {
                let have = device.capability;
                let fits = have >= CAPABILITY_MIN;
                if fits {
                    Ok(Arc::new(device))
                } else {
                    Err(Unavailable::OldDevice { device: device.name, have })
                }
            })
    }

    fn describe(ordinal: usize) -> Result<Self, DriverError> {
        let context = CudaContext::new(ordinal)?;
        // SAFETY: whatever is allocated is used on one stream alone, in whose order it is also freed, so that no event between
        // streams is needed. While a graph is captured such events would break it.
        unsafe { context.disable_event_tracking() };
        let multiprocessors = context.attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
        Ok(Self {
            name: context.name()?,
            capability: context.compute_capability()?,
            multiprocessors: u32::try_from(multiprocessors).unwrap_or(1).max(1),
            context,
            loaded: Mutex::default(),
        })
    }

    /// What the driver calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Major and minor compute capability.
    pub fn capability(&self) -> (i32, i32) {
        self.capability
    }

    /// How many multiprocessors it has.
    pub fn multiprocessors(&self) -> u32 {
        self.multiprocessors
    }

    /// A kernel of the file `stem`, which the driver compiles at the first call. `shared_bytes` is the most dynamic shared
    /// memory that launches will ask for.
    pub(crate) fn function(
        &self,
        stem: &'static str,
        entry: &str,
        shared_bytes: u32,
    ) -> Result<CudaFunction, Error> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(function) = loaded.functions.get(entry) {
            return Ok(function.clone());
        }
        if !loaded.modules.contains_key(stem) {
            let module = self.context.load_module(Ptx::from_src(ptx::of(stem)))?;
            loaded.modules.insert(stem, module);
        }
        let function = loaded.modules[stem].load_function(entry)?;
        if shared_bytes > SHARED_BYTES_UNASKED {
            let attribute = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            function.set_attribute(attribute, i32::try_from(shared_bytes).unwrap_or(i32::MAX))?;
        }
        loaded.functions.insert(entry.to_owned(), function.clone());
        Ok(function)
    }

    /// An event that knows its time.
    pub(crate) fn timing_event(&self) -> Result<CudaEvent, Error> {
        Ok(self.context.new_event(Some(sys::CUevent_flags::CU_EVENT_DEFAULT))?)
    }

    pub(crate) fn event(&self) -> Result<CudaEvent, Error> {
        Ok(self.context.new_event(None)?)
    }
}

/// A queue of work on a device. All memory that was made with it belongs to it.
#[derive(Clone)]
pub struct Stream {
    device: Arc<Device>,
    pub(crate) cuda: Arc<CudaStream>,
}

impl Stream {
    /// A new one.
    ///
    /// # Errors
    /// If the driver has no room for it.
    pub fn new(device: &Arc<Device>) -> Result<Self, Error> {
        Ok(Self { device: device.clone(), cuda: device.context.new_stream()? })
    }

    /// Where it works.
    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// Waits until all of it is done.
    ///
    /// # Errors
    /// If any of it failed.
    pub fn synchronize(&self) -> Result<(), Error> {
        Ok(self.cuda.synchronize()?)
    }
}
