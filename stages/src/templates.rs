//! The `templates` kind.
