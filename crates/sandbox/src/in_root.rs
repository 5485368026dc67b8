//! Resolves a container's paths strictly inside its root.
//!
//! Used by `child` while it builds the root, and by the code that unpacks images. The image is
//! untrusted: a symbolic link in it may point anywhere, so no path of the container ever reaches a
//! call that would follow links on the host. Everything goes through `openat2` with
//! `RESOLVE_IN_ROOT`.
#![forbid(unsafe_code)]

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, move_mount};
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

/// The root directory of a future container.
#[derive(Debug)]
pub struct InRoot(OwnedFd);

impl InRoot {
    /// Opens the directory of the host that is, or will be, the root.
    ///
    /// # Errors
    /// It cannot be opened or is no directory.
    pub fn open(root: &Path) -> io::Result<Self> {
        Ok(InRoot(rustix::fs::openat(
            CWD,
            root,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?))
    }

    /// A handle on `path`. Follows symbolic links inside the root.
    pub(crate) fn resolve(&self, path: &Path) -> io::Result<OwnedFd> {
        self.open_with(path, OFlags::PATH, Mode::empty())
    }

    /// Opens the directory `path` for listing and changes.
    ///
    /// # Errors
    /// It does not exist or is no directory.
    pub fn open_directory(&self, path: &Path) -> io::Result<OwnedFd> {
        self.open_with(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
    }

    fn open_with(&self, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        loop {
            match openat2(&self.0, path, flags | OFlags::CLOEXEC, mode, resolve) {
                // A concurrent rename made the kernel unsure; it wants a retry.
                Err(Errno::AGAIN) => {}
                done => return Ok(done?),
            }
        }
    }

    /// Creates `path` with missing parents and returns a handle on it. Only the last directory gets
    /// `mode`, and only if it is new.
    ///
    /// # Errors
    /// Something else has the name, or the file system refuses.
    pub fn make_directory(&self, path: &Path, mode: u32) -> io::Result<OwnedFd> {
        match self.open_with(path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // A link loop leads nowhere, like a dangling link.
            Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {}
            done => return done,
        }
        let (parent, name) = self.parent(path)?;
        match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(mode)) {
            // A dangling link: it is in the way, whatever its purpose.
            Err(Errno::EXIST) => {
                rustix::fs::unlinkat(&parent, name, AtFlags::empty())?;
                rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(mode))?;
            }
            done => done?,
        }
        self.open_with(path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())
    }

    /// Sets exactly these permissions on the directory at `path`; creates it if missing.
    pub(crate) fn make_directory_with(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.make_directory(path, mode)?;
        let directory = self.open_directory(path)?;
        Ok(rustix::fs::fchmod(directory, Mode::from_raw_mode(mode))?)
    }

    /// Writes a regular file at `path` and replaces whatever is there.
    pub(crate) fn write_file(
        &self,
        path: &Path,
        mode: u32,
        contents: &mut dyn Read,
    ) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        match rustix::fs::unlinkat(&parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(mode))?;
        let mut file = std::fs::File::from(file);
        io::copy(contents, &mut file)?;
        Ok(rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?)
    }

    /// Appends text to a small regular file; creates it if missing.
    pub(crate) fn append(&self, path: &Path, text: &[u8]) -> io::Result<()> {
        const MOST: u64 = 1 << 20;
        // Non-blocking, because an image may have put a FIFO there.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let mut before = Vec::new();
        match self.open_with(path, flags, Mode::empty()) {
            Ok(file) => {
                let kind = FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode);
                if kind != FileType::RegularFile {
                    return Err(io::ErrorKind::InvalidInput.into());
                }
                std::fs::File::from(file).take(MOST).read_to_end(&mut before)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        self.write_file(path, 0o644, &mut before.as_slice().chain(text))
    }

    /// Creates a symbolic link unless the name is taken.
    pub(crate) fn link(&self, path: &Path, to: &Path) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        match rustix::fs::symlinkat(to, &parent, name) {
            // A read-only place counts as taken.
            Ok(()) | Err(Errno::EXIST | Errno::ROFS) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Mounts `mount` on the directory `path`; creates it if missing.
    pub(crate) fn attach(&self, mount: impl AsFd, path: &Path) -> io::Result<()> {
        let target = self.make_directory(path, 0o755)?;
        attach_at(mount, target)
    }

    /// Mounts `mount` on the file `path`; creates it if missing.
    pub(crate) fn attach_file(&self, mount: impl AsFd, path: &Path) -> io::Result<()> {
        let target = match self.resolve(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.write_file(path, 0o644, &mut io::empty())?;
                self.resolve(path)?
            }
            done => done?,
        };
        attach_at(mount, target)
    }

    /// Mounts `mount` on one of the kernel's directories, which must not be a link: later steps
    /// trust what is mounted there.
    pub(crate) fn attach_kernel(&self, mount: impl AsFd, name: &str) -> io::Result<()> {
        match rustix::fs::mkdirat(&self.0, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let target = rustix::fs::openat(&self.0, name, flags, Mode::empty())?;
        attach_at(mount, target)
    }

    /// A handle on the parent directory of `path`, created if missing, and the last name.
    ///
    /// # Errors
    /// Those of [`Self::make_directory`]; `InvalidInput` if `path` does not end in a name.
    pub fn parent<'a>(&self, path: &'a Path) -> io::Result<(OwnedFd, &'a OsStr)> {
        let Some(Component::Normal(name)) = path.components().next_back() else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        Ok((self.make_directory(parent.unwrap_or(Path::new("/")), 0o755)?, name))
    }
}

impl AsFd for InRoot {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Mounts `mount` on an open place.
pub(crate) fn attach_at(mount: impl AsFd, target: impl AsFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount, "", target, "", flags)?)
}
