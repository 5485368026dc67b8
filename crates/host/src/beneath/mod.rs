//! Files below a folder that a build, a cloned source or anyone else can shape.
//!
//! All code that reads, writes or deletes below such a folder uses [`Dir`]: `outputs`, `session`,
//! `client/copy`, `state`. Those that need no other file access deny calls that follow links, in
//! `std::fs` and elsewhere (`clippy.toml`).
//!
//! The rules:
//!
//! - Links in a path that the user typed are followed: [`Dir::top`], [`Dir::make_top`]. A path
//!   typed before a build and opened after it is resolved before, by [`real`], and opened without
//!   following links: [`Dir::real`], [`Dir::make_real`]. [`Dir::top_itself`] refuses a top that is
//!   a link.
//! - Below the top no link is followed at any depth, and no name leads out: paths are relative
//!   bytes without empty names, `.` and `..`, and the kernel resolves them with RESOLVE_BENEATH and
//!   RESOLVE_NO_SYMLINKS. A link on the way is an error of kind `NotADirectory` that names it.
//! - Each call acts in a directory given by its descriptor, so nothing renamed or replaced
//!   meanwhile can redirect it. A [`Dir`] can be passed to the sandbox as a descriptor ([`AsFd`]).
//! - Files are opened without blocking, and only regular ones ([`Dir::file`], [`Dir::append`]);
//!   small ones are read up to a limit ([`Dir::read_small`]). Only a regular file is ever replaced
//!   ([`Dir::put`], [`Dir::write`]).
//! - New files belong to the caller: under sudo that is not root.
//! - Trees may be deeper than the longest path or the number of descriptors: [`Dir::walk`],
//!   [`Dir::remove_tree`].
//!
//! A path of one name costs one system call; [`DirectoryCursor`] keeps the last path's directory
//! open for many files.

mod cursor;
mod remove;
mod top;
mod twin;
mod walk;

pub use cursor::DirectoryCursor;
pub use top::real;
pub use walk::WalkItem;

use crate::users::{self, SudoCaller};
use rustix::fs::{
    Access, AtFlags, FileType, Mode, OFlags, RawDir, RenameFlags, ResolveFlags, Stat, StatVfs,
    Timestamps, openat2,
};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::OnceLock;

/// Mode bits that may be set: no setuid, setgid or sticky bit.
pub const PERMISSIONS: u32 = 0o777;
/// Mode bits that a directory's owner needs to fill it.
pub const FILLABLE: u32 = 0o700;
/// Longest path passed to the kernel at once, in bytes, with some room.
const AT_ONCE: usize = 4000;
/// Names tried for a temporary file that will replace another.
const PARTS: u32 = 1000;

/// Resolution without links that stays below the start.
const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);
/// A directory opened only as a place to go on from.
const PLACE: OFlags = OFlags::PATH.union(DIRECTORY);
const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// A file of unknown kind: opening it never blocks.
const FILE: OFlags =
    OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);
const NEW: OFlags = FILE.union(OFlags::WRONLY).union(OFlags::CREATE).union(OFlags::EXCL);

/// A directory, giving access to everything below it.
#[derive(Debug)]
pub struct Dir(OwnedFd);

/// The directory above a path's last name.
enum ParentDirectory<'a> {
    Here(BorrowedFd<'a>),
    Below(OwnedFd),
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsFd for ParentDirectory<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            ParentDirectory::Here(fd) => fd.as_fd(),
            ParentDirectory::Below(fd) => fd.as_fd(),
        }
    }
}

impl From<OwnedFd> for Dir {
    /// Takes the descriptor of a directory.
    fn from(fd: OwnedFd) -> Self {
        Dir(fd)
    }
}

/// Directories.
impl Dir {
    /// Duplicates the descriptor.
    pub fn again(&self) -> io::Result<Self> {
        Ok(Dir(self.0.try_clone()?))
    }

    /// Opens a directory below this one; the empty path is this directory.
    pub fn open(&self, path: impl AsRef<[u8]>) -> io::Result<Self> {
        match path.as_ref() {
            b"" => self.again(),
            path => Ok(Dir(self.descend(path, PLACE, Mode::empty())?)),
        }
    }

