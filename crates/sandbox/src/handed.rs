//! Passes open directories from the runner to a container's set-up, so that nothing is mounted by a
//! path that may have changed since the runner checked it.
//!
//! `parent` passes them, `child` takes them before it builds the root. A spec names each by
//! [`handed`].
//!
//! A descriptor belongs to a mount of the runner's namespace, and the kernel mounts nothing from
//! another namespace. So `child` opens each directory again by its current path, without following
//! links, and goes on only if it is the same directory.
#![forbid(unsafe_code)]

use crate::handshake::{SandboxSetupError, SetupStep, failing};
use crate::sys;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, fstat, openat2, readlinkat};
use rustix::io::Errno;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Descriptor number of the first directory.
pub(crate) const FIRST: i32 = 6;
/// Most directories: their numbers stay below those that `parent` copies them from.
pub(crate) const MOST: usize = 8;

/// The path that names directory number `index` in a spec.
#[must_use]
pub fn handed(index: usize) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", FIRST as usize + index))
}

/// The current paths of open directories.
pub(crate) fn paths(directories: &[BorrowedFd<'_>]) -> io::Result<Vec<PathBuf>> {
    if directories.len() > MOST {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let path = |directory: &BorrowedFd<'_>| -> io::Result<PathBuf> {
        let name = format!("/proc/self/fd/{}", directory.as_raw_fd());
        let path = readlinkat(CWD, name, Vec::new())?;
        Ok(PathBuf::from(OsString::from_vec(path.into_bytes())))
    };
    directories.iter().map(path).collect()
}

/// Replaces the inherited descriptors by those of the same directories in this mount namespace.
/// [`handed`] names them while the result lives.
pub(crate) fn take(paths: &[PathBuf]) -> Result<Vec<OwnedFd>, SandboxSetupError> {
    let take = |(number, path): (i32, &PathBuf)| -> Result<OwnedFd, SandboxSetupError> {
        let took = || -> io::Result<OwnedFd> {
            let [theirs] = sys::inherited([number]).ok_or(Errno::BADF)?;
            let ours = same_directory(&theirs, path)?;
            sys::copy_to(ours.as_fd(), number)?;
            Ok(theirs)
        };
        took().map_err(failing(SetupStep::Source, "open", path))
    };
    (FIRST..).zip(paths).map(take).collect()
}

/// Opens a path without following links. It must be the directory that is already open.
fn same_directory(open: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let found = openat2(CWD, path, flags, Mode::empty(), resolve)?;
    let (wanted, there) = (fstat(open)?, fstat(&found)?);
    match (there.st_dev, there.st_ino) == (wanted.st_dev, wanted.st_ino) {
        true => Ok(found),
        false => Err(Errno::STALE.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_has_taken_a_directory_s_place_is_not_opened() -> io::Result<()> {
        let bed = tempfile::tempdir()?;
        // The path as the kernel has it: without links.
        let bed = fs::canonicalize(bed.path())?;
        let dir = bed.join("dir");
        fs::create_dir(&dir)?;
        let open: OwnedFd = fs::File::open(&dir)?.into();
        assert_eq!(paths(&[open.as_fd()])?, std::slice::from_ref(&dir));
        assert!(same_directory(&open, &dir).is_ok());
        let aside = bed.join("aside");
        fs::rename(&dir, &aside)?;
        // The kernel knows its new name; the old one is free for others.
        assert_eq!(paths(&[open.as_fd()])?, std::slice::from_ref(&aside));
        symlink(&aside, &dir)?;
        // With O_PATH a link itself would be opened, but it is no directory.
        let refused = same_directory(&open, &dir).map_err(|error| error.raw_os_error());
        assert_eq!(refused.err(), Some(Some(libc::ENOTDIR)));
        fs::remove_file(&dir)?;
        fs::create_dir(&dir)?;
        let refused = same_directory(&open, &dir).map_err(|error| error.raw_os_error());
        assert_eq!(refused.err(), Some(Some(libc::ESTALE)));
        Ok(())
    }
}
