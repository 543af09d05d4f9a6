//! The network on the CPU.
