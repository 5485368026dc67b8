//! Puts what every build expects into a container that a daemon made from an image.
//!
//! The engine calls this right after the start. `namespaces` mounts these things; here the program
//! that makes files in the container (`files`) creates them: directories, the command links, and a
//! copy of each source, read with the caller's rights. Root owns all of it.

#![deny(clippy::disallowed_methods)]

use crate::container::InitContainer;
use crate::files::{FileRequests, FilesProgram, FilesProgramError};
use crate::unseen::Unseen;
use crate::{
    Container, ContainerSpec, EngineError, EngineNote, OpenMode, READONLY, SourceMount, Teller,
};
use runner_host::beneath::{Dir, DirectoryEntry, join, kind};
use runner_wire::abi::COMMANDS;
use runner_wire::abi::files::{DIRECTORY, REGULAR, SYMLINK};
use runner_wire::files::{FileFacts, NewFile, Reply, make};
use rustix::fs::{FileType, Stat};
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Directories of every container, with their modes.
const DIRECTORIES: [(&str, u32); 8] = [
    ("root", 0o700),
    ("tmp", 0o1777),
    ("var/tmp", 0o1777),
    ("codebuild", 0o755),
    ("codebuild/output", 0o755),
    // Every user's commands save their state there (see `namespaces`).
    ("codebuild/output/tmp", 0o777),
    ("codebuild/user", 0o755),
    ("codebuild/user/bin", 0o755),
];
/// Where a build finds the runner's commands. The second directory gets one only if the name is
/// free.
const PROGRAMS: [&str; 2] = ["codebuild/user/bin", "usr/local/bin"];
const GITCONFIG: &str = "etc/gitconfig";
/// Here root owns the source, so for other users git trusts it only if its configuration says so.
const SAFE: &str = "[safe]\n\tdirectory = *\n";
/// Bytes read from a file at a time.
const PIECE: usize = 128 << 10;

