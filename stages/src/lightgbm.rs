//! The `lightgbm` kind.
