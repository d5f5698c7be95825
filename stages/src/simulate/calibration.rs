//! Real against simulated statistics.
