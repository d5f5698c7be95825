//! The program as a user meets it: every test runs the binary in a project of its own.

mod errors;
mod history;
mod incremental;
mod interrupt;
mod shapes;
mod shipped;
mod support;
