//! What several stages share: tables, sessions, sparse rows, ranking metrics, calibration, model files.

pub mod conformal;
pub mod isotonic;
pub mod learning;
pub mod metrics;
pub mod safetensors;
pub mod scoretable;
pub mod sparse;
pub mod table;
pub mod traces;
