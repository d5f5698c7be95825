//! The calls of the kernel that no crate wraps: the filter, its notifications, and reading the memory of a process.

#![expect(unsafe_code, reason = "seccomp notifications have no safe interface")]

use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use libc::{c_long, seccomp_notif, seccomp_notif_resp, sock_filter, sock_fprog};

#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xC000_00B7;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const ARCH: u32 = 0;

/// Whether calls can be told apart on this processor.
pub(super) const KNOWS_PROCESSOR: bool = ARCH != 0;

/// The longest path that the kernel takes.
const PATH_MAX: usize = 4096;

/// Makes the filter: watched calls are put to the tracer, everything else passes. `io_uring` could open files unseen,
/// so programs are told that it does not exist. Programs for another architecture (32 bit) pass unwatched.
pub(super) fn filter(watched: &[c_long]) -> Vec<sock_filter> {
    let load = |k: usize| sock_filter { code: 0x20, jt: 0, jf: 0, k: k as u32 };
    let equal = |k: u32, jt: u8, jf: u8| sock_filter { code: 0x15, jt, jf, k };
    let result = |k: u32| sock_filter { code: 0x06, jt: 0, jf: 0, k };
    let count = u8::try_from(watched.len()).expect("a few dozen calls are watched");
    let mut program = vec![
        load(offset_of!(libc::seccomp_data, arch)),
        equal(ARCH, 0, count + 2),
        load(offset_of!(libc::seccomp_data, nr)),
    ];
    for (n, call) in (0u8..).zip(watched) {
        program.push(equal(*call as u32, count - n + 1, 0));
    }
    program.push(equal(libc::SYS_io_uring_setup as u32, 2, 0));
    program.push(result(libc::SECCOMP_RET_ALLOW));
    program.push(result(libc::SECCOMP_RET_USER_NOTIF));
    program.push(result(libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32));
    program
}

/// Lets a command put itself under a Landlock ruleset, if given, and under the filter before its program starts, and
/// write its process id and the number of the descriptor of the notifications to `tell`.
pub(super) fn confine(command: &mut Command, filter: Vec<sock_filter>, landlock: Option<RawFd>, tell: RawFd) {
    let confine = move || {
        let failed = |result: c_long| if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) };
        let program = sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
        let listen = |flags: libc::c_ulong| {
            // SAFETY: the program lives until the end of this function, and the kernel copies it.
            failed(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &program) })
        };
        // SAFETY: takes numbers only.
        failed(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.into())?;
        if let Some(ruleset) = landlock {
            // SAFETY: takes numbers only.
            failed(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset, 0) })?;
        }
        let plain = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
        let listener = listen(plain | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV).or_else(|_| listen(plain))?;
        // SAFETY: takes nothing and cannot fail.
        let message = [unsafe { libc::getpid() }, listener as i32];
        // SAFETY: the message lives and has that length.
        failed(unsafe { libc::write(tell, message.as_ptr().cast(), size_of::<[i32; 2]>()) } as c_long)?;
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes system calls only; it allocates nothing and takes no lock.
    unsafe { command.pre_exec(confine) };
}

/// Receives a notification.
pub(super) fn receive(listener: BorrowedFd<'_>) -> io::Result<seccomp_notif> {
    // SAFETY: all zeros is a valid value, and the one that the kernel asks for.
    let mut notification: seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a structure of the type that the request names.
    let result = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &mut notification) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(notification) }
}

/// Answers a notification: the call goes on, or fails with `EACCES`.
pub(super) fn answer(listener: BorrowedFd<'_>, id: u64, goes_on: bool) -> io::Result<()> {
    let (error, flags) = if goes_on { (0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32) } else { (-libc::EACCES, 0) };
    let response = seccomp_notif_resp { id, val: 0, error, flags };
    // SAFETY: the pointer is to a structure of the type that the request names.
    let result = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &response) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Returns whether the process that asks is still there and still asks.
pub(super) fn is_valid(listener: BorrowedFd<'_>, id: u64) -> bool {
    // SAFETY: the pointer is to a number of the type that the request names.
    unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &id) == 0 }
}

/// Asks the kernel to switch to the tracer and back at once (since Linux 6.6; older ones only take longer).
pub(super) fn wake_at_once(listener: BorrowedFd<'_>) {
    // SAFETY: the argument of this request is a number.
    unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS, 1u64) };
}

/// Copies memory of another process; fewer bytes than asked where the rest is not mapped.
fn copy(process: u32, at: u64, into: &mut [u8]) -> usize {
    let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let remote = libc::iovec { iov_base: at as usize as *mut libc::c_void, iov_len: into.len() };
    // SAFETY: the local range is `into`; the kernel checks the remote one.
    let copied = unsafe { libc::process_vm_readv(process as libc::pid_t, &local, 1, &remote, 1, 0) };
    usize::try_from(copied).unwrap_or(0)
}

/// Reads a string of another process; `None` where there is none or it is too long for a path.
pub(super) fn string(process: u32, at: u64) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    while text.len() < PATH_MAX {
        // Up to the end of a page at a time: the next may not be mapped.
        let from = at.checked_add(text.len() as u64)?;
        let mut part = [0; 256];
        let room = (4096 - (from % 4096)).min(part.len() as u64) as usize;
        let copied = copy(process, from, &mut part[..room]);
        if copied == 0 {
            return None;
        }
        if let Some(end) = part[..copied].iter().position(|byte| *byte == 0) {
            text.extend_from_slice(&part[..end]);
            return Some(text);
        }
        text.extend_from_slice(&part[..copied]);
    }
    None
}

/// Reads eight bytes of another process.
pub(super) fn word(process: u32, at: u64) -> Option<u64> {
    let mut bytes = [0; 8];
    (copy(process, at, &mut bytes) == 8).then(|| u64::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_read_across_pages_and_bad_pointers_are_none() {
        let long = format!("{}\0", "x".repeat(4090));
        let me = std::process::id();
        assert_eq!(string(me, long.as_ptr() as u64).map(|text| text.len()), Some(4090));
        let endless = [b'x'; 9000];
        assert_eq!(string(me, endless.as_ptr() as u64), None);
        assert_eq!(string(me, 8), None);
        assert_eq!(string(me, u64::MAX - 3), None);
        assert_eq!(word(me, 8), None);
    }
}
