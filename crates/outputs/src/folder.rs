//! Artifacts in a folder of this machine.
//!
//! Everything is written next to its destination, under a name unique to the build, and moved when
//! complete: a failure leaves the previous content in place. Files keep their modes and times and
//! belong to the caller.

use super::OutputError;
use super::meter::Meter;
use super::shared::SharedFolder;
use super::transfer::{Chosen, Keeper};
use runner_host::beneath::{Dir, DirectoryCursor, DirectoryEntry, join, kind, split};
use runner_wire::files::FileFacts;
use rustix::fs::{FileType, Timespec, Timestamps};
use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Mode bits that are kept: not those that let a program run with other rights.
const MODE: u32 = 0o777;
/// Mode of directories that have none.
const DIRECTORY: u32 = 0o755;

#[derive(Debug)]
pub(super) struct OutputDirectory {
    pub(super) dir: Dir,
    /// Its path, for messages.
    pub(super) path: PathBuf,
}

impl OutputDirectory {
    /// A subdirectory, created if missing.
    pub(super) fn within(&self, name: &str) -> Result<OutputDirectory, OutputError> {
        let path = self.path.join(name);
        let dir = self.dir.make_all(name, DIRECTORY).map_err(OutputError::folder("make", &path))?;
        Ok(OutputDirectory { dir, path })
    }

    /// Writes a file in the directory.
    pub(super) fn write(
        &self,
        name: &str,
        fill: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<(), OutputError> {
        let path = self.path.join(name);
        self.dir.write(name, 0o644, fill).map_err(OutputError::folder("write", &path))
    }
}

/// A temporary place for outputs being written. It is removed with whatever is left in it.
#[derive(Debug)]
pub(super) struct Staging {
    /// The folder that contains it, and the final destination.
    top: OutputDirectory,
    name: String,
    inner: OutputDirectory,
}

impl Staging {
    /// Creates the folder if missing, and the staging place in it. `folder` has no links.
    pub(super) fn make(folder: &Path, build: &str) -> Result<Self, OutputError> {
        let dir = Dir::make_real(folder, DIRECTORY).map_err(OutputError::folder("make", folder))?;
        let top = OutputDirectory { dir, path: folder.to_path_buf() };
        let (name, path) = (name(build), folder.join(name(build)));
        let dir = top.dir.make(&name, 0o700).map_err(OutputError::folder("make", &path))?;
        Ok(Staging { top, name, inner: OutputDirectory { dir, path } })
    }

    /// The staging path of a build.
    pub(super) fn place(folder: &Path, build: &str) -> PathBuf {
        folder.join(name(build))
    }

    /// Removes the staging place of a killed runner. A path with links is not where it was created.
    pub(super) fn remove(place: &Path) -> io::Result<()> {
        let (Some(folder), Some(name)) = (place.parent(), place.file_name()) else {
            return Ok(());
        };
        match Dir::real(folder) {
            Ok(folder) => folder.remove_tree(name.as_bytes()),
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// The directory to write outputs to.
    pub(super) fn inner(&self) -> &OutputDirectory {
        &self.inner
    }

    /// Moves a staged item to a path below the folder; the empty path is the folder itself. An
    /// existing directory is kept and merged; an existing file is replaced.
    pub(super) fn move_in(self, name: &str, to: &[u8]) -> Result<(), OutputError> {
        let failed =
            |path: &[u8]| OutputError::folder("make", &self.top.path.join(OsStr::from_bytes(path)));
        let mut both = Vec::new();
        if to.is_empty() {
            both.push((name.as_bytes().to_vec(), Vec::new()));
        } else {
            let (above, last) = split(to);
            let place = match above {
                b"" => self.top.dir.again(),
                above => self.top.dir.make_all(above, DIRECTORY),
            };
            let place = place.map_err(failed(above))?;
            let made = self.inner.dir.stat(name).map_err(failed(to))?;
            let made = DirectoryEntry { name: name.as_bytes().to_vec(), kind: kind(&made) };
            if !move_one(&self.inner.dir, &made, &place, last).map_err(failed(to))? {
                both.push((made.name, to.to_vec()));
            }
        }
        // Existing directories receive the content of the new ones.
        while let Some((from, to)) = both.pop() {
            let here = self.inner.dir.open(&from).map_err(failed(&to))?;
            let there = self.top.dir.open(&to).map_err(failed(&to))?;
            for entry in here.entries().map_err(failed(&to))? {
                let path = join(&to, &entry.name);
                if !move_one(&here, &entry, &there, &entry.name).map_err(failed(&path))? {
                    both.push((join(&from, &entry.name), path));
                }
            }
        }
        Ok(())
    }
}

fn name(build: &str) -> String {
    format!(".runner-{build}")
}

/// Moves one item; `false` if both it and the existing item are directories.
fn move_one(from: &Dir, made: &DirectoryEntry, to: &Dir, name: &[u8]) -> io::Result<bool> {
    if made.kind != FileType::Directory {
        return from.put(&made.name, to, name).map(|()| true);
    }
    match from.rename(&made.name, to, name) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // Reports what else exists there.
            to.open(name).map(|_| false)
        }
        done => done.map(|()| true),
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // The next command of any kind finds and removes the rest.
        let _ = self.top.dir.remove_tree(&self.name);
    }
}

/// Writes files to a directory.
pub(super) struct FolderKeeper {
    root: DirectoryCursor,
    /// Path of the directory, for messages.
    path: PathBuf,
    meter: Meter,
    open: Option<OpenFile>,
    /// Where equal files are stored once.
    shared: Option<SharedFolder>,
}

struct OpenFile {
    file: File,
    name: Vec<u8>,
    facts: FileFacts,
    length: u64,
    /// Bytes at the end of the file that are skipped instead of written.
    ends_in_hole: bool,
}

impl FolderKeeper {
    /// Writes below a directory that nobody else knows.
    pub(super) fn new(place: OutputDirectory, meter: Meter) -> Self {
        Self::sharing(place, meter, None)
    }

