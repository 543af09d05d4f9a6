//! The weights file.
