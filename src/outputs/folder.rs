//! Artifacts in a folder of this machine.
//!
//! All of it is made beside its place, under a name of the build's own, and moved there when it is
//! whole: a failure leaves what was there before. Files keep modes and times and belong to the caller.

use super::OutputError;
use super::meter::Meter;
use super::shared::Shared;
use super::transfer::{Chosen, Keeper};
use crate::users;
use runner_wire::files::Facts;
use rustix::fs::{Timespec, Timestamps};
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Bytes of a file's mode that are kept: what runs with other rights here than there is not.
const MODE: u32 = 0o777;

/// The place for what is being made. What is left in it is removed with it.
#[derive(Debug)]
pub(super) struct Staging(PathBuf);

impl Staging {
    /// Makes the folder itself where it is missing, and the place in it.
    pub(super) fn make(folder: &Path, build: &str) -> Result<Self, OutputError> {
        make_folders(folder)?;
        let place = Self::place(folder, build);
        DirBuilder::new()
            .mode(0o700)
            .create(&place)
            .and_then(|()| users::give(&place))
            .map_err(OutputError::folder("make", &place))?;
        Ok(Staging(place))
    }

    /// Where it is, for a build.
    pub(super) fn place(folder: &Path, build: &str) -> PathBuf {
        folder.join(format!(".runner-{build}"))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // What is left of it is found by the next command of any kind.
        let _ = crate::state::remove_tree(&self.0);
    }
}

/// Makes a folder and those above it where they are missing, for the caller.
pub(super) fn make_folders(folder: &Path) -> Result<(), OutputError> {
    let missing = folder.ancestors().take_while(|path| fs::metadata(path).is_err());
    let mut missing: Vec<&Path> = missing.filter(|path| *path != Path::new("")).collect();
    while let Some(path) = missing.pop() {
        match DirBuilder::new().mode(0o755).create(path).and_then(|()| users::give(path)) {
            // Somebody else was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
            done => done.map_err(OutputError::folder("make", path))?,
        }
    }
    Ok(())
}

/// Keeps files as files.
pub(super) struct FolderKeeper {
    root: PathBuf,
    meter: Meter,
    open: Option<Open>,
    /// The directory the last file went to.
    last: Option<PathBuf>,
    /// Where equal files are kept once.
    shared: Option<Shared>,
}

struct Open {
    file: File,
    path: PathBuf,
    facts: Facts,
    length: u64,
}

impl FolderKeeper {
    /// Below a directory that nobody else knows.
    pub(super) fn new(root: PathBuf, meter: Meter) -> Self {
        FolderKeeper { root, meter, open: None, last: None, shared: None }
    }

    /// The same; files that are equal, mode and time included, share their bytes in this folder.
    pub(super) fn sharing(root: PathBuf, meter: Meter, shared: Shared) -> Self {
        FolderKeeper { shared: Some(shared), ..Self::new(root, meter) }
    }

    fn place(&mut self, name: &[u8]) -> Result<PathBuf, OutputError> {
        let path = self.root.join(OsStr::from_bytes(name));
        let parent = path.parent().unwrap_or(&self.root);
        if self.last.as_deref() != Some(parent) {
            make_folders(parent)?;
            self.last = Some(parent.to_path_buf());
        }
        Ok(path)
    }
}

impl Keeper for FolderKeeper {
    fn begin(&mut self, file: &Chosen, facts: &Facts) -> Result<(), OutputError> {
        let path = self.place(&file.name)?;
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(OutputError::folder("make", &path))?;
        self.open = Some(Open { file, path, facts: *facts, length: 0 });
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), OutputError> {
        let Some(open) = &mut self.open else { return Ok(()) };
        open.file.write_all(bytes).map_err(OutputError::folder("write", &open.path))?;
        if let Some(shared) = &mut self.shared {
            shared.add(bytes);
        }
        open.length += bytes.len() as u64;
        self.meter.add(bytes.len() as u64);
        Ok(())
    }

    fn hole(&mut self, length: u64) -> Result<(), OutputError> {
        let Some(open) = &mut self.open else { return Ok(()) };
        open.length += length;
        if let Some(shared) = &mut self.shared {
            shared.add_zeros(length);
        }
        open.file
            .seek(SeekFrom::Start(open.length))
            .map_err(OutputError::folder("write", &open.path))?;
        self.meter.add(length);
        Ok(())
    }

    fn end(&mut self) -> Result<(), OutputError> {
        let Some(Open { file, path, facts, length }) = self.open.take() else { return Ok(()) };
        let finish = || -> io::Result<()> {
            // A hole at the end is not written by anybody.
            file.set_len(length)?;
            own(&file)?;
            file.set_permissions(Permissions::from_mode(facts.mode & MODE))?;
            Ok(rustix::fs::futimens(&file, &times(&facts))?)
        };
        finish().map_err(OutputError::folder("write", &path))?;
        if let Some(shared) = &mut self.shared {
            shared.share(&path, &facts, length);
        }
        Ok(())
    }

    fn link(&mut self, file: &Chosen, target: &[u8]) -> Result<(), OutputError> {
        let path = self.place(&file.name)?;
        std::os::unix::fs::symlink(OsStr::from_bytes(target), &path)
            .and_then(|()| users::give(&path))
            .map_err(OutputError::folder("make", &path))
    }
}

/// The time of last change, for both times that can be set.
pub(super) fn times(facts: &Facts) -> Timestamps {
    let time = Timespec { tv_sec: facts.modified, tv_nsec: facts.modified_ns.into() };
    Timestamps { last_access: time, last_modification: time }
}

/// Gives an open file to the caller.
pub(super) fn own(file: &File) -> io::Result<()> {
    match users::caller() {
        Some(caller) => std::os::unix::fs::fchown(file, Some(caller.uid), Some(caller.gid)),
        None => Ok(()),
    }
}

/// Moves what was made to its place. A directory that is there stays and takes what is new; a file of
/// the same name is replaced.
pub(super) fn move_in(from: &Path, to: &Path) -> Result<(), OutputError> {
    if let Some(above) = to.parent() {
        make_folders(above)?;
    }
    match fs::symlink_metadata(to) {
        // A link of the user's to a directory is as good as one.
        Ok(_) if fs::metadata(from).is_ok_and(|from| from.is_dir()) => {
            if !to.is_dir() {
                return Err(OutputError::folder("replace", to)(
                    io::ErrorKind::NotADirectory.into(),
                ));
            }
            let entries = fs::read_dir(from).map_err(OutputError::folder("read", from))?;
            for entry in entries {
                let entry = entry.map_err(OutputError::folder("read", from))?;
                move_in(&entry.path(), &to.join(entry.file_name()))?;
            }
            Ok(())
        }
        Ok(there) if there.is_dir() => {
            Err(OutputError::folder("replace", to)(io::ErrorKind::IsADirectory.into()))
        }
        _ => fs::rename(from, to).map_err(OutputError::folder("make", to)),
    }
}
