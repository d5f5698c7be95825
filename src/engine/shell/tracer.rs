//! Starts a command under its tracer, where the system has one.

use std::io;
use std::process::{Child, Command};

use super::Fence;
use crate::sandbox::Undeclared;

/// Why a watched command cannot be started.
pub(super) enum CannotStart {
    /// The program itself.
    Program(io::Error),
    /// It cannot be watched or held to its rules here.
    Watch(String),
}

impl From<io::Error> for CannotStart {
    fn from(error: io::Error) -> Self {
        Self::Program(error)
    }
}

#[cfg(target_os = "linux")]
pub(super) struct Tracer(crate::sandbox::Tracing);

#[cfg(target_os = "linux")]
impl Tracer {
    /// Ends the tracer; returns what it saw.
    pub(super) fn end(self) -> io::Result<Undeclared> {
        self.0.end()?.ok_or_else(|| io::Error::other("it never saw the command"))
    }
}

/// Starts a command that is watched.
#[cfg(target_os = "linux")]
pub(super) fn spawn(mut command: Command, fence: &Fence) -> Result<(Child, Tracer), CannotStart> {
    let mut tracing = crate::sandbox::begin(&mut command, &fence.rules, fence.strict).map_err(CannotStart::Watch)?;
    let spawned = command.spawn();
    tracing.started();
    match spawned {
        Ok(child) => Ok((child, Tracer(tracing))),
        Err(error) => Err(match tracing.end() {
            // It was confined, so it is the program that cannot be started.
            Ok(Some(_)) => CannotStart::Program(error),
            Ok(None) => CannotStart::Watch(format!("the kernel refuses to have it traced ({error})")),
            Err(why) => CannotStart::Watch(format!("the tracer failed: {why}")),
        }),
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) struct Tracer;

#[cfg(not(target_os = "linux"))]
impl Tracer {
    pub(super) fn end(self) -> io::Result<Undeclared> {
        Ok(Undeclared::default())
    }
}

/// Starts nothing: only Linux lets a command be watched.
#[cfg(not(target_os = "linux"))]
pub(super) fn spawn(_: Command, _: &Fence) -> Result<(Child, Tracer), CannotStart> {
    Err(CannotStart::Watch("it needs seccomp and Landlock, which only Linux has".to_owned()))
}
