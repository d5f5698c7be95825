//! A small disk in memory that can be filled up. Needs root on Linux.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

/// A mounted disk; unmounted when dropped.
pub(crate) struct Disk {
    folder: tempfile::TempDir,
}

const BLOCK: u64 = 4096;

impl Disk {
    /// Mounts one; `None` where that is not possible.
    pub(crate) fn new() -> Option<Self> {
        let folder = tempfile::tempdir().ok()?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=16m", "tmpfs"]).arg(folder.path());
        let mounted = cfg!(target_os = "linux") && mount.output().is_ok_and(|output| output.status.success());
        mounted.then_some(Self { folder })
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Takes all space but for some blocks while `act` runs.
    pub(crate) fn nearly_full<T>(&self, blocks: u64, act: impl FnOnce() -> T) -> T {
        let filler = self.folder().join("filler");
        let mut file = fs::File::create(&filler).unwrap();
        let zeros = vec![0; 1 << 20];
        while file.write_all(&zeros).is_ok() {}
        let len = file.metadata().unwrap().len();
        file.set_len(len.saturating_sub(blocks * BLOCK)).unwrap();
        let done = act();
        // Emptied first: a child that another test just forked holds the file until it executes.
        file.set_len(0).unwrap();
        fs::remove_file(&filler).unwrap();
        done
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.folder.path()).output();
    }
}
