//! The `parse` kind.
