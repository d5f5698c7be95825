//! The engine on a real disk, with fake stages. Each "change X" test ends by running again: nothing may run then.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod basics;
mod domain;
mod failures;
mod history;
mod nothing;
mod random;
#[cfg(target_os = "linux")]
mod sandbox;
mod shell;
mod support;
