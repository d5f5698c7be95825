//! The project folder: which pipeline file, the lock of writing processes, a run's temporary folder and id, the machine.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::error::EngineError;

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
}

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
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                let pid = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
                return Err(EngineError::Locked { lock: path, pid });
            }
            Err(fs::TryLockError::Error(e)) => return Err(EngineError::io("lock", &path)(e)),
        }
        let mut write = || file.set_len(0).and_then(|()| file.write_all(std::process::id().to_string().as_bytes()));
        write().map_err(EngineError::io("write", &path))?;
        Ok(Self { file })
    }
}

/// Makes a run's temporary folder, and removes what killed runs left: the lock is held.
pub(crate) fn new_temp(cache: &Path, run: &str) -> Result<PathBuf, EngineError> {
    let all = cache.join("tmp");
    if let Ok(entries) = fs::read_dir(&all) {
        for entry in entries.flatten() {
            // Leftovers only take space; what cannot be removed now may be later.
            let path = entry.path();
            let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        }
    }
    let temp = all.join(run);
    fs::create_dir_all(&temp).map_err(EngineError::io("make", &temp))?;
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
