//! The `fusion` kind.
