//! Generic addresses: where shared and local memory lie among them.

/// Where shared memory lies among generic addresses; global memory is at its own addresses.
pub(crate) const SHARED_WINDOW: u64 = 0x0100_0000_0000;

/// Where local memory lies among generic addresses.
pub(crate) const LOCAL_WINDOW: u64 = 0x0200_0000_0000;

/// Bytes of each window.
pub(crate) const WINDOW_BYTES: u64 = 1 << 32;
