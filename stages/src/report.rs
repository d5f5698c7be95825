//! The `report` kind.
