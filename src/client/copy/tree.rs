//! A tree that is being made on this machine, of what a hostile container says.
//!
//! Fed by `fetch`. Everything is made below one directory, name by name, through no link; a file that is in
//! the way keeps its content until the new one is whole. What is made belongs to the caller and never gets
//! the set-user-id bit or its kin.

use crate::users::{self, Caller};
use runner_wire::files::Facts;
use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, Timespec, Timestamps, fchmod, futimens, linkat, mkdirat,
    openat, renameat, seek, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::{Mutex, PoisonError};

/// Permissions that come out of a container: none of the bits that lend rights.
const PERMISSIONS: u32 = 0o777;
/// What the owner of a directory needs to fill it.
const FILLABLE: u32 = 0o700;
/// Names that are tried for a file which is to take another's place.
const PARTS: u32 = 1000;

/// A directory as a place to go on from.
const PLACE: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The file that is being written: removed by whoever ends this program meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Unfinished(Mutex<Option<(OwnedFd, Vec<u8>)>>);

impl Unfinished {
    /// Removes it, and lets none begin after it: the program is on its way out when this is called.
    pub(crate) fn remove(&self) -> impl Drop + use<'_> {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((place, name)) = current.take() {
            let _ = unlinkat(place, OsStr::from_bytes(&name), AtFlags::empty());
        }
        current
    }

    fn set(&self, current: Option<(OwnedFd, Vec<u8>)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = current;
    }
}

pub(super) struct Tree<'a> {
    root: OwnedFd,
    owner: Option<Caller>,
    /// The directory that was found last, and its path below the root.
    above: Vec<u8>,
    place: Option<OwnedFd>,
    file: Option<Writing>,
    /// Directories whose mode and time are set when all is in them.
    directories: Vec<(Vec<u8>, Facts)>,
    /// Files with more than one name, by what the container calls them.
    names: HashMap<(u64, u64), Vec<u8>>,
    unfinished: &'a Unfinished,
}

/// A file on its way.
struct Writing {
    file: File,
    name: Vec<u8>,
    /// Its name for now, where another file has the right one.
    part: Option<Vec<u8>>,
    path: Vec<u8>,
    facts: Facts,
}

impl<'a> Tree<'a> {
    /// Below a directory of the caller's.
    pub(super) fn new(root: OwnedFd, unfinished: &'a Unfinished) -> Self {
        Tree {
            root,
            owner: users::caller(),
            above: Vec::new(),
            place: None,
            file: None,
            directories: Vec::new(),
            names: HashMap::new(),
            unfinished,
        }
    }

    /// Makes a directory, which may be there already.
    pub(super) fn directory(&mut self, path: &[u8], facts: &Facts) -> io::Result<()> {
        let (place, name) = self.find(path)?;
        match mkdirat(place, name, Mode::from_raw_mode(facts.mode & PERMISSIONS | FILLABLE)) {
            Err(Errno::EXIST) => {
                let there = statat(place, name, AtFlags::SYMLINK_NOFOLLOW)?;
                if FileType::from_raw_mode(there.st_mode) != FileType::Directory {
                    return Err(Errno::EXIST.into());
                }
                if there.st_mode & FILLABLE != FILLABLE {
                    // Closed to its owner until now; its mode comes at the end. Whoever may not
                    // open it hears so when something is to be made in it.
                    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
                    let mode = Mode::from_raw_mode(there.st_mode & PERMISSIONS | FILLABLE);
                    let opened = openat(place, name, flags | OFlags::CLOEXEC, Mode::empty());
                    let _ = opened.and_then(|directory| fchmod(directory, mode));
                }
            }
            Err(errno) => return Err(errno.into()),
            Ok(()) => self.give_name(path)?,
        }
        self.directories.push((path.to_vec(), *facts));
        Ok(())
    }

    pub(super) fn link(&mut self, path: &[u8], target: &[u8], facts: &Facts) -> io::Result<()> {
        let (place, name) = self.find(path)?;
        let target = OsStr::from_bytes(target);
        match symlinkat(target, place, name) {
            Err(Errno::EXIST) => {
                unlinkat(place, name, AtFlags::empty())?;
                symlinkat(target, place, name)?;
            }
            done => done?,
        }
        utimensat(place, name, &times(facts), AtFlags::SYMLINK_NOFOLLOW)?;
        self.give_name(path)
    }

    /// Begins a file; its content and [`Self::end`] follow.
    pub(super) fn begin(&mut self, path: &[u8], facts: &Facts) -> io::Result<()> {
        let (place, name) = self.find(path)?;
        let (fd, part) = create(place, name)?;
        let file = File::from(fd);
        let held = rustix::io::fcntl_dupfd_cloexec(place, 0)?;
        let name = name.as_bytes().to_vec();
        self.unfinished.set(Some((held, part.clone().unwrap_or_else(|| name.clone()))));
        self.file = Some(Writing { file, name, part, path: path.to_vec(), facts: *facts });
        Ok(())
    }

    pub(super) fn is_writing(&self) -> bool {
        self.file.is_some()
    }

