//! System calls on files, directories and links below a directory, for `files`.
//!
//! A part of `sys`. Nothing here follows a link at the end of a path unless asked to, and nothing
//! waits for a peer.

use super::files::{O_DIRECTORY, O_NOFOLLOW, O_PATH, O_RDONLY, c_path, open};
use super::{Errno, Fd, O_NOCTTY, O_NONBLOCK, SysResult, checked, plain};
use crate::arch::{nr, syscall};

const O_WRONLY: usize = 1;
const O_CREAT: usize = 0o100;
const O_EXCL: usize = 0o200;
const AT_SYMLINK_NOFOLLOW: usize = 0x100;
const AT_EMPTY_PATH: usize = 0x1000;
const AT_REMOVEDIR: usize = 0x200;

/// The result of statx(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) names: u32,
    pub(crate) size: u64,
    pub(crate) blocks: u64,
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) modified: i64,
    pub(crate) modified_ns: u32,
    changed: i64,
    changed_ns: u32,
}

impl Stat {
    /// Whether nothing was written since `before`.
    pub(crate) fn is_as_before(&self, before: &Stat) -> bool {
        self.size == before.size
            && (self.modified, self.modified_ns) == (before.modified, before.modified_ns)
            && (self.changed, self.changed_ns) == (before.changed, before.changed_ns)
    }
}

#[repr(C)]
#[derive(Default)]
struct Time {
    seconds: i64,
    nanoseconds: u32,
    spare: i32,
}

/// The needed part of struct statx.
#[repr(C)]
#[derive(Default)]
struct Statx {
    mask: u32,
    block_size: u32,
    attributes: u64,
    names: u32,
    uid: u32,
    gid: u32,
    mode: u16,
    spare: u16,
    inode: u64,
    size: u64,
    blocks: u64,
    attributes_mask: u64,
    accessed: Time,
    born: Time,
    changed: Time,
    modified: Time,
    special_major: u32,
    special_minor: u32,
    major: u32,
    minor: u32,
    rest: [u64; 14],
}

fn statx(directory: &Fd, path: usize, flags: usize) -> SysResult<Stat> {
    const BASIC: usize = 0x7ff;
    let mut raw = Statx::default();
    let to = &raw mut raw as usize;
    // SAFETY: both callers pass a C string; the kernel writes 256 bytes, the size of `Statx`.
    checked(unsafe { syscall(nr::STATX, [directory.arg(), path, flags, BASIC, to, 0]) })?;
    Ok(Stat {
        mode: u32::from(raw.mode),
        uid: raw.uid,
        gid: raw.gid,
        names: raw.names,
        size: raw.size,
        blocks: raw.blocks,
        device: u64::from(raw.major) << 32 | u64::from(raw.minor),
        inode: raw.inode,
        modified: raw.modified.seconds,
        modified_ns: raw.modified.nanoseconds,
        changed: raw.changed.seconds,
        changed_ns: raw.changed.nanoseconds,
    })
}

pub(crate) fn stat(directory: &Fd, path: &[u8], follows: bool) -> SysResult<Stat> {
    let flags = if follows { 0 } else { AT_SYMLINK_NOFOLLOW };
    statx(directory, c_path(path)?, flags)
}

pub(crate) fn stat_open(fd: &Fd) -> SysResult<Stat> {
    statx(fd, c"".as_ptr() as usize, AT_EMPTY_PATH)
}

/// Whether a directory is on one of the kernel's file systems, which hold no real files.
pub(crate) fn is_of_the_kernel(directory: &Fd) -> bool {
    /// proc, sysfs, cgroup, cgroup2, devpts, mqueue, debugfs, tracefs, securityfs, bpf, efivarfs.
    const KINDS: [u64; 11] = [
        0x9fa0,
        0x6265_6572,
        0x27_e0eb,
        0x6367_7270,
        0x1cd1,
        0x1980_0202,
        0x6462_6720,
        0x7472_6163,
        0x7363_6673,
        0xcafe_4a11,
        0xde5e_81e4,
    ];
    let mut raw = [0_u64; 32];
    // SAFETY: the kernel writes a struct statfs of 120 bytes, whose first word is the type.
    let done = checked(unsafe {
        syscall(nr::FSTATFS, [directory.arg(), raw.as_mut_ptr() as usize, 0, 0, 0, 0])
    });
    done.is_ok() && KINDS.contains(&raw[0])
}