    /// Creates a directory. It must not exist.
    pub fn make(&self, path: impl AsRef<[u8]>, mode: u32) -> io::Result<Self> {
        let path = path.as_ref();
        let (above, name) = self.above(path)?;
        rustix::fs::mkdirat(&above, name, Mode::from_raw_mode(mode & PERMISSIONS))?;
        give_at(above.as_fd(), name)?;
        Ok(Dir(rustix::fs::openat(&above, name, PLACE, Mode::empty())?))
    }

    /// Opens a directory below this one; creates whatever is missing of the path.
    pub fn make_all(&self, path: impl AsRef<[u8]>, mode: u32) -> io::Result<Self> {
        let path = path.as_ref();
        let is_missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        match self.open(path) {
            Err(error) if is_missing(&error) => {}
            done => return done,
        }
        // Usually only the last name is missing.
        let (above, name) = split(path);
        let (mut dir, missing) = match self.open(above) {
            Err(error) if is_missing(&error) => (self.again()?, path),
            done => (done?, name),
        };
        for name in missing.split(|&byte| byte == b'/') {
            dir = match dir.make(name, mode) {
                // It exists already, or someone else was faster.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => dir.open(name)?,
                done => done?,
            };
        }
        Ok(dir)
    }

    /// Sets the mode and times of a directory below this one, once it is complete.
    pub fn dress(&self, path: impl AsRef<[u8]>, mode: u32, times: &Timestamps) -> io::Result<()> {
        let dir = self.descend(path.as_ref(), OFlags::RDONLY | DIRECTORY, Mode::empty())?;
        rustix::fs::fchmod(&dir, Mode::from_raw_mode(mode & PERMISSIONS))?;
        Ok(rustix::fs::futimens(&dir, times)?)
    }

    /// The directory's entries, unsorted.
    pub fn entries(&self) -> io::Result<Vec<DirectoryEntry>> {
        let flags = OFlags::RDONLY | DIRECTORY;
        let opened = rustix::fs::openat(&self.0, ".", flags, Mode::empty())?;
        let mut buffer = [MaybeUninit::uninit(); 16 << 10];
        let mut raw = RawDir::new(&opened, &mut buffer);
        let mut entries = Vec::new();
        while let Some(entry) = raw.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let kind = match entry.file_type() {
                // The file system does not report types.
                FileType::Unknown => kind(&self.stat(name)?),
                kind => kind,
            };
            entries.push(DirectoryEntry { name: name.to_vec(), kind });
        }
        Ok(entries)
    }

    /// The directory's names, sorted.
    pub fn names(&self) -> io::Result<Vec<Vec<u8>>> {
        let mut names: Vec<_> = self.entries()?.into_iter().map(|entry| entry.name).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Metadata of the directory itself.
    pub fn facts(&self) -> io::Result<Stat> {
        Ok(rustix::fs::fstat(&self.0)?)
    }

    /// Metadata of the directory's file system.
    pub fn file_system(&self) -> io::Result<StatVfs> {
        Ok(rustix::fs::fstatvfs(&self.0)?)
    }

    /// The directory's current path, according to the kernel.
    pub fn path(&self) -> io::Result<std::path::PathBuf> {
        let name = format!("/proc/self/fd/{}", self.0.as_raw_fd());
        let path = rustix::fs::readlink(name, Vec::new())?;
        Ok(OsStr::from_bytes(path.to_bytes()).into())
    }

    /// Sets the directory's own mode.
    pub fn set_own_mode(&self, mode: u32) -> io::Result<()> {
        // `fchmod` refuses an O_PATH descriptor.
        let path = format!("/proc/self/fd/{}", self.0.as_raw_fd());
        Ok(rustix::fs::chmod(path, Mode::from_raw_mode(mode & PERMISSIONS))?)
    }
}

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryEntry {
    pub name: Vec<u8>,
    pub kind: FileType,
}

