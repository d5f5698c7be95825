//! The engine on a real disk, with fake stages. Each "change X" test ends by running again: nothing may run then.

mod basics;
mod failures;
mod history;
mod shell;
mod support;
