//! The update codec.
