//! Makes finished work durable in groups: a thread that syncs new objects and then the run log, one batch at a time.
//!
//! A record is in the log (and so survives the end of the process) as soon as its stage has finished; what this adds is
//! survival of a power cut, for everything that was finished one window before. Objects are synced before the log, so
//! that a durable record has durable objects.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::error::EngineError;
use crate::failpoint;

/// How long finished work may wait for its sync.
const WINDOW: Duration = Duration::from_millis(200);
/// Up to so many objects are synced one by one; more by one sync of the whole file system.
const SINGLE: usize = 16;

/// Collects what is to be made durable.
pub struct Committer {
    batches: Option<mpsc::Sender<Vec<PathBuf>>>,
    thread: Option<JoinHandle<io::Result<()>>>,
    pending: Vec<PathBuf>,
    since: Option<Instant>,
    log: PathBuf,
}

impl Committer {
    /// Starts the thread. `log` is a handle of the run log, `cache` the folder that holds it and the store.
    pub fn start(log: File, path: &Path, cache: PathBuf) -> Self {
        let (batches, inbox) = mpsc::channel::<Vec<PathBuf>>();
        let thread = std::thread::spawn(move || {
            while let Ok(mut objects) = inbox.recv() {
                objects.extend(inbox.try_iter().flatten());
                sync_objects(&objects, &cache)?;
                failpoint::hit("objects_synced");
                log.sync_data()?;
                failpoint::hit("log_synced");
            }
            Ok(())
        });
        Self { batches: Some(batches), thread: Some(thread), pending: Vec::new(), since: None, log: path.to_path_buf() }
    }

    /// Adds new objects; something was also appended to the log.
    pub fn add(&mut self, objects: impl IntoIterator<Item = PathBuf>) {
        self.pending.extend(objects);
        self.since.get_or_insert_with(Instant::now);
    }

    /// Hands over what has waited for a window; returns how long the rest may wait.
    pub fn tick(&mut self) -> Option<Duration> {
        let waited = self.since?.elapsed();
        if waited < WINDOW {
            return Some(WINDOW - waited);
        }
        self.hand_over();
        None
    }

    /// Makes everything durable and ends the thread.
    ///
    /// # Errors
    /// The disk did not take it.
    pub fn finish(&mut self) -> Result<(), EngineError> {
        self.hand_over();
        self.batches = None;
        let result = self.thread.take().map_or(Ok(Ok(())), JoinHandle::join);
        let result = result.map_err(|_| EngineError::Internal("the sync thread died".to_owned()))?;
        result.map_err(EngineError::io("sync", &self.log))
    }

    /// Begins to make durable what was added, without waiting.
    pub fn hand_over(&mut self) {
        if self.since.take().is_some()
            && let Some(batches) = &self.batches
        {
            // A thread that ended did so with an error, which `finish` reports.
            let _ = batches.send(std::mem::take(&mut self.pending));
        }
    }
}

fn sync_objects(objects: &[PathBuf], cache: &Path) -> io::Result<()> {
    if objects.len() > SINGLE {
        #[cfg(target_os = "linux")]
        {
            return Ok(rustix::fs::syncfs(File::open(cache)?)?);
        }
    }
    // All at once: the file system makes one commit of what would be one after the other.
    all_at_once(objects, |object| match File::open(object) {
        Ok(file) => file.sync_all(),
        // Removed since as corrupt: there is nothing to keep.
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    })?;
    // The log was made in the cache folder; later commits of the file system say nothing new of that.
    let folders: std::collections::BTreeSet<&Path> =
        objects.iter().filter_map(|object| object.parent()).chain([cache]).collect();
    all_at_once(&Vec::from_iter(folders), |folder| File::open(folder)?.sync_all())
}

/// Does something that waits for the disk to a few items, each on a thread of its own.
fn all_at_once<T: Sync>(items: &[T], act: impl Fn(&T) -> io::Result<()> + Sync) -> io::Result<()> {
    std::thread::scope(|scope| {
        let act = &act;
        let threads: Vec<_> = items.iter().map(|item| scope.spawn(move || act(item))).collect();
        let joined = threads.into_iter().map(|thread| thread.join().map_err(|_| io::Error::other("a sync died"))?);
        joined.collect()
    })
}
