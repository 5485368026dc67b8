//! Removes trees, whatever a build made of them: deeper than a path or the number of descriptors
//! allows, or closed to their own owner. A dying process may still add and remove entries
//! meanwhile.

use super::{PERMISSIONS, PLACE};
use rustix::fs::{AtFlags, Dir as Listing, FileType, Mode, OFlags, fstat, openat, unlinkat};
use rustix::io::Errno;
use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// How often an emptied directory may have new entries before that is an error.
const ROUNDS: u32 = 64;

struct EmptyingLevel {
    name: CString,
    /// The identity of its parent directory.
    above: DirectoryId,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct DirectoryId(u64, u64);

/// Removes an entry and everything below it, if it exists.
pub(super) fn tree(above: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    match unlinkat(above, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(errno) => return Err(errno.into()),
    }
    let mut rounds = ROUNDS;
    loop {
        let Some(top) = unless_gone(enter(above, name))? else { return Ok(()) };
        empty(top, &mut rounds)?;
        if remove_empty(above, name, &mut rounds)? {
            return Ok(());
        }
    }
}

/// Turns a missing entry into `None`.
fn unless_gone<T>(result: Result<T, Errno>) -> Result<Option<T>, Errno> {
    match result {
        Err(Errno::NOENT) => Ok(None),
        done => done.map(Some),
    }
}

/// Removes an emptied directory; `false` if it has new entries.
fn remove_empty<P: rustix::path::Arg>(
    above: impl std::os::fd::AsFd,
    name: P,
    rounds: &mut u32,
) -> Result<bool, Errno> {
    match unlinkat(above, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) if *rounds > 0 => {
            *rounds -= 1;
            Ok(false)
        }
        Err(errno) => Err(errno),
    }
}

/// Removes everything in a directory. Keeps one descriptor open: the way back is `..`, and each
/// step up is checked, because directories may be moved meanwhile.
fn empty(top: OwnedFd, rounds: &mut u32) -> Result<(), Errno> {
    let mut here = top;
    let mut way: Vec<EmptyingLevel> = Vec::new();
    loop {
        match empty_but_for_one(&here)? {
            Some(name) => {
                let above = id(&here)?;
                let Some(below) = unless_gone(enter(&here, name.as_c_str()))? else { continue };
                here = below;
                way.push(EmptyingLevel { name, above });
            }
            None => {
                let Some(EmptyingLevel { name, above }) = way.pop() else { return Ok(()) };
                here = enter(&here, c"..")?;
                if id(&here)? != above {
                    return Err(Errno::STALE);
                }
                // A later pass finds new entries.
                remove_empty(&here, &name, rounds)?;
            }
        }
    }
}

fn id(dir: &OwnedFd) -> Result<DirectoryId, Errno> {
    fstat(dir).map(|stat| DirectoryId(stat.st_dev, stat.st_ino))
}

/// Removes a directory's files and empty directories up to the first directory with contents.
/// Returns that one's name.
fn empty_but_for_one(here: &OwnedFd) -> Result<Option<CString>, Errno> {
    for entry in Listing::read_from(here)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let is_directory = entry.file_type() == FileType::Directory;
        let flags = if is_directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        let remove = |flags| match unlinkat(here, name, flags) {
            // Its owner, which is us, may not write to it.
            Err(Errno::ACCESS) => {
                rustix::fs::fchmod(here, Mode::RWXU)?;
                unlinkat(here, name, flags)
            }
            done => done,
        };
        match remove(flags) {
            Ok(()) | Err(Errno::NOENT) => {}
            // The file system does not report types.
            Err(Errno::ISDIR) => match remove(AtFlags::REMOVEDIR) {
                Err(Errno::NOTEMPTY | Errno::EXIST) => return Ok(Some(name.to_owned())),
                done => done?,
            },
            Err(Errno::NOTEMPTY | Errno::EXIST) => return Ok(Some(name.to_owned())),
            Err(errno) => return Err(errno),
        }
    }
    Ok(None)
}

/// Opens a directory for listing and changes, even if it is closed to its owner.
pub(super) fn enter<P: rustix::path::Arg + Copy>(
    from: impl std::os::fd::AsFd,
    name: P,
) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(&from, name, flags, Mode::empty()) {
        // An overlay's work directory is closed to its own owner, and a build may close others.
        Err(Errno::ACCESS) => {
            let place = openat(&from, name, PLACE, Mode::empty())?;
            let mode = Mode::from_raw_mode(fstat(&place)?.st_mode & PERMISSIONS) | Mode::RWXU;
            rustix::fs::chmod(format!("/proc/self/fd/{}", place.as_raw_fd()), mode)?;
            openat(&place, c".", flags, Mode::empty())
        }
        done => done,
    }
}
