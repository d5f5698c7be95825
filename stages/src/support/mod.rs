//! What several stages share: tables, times, sessions, sparse rows, ranking metrics, calibration, model files.

pub mod conformal;
pub mod isotonic;
pub mod learning;
pub mod matrix;
pub mod metrics;
pub mod parquet;
pub mod provenance;
pub mod repeats;
pub mod safetensors;
pub mod scoretable;
pub mod sparse;
pub mod table;
pub mod time;
pub mod traces;
pub mod turns;
