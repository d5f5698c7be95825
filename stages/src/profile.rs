//! The `profile` kind.
