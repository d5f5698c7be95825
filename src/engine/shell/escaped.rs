//! Processes that left the group of their command (`setsid`) and go on after it. They are known by the scratch folder in
//! the environment they were started with, which no other command has.

/// Ends all processes of a command that can still be found (Linux only).
#[cfg(target_os = "linux")]
pub(super) fn end(home: &std::path::Path) {
    use std::fs;
    use std::os::unix::ffi::OsStrExt as _;

    use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

    let mark = [b"TMPDIR=", home.as_os_str().as_bytes()].concat();
    // One that is ended may have started another in the meantime.
    for _ in 0..10 {
        let mut found = false;
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let pid = entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
            // The handle is taken first, so that the signal cannot reach a later process of the same number.
            let Some(process) = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else { continue };
            let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
            if environment.split(|byte| *byte == 0).any(|variable| variable == mark) {
                found |= pidfd_send_signal(&process, Signal::KILL).is_ok();
            }
        }
        if !found {
            break;
        }
    }
}

/// Elsewhere there is no way to find them.
#[cfg(not(target_os = "linux"))]
pub(super) fn end(_: &std::path::Path) {}
