//! How much memory a stage took, where the system tells (Linux: `/proc`).
//!
//! A built-in stage runs inside the program, so what can be told is the peak of the whole process while it ran: its own
//! when it ran alone, an upper bound when others ran beside it.

use std::fs;
use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};

static WATCHING: AtomicUsize = AtomicUsize::new(0);

/// Watches the process's peak while it lives.
pub(crate) struct Watch {}

impl Watch {
    /// Begins to watch; the peak starts anew unless another stage is being watched.
    pub(crate) fn begin() -> Self {
        if WATCHING.fetch_add(1, Ordering::SeqCst) == 0 {
            // Without the right to reset, the peak since the start of the process stays an upper bound.
            let _ =
                fs::OpenOptions::new().write(true).open("/proc/self/clear_refs").and_then(|mut f| f.write_all(b"5"));
        }
        Self {}
    }

    /// Returns the peak so far, in bytes.
    pub(crate) fn peak(&self) -> Option<u64> {
        peak_of("self")
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        WATCHING.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Returns the peak resident memory of a process in bytes; `None` where it is gone or the system does not tell.
pub(crate) fn peak_of(process: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_peak_includes_memory_given_back_since() {
        let watch = Watch::begin();
        let before = watch.peak().unwrap();
        let block = vec![1u8; 64 << 20];
        assert_eq!(block.iter().map(|b| u64::from(*b)).sum::<u64>(), 64 << 20);
        drop(block);
        assert!(watch.peak().unwrap() >= before.max(64 << 20));
    }
}
