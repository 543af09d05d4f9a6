//! Online training: what to learn from, when to step, what to publish.
//!
//! No network, no clock, no async: patches come in with [`Trainer::add`], work is done by [`Trainer::step`],
//! and what comes out is [`Event::Published`], ready for the wire. The same calls with the same seed on the
//! same backend give the same bytes.
#![forbid(unsafe_code)]

mod buffer;
mod config;
mod gain;
mod held_out;
mod library;
mod shares;
mod trainer;

pub use buffer::{Pair, PairError, SIDE_MAX};
pub use config::Config;
pub use library::{Library, LibraryError};
pub use shares::{Shares, StreamId};
pub use trainer::{AddError, Event, Publication, State, Trainer};