/// Why the container could not be prepared for a build.
#[derive(Debug, thiserror::Error)]
enum FurnishError {
    #[error(transparent)]
    Files(#[from] FilesProgramError),
    #[error("cannot read {}: {source}", path.display())]
    Source { path: PathBuf, source: io::Error },
}

/// Puts everything in place.
pub(super) async fn furnish(
    container: &InitContainer,
    spec: &ContainerSpec,
    tell: &Teller,
) -> Result<(), EngineError> {
    let fault = |error: &dyn std::error::Error| {
        EngineError::fault(format!("cannot put the source into the container: {error}"), None)
    };
    let start = || FilesProgram::start(container);
    let (lister, writer) =
        (start().await.map_err(|e| fault(&e))?, start().await.map_err(|e| fault(&e))?);
    let own = spec.clone();
    let made = tokio::task::spawn_blocking(move || make_all(lister, writer, &own)).await;
    let Furnished { unread, has_gitconfig } =
        made.map_err(|panic| fault(&panic))?.map_err(|error| fault(&error))?;
    if !unread.is_empty() {
        tell(EngineNote::NotCopied(unread));
    }
    // sudo, for example, looks up its own host name.
    let host = format!("\n127.0.1.1\t{}\n", spec.hostname);
    let also = [("etc/hosts", host), (GITCONFIG, SAFE.to_owned())];
    for (path, text) in also.iter().take(if has_gitconfig { 2 } else { 1 }) {
        // An image without this file does not need it.
        let _ = append(container, path, text).await;
    }
    Ok(())
}

/// Appends to a file that may be a mount and so cannot be replaced.
async fn append(container: &InitContainer, path: &str, text: &str) -> io::Result<()> {
    let file = container.open(&Path::new("/").join(path), OpenMode::ReadWriteCreate).await?;
    let mut file = File::from(file);
    io::Seek::seek(&mut file, io::SeekFrom::End(0))?;
    file.write_all(text.as_bytes())
}

struct Furnished {
    /// Files of the sources that the caller cannot read.
    unread: Vec<PathBuf>,
    has_gitconfig: bool,
}

fn make_all(
    lister: FilesProgram,
    writer: FilesProgram,
    spec: &ContainerSpec,
) -> Result<Furnished, FurnishError> {
    let names = || COMMANDS.iter().map(|name| format!("{}/{name}", PROGRAMS[1]));
    let asked = names().chain([GITCONFIG.to_owned()]);
    let there = existing(lister, asked)?;
    let has_gitconfig = there.contains(GITCONFIG.as_bytes());
    let mut unread = Vec::new();
    let failures = writer.write(b"/", 0, |requests| -> Result<(), FurnishError> {
        for (path, mode) in DIRECTORIES {
            let node = node(DIRECTORY | mode, 0);
            requests.make(&node, path.as_bytes(), b"").map_err(FilesProgramError::from)?;
            requests.set(&node, path.as_bytes()).map_err(FilesProgramError::from)?;
        }
        for (name, dir) in COMMANDS.iter().flat_map(|name| PROGRAMS.map(|dir| (name, dir))) {
            let path = format!("{dir}/{name}").into_bytes();
            if !there.contains(&path) {
                let to = format!("{READONLY}/bin/{name}");
                let node = node(SYMLINK | 0o777, 0);
                requests.make(&node, &path, to.as_bytes()).map_err(FilesProgramError::from)?;
            }
        }
        if !has_gitconfig {
            text(requests, Path::new(GITCONFIG), SAFE)?;
        }
        let mut seen = HashSet::new();
        for source in &spec.sources {
            copy_source(requests, source, &spec.unseen, &mut seen, &mut unread)?;
        }
        Ok(())
    })?;
    if let Some(failure) = failures.first.into_iter().next() {
        return Err(FilesProgramError::Failed(failure).into());
    }
    Ok(Furnished { unread, has_gitconfig })
}

/// The paths that exist, out of a few.
fn existing(
    files: FilesProgram,
    paths: impl Iterator<Item = String>,
) -> Result<HashSet<Vec<u8>>, FilesProgramError> {
    let FilesProgram { mut requests, mut replies } = files;
    requests.root(b"/", 0)?;
    for path in paths {
        requests.select(0, path.as_bytes())?;
    }
    requests.sync()?;
    let mut there = HashSet::new();
    loop {
        match replies.read()? {
            Some(Reply::Entry(entry)) => drop(there.insert(entry.path.to_vec())),
            Some(Reply::Sync) => return Ok(there),
            // A missing path comes back as a failure, which is an answer too.
            Some(_) => {}
            None => return Err(FilesProgramError::Ended),
        }
    }
}

fn node(mode: u32, size: u64) -> NewFile {
    NewFile { flags: 0, facts: FileFacts { mode, size, ..FileFacts::default() } }
}

/// Writes one of our own files.
fn text(requests: &mut FileRequests, path: &Path, text: &str) -> Result<(), FurnishError> {
    let make = |requests: &mut FileRequests| -> io::Result<()> {
        requests.make(&node(REGULAR | 0o644, text.len() as u64), inside(path), b"")?;
        requests.data(text.as_bytes())?;
        requests.end()
    };
    Ok(make(requests).map_err(FilesProgramError::from)?)
}

/// A container path relative to its root.
fn inside(path: &Path) -> &[u8] {
    path.strip_prefix("/").unwrap_or(path).as_os_str().as_bytes()
}

/// Copies a source and the files that source control keeps outside of it, each once.
fn copy_source(
    requests: &mut FileRequests,
    source: &SourceMount,
    unseen: &Unseen,
    seen: &mut HashSet<PathBuf>,
    unread: &mut Vec<PathBuf>,
) -> Result<(), FurnishError> {
    let mut rewritten: HashMap<PathBuf, &str> =
        source.files.iter().map(|(path, text)| (source.target.join(path), text.as_str())).collect();
    let places = [(&source.dir, &source.target)]
        .into_iter()
        .chain(source.extras.iter().map(|extra| (extra, extra)));
    for (from, to) in places {
        if seen.insert(to.clone()) {
            let mut copy = TreeCopy { requests, unseen, rewritten: &mut rewritten, unread };
            copy.tree(from, to)?;
        }
    }
    for (path, contents) in rewritten {
        text(requests, &path, contents)?;
    }
    Ok(())
}

/// A tree being copied into the container.
struct TreeCopy<'a, 'b> {
    requests: &'a mut FileRequests,
    unseen: &'a Unseen,
    /// Files whose content differs in the container.
    rewritten: &'a mut HashMap<PathBuf, &'b str>,
    unread: &'a mut Vec<PathBuf>,
}

/// The next step, by path below the top.
enum CopyStep {
    /// Make a directory and its contents.
    Directory(Vec<u8>, NewFile),
    /// Set its mode and time, now that it is complete.
    Done(Vec<u8>, NewFile),
}

impl TreeCopy<'_, '_> {
    fn tree(&mut self, from: &Path, to: &Path) -> Result<(), FurnishError> {
        let failed = |path: &[u8]| {
            let path = from.join(OsStr::from_bytes(path));
            move |source| FurnishError::Source { path, source }
        };
        let top = Dir::top(from).map_err(failed(b""))?;
        let node = node_of(&top.facts().map_err(failed(b""))?);
        let mut ahead = vec![CopyStep::Directory(Vec::new(), node)];
        while let Some(step) = ahead.pop() {
            let (path, node) = match step {
                CopyStep::Done(path, node) => {
                    let to = to.join(OsStr::from_bytes(&path));
                    self.requests.set(&node, inside(&to)).map_err(FilesProgramError::from)?;
                    continue;
                }
                CopyStep::Directory(path, node) => (path, node),
            };
            let target = to.join(OsStr::from_bytes(&path));
            self.requests.make(&node, inside(&target), b"").map_err(FilesProgramError::from)?;
            ahead.push(CopyStep::Done(path.clone(), node));
            let listed = top.open(&path).and_then(|here| Ok((here.entries()?, here)));
            let (entries, here) = match listed {
                Ok(listed) => listed,
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    self.unread.push(from.join(OsStr::from_bytes(&path)));
                    continue;
                }
                // Removed since its parent directory was read.
                Err(error) if !path.is_empty() && error.kind() == io::ErrorKind::NotFound => {
                    continue;
                }
                Err(error) => return Err(failed(&path)(error)),
            };
            for DirectoryEntry { name, .. } in entries {
                let path = join(&path, &name);
                let source = from.join(OsStr::from_bytes(&path));
                if self.unseen.is(&source) {
                    continue;
                }
                let target = to.join(OsStr::from_bytes(&path));
                if let Some(node) = self.one(&here, &name, &source, &target)? {
                    ahead.push(CopyStep::Directory(path, node));
                }
            }
        }
        Ok(())
    }

