//! A declarative, content-hashing workflow engine.
//!
//! Data flows one way:
//!
//! ```text
//! spec ──► graph ──► plan ◄─► execute ──► run log ──► history / lineage / verify
//! text     DAG       decide   run+publish  records     read the records
//! ```
//!
//! Pure (no files, clock, environment or threads; take values, give values): `spec`, `graph`, `key`, `plan`,
//! `schedule`, `critical`, `forecast`, `wiring`, `lineage`, `draw`. IO, each behind a small interface: `sources`,
//! `statcache`, `store`, `publish`, `shell`, `runlog`, `index`, `survey`, `work`, `execute`. The [`engine`] module is the
//! façade that the program uses. Two shortcuts lie before it and change nothing it says: `compiled` keeps a checked
//! pipeline between starts, and `quick` finds out from the `snapshot` of the last run that nothing has to be done.
//!
//! Invariant: the engine has no word for what stages compute; it knows files, digests, commands and parameters.
//! Invariant: a stage sees its declared inputs, its parameters, scratch output paths, a thread budget and an event
//! sink; no cache path, no final path, no other stage, no clock, no undeclared environment.
//! Invariant: only the coordinator thread of `execute` changes a stage's state and writes the run log and the index.
//! Invariant: same key, same bytes. The key is made of content digests, never of upstream keys, times or places.
//! Invariant: a record is written after its outputs; a crash leaves an unreferenced object, never a wrong record.
//! Invariant: nothing here prints; what happens is an [`event::Event`].

mod asking;
mod backwards;
pub mod bundle;
pub mod carried;
pub mod commit;
pub mod compare;
pub mod compiled;
pub mod critical;
pub mod difference;
pub mod digest;
pub mod draw;
pub mod engine;
pub mod error;
pub mod event;
pub mod execute;
pub mod export;
pub mod failpoint;
mod fast;
pub mod forecast;
pub mod gc;
pub mod graph;
pub mod history;
pub mod index;
pub mod key;
mod leftovers;
pub mod lineage;
pub mod lockfile;
pub mod logfile;
pub mod manifest;
pub mod map;
mod memory;
pub mod metrics;
mod offline;
mod origins;
pub mod outside;
pub mod pieces;
pub mod plan;
pub mod project;
pub mod publish;
mod questions;
pub mod quick;
pub mod reads;
pub mod records;
pub mod rerun;
mod restore;
pub mod runlog;
pub mod runmap;
pub mod sandbox;
pub mod schedule;
pub mod schema;
pub mod shell;
pub mod sign;
pub mod snapshot;
pub mod sources;
pub mod spec;
pub mod stage;
pub mod statcache;
pub mod store;
pub mod suggest;
pub mod survey;
mod targets;
pub mod verify;
pub mod wiring;
pub mod work;
