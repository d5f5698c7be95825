//! What several stages share: tables, ranking metrics.

pub mod metrics;
pub mod table;
