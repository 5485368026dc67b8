//! Files below a folder that a build, a cloned source or anybody else can shape.
//!
//! All code that reads, writes or deletes below such a folder does it through [`Dir`]: `outputs`, `session`,
//! `client/copy`, `state`. Those of them that have nothing else to do with files deny what follows links, in
//! `std::fs` and elsewhere (`clippy.toml`).
//!
//! The rules:
//!
//! - What a person typed leads where it leads, links included: [`Dir::top`], [`Dir::make_top`]. What is typed
//!   before a build and opened after it is resolved before, by [`real`], and opened through no link at all:
//!   [`Dir::real`], [`Dir::make_real`]. [`Dir::top_itself`] takes a top only if it is no link.
//! - Below the top no link is followed, at no depth, and no name leads out: paths are relative bytes without
//!   empty names, `.` and `..`, and the kernel resolves them with RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS.
//!   A link in the way is an error of kind `NotADirectory` that names it.
//! - The directory that a call acts in is a descriptor, so nothing that is renamed or replaced meanwhile
//!   leads the call elsewhere. A [`Dir`] may go to the sandbox as a descriptor ([`AsFd`]).
//! - Files are opened without waiting, and only regular ones ([`Dir::file`], [`Dir::append`]); small ones
//!   are read up to a limit ([`Dir::read_small`]). What is there is replaced only where it is a regular file
//!   ([`Dir::put`], [`Dir::write`]).
//! - What is made belongs to the caller: under sudo that is not root.
//! - Trees may be deeper than a path may be long or than there are descriptors: [`Dir::walk`],
//!   [`Dir::remove_tree`].
//!
//! A path of one name costs one system call; [`DirectoryCursor`] keeps the directory of the last path for many files.

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

/// Bits of a mode that are set: none of those that lend rights.
pub const PERMISSIONS: u32 = 0o777;
/// What a directory's owner needs to fill it.
pub const FILLABLE: u32 = 0o700;
/// Bytes of a path that the kernel takes at once, with some room.
const AT_ONCE: usize = 4000;
/// Names that are tried for a file which is to take another's place.
const PARTS: u32 = 1000;

/// Neither through a link nor out of where it begins.
const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);
/// A directory as a place to go on from.
const PLACE: OFlags = OFlags::PATH.union(DIRECTORY);
const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// A file that may be anything: its opening waits for nobody.
const FILE: OFlags =
    OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);
const NEW: OFlags = FILE.union(OFlags::WRONLY).union(OFlags::CREATE).union(OFlags::EXCL);

/// A directory, and the way to everything below it.
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
    /// Of a descriptor of a directory.
    fn from(fd: OwnedFd) -> Self {
        Dir(fd)
    }
}

/// Directories.
impl Dir {
    /// One more descriptor of it.
    pub fn again(&self) -> io::Result<Self> {
        Ok(Dir(self.0.try_clone()?))
    }

    /// A directory below it; the empty path is the directory itself.
    pub fn open(&self, path: impl AsRef<[u8]>) -> io::Result<Self> {
        match path.as_ref() {
            b"" => self.again(),
            path => Ok(Dir(self.descend(path, PLACE, Mode::empty())?)),
        }
    }

    /// Makes a directory that is not there yet.
    pub fn make(&self, path: impl AsRef<[u8]>, mode: u32) -> io::Result<Self> {
        let path = path.as_ref();
        let (above, name) = self.above(path)?;
        rustix::fs::mkdirat(&above, name, Mode::from_raw_mode(mode & PERMISSIONS))?;
        give_at(above.as_fd(), name)?;
        Ok(Dir(rustix::fs::openat(&above, name, PLACE, Mode::empty())?))
    }

    /// A directory below it; what is missing of it is made.
    pub fn make_all(&self, path: impl AsRef<[u8]>, mode: u32) -> io::Result<Self> {
        let path = path.as_ref();
        let is_missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        match self.open(path) {
            Err(error) if is_missing(&error) => {}
            done => return done,
        }
        // Mostly its last name only.
        let (above, name) = split(path);
        let (mut dir, missing) = match self.open(above) {
            Err(error) if is_missing(&error) => (self.again()?, path),
            done => (done?, name),
        };
        for name in missing.split(|&byte| byte == b'/') {
            dir = match dir.make(name, mode) {
                // There already, or somebody else was faster.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => dir.open(name)?,
                done => done?,
            };
        }
        Ok(dir)
    }

