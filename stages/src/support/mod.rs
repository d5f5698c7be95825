//! What several stages share: tables, ranking metrics, times.

pub mod metrics;
pub mod table;
pub mod time;
