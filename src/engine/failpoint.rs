//! Failpoints, for tests: named places at every step that changes the disk, where the process can be made to end as by
//! `kill -9`. `LOGWEIR_FAILPOINT=NAME` ends it the first time it comes by, `NAME:3` the third time. Where a write can be
//! torn, a failpoint `…_half` writes the first half and ends the process.
//!
//! They are compiled into every build, so that what is tested is what is shipped; unused they cost one relaxed load.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// The environment variable that names one.
pub const VARIABLE: &str = "LOGWEIR_FAILPOINT";

/// Every failpoint, in the order of a run; those of `gc` at the end.
pub const NAMES: &[&str] = &[
    "lock_taken",
    "torn_half",
    "torn_kept",
    "torn_cut",
    "temp_made",
    "scratch_made",
    "old_moved_aside",
    "stage_ran",
    "object_half",
    "object_written",
    "object_stored",
    "outputs_stored",
    "copy_made",
    "file_placed",
    "directory_built",
    "directory_placed",
    "outputs_placed",
    "action_before",
    "action_half",
    "action_after",
    "objects_synced",
    "log_synced",
    "map_saved",
    "run_before",
    "run_half",
    "run_after",
    "lock_file_half",
    "lock_file_written",
    "lock_file_placed",
    "memo_half",
    "memo_written",
    "memo_saved",
    "head_half",
    "head_saved",
    "index_half",
    "index_written",
    "index_saved",
    "sealed_half",
    "sealed_written",
    "sealed_saved",
    "quick_synced",
    "quick_noted",
    "quick_done",
    "gc_list_half",
    "gc_listed",
    "gc_object_removed",
    "gc_logs_removed",
];

const UNREAD: u8 = 0;
const OFF: u8 = 1;
const ON: u8 = 2;

static STATE: AtomicU8 = AtomicU8::new(UNREAD);
static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

struct Armed {
    name: String,
    left: AtomicUsize,
}

/// Ends the process here, if this failpoint is set and its turn has come.
#[inline]
pub(crate) fn hit(name: &'static str) {
    if STATE.load(Ordering::Relaxed) != OFF && due(name) {
        end();
    }
}

/// Gives `write` the first half of `bytes` and ends the process, if this failpoint is set and its turn has come.
#[inline]
pub(crate) fn torn(name: &'static str, bytes: &[u8], write: impl FnOnce(&[u8]) -> io::Result<()>) {
    if STATE.load(Ordering::Relaxed) != OFF && due(name) {
        // The process ends whether or not the half could be written.
        let _ = write(&bytes[..bytes.len() / 2]);
        end();
    }
}

/// Writes a file whole, or half of it where the failpoint says so.
pub(crate) fn write(name: &'static str, path: &Path, bytes: &[u8]) -> io::Result<()> {
    torn(name, bytes, |half| fs::write(path, half));
    fs::write(path, bytes)
}

fn due(name: &str) -> bool {
    let armed = ARMED.get_or_init(|| {
        let armed = std::env::var_os(VARIABLE).and_then(|value| read(value.to_str()?));
        STATE.store(if armed.is_some() { ON } else { OFF }, Ordering::Relaxed);
        armed
    });
    let Some(armed) = armed.as_ref().filter(|armed| armed.name == name) else { return false };
    armed.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)) == Ok(1)
}

fn read(value: &str) -> Option<Armed> {
    let (name, hit) = value.split_once(':').unwrap_or((value, "1"));
    Some(Armed { name: name.to_owned(), left: AtomicUsize::new(hit.parse().ok()?) })
}

/// Ends the process without any clean-up.
fn end() -> ! {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    std::process::abort()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_a_turn_are_read() {
        let left = |value| read(value).map(|armed| (armed.name, armed.left.into_inner()));
        assert_eq!(left("run_half"), Some(("run_half".to_owned(), 1)));
        assert_eq!(left("run_half:3"), Some(("run_half".to_owned(), 3)));
        assert_eq!(left("run_half:x").map(|armed| armed.1), None);
    }

    #[test]
    fn the_list_is_what_the_code_has() {
        let mut found = std::collections::BTreeSet::new();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        for entry in walkdir::WalkDir::new(folder).into_iter().filter_entry(|e| e.file_name() != "tests") {
            let path = entry.unwrap().into_path();
            if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("failpoint.rs") {
                let text = fs::read_to_string(&path).unwrap();
                for part in text.split("failpoint::").skip(1) {
                    let call = ["hit(", "torn(", "write("].iter().find_map(|call| part.strip_prefix(call));
                    let names = call.map(|rest| rest.split([';', ',']).next().unwrap_or(rest));
                    let quoted =
                        |names: &str| names.split('"').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
                    found.extend(names.map(quoted).unwrap_or_default());
                }
            }
        }
        let listed: std::collections::BTreeSet<String> = NAMES.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(found, listed);
    }
}
