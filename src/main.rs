//! logweir: arguments → registry → command → exit code; nothing else.

mod cli;
mod commands;
mod emit;
mod hooks;
mod render;
mod serve;
mod trail;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::Cli;
use crate::render::Screen;
use crate::render::diagnostic::Failure;

/// Memory is given back by other threads than took it, by stages and by what reads ahead: with the system's allocator they
/// wait for each other.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let screen = Screen::new(&cli.global);
    start_tracing();
    let result = catch_unwind(AssertUnwindSafe(|| commands::execute(&cli, &screen)))
        .unwrap_or_else(|_| Err(Failure::bug("logweir panicked; the message is above")));
    match result {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            failure.show(&screen);
            ExitCode::from(failure.exit_code())
        }
    }
}

/// `LOGWEIR_LOG=debug` (or `logweir_engine=trace,…`) shows what engine and stages trace, on stderr; off by default.
fn start_tracing() {
    if std::env::var_os("LOGWEIR_LOG").is_some() {
        let filter = tracing_subscriber::EnvFilter::from_env("LOGWEIR_LOG");
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    }
}
