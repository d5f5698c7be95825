//! The `split` kind.