/// Reads a link's target. Returns its length.
pub(crate) fn read_link(directory: &Fd, path: &[u8], into: &mut [u8]) -> SysResult<usize> {
    let path = c_path(path)?;
    // SAFETY: `c_path` has checked the NUL; the kernel writes at most `into.len()` bytes.
    checked(unsafe {
        syscall(
            nr::READLINKAT,
            [directory.arg(), path, into.as_mut_ptr() as usize, into.len(), 0, 0],
        )
    })
}

/// Opens a file that was regular when last checked.
pub(crate) fn open_to_read(directory: &Fd, path: &[u8], follows: bool) -> SysResult<Fd> {
    let flags = O_RDONLY | O_NONBLOCK | O_NOCTTY | if follows { 0 } else { O_NOFOLLOW };
    open(directory.arg(), path, flags, 0)
}

/// Opens a directory to list it.
pub(crate) fn open_to_list(directory: &Fd, path: &[u8], follows: bool) -> SysResult<Fd> {
    let flags = O_RDONLY | O_DIRECTORY | if follows { 0 } else { O_NOFOLLOW };
    open(directory.arg(), path, flags, 0)
}

/// Opens a directory only as a place to go on from.
pub(crate) fn open_place_below(directory: &Fd, path: &[u8], follows: bool) -> SysResult<Fd> {
    let flags = O_PATH | O_DIRECTORY | if follows { 0 } else { O_NOFOLLOW };
    open(directory.arg(), path, flags, 0)
}

/// Creates a file, which must not exist, and opens it for writing.
pub(crate) fn create(directory: &Fd, path: &[u8], mode: u32) -> SysResult<Fd> {
    open(directory.arg(), path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_NOCTTY, mode)
}

pub(crate) fn make_directory(directory: &Fd, path: &[u8], mode: u32) -> SysResult<()> {
    let path = c_path(path)?;
    // SAFETY: `c_path` has checked the NUL.
    checked(unsafe { syscall(nr::MKDIRAT, [directory.arg(), path, mode as usize, 0, 0, 0]) })
        .map(drop)
}

pub(crate) fn make_link(target: &[u8], directory: &Fd, path: &[u8]) -> SysResult<()> {
    let (target, path) = (c_path(target)?, c_path(path)?);
    // SAFETY: `c_path` has checked both NULs.
    checked(unsafe { syscall(nr::SYMLINKAT, [target, directory.arg(), path, 0, 0, 0]) }).map(drop)
}

/// Adds a name to a file. Does not follow a link.
pub(crate) fn add_name(from: (&Fd, &[u8]), to: (&Fd, &[u8])) -> SysResult<()> {
    let (old, new) = (c_path(from.1)?, c_path(to.1)?);
    // SAFETY: `c_path` has checked both NULs.
    checked(unsafe { syscall(nr::LINKAT, [from.0.arg(), old, to.0.arg(), new, 0, 0]) }).map(drop)
}

/// Removes an entry that is not a directory.
pub(crate) fn remove(directory: &Fd, path: &[u8]) -> SysResult<()> {
    let path = c_path(path)?;
    // SAFETY: `c_path` has checked the NUL.
    checked(unsafe { syscall(nr::UNLINKAT, [directory.arg(), path, 0, 0, 0, 0]) }).map(drop)
}

/// Removes an empty directory.
pub(crate) fn remove_directory(directory: &Fd, path: &[u8]) -> SysResult<()> {
    let path = c_path(path)?;
    // SAFETY: `c_path` has checked the NUL.
    checked(unsafe { syscall(nr::UNLINKAT, [directory.arg(), path, AT_REMOVEDIR, 0, 0, 0]) })
        .map(drop)
}

/// Renames a file within a directory and replaces any file with the new name.
pub(crate) fn rename(directory: &Fd, from: &[u8], to: &[u8]) -> SysResult<()> {
    let (from, to) = (c_path(from)?, c_path(to)?);
    // SAFETY: `c_path` has checked both NULs.
    checked(unsafe { syscall(nr::RENAMEAT, [directory.arg(), from, directory.arg(), to, 0, 0]) })
        .map(drop)
}

pub(crate) fn set_owner(fd: &Fd, uid: u32, gid: u32) -> SysResult<()> {
    plain(nr::FCHOWN, [fd.arg(), uid as usize, gid as usize, 0, 0, 0]).map(drop)
}

