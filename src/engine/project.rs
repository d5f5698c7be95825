//! The project folder: which pipeline file, the lock of writing processes, a run's temporary folder and id, the machine.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::digest::Digest;
use crate::error::EngineError;
use crate::failpoint;
use crate::leftovers;

/// A project folder and one of its pipeline files.
#[derive(Clone, Debug)]
pub struct Project {
    pub(crate) root: PathBuf,
    pub(crate) file: PathBuf,
}

impl Project {
    /// Finds the project: `dir` (`-C`), else the nearest folder at or above `cwd` that holds pipeline.yaml; `file`
    /// (`-f`, relative to `cwd` or the project) is the pipeline file, pipeline.yaml by default.
    ///
    /// # Errors
    /// There is none.
    pub fn find(cwd: &Path, dir: Option<&Path>, file: Option<&Path>) -> Result<Self, EngineError> {
        let start = dir.map_or_else(|| cwd.to_path_buf(), |dir| cwd.join(dir));
        let start = start.canonicalize().map_err(EngineError::io("open", &start))?;
        let holds = |folder: &&Path| folder.join("pipeline.yaml").is_file();
        let root = match (dir, file) {
            (Some(_), _) => Some(start.clone()),
            (None, None) => start.ancestors().find(holds).map(Path::to_path_buf),
            (None, Some(_)) => Some(start.ancestors().find(holds).map_or_else(|| start.clone(), Path::to_path_buf)),
        };
        let root = root.ok_or_else(|| EngineError::NoProject(start.clone()))?;
        let file = match file {
            None => root.join("pipeline.yaml"),
            Some(file) if dir.is_none() && cwd.join(file).is_file() => cwd.join(file),
            Some(file) => root.join(file),
        };
        if !file.is_file() {
            return Err(if dir.is_none() { EngineError::NoProject(start) } else { EngineError::NoProject(root) });
        }
        Ok(Self { root, file })
    }

    /// Returns the project root, absolute.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the pipeline file, absolute.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Returns the pipeline file's name as messages and records show it: relative to the root where it lies below it.
    pub fn file_name(&self) -> String {
        self.file.strip_prefix(&self.root).unwrap_or(&self.file).to_string_lossy().into_owned()
    }

    /// Returns the cache folder.
    pub fn cache(&self) -> PathBuf {
        self.root.join("cache")
    }

    /// Reads the pipeline file.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn text(&self) -> Result<String, EngineError> {
        std::fs::read_to_string(&self.file).map_err(EngineError::io("read", &self.file))
    }

    /// Returns whether a process holds the project's lock: runs, repairs, removes.
    ///
    /// # Errors
    /// The lock cannot be looked at.
    pub fn is_busy(&self) -> Result<bool, EngineError> {
        Ok(holder(&self.cache().join("lock"))?.is_some())
    }

    /// Asks the process that holds the project's lock to stop, as Ctrl-C would; returns its id, or `None` when no process
    /// holds it.
    ///
    /// # Errors
    /// The lock cannot be looked at; the process may not be signalled.
    pub fn interrupt(&self) -> Result<Option<u32>, EngineError> {
        let path = self.root.join("cache").join("lock");
        let mut said = None;
        for _ in 0..LOOKS {
            let Some(pid) = holder(&path)? else { return Ok(None) };
            // Who just took the lock may not have written its id yet: two looks must agree.
            if pid.is_some() && pid == said {
                break;
            }
            said = pid;
            std::thread::sleep(BETWEEN_LOOKS);
        }
        let Some(pid) = said else { return Err(EngineError::Locked { lock: path, pid: None }) };
        let process = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
        let process = process.ok_or_else(|| EngineError::Locked { lock: path.clone(), pid: Some(pid) })?;
        match rustix::process::kill_process(process, rustix::process::Signal::INT) {
            Ok(()) => Ok(Some(pid)),
            // It ended just now.
            Err(rustix::io::Errno::SRCH) => Ok(None),
            Err(error) => Err(EngineError::io("signal the holder of", &path)(error.into())),
        }
    }
}

