//! Copies out of a build.
//!
//! Reads what the container sends, which is hostile; writes a [`LocalTree`].

use super::path::{Inside, PathEnding};
use super::tree::LocalTree;
use super::{
    Copied, CopyError, FilesConversation, Manner, RemoteEntry, is_directory, nonsense, shown,
    special,
};
use runner_engine::files::{FilesProgram, FilesProgramError};
use runner_host::beneath::Dir;
use runner_host::named::NamedFile;
use runner_wire::abi::files::{DIRECTORY, REGULAR, SYMLINK};
use runner_wire::files::{ContentEnd, PathEntry, Reply, select};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Copies `from` in the container to `to` on this machine.
pub(super) fn fetch(
    files: FilesProgram,
    from: &[u8],
    to: &Path,
    manner: Manner<'_>,
) -> Result<Copied, CopyError> {
    let ending = PathEnding::of(from);
    let inside = Inside::new(from);
    let follows = manner.follows || ending != PathEnding::Plain;
    let mut remote = FilesConversation::new(files);
    let found = remote.look(&inside, follows)?.ok_or_else(|| missing(&inside))?;
    let is_directory = is_directory(&found.facts);
    if ending != PathEnding::Plain && !is_directory {
        return Err(CopyError::Remote {
            path: inside.whole().to_vec(),
            source: io::Error::from_raw_os_error(nix::libc::ENOTDIR),
        });
    }
    // A source without a name stands for its contents.
    let name = inside.name().filter(|_| ending != PathEnding::Dot);
    let FetchTarget { place, name, stream } = target(to, name, is_directory)?;
    let root = open_directory(&place)?;
    let job = FetchJob {
        tree: LocalTree::new(root, stream, manner.unfinished),
        manner,
        copied: Copied::default(),
        at: place,
        base: name,
        wanted: None,
    };
    if is_directory { job.tree(remote, &inside, &found) } else { job.one(remote, &inside, follows) }
}

fn missing(path: &Inside) -> CopyError {
    let source = io::Error::from_raw_os_error(nix::libc::ENOENT);
    CopyError::Remote { path: path.whole().to_vec(), source }
}

struct FetchTarget {
    /// The directory to write to.
    place: PathBuf,
    /// The name in it; `None` to copy into the directory itself.
    name: Option<Vec<u8>>,
    /// The existing target, if it is written to and not replaced.
    stream: Option<File>,
}

#[expect(clippy::disallowed_methods, reason = "what a person typed leads where it leads")]
fn target(to: &Path, name: Option<&[u8]>, is_directory: bool) -> Result<FetchTarget, CopyError> {
    let named = || shown(to.as_os_str().as_bytes());
    let wants_directory = PathEnding::of(to.as_os_str().as_bytes()) != PathEnding::Plain;
    match fs::metadata(to) {
        Ok(there) if there.is_dir() => Ok(FetchTarget {
            place: to.to_path_buf(),
            name: name.map(<[u8]>::to_vec),
            stream: None,
        }),
        Ok(_) if is_directory => Err(CopyError::DirectoryToFile { to: named() }),
        // `cp` writes through links and into devices, too.
        Ok(_) => {
            let found = NamedFile::open(to).map_err(CopyError::local(to))?;
            match (found.place(), found.stream()) {
                (Some(place), _) => split(&place.path()),
                (None, stream) => {
                    let again = stream.map(File::try_clone).transpose();
                    let stream = again.map_err(CopyError::local(to))?;
                    Ok(FetchTarget { stream, ..split(to)? })
                }
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if wants_directory && !is_directory {
                return Err(CopyError::NoSuchDirectory { to: named() });
            }
            split(to)
        }
        Err(error) if error.kind() == io::ErrorKind::NotADirectory && wants_directory => {
            Err(CopyError::NotADirectory { to: named() })
        }
        Err(error) => Err(CopyError::local(to)(error)),
    }
}

fn split(path: &Path) -> Result<FetchTarget, CopyError> {
    let name = path.file_name().map(|name| name.as_bytes().to_vec());
    let above = match path.parent() {
        Some(above) if !above.as_os_str().is_empty() => above,
        _ => Path::new("."),
    };
    match name {
        Some(_) => Ok(FetchTarget { place: above.to_path_buf(), name, stream: None }),
        None => Err(CopyError::local(path)(io::ErrorKind::NotFound.into())),
    }
}

/// Follows links: where the caller's path leads is up to the caller.
fn open_directory(path: &Path) -> Result<Dir, CopyError> {
    Dir::top(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotADirectory => {
            CopyError::NotADirectory { to: shown(path.as_os_str().as_bytes()) }
        }
        _ => CopyError::local(path)(error),
    })
}

struct FetchJob<'a> {
    tree: LocalTree<'a>,
    manner: Manner<'a>,
    copied: Copied,
    /// The directory written to, for messages.
    at: PathBuf,
    /// The name in that directory.
    base: Option<Vec<u8>>,
    /// The path of a single requested file.
    wanted: Option<Vec<u8>>,
}