    /// Sets mode and times of a directory below it, once all is in it.
    pub fn dress(&self, path: impl AsRef<[u8]>, mode: u32, times: &Timestamps) -> io::Result<()> {
        let dir = self.descend(path.as_ref(), OFlags::RDONLY | DIRECTORY, Mode::empty())?;
        rustix::fs::fchmod(&dir, Mode::from_raw_mode(mode & PERMISSIONS))?;
        Ok(rustix::fs::futimens(&dir, times)?)
    }

    /// What is in it, in no order.
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

    /// Names in it, in order.
    pub fn names(&self) -> io::Result<Vec<Vec<u8>>> {
        let mut names: Vec<_> = self.entries()?.into_iter().map(|entry| entry.name).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Of the directory itself.
    pub fn facts(&self) -> io::Result<Stat> {
        Ok(rustix::fs::fstat(&self.0)?)
    }

    /// Of the file system it is on.
    pub fn file_system(&self) -> io::Result<StatVfs> {
        Ok(rustix::fs::fstatvfs(&self.0)?)
    }

    /// The path that the kernel has for it now.
    pub fn path(&self) -> io::Result<std::path::PathBuf> {
        let name = format!("/proc/self/fd/{}", self.0.as_raw_fd());
        let path = rustix::fs::readlink(name, Vec::new())?;
        Ok(OsStr::from_bytes(path.to_bytes()).into())
    }

    /// Sets the mode of the directory itself.
    pub fn set_own_mode(&self, mode: u32) -> io::Result<()> {
        // `fchmod` does not take a descriptor that is a place only.
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
    /// What is there, a link as a link.
    pub fn stat(&self, path: impl AsRef<[u8]>) -> io::Result<Stat> {
        let (above, name) = self.above(path.as_ref())?;
        Ok(rustix::fs::statat(&above, name, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// The same; nothing where nothing is.
    pub fn look(&self, path: impl AsRef<[u8]>) -> io::Result<Option<Stat>> {
        match self.stat(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            done => done.map(Some),
        }
    }

    /// A regular file, to be read.
    pub fn file(&self, path: impl AsRef<[u8]>) -> io::Result<File> {
        regular(self.descend(path.as_ref(), FILE | OFlags::RDONLY, Mode::empty())?)
    }

    /// A regular file, to be read, through links that stay below: where a source may be arranged as it likes.
    /// One that leads out is an error of kind `CrossesDevices`.
    pub fn file_through_links(&self, path: impl AsRef<[u8]>) -> io::Result<File> {
        let flags = FILE.difference(OFlags::NOFOLLOW) | OFlags::RDONLY;
        let stays = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let path = path.as_ref();
        check(path)?;
        regular(openat2(&self.0, path, flags, Mode::empty(), stays)?)
    }

    /// Whether names can be made in the directory itself, as far as that shows without making one.
    pub fn takes_names(&self) -> io::Result<()> {
        // Of the descriptor's own directory, which no link stands for.
        let rights = Access::WRITE_OK | Access::EXEC_OK;
        Ok(rustix::fs::accessat(&self.0, ".", rights, AtFlags::EACCESS)?)
    }

    /// All of a regular file that has no more than so many bytes.
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

    /// A regular file to be written, with its own mode and content, where nothing is yet. Its mode is 0600
    /// until it gets another.
    pub fn create(&self, path: impl AsRef<[u8]>) -> io::Result<File> {
        let fd = self.descend(path.as_ref(), NEW, Mode::from_raw_mode(0o600))?;
        own(fd.as_fd())?;
        Ok(fd.into())
    }

    /// A regular file, made where it is missing, that grows at its end.
    pub fn append(&self, path: impl AsRef<[u8]>, mode: u32) -> io::Result<File> {
        let flags = FILE | OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE;
        let file = regular(self.descend(path.as_ref(), flags, Mode::from_raw_mode(mode))?)?;
        own(file.as_fd())?;
        Ok(file)
    }

    /// A regular file, made where it is missing, with nothing in it.
    pub fn empty(&self, path: impl AsRef<[u8]>, mode: u32) -> io::Result<File> {
        let flags = FILE | OFlags::WRONLY | OFlags::CREATE;
        let file = regular(self.descend(path.as_ref(), flags, Mode::from_raw_mode(mode))?)?;
        file.set_len(0)?;
        own(file.as_fd())?;
        Ok(file)
    }

    /// Writes a file that is there as a whole or not at all, in the place of a regular file or of nothing.
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

    /// The same, and a power loss leaves it whole or as it was.
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

    /// A new file under a name that nothing has, and that name.
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
    /// Moves a file to another directory, where it takes the place of a regular file or of nothing.
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

    /// Moves anything to another directory, in the place of whatever has its name there.
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

    /// Moves anything to another directory, where nothing has its name.
    pub fn rename(
        &self,
        from: impl AsRef<[u8]>,
        to: &Dir,
        path: impl AsRef<[u8]>,
    ) -> io::Result<()> {
        let (here, old) = self.above(from.as_ref())?;
        let (above, new) = to.above(path.as_ref())?;
        match rustix::fs::renameat_with(&here, old, &above, new, RenameFlags::NOREPLACE) {
            // A file system that does not know the flag.
            Err(Errno::INVAL) => match to.look(path.as_ref())? {
                Some(_) => Err(Errno::EXIST.into()),
                None => Ok(rustix::fs::renameat(&here, old, &above, new)?),
            },
            done => Ok(done?),
        }
    }

    /// Gives a file one more name, which nothing has.
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

    /// Where a symbolic link leads.
    pub fn read_link(&self, path: impl AsRef<[u8]>) -> io::Result<Vec<u8>> {
        let (above, name) = self.above(path.as_ref())?;
        Ok(rustix::fs::readlinkat(&above, name, Vec::new())?.into_bytes())
    }

    /// Sets the times of anything, of a link its own.
    pub fn set_times(&self, path: impl AsRef<[u8]>, times: &Timestamps) -> io::Result<()> {
        let (above, name) = self.above(path.as_ref())?;
        Ok(rustix::fs::utimensat(&above, name, times, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Removes what is no directory.
    pub fn remove_file(&self, path: impl AsRef<[u8]>) -> io::Result<()> {
        let (above, name) = self.above(path.as_ref())?;
        Ok(rustix::fs::unlinkat(&above, name, AtFlags::empty())?)
    }

    /// Removes whatever has this name, with all that is below it, or nothing. Directories that are closed to
    /// their owner are opened on the way.
    pub fn remove_tree(&self, path: impl AsRef<[u8]>) -> io::Result<()> {
        let (above, name) = self.above(path.as_ref())?;
        remove::tree(above.as_fd(), name)
    }
}

impl Dir {
    /// Opens what is at a path.
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

    /// What stands in the way to a path: for messages.
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

/// What is above the last name of a path, and that name.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

/// A path and one more name.
pub fn join(above: &[u8], name: &[u8]) -> Vec<u8> {
    match above {
        b"" => name.to_vec(),
        above => [above, b"/", name].concat(),
    }
}

/// What a file is.
pub fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// In words, for messages.
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

/// Gives what has a name in a directory to the caller.
fn give_at(above: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    let Some(SudoCaller { uid, gid }) = owner() else { return Ok(()) };
    let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
    Ok(rustix::fs::chownat(above, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// The caller, where that is not the user this program runs as.
fn owner() -> Option<SudoCaller> {
    static OWNER: OnceLock<Option<SudoCaller>> = OnceLock::new();
    *OWNER.get_or_init(users::caller)
}

/// Whether every name of a path is one.
fn check(path: &[u8]) -> io::Result<()> {
    let is_name = |name: &[u8]| !matches!(name, b"" | b"." | b"..");
    let is_path = path.split(|&byte| byte == b'/').all(is_name) && !path.contains(&0);
    match is_path {
        true => Ok(()),
        false => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{} is no path below a directory", path.escape_ascii()),
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
