//! System calls on paths and directories.
//!
//! A part of `sys`: all ways to open a path stand side by side here, with the links that each
//! follows.

use super::{Errno, Fd, O_CLOEXEC, O_NOCTTY, O_NONBLOCK, O_RDWR, SysResult, checked};
use crate::arch::{nr, syscall};

pub(super) const O_RDONLY: usize = 0;
pub(super) const O_DIRECTORY: usize = 0o200_000;
pub(super) const O_NOFOLLOW: usize = 0o400_000;
pub(super) const O_PATH: usize = 0o10_000_000;
const AT_FDCWD: usize = -100_isize as usize;

/// Checks that a path passed to the kernel ends in NUL.
pub(super) fn c_path(path: &[u8]) -> SysResult<usize> {
    if path.last() == Some(&0) { Ok(path.as_ptr() as usize) } else { Err(Errno::INVAL) }
}

/// Opens a NUL-terminated path relative to a directory. No other program inherits it.
pub(super) fn open(directory: usize, path: &[u8], flags: usize, mode: u32) -> SysResult<Fd> {
    let path = c_path(path)?;
    // SAFETY: `c_path` has checked the NUL.
    let opened =
        unsafe { syscall(nr::OPENAT, [directory, path, flags | O_CLOEXEC, mode as usize, 0, 0]) };
    checked(opened).map(|fd| Fd(fd as i32))
}

/// Opens a path on behalf of the runner: never through a symbolic link at its end, never waiting
/// for a peer, never as a controlling terminal.
pub(crate) fn open_for_runner(path: &[u8], flags: u32, mode: u32) -> SysResult<Fd> {
    open(AT_FDCWD, path, flags as usize | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, mode)
}

/// Opens /proc, the list of processes.
pub(crate) fn open_proc() -> SysResult<Fd> {
    open_directory(b"/proc\0")
}

/// Opens a directory to list it.
pub(crate) fn open_directory(path: &[u8]) -> SysResult<Fd> {
    open(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0)
}

/// Opens a directory below another for listing. Does not follow a link.
pub(crate) fn open_directory_below(directory: &Fd, path: &[u8]) -> SysResult<Fd> {
    open(directory.arg(), path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0)
}

/// Opens one of the kernel's files below a directory for reading.
pub(crate) fn open_below(directory: &Fd, path: &[u8]) -> SysResult<Fd> {
    open(directory.arg(), path, O_RDONLY, 0)
}

/// Opens one of the build's files below a directory for reading, without blocking.
pub(crate) fn open_file_below(directory: &Fd, path: &[u8]) -> SysResult<Fd> {
    open(directory.arg(), path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0)
}

/// Opens a directory only as a place to go on from.
pub(crate) fn open_place(path: &[u8]) -> SysResult<Fd> {
    open(AT_FDCWD, path, O_PATH | O_DIRECTORY, 0)
}

/// Opens /dev/null.
pub(crate) fn open_null() -> SysResult<Fd> {
    open(AT_FDCWD, b"/dev/null\0", O_RDWR, 0)
}

/// Reads the next entries of a directory in the kernel's layout; returns 0 at the end.
pub(crate) fn list(directory: &Fd, into: &mut [u8]) -> SysResult<usize> {
    // SAFETY: the kernel writes at most `into.len()` bytes.
    checked(unsafe {
        syscall(nr::GETDENTS64, [directory.arg(), into.as_mut_ptr() as usize, into.len(), 0, 0, 0])
    })
}

pub(crate) fn change_directory(path: &[u8]) -> SysResult<()> {
    let path = c_path(path)?;
    // SAFETY: `c_path` has checked the NUL.
    checked(unsafe { syscall(nr::CHDIR, [path, 0, 0, 0, 0, 0]) }).map(drop)
}

/// Reads the working directory with its NUL. Returns its length.
pub(crate) fn working_directory(into: &mut [u8]) -> SysResult<usize> {
    // SAFETY: the kernel writes at most `into.len()` bytes.
    checked(unsafe { syscall(nr::GETCWD, [into.as_mut_ptr() as usize, into.len(), 0, 0, 0, 0]) })
}

/// Reads the path of this program's file. Returns its length.
pub(crate) fn own_path(into: &mut [u8]) -> SysResult<usize> {
    let link = c"/proc/self/exe".as_ptr() as usize;
    // SAFETY: the path is a C string; the kernel writes at most `into.len()` bytes.
    checked(unsafe {
        syscall(nr::READLINKAT, [AT_FDCWD, link, into.as_mut_ptr() as usize, into.len(), 0, 0])
    })
}