    /// Copies one entry. Returns the node of a directory.
    fn one(
        &mut self,
        here: &Dir,
        name: &[u8],
        source: &Path,
        target: &Path,
    ) -> Result<Option<NewFile>, FurnishError> {
        // A missing entry was removed after its directory was read.
        let there = match here.stat(name) {
            Ok(there) => there,
            Err(error) => return self.left_out(source, error),
        };
        if let Some(contents) = self.rewritten.remove(target) {
            return text(self.requests, target, contents).map(|()| None);
        }
        let node = node_of(&there);
        match kind(&there) {
            FileType::Directory => return Ok(Some(node)),
            FileType::Symlink => {
                let to = match here.read_link(name) {
                    Ok(to) => to,
                    Err(error) => return self.left_out(source, error),
                };
                self.requests.make(&node, inside(target), &to).map_err(FilesProgramError::from)?;
            }
            FileType::RegularFile => match here.file(name) {
                Ok(file) => self.file(file, &node, source, target)?,
                Err(error) => return self.left_out(source, error),
            },
            _ => {}
        }
        Ok(None)
    }

    /// Handles an entry that cannot be inspected: it is gone, closed to the caller, or a failure.
    fn left_out(
        &mut self,
        source: &Path,
        error: io::Error,
    ) -> Result<Option<NewFile>, FurnishError> {
        match error.kind() {
            io::ErrorKind::NotFound => {}
            io::ErrorKind::PermissionDenied => self.unread.push(source.to_path_buf()),
            _ => return Err(unreadable(source, error)),
        }
        Ok(None)
    }

    fn file(
        &mut self,
        file: File,
        node: &NewFile,
        source: &Path,
        target: &Path,
    ) -> Result<(), FurnishError> {
        let size = node.facts.size;
        self.requests.make(node, inside(target), b"").map_err(FilesProgramError::from)?;
        let mut left = size;
        let mut file = file.take(size);
        let mut buffer = vec![0; PIECE.min(usize::try_from(size).unwrap_or(PIECE))];
        while left > 0 {
            match file.read(&mut buffer) {
                // The file has shrunk since it was inspected. The rest becomes a hole.
                Ok(0) => break,
                Ok(got) => {
                    self.requests.data(&buffer[..got]).map_err(FilesProgramError::from)?;
                    left -= got as u64;
                }
                Err(error) => return Err(unreadable(source, error)),
            }
        }
        if left > 0 {
            self.requests.hole(left).map_err(FilesProgramError::from)?;
        }
        Ok(self.requests.end().map_err(FilesProgramError::from)?)
    }
}

fn unreadable(path: &Path, source: io::Error) -> FurnishError {
    FurnishError::Source { path: path.to_path_buf(), source }
}

/// A file's kind, time and permissions, without setuid and setgid.
fn node_of(there: &Stat) -> NewFile {
    let kind = there.st_mode & 0o170_000;
    let facts = FileFacts {
        mode: kind | there.st_mode & 0o1777,
        size: if kind == REGULAR { u64::try_from(there.st_size).unwrap_or(0) } else { 0 },
        modified: there.st_mtime,
        modified_ns: u32::try_from(there.st_mtime_nsec).unwrap_or(0),
        ..FileFacts::default()
    };
    NewFile { flags: make::TIMES, facts }
}
