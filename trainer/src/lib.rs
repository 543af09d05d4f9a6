//! Online training.