/// How often the holder of a lock is asked for, and how long apart, until two answers agree.
const LOOKS: usize = 20;
const BETWEEN_LOOKS: std::time::Duration = std::time::Duration::from_millis(20);

/// Returns the id in a lock that is held, if it is written; `None` for a lock that nobody holds.
fn holder(lock: &Path) -> Result<Option<Option<u32>>, EngineError> {
    let file = match fs::File::open(lock) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(EngineError::io("open", lock)(error)),
    };
    // A shared lock, at once given back: a run that starts in between is refused at worst, as by any reader of locks.
    match file.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(fs::TryLockError::WouldBlock) => {
            Ok(Some(fs::read_to_string(lock).ok().and_then(|text| text.trim().parse().ok())))
        }
        Err(fs::TryLockError::Error(error)) => Err(EngineError::io("look at", lock)(error)),
    }
}

/// How long a lock may outlive its process.
const PASSING: Duration = Duration::from_secs(2);

/// The lock of a project: held by one writing process, gone with it.
pub(crate) struct ProjectLock {
    file: fs::File,
}

impl Drop for ProjectLock {
    fn drop(&mut self) {
        // Closing alone is not enough: a child just forked elsewhere in this process holds the file until it executes.
        let _ = self.file.unlock();
    }
}

impl ProjectLock {
    /// Takes the lock, or says who has it.
    pub(crate) fn take(cache: &Path) -> Result<Self, EngineError> {
        fs::create_dir_all(cache).map_err(EngineError::io("make", cache))?;
        let path = cache.join("lock");
        let mut file = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(EngineError::io("open", &path))?;
        let asked = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(fs::TryLockError::WouldBlock) => {
                    let pid = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
                    // A command that the dead process had just forked holds the lock until it executes.
                    let passing = pid.is_none_or(|pid: u32| !leftovers::lives(pid)) && asked.elapsed() < PASSING;
                    if !passing {
                        return Err(EngineError::Locked { lock: path, pid });
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(fs::TryLockError::Error(e)) => return Err(EngineError::io("lock", &path)(e)),
            }
        }
        let mut write = || file.set_len(0).and_then(|()| file.write_all(std::process::id().to_string().as_bytes()));
        write().map_err(EngineError::io("write", &path))?;
        failpoint::hit("lock_taken");
        Ok(Self { file })
    }
}

/// Makes a run's temporary folder, and removes what killed runs left: the lock is held.
pub(crate) fn new_temp(cache: &Path, run: &str) -> Result<PathBuf, EngineError> {
    let all = cache.join("tmp");
    leftovers::clear(cache);
    let temp = all.join(run);
    fs::create_dir_all(&temp).map_err(EngineError::io("make", &temp))?;
    failpoint::hit("temp_made");
    Ok(temp)
}

/// Returns a new run id: the time, for people, and some digits of a hash that make it unique.
pub(crate) fn run_id(head: &Digest) -> String {
    let now = chrono::Utc::now();
    let unique = format!("{head} {} {}", std::process::id(), now.timestamp_nanos_opt().unwrap_or_default());
    format!("{}-{}", now.format("%Y%m%dT%H%M%SZ"), &Digest::of_bytes(unique.as_bytes()).short()[..4])
}

/// Returns the machine's name, and the operating system with the architecture.
pub(crate) fn host() -> (String, String) {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    (name, format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH))
}

/// Returns how much memory the machine has, in bytes; all there can be where that is unknown.
pub(crate) fn total_memory() -> u64 {
    #[cfg(target_os = "linux")]
    {
        let info = rustix::system::sysinfo();
        info.totalram.saturating_mul(u64::from(info.mem_unit.max(1)))
    }
    #[cfg(not(target_os = "linux"))]
    {
        u64::MAX
    }
}