/// Files.
impl Dir {
    /// Metadata of an entry. Does not follow a link.
    pub fn stat(&self, path: impl AsRef<[u8]>) -> io::Result<Stat> {
        let (above, name) = self.above(path.as_ref())?;
        Ok(rustix::fs::statat(&above, name, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// The same; `None` if it does not exist.
    pub fn look(&self, path: impl AsRef<[u8]>) -> io::Result<Option<Stat>> {
        match self.stat(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            done => done.map(Some),
        }
    }

    /// Opens a regular file for reading.
    pub fn file(&self, path: impl AsRef<[u8]>) -> io::Result<File> {
        regular(self.descend(path.as_ref(), FILE | OFlags::RDONLY, Mode::empty())?)
    }

    /// Opens a regular file for reading. Follows links that stay below this directory, as sources
    /// may contain them. A link that leads out is an error of kind `CrossesDevices`.
    pub fn file_through_links(&self, path: impl AsRef<[u8]>) -> io::Result<File> {
        let flags = FILE.difference(OFlags::NOFOLLOW) | OFlags::RDONLY;
        let stays = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let path = path.as_ref();
        check(path)?;
        regular(openat2(&self.0, path, flags, Mode::empty(), stays)?)
    }

    /// Checks that names can be created in the directory, as far as possible without creating one.
    pub fn takes_names(&self) -> io::Result<()> {
        // The descriptor's own directory, so no link is involved.
        let rights = Access::WRITE_OK | Access::EXEC_OK;
        Ok(rustix::fs::accessat(&self.0, ".", rights, AtFlags::EACCESS)?)
    }

    /// Reads a regular file of at most `most` bytes.
    pub fn read_small(&self, path: impl AsRef<[u8]>, most: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.file(path)?.take(most + 1).read_to_end(&mut bytes)?;
        match bytes.len() as u64 > most {
            true => Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("it is larger than {most} bytes"),
            )),
            false => Ok(bytes),
        }
    }

    /// Creates a regular file for writing. The path must not exist. The mode is 0600 until changed.
    pub fn create(&self, path: impl AsRef<[u8]>) -> io::Result<File> {
        let fd = self.descend(path.as_ref(), NEW, Mode::from_raw_mode(0o600))?;
        own(fd.as_fd())?;
        Ok(fd.into())
    }

    /// Opens a regular file for appending; creates it if missing.
    pub fn append(&self, path: impl AsRef<[u8]>, mode: u32) -> io::Result<File> {
        let flags = FILE | OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE;
        let file = regular(self.descend(path.as_ref(), flags, Mode::from_raw_mode(mode))?)?;
        own(file.as_fd())?;
        Ok(file)
    }

    /// Opens a regular file for writing and truncates it; creates it if missing.
    pub fn empty(&self, path: impl AsRef<[u8]>, mode: u32) -> io::Result<File> {
        let flags = FILE | OFlags::WRONLY | OFlags::CREATE;
        let file = regular(self.descend(path.as_ref(), flags, Mode::from_raw_mode(mode))?)?;
        file.set_len(0)?;
        own(file.as_fd())?;
        Ok(file)
    }

    /// Writes a file atomically. It may replace a regular file only.
    pub fn write(
        &self,
        path: impl AsRef<[u8]>,
        mode: u32,
        fill: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> io::Result<()> {
        let (above, name) = split(path.as_ref());
        let place = self.open(above)?;
        let (mut file, part) = place.part()?;
        let whole = fill(&mut file).and_then(|()| {
            rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & PERMISSIONS))?;
            place.put(&part, &place, name)
        });
        if whole.is_err() {
            let _ = place.remove_file(&part);
        }
        whole
    }

    /// The same; after a power loss the file is complete or unchanged.
    pub fn write_durably(
        &self,
        path: impl AsRef<[u8]>,
        mode: u32,
        contents: &[u8],
    ) -> io::Result<()> {
        self.write(path, mode, |file| {
            file.write_all(contents)?;
            file.sync_all()
        })
    }

    /// Creates a file under an unused name. Returns the name as well.
    pub fn part(&self) -> io::Result<(File, Vec<u8>)> {
        for number in 0..PARTS {
            let name = format!(".runner-part-{}-{number}", std::process::id()).into_bytes();
            match self.create(&name) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                done => return Ok((done?, name)),
            }
        }
        Err(Errno::EXIST.into())
    }
}

