//! The binaries' parts: each end of the system first as a plain object without sockets or clocks
//! ([`camera`], [`learner`], [`screen`]), then the task that moves its bytes ([`sender`], [`server`], [`viewer`]).
#![forbid(unsafe_code)]

pub mod auto_scale;
pub mod base;
pub mod bench;
pub mod camera;
pub mod cli;
pub mod clip;
pub mod crop;
mod demand;
pub mod demo;
pub mod dial;
pub mod ingest;
pub mod input;
#[cfg(feature = "lab")]
pub mod lab;
pub mod learner;
pub mod mask;
pub mod page;
pub mod patch;
pub mod picture;
pub mod placement;
pub mod plain;
pub mod quality;
pub mod report;
pub mod scene;
pub mod screen;
pub mod sender;
pub mod server;
pub mod settings;
pub mod sound;
pub mod tokens;
pub mod top;
mod turns;
pub mod uplink;
pub mod viewer;
#[cfg(feature = "window")]
pub mod window;