impl FetchJob<'_> {
    /// Fetches a directory with all its contents.
    fn tree(
        mut self,
        mut remote: FilesConversation,
        inside: &Inside,
        found: &RemoteEntry,
    ) -> Result<Copied, CopyError> {
        if let Some(base) = self.base.clone() {
            self.copied.entries += 1;
            let made = self.tree.directory(&base, &found.facts);
            made.map_err(CopyError::local(&self.local(&base)))?;
        }
        let flags = select::RECURSIVE | select::CONTENT;
        ask(&mut remote, inside.whole(), flags, b"")?;
        self.take(&mut remote)
    }

    /// Fetches a file or a link.
    fn one(
        mut self,
        mut remote: FilesConversation,
        inside: &Inside,
        follows: bool,
    ) -> Result<Copied, CopyError> {
        let name = inside.name().unwrap_or_default();
        self.wanted = Some(name.to_vec());
        let flags = select::CONTENT | if follows { select::FOLLOW } else { 0 };
        ask(&mut remote, inside.parent(), flags, name)?;
        self.take(&mut remote)
    }

    fn take(mut self, remote: &mut FilesConversation) -> Result<Copied, CopyError> {
        // Skips content of a file that is linked to an earlier one or could not be made.
        let mut path = Vec::new();
        let mut passes = false;
        loop {
            match remote.replies.read()?.ok_or(FilesProgramError::Ended)? {
                Reply::Sync => break,
                Reply::Root(_) => {}
                Reply::Entry(entry) => {
                    if self.tree.is_writing() {
                        return Err(nonsense());
                    }
                    path = self.path(entry.path)?;
                    passes = !self.entry(&path, &entry)?;
                }
                Reply::Data(bytes) if !passes => {
                    self.copied.bytes += bytes.len() as u64;
                    let done = self.tree.data(bytes);
                    passes = !self.went_well(&path, done)?;
                }
                Reply::Hole(length) if !passes => {
                    self.copied.bytes += length;
                    let done = self.tree.hole(length);
                    passes = !self.went_well(&path, done)?;
                }
                Reply::Data(_) | Reply::Hole(_) => {}
                Reply::End(_) if passes => {}
                Reply::End(how) => {
                    let done = self.tree.end();
                    if self.went_well(&path, done)? {
                        self.told_end(&path, how);
                    }
                }
                Reply::Failed(failed) => {
                    let error = io::Error::from_raw_os_error(failed.errno);
                    let what = runner_wire::files::stage_name(failed.stage);
                    let path = shown(failed.path);
                    self.problem(&format!("{path}: cannot {what} in the build: {error}"));
                }
            }
        }
        for (path, error) in self.tree.close() {
            self.copied.problems += 1;
            let path = self.at.join(OsStr::from_bytes(&path));
            (self.manner.tell)(&format!("{}: {error}", shown(path.as_os_str().as_bytes())));
        }
        Ok(self.copied)
    }

    /// Makes an entry, or begins to. Returns whether its content is wanted.
    fn entry(&mut self, path: &[u8], entry: &PathEntry<'_>) -> Result<bool, CopyError> {
        let facts = &entry.facts;
        let done = match facts.kind() {
            DIRECTORY => self.tree.directory(path, facts),
            SYMLINK => self.tree.link(path, entry.target, facts),
            REGULAR if self.tree.is_another_name(path, facts) => {
                self.copied.entries += 1;
                return Ok(false);
            }
            REGULAR => self.tree.begin(path, facts),
            kind => {
                let path = shown(entry.path);
                self.problem(&format!("{path} is not copied: it is {}", special(kind)));
                return Ok(false);
            }
        };
        if self.went_well(path, done)? {
            self.copied.entries += 1;
            return Ok(true);
        }
        Ok(false)
    }

    /// The target of a path in the container.
    fn path(&self, path: &[u8]) -> Result<Vec<u8>, CopyError> {
        match (&self.wanted, &self.base) {
            (Some(wanted), _) if wanted != path => Err(nonsense()),
            (Some(_), Some(base)) => Ok(base.clone()),
            (None, Some(base)) => Ok([base.as_slice(), b"/", path].concat()),
            (_, None) => Ok(path.to_vec()),
        }
    }

    /// Whether one path succeeded; reports its error. A full disk ends the whole copy.
    fn went_well(&mut self, path: &[u8], done: io::Result<()>) -> Result<bool, CopyError> {
        let Err(error) = done else { return Ok(true) };
        self.tree.abandon();
        if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            return Err(CopyError::local(&self.local(path))(error));
        }
        self.problem(&format!("{}: {error}", self.name(path)));
        Ok(false)
    }

    fn told_end(&mut self, path: &[u8], how: ContentEnd) {
        let name = self.name(path);
        match how {
            ContentEnd::Whole => {}
            ContentEnd::Changed => self.problem(&format!(
                "{name}: it was written to while it was read, and may be a mixture"
            )),
            ContentEnd::Unreadable(errno) => self.problem(&format!(
                "{name}: it could not be read to its end in the build; the rest is filled with \
                 zeros: {}",
                io::Error::from_raw_os_error(errno)
            )),
        }
    }

    fn problem(&mut self, text: &str) {
        self.copied.problems += 1;
        (self.manner.tell)(text);
    }

    fn local(&self, path: &[u8]) -> PathBuf {
        self.at.join(OsStr::from_bytes(path))
    }

    /// A local path, for messages.
    fn name(&self, path: &[u8]) -> String {
        shown(self.local(path).as_os_str().as_bytes())
    }
}

fn ask(
    remote: &mut FilesConversation,
    root: &[u8],
    flags: u32,
    path: &[u8],
) -> Result<(), FilesProgramError> {
    remote.requests.root(root, 0)?;
    remote.requests.select(flags, path)?;
    Ok(remote.requests.sync()?)
}
