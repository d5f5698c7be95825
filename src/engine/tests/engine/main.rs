//! The engine on a real disk, with fake stages. Each "change X" test ends by running again: nothing may run then.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod basics;
mod compare;
mod complaints;
mod crash;
mod damage;
mod declared;
mod disk;
mod domain;
mod failures;
mod gc;
mod history;
mod lineage;
mod map;
mod map_random;
mod nothing;
mod random;
mod rerun;
#[cfg(target_os = "linux")]
mod sandbox;
mod shell;
mod store;
mod support;
mod tamper;