/// Names.
impl Dir {
    /// Moves a file to another directory. It may replace a regular file only.
    pub fn put(&self, from: impl AsRef<[u8]>, to: &Dir, path: impl AsRef<[u8]>) -> io::Result<()> {
        match self.rename(from.as_ref(), to, path.as_ref()) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            done => return done,
        }
        let there = to.stat(path.as_ref())?;
        if kind(&there) != FileType::RegularFile {
            return Err(in_the_way(path.as_ref(), kind(&there)));
        }
        self.replace(from, to, path)
    }

    /// Moves any entry to another directory and replaces whatever has its name there.
    pub fn replace(
        &self,
        from: impl AsRef<[u8]>,
        to: &Dir,
        path: impl AsRef<[u8]>,
    ) -> io::Result<()> {
        let (here, old) = self.above(from.as_ref())?;
        let (above, new) = to.above(path.as_ref())?;
        Ok(rustix::fs::renameat(&here, old, &above, new)?)
    }

    /// Moves any entry to another directory, where its name must be unused.
    pub fn rename(
        &self,
        from: impl AsRef<[u8]>,
        to: &Dir,
        path: impl AsRef<[u8]>,
    ) -> io::Result<()> {
        let (here, old) = self.above(from.as_ref())?;
        let (above, new) = to.above(path.as_ref())?;
        match rustix::fs::renameat_with(&here, old, &above, new, RenameFlags::NOREPLACE) {
            // The file system does not know the flag.
            Err(Errno::INVAL) => match to.look(path.as_ref())? {
                Some(_) => Err(Errno::EXIST.into()),
                None => Ok(rustix::fs::renameat(&here, old, &above, new)?),
            },
            done => Ok(done?),
        }
    }

    /// Adds a name to a file. The name must be unused.
    pub fn hard_link(
        &self,
        from: impl AsRef<[u8]>,
        to: &Dir,
        path: impl AsRef<[u8]>,
    ) -> io::Result<()> {
        let (here, old) = self.above(from.as_ref())?;
        let (above, new) = to.above(path.as_ref())?;
        Ok(rustix::fs::linkat(&here, old, &above, new, AtFlags::empty())?)
    }

    /// Makes a symbolic link.
    pub fn symlink(&self, target: &[u8], path: impl AsRef<[u8]>) -> io::Result<()> {
        let (above, name) = self.above(path.as_ref())?;
        rustix::fs::symlinkat(OsStr::from_bytes(target), &above, name)?;
        give_at(above.as_fd(), name)
    }

    /// A symbolic link's target.
    pub fn read_link(&self, path: impl AsRef<[u8]>) -> io::Result<Vec<u8>> {
        let (above, name) = self.above(path.as_ref())?;
        Ok(rustix::fs::readlinkat(&above, name, Vec::new())?.into_bytes())
    }

    /// Sets an entry's times. Does not follow a link.
    pub fn set_times(&self, path: impl AsRef<[u8]>, times: &Timestamps) -> io::Result<()> {
        let (above, name) = self.above(path.as_ref())?;
        Ok(rustix::fs::utimensat(&above, name, times, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Removes an entry that is not a directory.
    pub fn remove_file(&self, path: impl AsRef<[u8]>) -> io::Result<()> {
        let (above, name) = self.above(path.as_ref())?;
        Ok(rustix::fs::unlinkat(&above, name, AtFlags::empty())?)
    }

    /// Removes an entry and everything below it, if it exists. Changes the mode of directories that
    /// their owner cannot enter.
    pub fn remove_tree(&self, path: impl AsRef<[u8]>) -> io::Result<()> {
        let (above, name) = self.above(path.as_ref())?;
        remove::tree(above.as_fd(), name)
    }
}

impl Dir {
    /// Opens a path.
    fn descend(&self, path: &[u8], flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        check(path)?;
        self.go_down(path, flags, mode)
    }

    fn go_down(&self, path: &[u8], flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let (mut here, mut rest) = (None, path);
        while rest.len() > AT_ONCE {
            let slash = rest[..AT_ONCE].iter().rposition(|&byte| byte == b'/');
            let at = slash.ok_or(io::Error::from(Errno::NAMETOOLONG))?;
            here = Some(self.step(here.as_ref(), &rest[..at], PLACE, Mode::empty(), path)?);
            rest = &rest[at + 1..];
        }
        self.step(here.as_ref(), rest, flags, mode, path)
    }

    fn step(
        &self,
        from: Option<&OwnedFd>,
        path: &[u8],
        flags: OFlags,
        mode: Mode,
        whole: &[u8],
    ) -> io::Result<OwnedFd> {
        let from = from.unwrap_or(&self.0);
        openat2(from, OsStr::from_bytes(path), flags, mode, BENEATH).map_err(|errno| match errno {
            Errno::LOOP | Errno::NOTDIR => self.explain(whole).unwrap_or_else(|| errno.into()),
            errno => errno.into(),
        })
    }

    /// Finds what blocks a path, for messages.
    fn explain(&self, path: &[u8]) -> Option<io::Error> {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let mut here = self.again().ok()?;
        let mut begin = 0;
        for end in ends.chain([path.len()]) {
            let name = OsStr::from_bytes(&path[begin..end]);
            let there = rustix::fs::statat(&here.0, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
            if kind(&there) != FileType::Directory {
                return Some(in_the_way(&path[..end], kind(&there)));
            }
            here = Dir(rustix::fs::openat(&here.0, name, PLACE, Mode::empty()).ok()?);
            begin = end + 1;
        }
        None
    }

    fn above<'p>(&self, path: &'p [u8]) -> io::Result<(ParentDirectory<'_>, &'p OsStr)> {
        check(path)?;
        let (above, name) = split(path);
        let place = match above {
            b"" => ParentDirectory::Here(self.0.as_fd()),
            above => ParentDirectory::Below(self.go_down(above, PLACE, Mode::empty())?),
        };
        Ok((place, OsStr::from_bytes(name)))
    }
}

/// Splits a path into its parent and its last name.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

/// Appends a name to a path.
pub fn join(above: &[u8], name: &[u8]) -> Vec<u8> {
    match above {
        b"" => name.to_vec(),
        above => [above, b"/", name].concat(),
    }
}

/// The kind of a file.
pub fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// A kind in words, for messages.
pub fn described(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "a file",
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        FileType::Unknown => "of an unknown kind",
    }
}

/// Gives an open file to the caller.
pub fn own(file: BorrowedFd<'_>) -> io::Result<()> {
    match owner() {
        Some(SudoCaller { uid, gid }) => std::os::unix::fs::fchown(file, Some(uid), Some(gid)),
        None => Ok(()),
    }
}

/// Gives an entry of a directory to the caller.
fn give_at(above: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    let Some(SudoCaller { uid, gid }) = owner() else { return Ok(()) };
    let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
    Ok(rustix::fs::chownat(above, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// The caller, if this program runs as another user.
fn owner() -> Option<SudoCaller> {
    static OWNER: OnceLock<Option<SudoCaller>> = OnceLock::new();
    *OWNER.get_or_init(users::caller)
}

/// Checks that every part of a path is a plain name.
fn check(path: &[u8]) -> io::Result<()> {
    let is_name = |name: &[u8]| !matches!(name, b"" | b"." | b"..");
    let is_path = path.split(|&byte| byte == b'/').all(is_name) && !path.contains(&0);
    match is_path {
        true => Ok(()),
        false => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{} is not a path below a directory", path.escape_ascii()),
        )),
    }
}

fn regular(fd: OwnedFd) -> io::Result<File> {
    let there = rustix::fs::fstat(&fd)?;
    match kind(&there) {
        FileType::RegularFile => Ok(fd.into()),
        kind => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("it is {} and no regular file", described(kind)),
        )),
    }
}

fn in_the_way(path: &[u8], kind: FileType) -> io::Error {
    let error = match kind {
        FileType::Directory => io::ErrorKind::IsADirectory,
        _ => io::ErrorKind::NotADirectory,
    };
    io::Error::new(error, format!("{} is {}", path.escape_ascii(), described(kind)))
}

#[cfg(test)]
mod tests;
