//! Runs compiled CUDA kernels (PTX) on the CPU, 32 lanes per instruction, and says where they are wrong.
//!
//! ```
//! use std::sync::Arc;
//! use hone_ptxsim::{Launch, Memory, Module, Options};
//!
//! let text = "
//!     .version 8.0
//!     .target sm_80
//!     .address_size 64
//!     .visible .entry twice(.param .u64 p)
//!     {
//!         .reg .b32 %r<3>;
//!         .reg .b64 %rd<4>;
//!         ld.param.u64 %rd1, [p];
//!         mov.u32 %r1, %tid.x;
//!         mul.wide.u32 %rd2, %r1, 4;
//!         add.s64 %rd3, %rd1, %rd2;
//!         ld.global.u32 %r2, [%rd3];
//!         shl.b32 %r2, %r2, 1;
//!         st.global.u32 [%rd3], %r2;
//!         ret;
//!     }";
//! let mut memory = Memory::default();
//! let module = Arc::new(Module::parse(text)?).load(&mut memory)?;
//! let buffer = memory.allocate(8)?;
//! memory.write(buffer, &[1, 0, 0, 0, 21, 0, 0, 0])?;
//! let launch = Launch { grid: [1, 1, 1], block: [2, 1, 1], dynamic_shared: 0 };
//! let stats = module.launch("twice", &memory, &launch, &[buffer.into()], &Options::default())?;
//! assert_eq!(memory.read_vec(buffer, 8)?, [2, 0, 0, 0, 42, 0, 0, 0]);
//! assert_eq!(stats.instructions, 8);
//! // One thread more than the buffer has elements:
//! let launch = Launch { block: [3, 1, 1], ..launch };
//! let error = module.launch("twice", &memory, &launch, &[buffer.into()], &Options::default()).unwrap_err();
//! assert!(error.to_string().contains("thread [2, 0, 0]: global access of 4 bytes"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! See `README.md` for what is checked and what cannot be shown.
#![forbid(unsafe_code)]

mod decode;
mod error;
mod exec;
mod half;
mod lex;
mod memory;
mod module;
mod op;
mod stats;
mod text;
mod types;

pub use error::{Fault, FaultKind, LaunchError, ParseError, ParseErrorKind, Space};
pub use exec::{Arg, Checks, Launch, Options, SHARED_BYTES_DEFAULT, SHARED_BYTES_MAX, Schedule};
pub use memory::{Memory, MemoryError};
pub use module::{Global, Kernel, Loaded, Module, Param};
pub use stats::Stats;
pub use types::Type;
