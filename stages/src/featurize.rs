//! The `featurize` kind.
