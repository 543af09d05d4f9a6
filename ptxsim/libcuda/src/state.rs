//! What lives behind the handles: memory, modules, streams, events, graphs.
//!
//! Handles are numbers in tables, dressed as pointers, so that a stale or foreign one is an error and not undefined
//! behaviour. Work runs when it is enqueued: the order of enqueueing is one of the orders that streams allow.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::Instant;

use hone_ptxsim::{
    Arg, Fault, FaultKind, Launch, LaunchError, Loaded, Memory, MemoryError, Module, Options,
    SHARED_BYTES_DEFAULT, Stats,
};

use crate::settings::Settings;
use crate::status::*;

/// A kernel of a loaded module.
#[derive(Debug)]
pub(crate) struct Function {
    pub module: u64,
    pub name: String,
    /// Dynamic shared memory that was opted in to, in bytes.
    pub dynamic_shared_max: u32,
}

/// One piece of work of a stream. Host pointers are kept as they were given: a graph reads and writes them at each
/// launch, as the driver does.
#[derive(Clone, Debug)]
pub(crate) enum Work {
    Launch { loaded: Loaded, name: Arc<str>, launch: Launch, args: Arc<[Arg]>, shared_max: u32 },
    HostToDevice { to: u64, from: usize, bytes: usize },
    DeviceToHost { to: usize, from: u64, bytes: usize },
    DeviceToDevice { to: u64, from: u64, bytes: u64 },
    Fill { at: u64, value: [u8; 4], width: usize, count: u64 },
    Call { function: usize, data: usize },
}

/// A stream.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    /// The capture that this stream is part of.
    pub capture: Option<u64>,
}

/// Whose calls that wait or allocate a capture forbids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum CaptureMode {
    /// Those of every thread.
    #[default]
    Global,
    /// Those of the thread that captures.
    ThreadLocal,
    /// Nobody's.
    Relaxed,
}

/// A capture under way.
#[derive(Debug, Default)]
pub(crate) struct Capture {
    pub origin: u64,
    pub work: Vec<Work>,
    pub invalid: bool,
    pub mode: CaptureMode,
    /// The thread that began it.
    pub thread: Option<ThreadId>,
    /// Streams that took part and were not joined again.
    pub forked: Vec<u64>,
}

/// An event.
#[derive(Debug, Default)]
pub(crate) struct Event {
    pub recorded: Option<Instant>,
    /// The capture in which it was recorded, and the stream.
    pub captured: Option<(u64, u64)>,
}

/// Everything.
pub(crate) struct State {
    pub settings: Settings,
    pub initialised: bool,
    pub contexts: u32,
    pub memory: Memory,
    pub next: u64,
    pub modules: HashMap<u64, Loaded>,
    pub functions: HashMap<u64, Function>,
    pub streams: HashMap<u64, Stream>,
    pub captures: HashMap<u64, Capture>,
    pub events: HashMap<u64, Event>,
    pub graphs: HashMap<u64, Arc<[Work]>>,
    pub executables: HashMap<u64, Arc<[Work]>>,
    /// Host memory by address: the allocation's own 16-byte words.
    pub pinned: HashMap<usize, Box<[u128]>>,
    /// An error that stays, as on the device.
    pub sticky: Option<Status>,
    /// What ran and was not yet appended to the file of counts.
    pub stats: BTreeMap<String, Stats>,
    /// What was.
    pub appended: BTreeMap<String, Stats>,
}

static STATE: LazyLock<Mutex<State>> = LazyLock::new(|| Mutex::new(State::new()));

/// The stream that a handle of zero names.
pub(crate) const DEFAULT_STREAM: u64 = 0;

impl State {
    fn new() -> Self {
        let settings = Settings::from_environment();
        let memory = Memory::new(settings.memory_bytes);
        Self {
            settings,
            initialised: false,
            contexts: 0,
            memory,
            next: 0x1000,
            modules: HashMap::new(),
            functions: HashMap::new(),
            streams: HashMap::from([(DEFAULT_STREAM, Stream::default())]),
            captures: HashMap::new(),
            events: HashMap::new(),
            graphs: HashMap::new(),
            executables: HashMap::new(),
            pinned: HashMap::new(),
            sticky: None,
            stats: BTreeMap::new(),
            appended: BTreeMap::new(),
        }
    }

