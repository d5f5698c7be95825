//! The `autoencoder` kind.
