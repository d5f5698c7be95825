//! The `sessionize` kind.
