//! What a running command prints: read where the command is waited for, masked line by line, written to its log.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, PipeReader, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How many lines of the log a failure shows.
const TAIL: usize = 20;
/// A command that prints so much without a newline must not fill the memory.
const LONGEST: usize = 1 << 20;

/// The reading end, and what became of what was read.
pub(super) struct Output<'a> {
    reader: PipeReader,
    open: bool,
    path: &'a Path,
    log: Option<File>,
    /// A full disk must not stop the command: its log is then incomplete.
    broken: bool,
    masked: &'a [String],
    buffer: Vec<u8>,
    pending: Vec<u8>,
    tail: VecDeque<String>,
}

impl<'a> Output<'a> {
    pub(super) fn new(reader: PipeReader, path: &'a Path, masked: &'a [String]) -> Self {
        let (buffer, pending, tail) = (Vec::new(), Vec::new(), VecDeque::new());
        Self { reader, open: true, path, log: None, broken: false, masked, buffer, pending, tail }
    }

    /// Returns whether something may still print.
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// Takes what was printed, or waits for it, for `child` to become readable, or for the time to pass; returns
    /// whether `child` is readable.
    pub(super) fn attend(&mut self, child: Option<BorrowedFd<'_>>, wait: Duration) -> bool {
        let Self { reader, open, .. } = self;
        let mut fds = Vec::with_capacity(2);
        fds.extend(child.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        if *open {
            fds.push(PollFd::new(reader, PollFlags::IN));
        }
        if fds.is_empty() {
            std::thread::sleep(wait);
            return false;
        }
        let wait = Timespec::try_from(wait).unwrap_or_default();
        // An interrupted wait is a wait that was short.
        if poll(&mut fds, Some(&wait)).is_err() {
            return false;
        }
        let over = child.is_some() && !fds[0].revents().is_empty();
        let printed = *open && fds.last().is_some_and(|fd| !fd.revents().is_empty());
        drop(fds);
        if printed {
            self.take();
        }
        over
    }

    /// Takes what is still in the pipe, without waiting for whoever may hold its other end.
    pub(super) fn drain(&mut self) {
        while self.open {
            let mut fds = [PollFd::from_borrowed_fd(self.reader.as_fd(), PollFlags::IN)];
            match poll(&mut fds, Some(&Timespec::default())) {
                Ok(0) | Err(_) => break,
                Ok(_) => self.take(),
            }
        }
    }

    /// Ends the last line; returns the last lines. A failed command has a log even if it printed nothing.
    pub(super) fn finish(mut self, failed: bool) -> Vec<String> {
        self.drain();
        if !self.pending.is_empty() {
            self.pending.push(b'\n');
            self.lines();
        }
        if failed && self.log.is_none() {
            self.write(b"");
        }
        self.tail.into()
    }

    /// Reads once; the pipe is known to be readable or at its end.
    fn take(&mut self) {
        self.buffer.resize(1 << 16, 0);
        match self.reader.read(&mut self.buffer) {
            Ok(0) => self.open = false,
            Ok(read) => {
                self.pending.extend_from_slice(&self.buffer[..read]);
                self.lines();
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => self.open = false,
        }
    }

    /// Masks and writes all whole lines.
    fn lines(&mut self) {
        let whole = match self.pending.iter().rposition(|byte| *byte == b'\n') {
            Some(at) => at + 1,
            None if self.pending.len() >= LONGEST => self.pending.len(),
            None => return,
        };
        let rest = self.pending.split_off(whole);
        let bytes = std::mem::replace(&mut self.pending, rest);
        let mut text = String::with_capacity(bytes.len());
        for line in bytes.strip_suffix(b"\n").unwrap_or(&bytes).split(|byte| *byte == b'\n') {
            let mut line = String::from_utf8_lossy(line).trim_end_matches('\r').to_owned();
            for secret in self.masked.iter().filter(|s| !s.is_empty()) {
                line = line.replace(secret.as_str(), "***");
            }
            text.push_str(&line);
            text.push('\n');
            if self.tail.len() == TAIL {
                self.tail.pop_front();
            }
            self.tail.push_back(line);
        }
        self.write(text.as_bytes());
    }

    fn write(&mut self, text: &[u8]) {
        if self.broken {
            return;
        }
        let mut write = || {
            if self.log.is_none() {
                let file = File::create(self.path).or_else(|_| {
                    fs::create_dir_all(self.path.parent().unwrap_or(self.path))?;
                    File::create(self.path)
                });
                self.log = Some(file?);
            }
            self.log.as_mut().map_or(Ok(()), |log| log.write_all(text))
        };
        self.broken = write().is_err();
    }
}
