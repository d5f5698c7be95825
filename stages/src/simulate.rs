//! The `simulate` kind.
