//! What several stages share: tables, ranking metrics, the table of scores.

pub mod metrics;
pub mod scoretable;
pub mod table;