    /// Like `new`, but files that are equal, including mode and time, share their bytes.
    pub(super) fn sharing(
        place: OutputDirectory,
        meter: Meter,
        shared: Option<SharedFolder>,
    ) -> Self {
        let OutputDirectory { dir, path } = place;
        FolderKeeper { root: DirectoryCursor::new(dir), path, meter, open: None, shared }
    }

    /// The parent directory of a file, and the file's name in it.
    fn find<'p>(&mut self, name: &'p [u8]) -> io::Result<(&Dir, &'p [u8])> {
        self.root.find_or_make(name, DIRECTORY)
    }
}

/// Adds the file's path to an error.
fn named<T>(
    done: io::Result<T>,
    doing: &'static str,
    path: &Path,
    name: &[u8],
) -> Result<T, OutputError> {
    done.map_err(|error| OutputError::folder(doing, &path.join(OsStr::from_bytes(name)))(error))
}

impl Keeper for FolderKeeper {
    fn begin(&mut self, file: &Chosen, facts: &FileFacts) -> Result<(), OutputError> {
        let made = self.find(&file.name).and_then(|(dir, last)| dir.create(last));
        let made = named(made, "make", &self.path, &file.name)?;
        let (name, facts) = (file.name.clone(), *facts);
        self.open = Some(OpenFile { file: made, name, facts, length: 0, ends_in_hole: false });
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), OutputError> {
        let Some(open) = &mut self.open else { return Ok(()) };
        named(open.file.write_all(bytes), "write", &self.path, &open.name)?;
        if let Some(shared) = &mut self.shared {
            shared.add(bytes);
        }
        open.length += bytes.len() as u64;
        open.ends_in_hole = false;
        self.meter.add(bytes.len() as u64);
        Ok(())
    }

    fn hole(&mut self, length: u64) -> Result<(), OutputError> {
        let Some(open) = &mut self.open else { return Ok(()) };
        open.length += length;
        open.ends_in_hole = true;
        if let Some(shared) = &mut self.shared {
            shared.add_zeros(length);
        }
        let moved = open.file.seek(SeekFrom::Start(open.length));
        named(moved, "write", &self.path, &open.name)?;
        self.meter.add(length);
        Ok(())
    }

    fn end(&mut self) -> Result<(), OutputError> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let OpenFile { file, name, facts, length, ends_in_hole } = open;
        let finish = || -> io::Result<()> {
            if ends_in_hole {
                file.set_len(length)?;
            }
            file.set_permissions(Permissions::from_mode(facts.mode & MODE))?;
            Ok(rustix::fs::futimens(&file, &times(&facts))?)
        };
        named(finish(), "write", &self.path, &name)?;
        if let Some(shared) = &mut self.shared
            && let Ok((dir, last)) = self.root.find(&name)
        {
            shared.share(dir, last, &facts, length);
        }
        Ok(())
    }

    fn link(&mut self, file: &Chosen, target: &[u8]) -> Result<(), OutputError> {
        let made = self.find(&file.name).and_then(|(dir, last)| dir.symlink(target, last));
        named(made, "make", &self.path, &file.name)
    }
}

/// The modification time, for both times that can be set.
pub(super) fn times(facts: &FileFacts) -> Timestamps {
    let time = Timespec { tv_sec: facts.modified, tv_nsec: facts.modified_ns.into() };
    Timestamps { last_access: time, last_modification: time }
}
