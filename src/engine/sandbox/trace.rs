//! The tracer: a thread beside a running command that is asked about every call with a path.
//!
//! No call is left without an answer: if the tracer cannot go on, the descriptor of the notifications is closed, after
//! which the kernel fails the calls, and the stage fails with the tracer's error.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::{self, PipeReader, PipeWriter, Read as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal, pidfd_getfd, pidfd_open, pidfd_send_signal};

use super::calls::{Argument, paths, watched};
use super::{Access, Rules, Undeclared, fence, kernel};

type Seen = BTreeMap<PathBuf, BTreeSet<Access>>;

/// A tracer at work.
pub(crate) struct Tracing {
    rules: Rules,
    thread: JoinHandle<io::Result<Option<Seen>>>,
    /// The command's ends, to be closed once it has started.
    theirs: Option<(PipeWriter, Option<OwnedFd>)>,
    stop: PipeWriter,
}

/// Prepares a command, not yet started, to be traced, and with `strict` to be held to the rules.
///
/// # Errors
/// The system lacks what is needed; the text says what.
pub(crate) fn begin(command: &mut Command, rules: &Rules, strict: bool) -> Result<Tracing, String> {
    if !kernel::KNOWS_PROCESSOR {
        return Err("only x86-64 and arm64 are traced".to_owned());
    }
    let landlock = match strict {
        true => Some(
            fence::ruleset(rules)
                .map_err(|e| format!("Landlock cannot be set up: {e}"))?
                .ok_or("this kernel has no Landlock (Linux 5.13 or newer, and `landlock` among its `lsm=`)")?,
        ),
        false => None,
    };
    let pipe = || io::pipe().map_err(|e| format!("cannot make a pipe: {e}"));
    let ((told, tell), (stopped, stop)) = (pipe()?, pipe()?);
    let filter = kernel::filter(&watched());
    kernel::confine(command, filter, landlock.as_ref().map(|fd| fd.as_raw_fd()), tell.as_raw_fd());
    let mine = rules.clone();
    let work = move || supervise(told, &stopped, &mine, strict);
    let thread = std::thread::Builder::new().name("tracer".to_owned()).spawn(work);
    let thread = thread.map_err(|e| format!("cannot start a thread: {e}"))?;
    Ok(Tracing { rules: rules.clone(), thread, theirs: Some((tell, landlock)), stop })
}

impl Tracing {
    /// Lets go of the command's ends: it has started, or could not be.
    pub(crate) fn started(&mut self) {
        self.theirs = None;
    }

    /// Ends the tracer; returns what it saw, or `None` if the command never came to be traced.
    ///
    /// # Errors
    /// The tracer failed on the way.
    pub(crate) fn end(self) -> io::Result<Option<Undeclared>> {
        let Self { rules, thread, theirs, stop } = self;
        drop((theirs, stop));
        let seen = thread.join().unwrap_or_else(|_| Err(io::Error::other("the tracer panicked")))?;
        Ok(seen.map(|seen| rules.name(&seen)))
    }
}

fn supervise(mut told: PipeReader, stopped: &PipeReader, rules: &Rules, strict: bool) -> io::Result<Option<Seen>> {
    let mut message = [0; 8];
    // Nothing comes if the command cannot be confined.
    if told.read_exact(&mut message).is_err() {
        return Ok(None);
    }
    let number = |at: usize| i32::from_ne_bytes([message[at], message[at + 1], message[at + 2], message[at + 3]]);
    let process = Pid::from_raw(number(0)).ok_or_else(|| io::Error::other("the command has no process id"))?;
    let handle = pidfd_open(process, PidfdFlags::empty())?;
    let listener = match pidfd_getfd(&handle, number(4), PidfdGetfdFlags::empty()) {
        Ok(listener) => listener,
        Err(e) => {
            // It waits for an answer that nobody could give.
            let _ = pidfd_send_signal(&handle, Signal::KILL);
            return Err(e.into());
        }
    };
    drop(handle);
    kernel::wake_at_once(listener.as_fd());
    let mut seen = Seen::new();
    loop {
        let mut fds = [PollFd::new(&listener, PollFlags::IN), PollFd::new(stopped, PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(e) => return Err(e.into()),
        }
        let [asked, stop] = [fds[0].revents(), fds[1].revents()];
        if !asked.contains(PollFlags::IN) {
            // Nobody is left who could ask, or nobody who should.
            if !asked.is_empty() || !stop.is_empty() {
                return Ok(Some(seen));
            }
            continue;
        }
        let notification = match kernel::receive(listener.as_fd()) {
            Ok(notification) => notification,
            // The one who asked is gone, or was interrupted.
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => continue,
            Err(e) => return Err(e),
        };
        let (pid, data) = (notification.pid, notification.data);
        let mut goes_on = true;
        for argument in paths(data.nr.into(), &data.args, |at| kernel::word(pid, at)) {
            let Some((path, access)) = target(pid, &argument, rules) else { continue };
            // The process must still be the one that asked, or something else was looked at.
            if !rules.allow(&path, access) && kernel::is_valid(listener.as_fd(), notification.id) {
                goes_on &= !strict;
                seen.entry(path).or_default().insert(access);
            }
        }
        match kernel::answer(listener.as_fd(), notification.id, goes_on) {
            Ok(()) => {}
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => {}
            Err(e) => return Err(e),
        }
    }
}

/// Returns what a call is about, if it is of interest: the path without links and what is done to it.
fn target(pid: u32, argument: &Argument, rules: &Rules) -> Option<(PathBuf, Access)> {
    let text = kernel::string(pid, argument.at).filter(|text| !text.is_empty())?;
    let written = PathBuf::from(OsString::from_vec(text));
    let path = match (written.is_absolute(), argument.folder) {
        (true, _) => written,
        (false, libc::AT_FDCWD) => std::fs::read_link(format!("/proc/{pid}/cwd")).ok()?.join(written),
        (false, fd) => std::fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok()?.join(written),
    };
    let path = of_process(pid, path);
    let up = path.components().any(|part| part == std::path::Component::ParentDir);
    // The usual case, and the one that needs no look at the disk.
    if argument.access != Access::Write && !up && !path.starts_with("/proc") && rules.is_system(&path) {
        return None;
    }
    // Terminals, pipes and the like under their names.
    if path.starts_with("/dev") && !up {
        return None;
    }
    let below = |path: &Path| Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?));
    let real = match argument.follow {
        true => path.canonicalize().ok().or_else(|| below(&path))?,
        false => below(&path).or_else(|| path.canonicalize().ok())?,
    };
    let there = real.symlink_metadata().ok();
    let access = match (argument.access, &there) {
        (Access::Read, None) if argument.makes => Access::Write,
        // What is not there cannot be read or changed: programs look in many places.
        (_, None) if !argument.makes => return None,
        (Access::Read, Some(meta)) if meta.is_dir() => Access::List,
        // Making a folder that is there already does nothing.
        (Access::Write, Some(meta)) if meta.is_dir() && argument.makes => return None,
        (access, _) => access,
    };
    Some((real, access))
}

/// Replaces `/proc/self` by the process that is meant.
fn of_process(pid: u32, path: PathBuf) -> PathBuf {
    let own = ["/proc/self", "/proc/thread-self"].iter().find_map(|own| path.strip_prefix(own).ok());
    own.map(|rest| Path::new("/proc").join(pid.to_string()).join(rest)).unwrap_or(path)
}
