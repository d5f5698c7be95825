//! The `evaluate` kind.