    pub(super) fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.file {
            Some(writing) => writing.file.write_all(bytes),
            None => Ok(()),
        }
    }

    pub(super) fn hole(&mut self, length: u64) -> io::Result<()> {
        if let Some(writing) = &self.file {
            let length = i64::try_from(length).map_err(|_| io::ErrorKind::FileTooLarge)?;
            seek(&writing.file, rustix::fs::SeekFrom::Current(length))?;
        }
        Ok(())
    }

    /// The file is whole.
    pub(super) fn end(&mut self) -> io::Result<()> {
        let Some(writing) = self.file.take() else { return Ok(()) };
        let done = self.finish(&writing);
        if done.is_err() {
            self.remove(&writing);
        }
        self.unfinished.set(None);
        done
    }

    fn finish(&mut self, writing: &Writing) -> io::Result<()> {
        let Writing { file, name, part, path, facts } = writing;
        if facts.size > 0 && file.metadata()?.len() != facts.size {
            // It ends with a hole.
            file.set_len(facts.size)?;
        }
        if let Some(Caller { uid, gid }) = self.owner {
            std::os::unix::fs::fchown(file, Some(uid), Some(gid))?;
        }
        fchmod(file, Mode::from_raw_mode(facts.mode & PERMISSIONS))?;
        futimens(file, &times(facts))?;
        let place = self.place.as_ref().unwrap_or(&self.root);
        if let Some(part) = part {
            renameat(place, OsStr::from_bytes(part), place, OsStr::from_bytes(name))?;
        }
        if facts.names > 1 {
            self.names.entry((facts.device, facts.inode)).or_insert_with(|| path.clone());
        }
        Ok(())
    }

    /// The file did not become whole.
    pub(super) fn abandon(&mut self) {
        if let Some(writing) = self.file.take() {
            self.remove(&writing);
            self.unfinished.set(None);
        }
    }

    fn remove(&self, writing: &Writing) {
        let place = self.place.as_ref().unwrap_or(&self.root);
        let name = writing.part.as_ref().unwrap_or(&writing.name);
        let _ = unlinkat(place, OsStr::from_bytes(name), AtFlags::empty());
    }

    /// Whether this is another name of a file that is here by now, and if so, makes it.
    pub(super) fn is_another_name(&mut self, path: &[u8], facts: &Facts) -> bool {
        let Some(first) = self.names.get(&(facts.device, facts.inode)).cloned() else {
            return false;
        };
        let is_named = facts.names > 1 && first != path;
        is_named && self.name_again(path, &first).is_ok()
    }

    fn name_again(&mut self, path: &[u8], first: &[u8]) -> io::Result<()> {
        let (above, name) = split(first);
        let from = self.enter(above)?;
        let from = from.as_ref().unwrap_or(&self.root).try_clone()?;
        let old = OsStr::from_bytes(name);
        let (place, new) = self.find(path)?;
        match linkat(&from, old, place, new, AtFlags::empty()) {
            Err(Errno::EXIST) => {
                unlinkat(place, new, AtFlags::empty())?;
                linkat(&from, old, place, new, AtFlags::empty())?;
            }
            done => done?,
        }
        Ok(())
    }

    /// Gives directories their modes and times, the deepest first; what could not be done.
    pub(super) fn close(mut self) -> Vec<(Vec<u8>, io::Error)> {
        self.abandon();
        let mut problems = Vec::new();
        for (path, facts) in std::mem::take(&mut self.directories).into_iter().rev() {
            if let Err(error) = self.dress(&path, &facts) {
                problems.push((path, error));
            }
        }
        problems
    }

    fn dress(&self, path: &[u8], facts: &Facts) -> io::Result<()> {
        let (above, name) = split(path);
        let place = self.enter(above)?;
        let place = place.as_ref().unwrap_or(&self.root);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = openat(place, OsStr::from_bytes(name), flags, Mode::empty())?;
        fchmod(&directory, Mode::from_raw_mode(facts.mode & PERMISSIONS))?;
        Ok(futimens(&directory, &times(facts))?)
    }

    /// The directory above a path, and its last name.
    fn find<'p>(&mut self, path: &'p [u8]) -> io::Result<(BorrowedFd<'_>, &'p OsStr)> {
        let (above, name) = split(path);
        if self.above != above {
            self.place = None;
            self.above.clear();
            self.place = self.enter(above)?;
            self.above.extend_from_slice(above);
        }
        let place = self.place.as_ref().unwrap_or(&self.root);
        Ok((place.as_fd(), OsStr::from_bytes(name)))
    }

    /// Goes down from the root, through no link; `None` is the root itself.
    fn enter(&self, path: &[u8]) -> io::Result<Option<OwnedFd>> {
        let mut here: Option<OwnedFd> = None;
        for name in path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
            let at = here.as_ref().unwrap_or(&self.root);
            here = Some(openat(at, OsStr::from_bytes(name), PLACE, Mode::empty())?);
        }
        Ok(here)
    }

    fn give_name(&mut self, path: &[u8]) -> io::Result<()> {
        let Some(Caller { uid, gid }) = self.owner else { return Ok(()) };
        let (place, name) = self.find(path)?;
        let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
        Ok(rustix::fs::chownat(place, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?)
    }
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

fn times(facts: &Facts) -> Timestamps {
    let time = Timespec { tv_sec: facts.modified, tv_nsec: i64::from(facts.modified_ns) };
    Timestamps { last_access: time, last_modification: time }
}

/// A new file, under another name where its own is taken.
fn create(place: BorrowedFd<'_>, name: &OsStr) -> io::Result<(OwnedFd, Option<Vec<u8>>)> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o600);
    match openat(place, name, flags, mode) {
        Err(Errno::EXIST) => {}
        done => return Ok((done?, None)),
    }
    let there = statat(place, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(there.st_mode) == FileType::Directory {
        return Err(Errno::ISDIR.into());
    }
    for number in 0..PARTS {
        let part = format!(".runner-part-{}-{number}", std::process::id());
        match openat(place, part.as_str(), flags, mode) {
            Err(Errno::EXIST) => {}
            done => return Ok((done?, Some(part.into_bytes()))),
        }
    }
    Err(Errno::EXIST.into())
}

/// Names in a directory, in order.
pub(super) fn names(directory: &OwnedFd) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}