    /// A number that was no handle yet, with the alignment of a pointer.
    pub(crate) fn handle(&mut self) -> u64 {
        self.next += 16;
        self.next
    }

    /// Loads a module.
    pub(crate) fn load(&mut self, text: &str) -> Result<u64, Status> {
        let module = Module::parse(text).map_err(|error| {
            eprintln!("ptxsim: {error}");
            ERROR_INVALID_PTX
        })?;
        // A driver reads PTX up to the version of its own toolkit, 7.0 for CUDA 11.0 and 8.0 for CUDA 12.0.
        let newest = match self.settings.driver_version {
            version @ 12000.. => 80 + (version - 12000) / 10,
            version => 70 + (version - 11000) / 10,
        };
        let version = (module.version.0 * 10 + module.version.1) as i32;
        if version > newest {
            eprintln!("ptxsim: PTX {}.{} is newer than this driver", module.version.0, module.version.1);
            return Err(ERROR_UNSUPPORTED_PTX_VERSION);
        }
        let target = module.target.strip_prefix("sm_").unwrap_or_default();
        let (number, exact) = target.strip_suffix('a').map_or((target, false), |number| (number, true));
        let sm: u32 = number.parse().map_err(|_| ERROR_INVALID_PTX)?;
        if sm > self.settings.sm || exact && sm != self.settings.sm {
            eprintln!(
                "ptxsim: target {} on a device of compute capability {}",
                module.target, self.settings.sm
            );
            return Err(ERROR_NO_BINARY_FOR_GPU);
        }
        let loaded = Arc::new(module).load(&mut self.memory).map_err(memory_status)?;
        let handle = self.handle();
        self.modules.insert(handle, loaded);
        Ok(handle)
    }

    /// Runs work now, or notes it if its stream is captured.
    pub(crate) fn enqueue(&mut self, stream: u64, work: Work) -> Result<(), Status> {
        self.healthy()?;
        let capture = self.streams.get(&stream).ok_or(ERROR_INVALID_HANDLE)?.capture;
        if let Some(capture) = capture {
            let capture = self.captures.get_mut(&capture).ok_or(ERROR_INVALID_HANDLE)?;
            if capture.invalid {
                return Err(ERROR_STREAM_CAPTURE_INVALIDATED);
            }
            capture.work.push(work);
            return Ok(());
        }
        self.perform(&work)
    }

    /// Fails with the error that stays, if there is one.
    pub(crate) fn healthy(&self) -> Result<(), Status> {
        if !self.initialised {
            return Err(ERROR_NOT_INITIALIZED);
        }
        self.sticky.map_or(Ok(()), Err)
    }

    /// Fails and spoils the captures that forbid it: for calls that wait or allocate.
    pub(crate) fn not_capturing(&mut self) -> Result<(), Status> {
        let this = std::thread::current().id();
        let forbids = |capture: &Capture| match capture.mode {
            CaptureMode::Global => true,
            CaptureMode::ThreadLocal => capture.thread == Some(this),
            CaptureMode::Relaxed => false,
        };
        let mut strict = self.captures.values_mut().filter(|capture| forbids(capture)).peekable();
        if strict.peek().is_none() {
            return Ok(());
        }
        strict.for_each(|capture| capture.invalid = true);
        Err(ERROR_STREAM_CAPTURE_UNSUPPORTED)
    }

    pub(crate) fn perform(&mut self, work: &Work) -> Result<(), Status> {
        match work {
            Work::Launch { loaded, name, launch, args, shared_max } => {
                let options = Options { shared_bytes_max: *shared_max, ..self.settings.options.clone() };
                match loaded.launch(name, &self.memory, launch, args, &options) {
                    Ok(stats) => {
                        crate::report::merge(&mut self.stats, name, stats);
                        Ok(())
                    }
                    Err(LaunchError::Fault(fault)) => Err(self.fail(&fault)),
                    Err(error) => {
                        eprintln!("ptxsim: {error}");
                        Err(ERROR_INVALID_VALUE)
                    }
                }
            }
            Work::HostToDevice { to, from, bytes } => {
                let memory = &self.memory;
                crate::host::with_slice(*from, *bytes, |data| memory.write(*to, data))
                    .map_err(|e| self.bad_copy(&e))
            }
            Work::DeviceToHost { to, from, bytes } => {
                let memory = &self.memory;
                crate::host::with_slice_mut(*to, *bytes, |data| memory.read(*from, data))
                    .map_err(|e| self.bad_copy(&e))
            }
            Work::DeviceToDevice { to, from, bytes } => {
                self.memory.copy(*to, *from, *bytes).map_err(|e| self.bad_copy(&e))
            }
            Work::Fill { at, value, width, count } => {
                self.memory.fill(*at, &value[..*width], *count).map_err(|e| self.bad_copy(&e))
            }
            Work::Call { function, data } => {
                crate::host::call(*function, *data);
                Ok(())
            }
        }
    }

