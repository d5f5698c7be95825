//! The `label` kind.
