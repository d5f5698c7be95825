//! Stages against real services and real files: databases, dashboards.

mod export_postgresql;
mod export_sqlite;
mod fixture;
mod panels;
mod server;