    fn bad_copy(&self, error: &MemoryError) -> Status {
        eprintln!("ptxsim: copy: {error}");
        memory_status(error.clone())
    }

    fn fail(&mut self, fault: &Fault) -> Status {
        eprintln!("ptxsim: {fault}");
        let status = match fault.kind {
            FaultKind::OutOfBounds { .. } => ERROR_ILLEGAL_ADDRESS,
            FaultKind::Misaligned { .. } => ERROR_MISALIGNED_ADDRESS,
            FaultKind::InstructionLimit { .. } => ERROR_LAUNCH_TIMEOUT,
            _ => ERROR_LAUNCH_FAILED,
        };
        self.sticky = Some(status);
        status
    }

    /// A launch as the driver takes it; `read` gives the bytes of the parameter of that number.
    pub(crate) fn launch(
        &self,
        function: u64,
        launch: Launch,
        read: impl Fn(usize, u32, u32) -> Option<Vec<u8>>,
    ) -> Result<Work, Status> {
        let function = self.functions.get(&function).ok_or(ERROR_INVALID_HANDLE)?;
        let loaded = self.modules.get(&function.module).ok_or(ERROR_INVALID_HANDLE)?.clone();
        let kernel = loaded.module.kernel(&function.name).ok_or(ERROR_INVALID_HANDLE)?;
        let threads = launch.block.iter().map(|size| u64::from(*size)).product::<u64>();
        let too_much_shared = launch.dynamic_shared > function.dynamic_shared_max;
        if launch.grid.contains(&0) || threads == 0 || threads > 1024 || too_much_shared {
            eprintln!(
                "ptxsim: {}: grid {:?}, block {:?}, {} bytes of dynamic shared memory (opted in to {}) refused",
                function.name, launch.grid, launch.block, launch.dynamic_shared, function.dynamic_shared_max
            );
            return Err(ERROR_INVALID_VALUE);
        }
        let mut args = Vec::new();
        for (index, param) in kernel.params.iter().enumerate() {
            args.push(Arg::bytes(&read(index, param.offset, param.bytes).ok_or(ERROR_INVALID_VALUE)?));
        }
        let shared_max = kernel.shared_bytes + function.dynamic_shared_max;
        let name = function.name.as_str().into();
        Ok(Work::Launch { loaded, name, launch, args: args.into(), shared_max })
    }

    /// Opts a function in to more dynamic shared memory.
    pub(crate) fn set_dynamic_shared(&mut self, function: u64, bytes: i32) -> Result<(), Status> {
        let optin = self.settings.shared_bytes_optin();
        let function = self.functions.get_mut(&function).ok_or(ERROR_INVALID_HANDLE)?;
        let loaded = self.modules.get(&function.module).ok_or(ERROR_INVALID_HANDLE)?;
        let fixed = loaded.module.kernel(&function.name).map_or(0, |kernel| kernel.shared_bytes);
        let bytes = u32::try_from(bytes).map_err(|_| ERROR_INVALID_VALUE)?;
        if bytes.saturating_add(fixed) > optin {
            return Err(ERROR_INVALID_VALUE);
        }
        function.dynamic_shared_max = bytes.max(SHARED_BYTES_DEFAULT.saturating_sub(fixed));
        Ok(())
    }
}

pub(crate) fn memory_status(error: MemoryError) -> Status {
    match error {
        MemoryError::Full { .. } => ERROR_OUT_OF_MEMORY,
        _ => ERROR_INVALID_VALUE,
    }
}

/// The state, for one caller at a time.
pub(crate) fn state() -> MutexGuard<'static, State> {
    // A panic while it was held leaves the tables as they were; the next call says what is wrong.
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}
