//! Duplicates entries with owner, mode, extended attributes and times.
//!
//! For trees made by a container's root, which must look the same to it. Nothing here is given to
//! the caller.

use super::{Dir, FILE, NEW, PLACE, kind};
use rustix::buffer::spare_capacity;
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// Attributes that must be copied: without them the file means something else.
const NEEDED: [&[u8]; 3] = [b"trusted.overlay.", b"user.overlay.", b"security.capability"];

impl Dir {
    /// Duplicates an entry under the same name in another directory. A new directory is empty, and
    /// closed until [`Self::dress_as`].
    pub fn twin(&self, name: &[u8], stat: &Stat, to: &Dir) -> io::Result<()> {
        let text = OsStr::from_bytes(name);
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        match kind(stat) {
            FileType::Directory => {
                return Ok(rustix::fs::mkdirat(to, text, Mode::RWXU)?);
            }
            FileType::RegularFile => {
                let from = rustix::fs::openat(self, text, FILE | OFlags::RDONLY, Mode::empty())?;
                let new = rustix::fs::openat(to, text, NEW, Mode::RUSR | Mode::WUSR)?;
                copy_contents(from.into(), new.into())?;
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(self, text, Vec::new())?;
                rustix::fs::symlinkat(target.as_c_str(), to, text)?;
            }
            kind => rustix::fs::mknodat(to, text, kind, mode, stat.st_rdev)?,
        }
        dress(&itself(self, name)?, stat, &itself(to, name)?)
    }

    /// Whether an entry has the same extended attributes as its namesake in another directory.
    pub fn has_same_attributes(&self, name: &[u8], other: &Dir) -> io::Result<bool> {
        let (one, two) = (itself(self, name)?, itself(other, name)?);
        Ok(attributes(&name_of(&one))? == attributes(&name_of(&two))?)
    }

    /// An entry's extended attribute; `None` if it has none of that name. Does not follow a link.
    pub fn attribute(&self, name: &[u8], attribute: &str) -> io::Result<Option<Vec<u8>>> {
        let of = itself(self, name)?;
        let mut value = Vec::with_capacity(4 << 10);
        match rustix::fs::getxattr(name_of(&of), attribute, spare_capacity(&mut value)) {
            Ok(_) => Ok(Some(value)),
            // No overlay attribute is longer.
            Err(Errno::NODATA | Errno::NOTSUP | Errno::RANGE) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Sets an extended attribute of this directory itself.
    pub fn set_attribute(&self, attribute: &str, value: &[u8]) -> io::Result<()> {
        let this = name_of(&self.0);
        Ok(rustix::fs::setxattr(this, attribute, value, XattrFlags::empty())?)
    }

    /// Copies another directory's owner, mode, attributes and times to this one.
    pub fn dress_as(&self, other: &Dir) -> io::Result<()> {
        dress(&other.0, &other.facts()?, &self.0)
    }
}

/// A handle on an entry; on a link, not its target.
fn itself(dir: &Dir, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = PLACE.difference(OFlags::DIRECTORY);
    Ok(rustix::fs::openat(dir, OsStr::from_bytes(name), flags, Mode::empty())?)
}

/// Sets the owner first, because chown clears bits of the mode and capabilities.
fn dress(from: &OwnedFd, stat: &Stat, to: &OwnedFd) -> io::Result<()> {
    // These calls refuse an O_PATH descriptor, but accept its path in /proc, even for a link
    // itself.
    let (from, to) = (name_of(from), name_of(to));
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::chownat(CWD, &to, Some(uid), Some(gid), AtFlags::empty())?;
    let kind = kind(stat);
    if kind != FileType::Symlink {
        rustix::fs::chmod(&to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    }
    copy_attributes(&from, &to, matches!(kind, FileType::RegularFile | FileType::Directory))?;
    let time = |tv_sec: i64, nanoseconds: u64| Timespec {
        tv_sec,
        tv_nsec: i64::try_from(nanoseconds).unwrap_or(0),
    };
    let times = Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    };
    Ok(rustix::fs::utimensat(CWD, &to, &times, AtFlags::empty())?)
}

fn name_of(place: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", place.as_raw_fd())
}

/// All readable extended attributes.
fn attributes(of: &str) -> Result<BTreeMap<CString, Vec<u8>>, Errno> {
    let mut all = BTreeMap::new();
    for name in attribute_names(of)? {
        let mut value = Vec::with_capacity(64 << 10);
        if rustix::fs::getxattr(of, &*name, spare_capacity(&mut value)).is_ok() {
            all.insert(name, value);
        }
    }
    Ok(all)
}

fn attribute_names(of: &str) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::with_capacity(4 << 10);
    match rustix::fs::listxattr(of, spare_capacity(&mut names)) {
        Ok(_) => {}
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Err(Errno::RANGE) => {
            names.reserve(64 << 10);
            rustix::fs::listxattr(of, spare_capacity(&mut names))?;
        }
        Err(errno) => return Err(errno),
    }
    let names = names.split_inclusive(|&byte| byte == 0);
    Ok(names.filter_map(|name| Some(CStr::from_bytes_with_nul(name).ok()?.to_owned())).collect())
}

/// Overlays need no attributes on anything but files and directories.
fn copy_attributes(from: &str, to: &str, is_needed: bool) -> io::Result<()> {
    for name in attribute_names(from)? {
        let name = name.as_c_str();
        let copy = || -> Result<(), Errno> {
            let mut value = Vec::with_capacity(64 << 10);
            rustix::fs::getxattr(from, name, spare_capacity(&mut value))?;
            rustix::fs::setxattr(to, name, &value, XattrFlags::empty())
        };
        let is_vital = is_needed && NEEDED.iter().any(|one| name.to_bytes().starts_with(one));
        match copy() {
            // A label of this machine's, or an attribute that nobody may set.
            Err(Errno::PERM | Errno::NOTSUP | Errno::NODATA | Errno::ACCESS) if !is_vital => {}
            done => done?,
        }
    }
    Ok(())
}

/// Shares blocks if the file system can; otherwise copies the data and keeps holes.
fn copy_contents(mut from: File, mut to: File) -> io::Result<()> {
    if rustix::fs::ioctl_ficlone(&to, &from).is_ok() {
        return Ok(());
    }
    let length = from.metadata()?.len();
    let mut at = 0;
    while at < length {
        let begin = match rustix::fs::seek(from.as_fd(), rustix::fs::SeekFrom::Data(at)) {
            Err(Errno::NXIO) => break,
            done => done?,
        };
        let end = rustix::fs::seek(from.as_fd(), rustix::fs::SeekFrom::Hole(begin))?;
        from.seek(SeekFrom::Start(begin))?;
        to.seek(SeekFrom::Start(begin))?;
        // A file being written may have shrunk.
        if io::copy(&mut (&from).take(end - begin), &mut to)? < end - begin {
            break;
        }
        at = end;
    }
    to.set_len(length)
}