/// Sets the owner of a link itself.
pub(crate) fn set_link_owner(directory: &Fd, path: &[u8], uid: u32, gid: u32) -> SysResult<()> {
    let path = c_path(path)?;
    let (uid, gid) = (uid as usize, gid as usize);
    // SAFETY: `c_path` has checked the NUL.
    checked(unsafe {
        syscall(nr::FCHOWNAT, [directory.arg(), path, uid, gid, AT_SYMLINK_NOFOLLOW, 0])
    })
    .map(drop)
}

pub(crate) fn set_mode(fd: &Fd, mode: u32) -> SysResult<()> {
    plain(nr::FCHMOD, [fd.arg(), (mode & 0o7777) as usize, 0, 0, 0, 0]).map(drop)
}

/// Sets the times of last change and last access.
pub(crate) fn set_time(fd: &Fd, seconds: i64, nanoseconds: u32) -> SysResult<()> {
    set_times(fd, 0, seconds, nanoseconds, 0)
}

/// Sets the times of a link itself.
pub(crate) fn set_link_time(
    directory: &Fd,
    path: &[u8],
    seconds: i64,
    nanoseconds: u32,
) -> SysResult<()> {
    set_times(directory, c_path(path)?, seconds, nanoseconds, AT_SYMLINK_NOFOLLOW)
}

fn set_times(fd: &Fd, path: usize, seconds: i64, nanoseconds: u32, flags: usize) -> SysResult<()> {
    // Larger values have special meanings.
    let nanoseconds = i64::from(nanoseconds.min(999_999_999));
    let times = [seconds, nanoseconds, seconds, nanoseconds];
    // SAFETY: the path is null, for the descriptor itself, or a C string; the kernel reads four
    // numbers.
    checked(unsafe {
        syscall(nr::UTIMENSAT, [fd.arg(), path, times.as_ptr() as usize, flags, 0, 0])
    })
    .map(drop)
}

/// Sets a file's length.
pub(crate) fn set_length(file: &Fd, length: u64) -> SysResult<()> {
    plain(nr::FTRUNCATE, [file.arg(), length as usize, 0, 0, 0, 0]).map(drop)
}

/// Moves the write position forward.
pub(crate) fn skip(file: &Fd, length: u64) -> SysResult<()> {
    const SEEK_CUR: usize = 1;
    plain(nr::LSEEK, [file.arg(), length as usize, SEEK_CUR, 0, 0, 0]).map(drop)
}

/// The next offset from `from` on that holds data; `None` if there is none.
pub(crate) fn next_data(file: &Fd, from: u64) -> SysResult<Option<u64>> {
    const SEEK_DATA: usize = 3;
    match plain(nr::LSEEK, [file.arg(), from as usize, SEEK_DATA, 0, 0, 0]) {
        Ok(at) => Ok(Some(at as u64)),
        Err(Errno::NXIO) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// The next offset from `from` on that is a hole; the end of the file counts as one.
pub(crate) fn next_hole(file: &Fd, from: u64) -> SysResult<u64> {
    const SEEK_HOLE: usize = 4;
    plain(nr::LSEEK, [file.arg(), from as usize, SEEK_HOLE, 0, 0, 0]).map(|at| at as u64)
}

pub(crate) fn read_at(file: &Fd, into: &mut [u8], from: u64) -> SysResult<usize> {
    let (to, length) = (into.as_mut_ptr() as usize, into.len());
    // SAFETY: the slice is valid for writes of its length while the call runs.
    checked(unsafe { syscall(nr::PREAD64, [file.arg(), to, length, from as usize, 0, 0]) })
}

/// Raises the descriptor limit to the maximum.
pub(crate) fn raise_descriptor_limit() {
    const RLIMIT_NOFILE: usize = 7;
    let mut limits = [0_u64; 2];
    // SAFETY: the kernel writes two numbers.
    let read = checked(unsafe {
        syscall(nr::PRLIMIT64, [0, RLIMIT_NOFILE, 0, limits.as_mut_ptr() as usize, 0, 0])
    });
    if read.is_ok() {
        limits[0] = limits[1];
        // SAFETY: the kernel reads two numbers.
        let _ = checked(unsafe {
            syscall(nr::PRLIMIT64, [0, RLIMIT_NOFILE, limits.as_ptr() as usize, 0, 0, 0])
        });
    }
}
