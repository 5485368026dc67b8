//! Copies the visible part of /etc.
//!
//! Used by `etc`, which keeps the copy in a folder of the runner.

use super::shown::{ShownAs, is_shown};
use rustix::fs::{Timespec, Timestamps};
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown, lchown, symlink};
use std::path::{Path, PathBuf};

/// Mode bits kept when owners are not.
const WITHOUT_OWNER: u32 = 0o1777;

/// A copy in progress.
pub(super) struct HostImageCopy<'a> {
    etc: &'a Path,
    tree: PathBuf,
    /// For root, files keep their owners; otherwise all belong to the caller, who is root in the
    /// container.
    keeps_owners: bool,
    /// Owner of everything this process makes: uid and gid.
    maker: (u32, u32),
    /// Directories, which get their times and modes last, when they are complete: a mode could
    /// close them.
    directories: Vec<(PathBuf, Metadata)>,
}

impl<'a> HostImageCopy<'a> {
    pub(super) fn new(etc: &'a Path, tree: PathBuf, keeps_owners: bool) -> io::Result<Self> {
        fs::create_dir(&tree)?;
        let directories = vec![(tree.clone(), fs::metadata(etc)?)];
        let maker = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        Ok(HostImageCopy { etc, tree, keeps_owners, maker, directories })
    }

    /// Copies one entry. Its parent directories exist already.
    pub(super) fn add(
        &mut self,
        path: &Path,
        metadata: &Metadata,
        shown: ShownAs,
    ) -> io::Result<()> {
        let (from, to) = (self.etc.join(path), self.tree.join(path));
        match shown {
            ShownAs::Not => Ok(()),
            ShownAs::File => self.file(path, &from, &to),
            ShownAs::Link => self.link(metadata, &from, &to),
            ShownAs::Directory | ShownAs::Emptied => {
                fs::create_dir(&to)?;
                self.directories.push((to, metadata.clone()));
                Ok(())
            }
        }
    }

    fn file(&self, path: &Path, from: &Path, to: &Path) -> io::Result<()> {
        let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY;
        let mut from = match OpenOptions::new().read(true).custom_flags(flags).open(from) {
            Ok(file) => file,
            // Removed, replaced or unreadable since: leave it out of the copy.
            Err(error) if is_passed_over(&error) => return Ok(()),
            Err(error) => return Err(error),
        };
        // Check the opened file rather than the one found before.
        let metadata = from.metadata()?;
        if !metadata.is_file() || !is_shown(path, metadata.mode()) {
            return Ok(());
        }
        let mut to = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
        io::copy(&mut from, &mut to)?;
        self.own(&to, &metadata)
    }

    fn link(&self, metadata: &Metadata, from: &Path, to: &Path) -> io::Result<()> {
        let target = match fs::read_link(from) {
            Ok(target) => target,
            Err(error) if is_passed_over(&error) => return Ok(()),
            Err(error) => return Err(error),
        };
        symlink(target, to)?;
        // Nothing uses the times of a link.
        match self.owner(metadata) {
            Some((uid, gid)) => allowed(lchown(to, Some(uid), Some(gid))),
            None => Ok(()),
        }
    }

    /// The owner to set on a new entry, if it differs from this process.
    fn owner(&self, metadata: &Metadata) -> Option<(u32, u32)> {
        let owner = (metadata.uid(), metadata.gid());
        (self.keeps_owners && owner != self.maker).then_some(owner)
    }

    /// Sets an open file's owner, mode and times. The owner comes first, because chown clears mode
    /// bits.
    fn own(&self, file: &File, metadata: &Metadata) -> io::Result<()> {
        if let Some((uid, gid)) = self.owner(metadata) {
            allowed(fchown(file, Some(uid), Some(gid)))?;
        }
        let kept = if self.keeps_owners { 0o7777 } else { WITHOUT_OWNER };
        file.set_permissions(Permissions::from_mode(metadata.mode() & kept))?;
        let time = Timespec { tv_sec: metadata.mtime(), tv_nsec: metadata.mtime_nsec() };
        let times = Timestamps { last_access: time, last_modification: time };
        Ok(rustix::fs::futimens(file, &times)?)
    }

    pub(super) fn finish(self) -> io::Result<()> {
        self.directories
            .iter()
            .rev()
            .try_for_each(|(dir, metadata)| self.own(&File::open(dir)?, metadata))
    }
}

fn is_passed_over(error: &io::Error) -> bool {
    let kinds = [io::ErrorKind::NotFound, io::ErrorKind::PermissionDenied];
    // A link has replaced a file, or the other way round.
    let others = [nix::libc::ELOOP, nix::libc::EINVAL];
    kinds.contains(&error.kind())
        || error.raw_os_error().is_some_and(|errno| others.contains(&errno))
}

/// Only the machine's real root can give files to any user, so others' failures are ignored.
fn allowed(given: io::Result<()>) -> io::Result<()> {
    match given {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        Err(error) if error.raw_os_error() == Some(nix::libc::EINVAL) => Ok(()),
        given => given,
    }
}
