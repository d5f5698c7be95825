//! The program as a user meets it: every test runs the binary in a project of its own.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod audit;
mod compare;
mod cut_logs;
mod drift;
mod emit;
mod errors;
mod explain;
mod export;
mod first_steps;
mod formats;
mod history;
mod incremental;
mod interrupt;
mod lineage;
mod other_logs;
mod score;
mod score_hooks;
mod serve;
mod shapes;
mod shipped;
mod study;
mod support;
mod unlabelled;
mod verify;
mod watch;
