//! The system calls that take paths: which argument is what.

use libc::c_long;

use super::Access;

/// One path among the arguments of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Argument {
    /// What the path is relative to: a descriptor, or `AT_FDCWD`.
    pub(super) folder: i32,
    /// Where the path is in the memory of the caller.
    pub(super) at: u64,
    /// What is done to it.
    pub(super) access: Access,
    /// Whether a link at its end is followed.
    pub(super) follow: bool,
    /// Whether the call makes what is not there.
    pub(super) makes: bool,
}

/// All calls that are looked at.
pub(super) fn watched() -> Vec<c_long> {
    let mut calls = vec![
        libc::SYS_openat,
        libc::SYS_openat2,
        libc::SYS_execve,
        libc::SYS_execveat,
        libc::SYS_renameat,
        libc::SYS_renameat2,
        libc::SYS_unlinkat,
        libc::SYS_mkdirat,
        libc::SYS_mknodat,
        libc::SYS_linkat,
        libc::SYS_symlinkat,
        libc::SYS_truncate,
        libc::SYS_fchmodat,
        libc::SYS_fchownat,
    ];
    #[cfg(target_arch = "x86_64")]
    calls.extend([
        libc::SYS_open,
        libc::SYS_creat,
        libc::SYS_rename,
        libc::SYS_unlink,
        libc::SYS_rmdir,
        libc::SYS_mkdir,
        libc::SYS_mknod,
        libc::SYS_link,
        libc::SYS_symlink,
        libc::SYS_chmod,
        libc::SYS_chown,
        libc::SYS_lchown,
    ]);
    calls
}

/// Returns the paths of a call. `word` reads eight bytes of the caller's memory (`openat2` has its flags there).
pub(super) fn paths(call: c_long, args: &[u64; 6], word: impl Fn(u64) -> Option<u64>) -> Vec<Argument> {
    // A descriptor is the lower half of its register.
    let fd = |n: usize| args[n] as u32 as i32;
    let cwd = libc::AT_FDCWD;
    let write = |folder, at, makes| Argument { folder, at, access: Access::Write, follow: false, makes };
    let changes = |folder, at| Argument { folder, at, access: Access::Write, follow: true, makes: false };
    let read = |folder, at| Argument { folder, at, access: Access::Read, follow: true, makes: false };
    let opened = |folder, at, flags: u64| {
        let flags = flags as i32;
        // A bare handle gives no content.
        if flags & libc::O_PATH != 0 {
            return Vec::new();
        }
        let makes = flags & libc::O_CREAT != 0;
        let access = if flags & libc::O_ACCMODE == libc::O_RDONLY && flags & libc::O_TRUNC == 0 {
            Access::Read
        } else {
            Access::Write
        };
        vec![Argument { folder, at, access, follow: flags & libc::O_NOFOLLOW == 0, makes }]
    };
    match call {
        libc::SYS_openat => opened(fd(0), args[1], args[2]),
        libc::SYS_openat2 => word(args[2]).map_or(Vec::new(), |flags| opened(fd(0), args[1], flags)),
        libc::SYS_execve => vec![read(cwd, args[0])],
        libc::SYS_execveat => vec![read(fd(0), args[1])],
        libc::SYS_renameat | libc::SYS_renameat2 => vec![write(fd(0), args[1], false), write(fd(2), args[3], true)],
        libc::SYS_unlinkat => vec![write(fd(0), args[1], false)],
        libc::SYS_mkdirat | libc::SYS_mknodat => vec![write(fd(0), args[1], true)],
        libc::SYS_linkat => vec![read(fd(0), args[1]), write(fd(2), args[3], true)],
        libc::SYS_symlinkat => vec![write(fd(1), args[2], true)],
        libc::SYS_truncate => vec![changes(cwd, args[0])],
        libc::SYS_fchmodat | libc::SYS_fchownat => vec![changes(fd(0), args[1])],
        #[cfg(target_arch = "x86_64")]
        libc::SYS_open => opened(cwd, args[0], args[1]),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_creat => opened(cwd, args[0], (libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC) as u64),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_rename => vec![write(cwd, args[0], false), write(cwd, args[1], true)],
        #[cfg(target_arch = "x86_64")]
        libc::SYS_unlink | libc::SYS_rmdir => vec![write(cwd, args[0], false)],
        #[cfg(target_arch = "x86_64")]
        libc::SYS_mkdir | libc::SYS_mknod => vec![write(cwd, args[0], true)],
        #[cfg(target_arch = "x86_64")]
        libc::SYS_link => vec![read(cwd, args[0]), write(cwd, args[1], true)],
        #[cfg(target_arch = "x86_64")]
        libc::SYS_symlink => vec![write(cwd, args[1], true)],
        #[cfg(target_arch = "x86_64")]
        libc::SYS_chmod | libc::SYS_chown | libc::SYS_lchown => vec![changes(cwd, args[0])],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_say_what_an_open_is_for() {
        let open = |flags: i32| {
            let args = [libc::AT_FDCWD as u32 as u64, 7, flags as u64, 0, 0, 0];
            paths(libc::SYS_openat, &args, |_| None).first().map(|a| (a.folder, a.access, a.follow, a.makes))
        };
        let cwd = libc::AT_FDCWD;
        assert_eq!(open(libc::O_RDONLY | libc::O_CLOEXEC), Some((cwd, Access::Read, true, false)));
        assert_eq!(open(libc::O_WRONLY | libc::O_CREAT), Some((cwd, Access::Write, true, true)));
        assert_eq!(open(libc::O_RDWR | libc::O_NOFOLLOW), Some((cwd, Access::Write, false, false)));
        assert_eq!(open(libc::O_PATH | libc::O_DIRECTORY), None);
        let args = [3, 7, 9, 24, 0, 0];
        assert_eq!(paths(libc::SYS_openat2, &args, |at| (at == 9).then_some(1))[0].access, Access::Write);
        assert!(watched().iter().all(|call| *call == libc::SYS_openat2 || !paths(*call, &args, |_| None).is_empty()));
    }
}
