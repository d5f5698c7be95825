//! The `export` kind.
