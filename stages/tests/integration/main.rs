//! Stages against real services and real files: databases, dashboards.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "the whole program is tests: a failed step is a failed test, a skipped one says so"
)]

mod export_faults;
mod export_migrations;
mod export_modes;
mod export_postgresql;
mod export_sqlite;
mod export_tls;
mod fixture;
mod panels;
mod proxy;
mod server;
mod stream_sinks;
