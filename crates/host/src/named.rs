//! Output files that the user named: `--build-json`, `--log-file`, the ZIP of `--artifacts`, the
//! destination of `cp`.
//!
//! A path means what it means in a shell redirection: links are followed; devices, FIFOs and
//! descriptors (`>(jq .)`, `/dev/stdout`) are written to. Only a regular file is replaced, by a
//! complete one, and its mode is kept. The path is resolved once, when it is named: a link created
//! later cannot redirect the file.
#![deny(clippy::disallowed_methods)]

use crate::beneath::{self, Dir, kind};
use rustix::fs::{FileType, Mode, OFlags};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Most links to follow; more count as a loop.
const MAX_LINKS: usize = 40;
/// Mode of a new file.
const MODE: u32 = 0o600;

/// An output file.
#[derive(Clone, Debug)]
pub struct NamedFile {
    /// The path as typed.
    path: PathBuf,
    to: To,
}

#[derive(Clone, Debug)]
enum To {
    /// A regular file, or nothing yet.
    File(FilePlace),
    /// Anything else.
    Stream(Arc<File>),
}

/// The place of an existing or future regular file.
#[derive(Clone, Debug)]
pub struct FilePlace {
    /// Without links.
    pub dir: PathBuf,
    pub name: Vec<u8>,
}

impl NamedFile {
    /// Resolves a path. If it is not a regular file, opens it for writing, which for a FIFO waits
    /// for its reader.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut next = std::path::absolute(path)?;
        for _ in 0..MAX_LINKS {
            let name = next.file_name().ok_or(io::ErrorKind::IsADirectory)?;
            let dir = beneath::real(next.parent().unwrap_or(Path::new("/")))?;
            let named = |to| Ok(NamedFile { path: path.to_path_buf(), to });
            if let Some(number) = descriptor(&dir, name.as_bytes()) {
                return named(To::Stream(Arc::new(again(&next, number)?)));
            }
            let place = FilePlace { name: name.as_bytes().to_vec(), dir };
            // Check that it can exist now, not at the end of a build.
            let there = Dir::real(&place.dir)?.look(&place.name)?;
            match there.as_ref().map(kind) {
                None | Some(FileType::RegularFile) => return named(To::File(place)),
                Some(FileType::Symlink) => {
                    let target = Dir::real(&place.dir)?.read_link(&place.name)?;
                    next = place.dir.join(std::ffi::OsStr::from_bytes(&target));
                }
                Some(FileType::Directory) => return Err(io::ErrorKind::IsADirectory.into()),
                Some(FileType::Socket) => return Err(io::Error::other("it is a socket")),
                Some(_) => return named(To::Stream(Arc::new(stream(&next)?))),
            }
        }
        Err(rustix::io::Errno::LOOP.into())
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its place, if it is a regular file.
    pub fn place(&self) -> Option<&FilePlace> {
        match &self.to {
            To::File(place) => Some(place),
            To::Stream(_) => None,
        }
    }

    /// The open file, if it is not a regular file.
    pub fn stream(&self) -> Option<&File> {
        match &self.to {
            To::File(_) => None,
            To::Stream(file) => Some(file),
        }
    }

    /// Writes the whole contents at once.
    pub fn write(&self, contents: &[u8]) -> io::Result<()> {
        match &self.to {
            To::File(FilePlace { dir, name }) => {
                let dir = Dir::real(dir)?;
                let mode = dir.look(name)?.map_or(MODE, |there| there.st_mode);
                dir.write_durably(name, mode, contents)
            }
            To::Stream(file) => (&mut &**file).write_all(contents),
        }
    }

    /// Truncates it and returns it for writing.
    pub fn begin(self) -> io::Result<File> {
        match self.to {
            To::File(FilePlace { dir, name }) => Dir::real(&dir)?.empty(&name, 0o644),
            To::Stream(file) => file.try_clone(),
        }
    }
}

impl FilePlace {
    pub fn path(&self) -> PathBuf {
        self.dir.join(std::ffi::OsStr::from_bytes(&self.name))
    }
}

/// The descriptor number that a name in /proc stands for.
fn descriptor(dir: &Path, name: &[u8]) -> Option<i32> {
    let is_one = dir.starts_with("/proc") && dir.ends_with("fd");
    str::from_utf8(name).ok()?.parse().ok().filter(|_| is_one)
}

/// Duplicates a descriptor. Appends to a file, because others write to it as well.
fn again(path: &Path, number: i32) -> io::Result<File> {
    let dir = path.parent().unwrap_or(path);
    let of_ours = beneath::real(dir)? == beneath::real(Path::new("/proc/self/fd"))?;
    match number {
        // A socket cannot be opened by path.
        1 if of_ours => Ok(io::stdout().as_fd().try_clone_to_owned()?.into()),
        2 if of_ours => Ok(io::stderr().as_fd().try_clone_to_owned()?.into()),
        _ => open(path, OFlags::APPEND),
    }
}

fn stream(path: &Path) -> io::Result<File> {
    open(path, OFlags::empty())
}

#[expect(clippy::disallowed_methods, reason = "what a person typed leads where it leads")]
fn open(path: &Path, flags: OFlags) -> io::Result<File> {
    let flags = flags | OFlags::WRONLY | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
}
