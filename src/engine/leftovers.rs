//! What killed processes leave: scratch folders, half-written temporary files, commands that still run. The next
//! writing process, which holds the project's lock, clears them away.
//!
//! Temporary files of a cache folder are named `NAME.PID.tmp`; one is a leftover when its process is gone (a reader may
//! be writing one right now). A command that outlived its run is known by its TMPDIR, which lies in the scratch folder
//! of that run (found on Linux only; elsewhere such a command goes on, and what it wrote is noticed by its content).

use std::fs;
use std::path::{Path, PathBuf};

/// Ends commands of killed runs and removes what is left in the cache folder and beside it. Whatever cannot be removed
/// now may be later: it takes space and does no harm.
pub(crate) fn clear(cache: &Path) {
    let scratch = scratch(cache);
    if !scratch.is_empty() {
        #[cfg(target_os = "linux")]
        end_commands(cache);
    }
    for path in scratch.iter().chain(&temporary_files(cache)) {
        remove(path);
    }
}

/// Removes a file or folder, if it can be.
pub(crate) fn remove(path: &Path) {
    let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
}

/// Lists what runs left in their scratch folder.
pub(crate) fn scratch(cache: &Path) -> Vec<PathBuf> {
    entries(&cache.join("tmp")).collect()
}

/// Lists temporary files of processes that are gone: in the cache folder, its `pipelines/`, and the project folder.
pub(crate) fn temporary_files(cache: &Path) -> Vec<PathBuf> {
    let above = cache.parent().into_iter().flat_map(entries);
    entries(cache)
        .chain(entries(&cache.join("pipelines")))
        .chain(above)
        .filter(|path| writer_of(path).is_some_and(|pid| !lives(pid)))
        .collect()
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// Returns the process that a temporary file's name speaks of.
fn writer_of(path: &Path) -> Option<u32> {
    let name = path.file_name()?.to_str()?.strip_suffix(".tmp")?;
    let (name, pid) = name.rsplit_once('.')?;
    let kept = path.parent().is_some_and(|folder| folder.ends_with("cache/pipelines"));
    let ours = ["stat", "clock", "index", "head", "origins"].contains(&name) || name.ends_with(".lock") || kept;
    pid.parse().ok().filter(|_| ours)
}

/// Returns whether a process is there and has not ended.
pub(crate) fn lives(pid: u32) -> bool {
    let known = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    let answer = known.map(rustix::process::test_kill_process);
    // One that ended stays until its parent has taken note of it.
    let ended = || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().any(|line| line.starts_with("State:") && line.contains('Z'))
    };
    // Another user's process cannot be asked, but is there.
    !matches!(answer, None | Some(Err(rustix::io::Errno::SRCH))) && !ended()
}

/// Kills all processes whose TMPDIR lies in the scratch folder; nobody else of this project runs, for the lock is held.
#[cfg(target_os = "linux")]
fn end_commands(cache: &Path) {
    use std::os::unix::ffi::OsStrExt as _;

    let mut sign = b"TMPDIR=".to_vec();
    sign.extend_from_slice(cache.join("tmp").as_os_str().as_bytes());
    sign.push(b'/');
    // What is killed may have started others meanwhile.
    for _ in 0..10 {
        let mut found = false;
        for process in entries(Path::new("/proc")) {
            let Some(pid) = process.file_name().and_then(|n| n.to_str()).and_then(|n| n.parse().ok()) else { continue };
            let environment = fs::read(process.join("environ")).unwrap_or_default();
            if environment.split(|byte| *byte == 0).any(|variable| variable.starts_with(&sign))
                && let Some(pid) = rustix::process::Pid::from_raw(pid)
            {
                found |= rustix::process::kill_process(pid, rustix::process::Signal::KILL).is_ok();
            }
        }
        if !found {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_temporary_files_of_dead_processes_are_leftovers() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("cache");
        fs::create_dir_all(cache.join("tmp/old/0")).unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let (dead, alive) = (child.id(), std::process::id());
        let kept = [format!("cache/stat.{alive}.tmp"), format!("mine.{dead}.tmp"), "index.tmp".to_owned()];
        let gone = [format!("cache/index.{dead}.tmp"), format!("pipeline.lock.{dead}.tmp")];
        for name in kept.iter().chain(&gone) {
            fs::write(dir.path().join(name), "x").unwrap();
        }
        clear(&cache);
        assert!(kept.iter().all(|name| dir.path().join(name).exists()));
        assert!(!gone.iter().any(|name| dir.path().join(name).exists()));
        assert!(!cache.join("tmp/old").exists());
    }
}
