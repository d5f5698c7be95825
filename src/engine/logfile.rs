//! The run log, open for reading entries here and there: a question about a few artifacts reads a few lines.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::Deserialize;

use crate::backwards::Backwards;
use crate::error::EngineError;
use crate::runlog::{self, ActionEntry, RunEntry};

/// How much is read at once: most entries are shorter.
const CHUNK: usize = 4096;

/// How much is kept of the log around the last entry, where the one before was near.
const WINDOW: usize = 64 << 10;

/// The run log of a project.
pub struct LogFile {
    path: PathBuf,
    file: Option<File>,
    window: Mutex<Window>,
}

/// A part of the log that was read. Stages that depend on each other are logged close together: a long lineage then
/// costs one read for many entries.
#[derive(Default)]
struct Window {
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    /// Returns the whole line that begins at `offset`, if it is here.
    fn line(&self, offset: u64) -> Option<&[u8]> {
        let from = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        let rest = self.bytes.get(from..)?;
        Some(&rest[..memchr::memchr(b'\n', rest)?])
    }

    /// Moves to where a line is, whichever way the lines before lay.
    fn move_to(&mut self, offset: u64, file: &File) -> io::Result<()> {
        let near = offset.abs_diff(self.start) <= 2 * WINDOW as u64;
        let back = if near && offset < self.start { (WINDOW - 4 * CHUNK) as u64 } else { 0 };
        self.start = offset.saturating_sub(back);
        self.bytes.resize(if near { WINDOW } else { CHUNK }, 0);
        let read = file.read_at(&mut self.bytes, self.start);
        self.bytes.truncate(*read.as_ref().unwrap_or(&0));
        read.map(|_| ())
    }
}

#[derive(Deserialize)]
struct Id {
    run: String,
}

impl LogFile {
    /// Opens the log of a cache folder; without one there is nothing to read.
    ///
    /// # Errors
    /// It is there and cannot be opened.
    pub fn open(cache: &Path) -> Result<Self, EngineError> {
        let path = runlog::path_in(cache);
        let file = match File::open(&path) {
            Ok(file) => Some(file),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(EngineError::io("read", &path)(e)),
        };
        Ok(Self { path, file, window: Mutex::default() })
    }

    /// Reads the line that begins at `offset`, without its newline.
    ///
    /// # Errors
    /// There is no whole line.
    pub fn line(&self, offset: u64) -> Result<Vec<u8>, EngineError> {
        let missing = || {
            let error = io::Error::new(io::ErrorKind::UnexpectedEof, format!("no entry at byte {offset}"));
            EngineError::io("read", &self.path)(error)
        };
        let file = self.file.as_ref().ok_or_else(missing)?;
        let mut line = Vec::new();
        loop {
            let from = line.len();
            line.resize(from + CHUNK.max(from), 0);
            let read = file.read_at(&mut line[from..], offset + from as u64);
            let read = read.map_err(EngineError::io("read", &self.path))?;
            line.truncate(from + read);
            if let Some(end) = memchr::memchr(b'\n', &line[from..]) {
                line.truncate(from + end);
                return Ok(line);
            }
            if read == 0 {
                return Err(missing());
            }
        }
    }

    fn entry<T: for<'de> Deserialize<'de>>(&self, offset: u64, what: &str) -> Result<T, EngineError> {
        // Threads that ask at once do not wait for each other.
        let mut window = self.window.try_lock().ok();
        if let (Some(window), Some(file)) = (window.as_deref_mut(), &self.file)
            && window.line(offset).is_none()
        {
            window.move_to(offset, file).map_err(EngineError::io("read", &self.path))?;
        }
        let entry = match window.as_ref().and_then(|window| window.line(offset)) {
            Some(line) => serde_json::from_slice(line),
            None => serde_json::from_slice(&self.line(offset)?),
        };
        entry.map_err(|e| {
            let why = format!("the entry at byte {offset} is no {what}: {e}");
            EngineError::io("read", &self.path)(io::Error::new(io::ErrorKind::InvalidData, why))
        })
    }

    /// Reads the action that begins at `offset`.
    ///
    /// # Errors
    /// There is none.
    pub fn action(&self, offset: u64) -> Result<ActionEntry, EngineError> {
        self.entry(offset, "action")
    }

    /// Begins to read, on a thread of its own, the actions before `offset`, which is where a line begins.
    pub(crate) fn actions_before(&self, offset: u64) -> Option<Backwards> {
        let file = self.file.as_ref()?.try_clone().ok()?;
        Some(Backwards::start(file, offset))
    }

    /// Reads the run that begins at `offset`.
    ///
    /// # Errors
    /// There is none.
    pub fn run(&self, offset: u64) -> Result<RunEntry, EngineError> {
        self.entry(offset, "run")
    }

    /// Reads the id of the run that begins at `offset`, and nothing else of it.
    ///
    /// # Errors
    /// There is none.
    pub fn run_id(&self, offset: u64) -> Result<String, EngineError> {
        Ok(self.entry::<Id>(offset, "run")?.run)
    }
}
