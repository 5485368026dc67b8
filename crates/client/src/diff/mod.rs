//! `runner diff`: shows what a live build has changed in its source.
//!
//! Started by `cli`. Compares the source on this machine with the build's view of it, as the
//! program that moves files (`copy`) reports it. Input from the container is parsed as hostile: its
//! names open nothing below a directory here, and its content is read up to a limit. A file with
//! the source's size and time counts as unchanged; otherwise the content decides.
#![deny(clippy::disallowed_methods)]

mod patch;
mod remote;

pub use patch::{DiffStat, patch_of, quoted, stat_of};

use super::connection::{Client, ClientError};
use super::copy::{CopyError, files_of};
use remote::{RemoteDirectory, RemoteStat};
use runner_core::plain::name as shown;
use runner_host::beneath::{Dir, DirectoryCursor, WalkItem, described};
use rustix::fs::FileType;
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;

/// Most bytes of a file that are compared as lines or put into a patch.
const MOST: u64 = 32 << 20;
/// Most bytes of all names and link targets together. They come from the build, which is hostile.
const MOST_BYTES: usize = 256 << 20;
/// Most files listed.
const MOST_FILES: usize = 1 << 20;
/// Left out: a build that runs git changes git's own files.
const GIT: &[u8] = b".git";

/// What to compare.
pub struct Trees<'a> {
    /// The source on this machine.
    pub here: &'a Path,
    /// The directory in the build.
    pub there: &'a [u8],
    /// Paths to leave out on both sides: the state folder, which builds do not see.
    pub hidden: &'a [Vec<u8>],
    /// If not empty, only these paths and what is below them.
    pub only: &'a [Vec<u8>],
    /// Whether changes include the files' content.
    pub has_content: bool,
}

/// A path that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathChange {
    /// Relative to the source.
    pub path: Vec<u8>,
    /// What the source has; `None` if the build made it.
    pub old: Option<FileNode>,
    /// What the build has; `None` if the build removed it.
    pub new: Option<FileNode>,
}

/// A file or a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileNode {
    pub kind: NodeKind,
    /// Content, or a link's target; `None` if not requested, or too large.
    pub content: Option<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    File,
    Executable,
    Link,
}

impl NodeKind {
    /// What a mode says; nothing of what git does not keep.
    #[must_use]
    pub fn of(mode: u32) -> Option<Self> {
        match FileType::from_raw_mode(mode) {
            FileType::RegularFile if mode & 0o100 != 0 => Some(NodeKind::Executable),
            FileType::RegularFile => Some(NodeKind::File),
            FileType::Symlink => Some(NodeKind::Link),
            _ => None,
        }
    }
}

/// Finds every change, sorted by path. Calls `tell` for what could not be compared and returns how
/// much that was.
pub fn diff(
    mut client: Client,
    trees: &Trees<'_>,
    tell: &dyn Fn(&str),
    each: &mut dyn FnMut(PathChange) -> io::Result<()>,
) -> Result<u64, CopyError> {
    let files = files_of(&mut client)?;
    let mut comparison = TreeComparison {
        remote: RemoteDirectory::open(files, trees.there)?,
        here: DirectoryCursor::new(Dir::real(trees.here).map_err(CopyError::local(trees.here))?),
        trees,
        tell,
        problems: 0,
    };
    comparison.run(each)
}

struct TreeComparison<'a> {
    remote: RemoteDirectory,
    here: DirectoryCursor,
    trees: &'a Trees<'a>,
    tell: &'a dyn Fn(&str),
    problems: u64,
}

impl TreeComparison<'_> {
    fn run(
        &mut self,
        each: &mut dyn FnMut(PathChange) -> io::Result<()>,
    ) -> Result<u64, CopyError> {
        let mut there = BTreeMap::new();
        let mut problems = Vec::new();
        let mut room = MOST_BYTES;
        self.remote.list(|path, seen| {
            if !self.trees.wants(path) {
                return Ok(());
            }
            let target = seen.as_ref().map_or(0, |seen| seen.target.len());
            room =
                room.checked_sub(path.len() + target).ok_or_else(|| too_many(self.trees.there))?;
            match seen {
                Ok(_) if there.len() >= MOST_FILES => return Err(too_many(self.trees.there)),
                Ok(seen) => drop(there.insert(path.to_vec(), seen)),
                Err(why) => problems.push(format!("{}: {why} (in the build)", shown(path))),
            }
            Ok(())
        })?;
        problems.iter().for_each(|problem| self.problem(problem));
        let mut here = self.list_here()?;
        let paths: std::collections::BTreeSet<Vec<u8>> =
            here.keys().chain(there.keys()).cloned().collect();
        let failed = |error: io::Error| CopyError::Client(ClientError::Output(error));
        for path in paths {
            let (old, new) = (here.remove(&path), there.remove(&path));
            if let Some(change) = self.compare(&path, old.as_ref(), new.as_ref())? {
                each(change).map_err(failed)?;
            }
        }
        Ok(self.problems)
    }

    fn problem(&mut self, text: &str) {
        self.problems += 1;
        (self.tell)(text);
    }

    /// Lists the files of the source.
    fn list_here(&mut self) -> Result<BTreeMap<Vec<u8>, RemoteStat>, CopyError> {
        let mut found = BTreeMap::new();
        let trees = self.trees;
        let root = self.here.root().again().map_err(CopyError::local(trees.here))?;
        root.walk(|WalkItem { place, name, path, kind }| {
            if kind == FileType::Directory || !trees.wants(path) {
                return Ok(());
            }
            if found.len() >= MOST_FILES {
                return Err(io::Error::other("it has too many files to be compared"));
            }
            let stat = place.stat(name)?;
            let target = match kind {
                FileType::Symlink => place.read_link(name)?,
                _ => Vec::new(),
            };
            let seen = RemoteStat {
                mode: stat.st_mode,
                size: u64::try_from(stat.st_size).unwrap_or(0),
                modified: (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)),
                target,
            };
            found.insert(path.to_vec(), seen);
            Ok(())
        })
        .map_err(CopyError::local(trees.here))?;
        Ok(found)
    }

    fn compare(
        &mut self,
        path: &[u8],
        old: Option<&RemoteStat>,
        new: Option<&RemoteStat>,
    ) -> Result<Option<PathChange>, CopyError> {
        let kind = |seen: &RemoteStat| NodeKind::of(seen.mode);
        let (old_kind, new_kind) = match (old.map(kind), new.map(kind)) {
            (Some(None), Some(None)) => return Ok(None),
            (Some(None), _) | (_, Some(None)) => {
                let mode = [new, old].into_iter().flatten().map(|seen| seen.mode);
                let mut kinds =
                    mode.map(FileType::from_raw_mode).filter(|kind| *kind != FileType::RegularFile);
                let what = kinds.next().map_or("something else", described);
                self.problem(&format!(
                    "{}: it is {what}, which a patch cannot contain",
                    shown(path)
                ));
                return Ok(None);
            }
            (old, new) => (old.flatten(), new.flatten()),
        };
        if let (Some(old), Some(new)) = (old, new)
            && old_kind == new_kind
            && self.is_same(path, old, new)?
        {
            return Ok(None);
        }
        let mut change = PathChange { path: path.to_vec(), old: None, new: None };
        if let (Some(seen), Some(kind)) = (old, old_kind) {
            change.old = Some(FileNode { kind, content: self.content_here(path, seen)? });
        }
        if let (Some(seen), Some(kind)) = (new, new_kind) {
            change.new = Some(FileNode { kind, content: self.content_there(path, seen)? });
        }
        // Its time or size changed, but its content did not.
        if old_kind == new_kind
            && let (
                Some(FileNode { content: Some(old), .. }),
                Some(FileNode { content: Some(new), .. }),
            ) = (&change.old, &change.new)
            && old == new
        {
            return Ok(None);
        }
        Ok(Some(change))
    }

    /// Whether two entries of one kind are equal. Skips the content if it will be read anyway.
    fn is_same(
        &mut self,
        path: &[u8],
        old: &RemoteStat,
        new: &RemoteStat,
    ) -> Result<bool, CopyError> {
        if FileType::from_raw_mode(old.mode) == FileType::Symlink {
            return Ok(old.target == new.target);
        }
        if old.size != new.size {
            return Ok(false);
        }
        if old.modified == new.modified {
            return Ok(true);
        }
        if self.trees.has_content && new.size <= MOST {
            return Ok(false);
        }
        let Some(mut file) = self.open_here(path)? else { return Ok(false) };
        let (mut buffer, mut is_same) = (vec![0; 64 << 10], true);
        let whole = self.remote.read(path, &mut |bytes| {
            if !is_same {
                return;
            }
            for chunk in bytes.chunks(buffer.len()) {
                let buffer = &mut buffer[..chunk.len()];
                is_same &= file.read_exact(buffer).is_ok() && buffer == chunk;
            }
        })?;
        if let Err(why) = whole {
            // The answer is unknown.
            self.problem(&format!("{}: {why} (in the build)", shown(path)));
            return Ok(true);
        }
        Ok(is_same)
    }

    fn open_here(&mut self, path: &[u8]) -> Result<Option<std::fs::File>, CopyError> {
        match self.here.find(path).and_then(|(dir, name)| dir.file(name)) {
            Ok(file) => Ok(Some(file)),
            Err(error) => {
                self.problem(&format!("{}: {error}", shown(path)));
                Ok(None)
            }
        }
    }

    fn content_here(
        &mut self,
        path: &[u8],
        seen: &RemoteStat,
    ) -> Result<Option<Vec<u8>>, CopyError> {
        if FileType::from_raw_mode(seen.mode) == FileType::Symlink {
            return Ok(Some(seen.target.clone()));
        }
        if !self.trees.has_content || seen.size > MOST {
            return Ok(None);
        }
        let Some(file) = self.open_here(path)? else { return Ok(None) };
        let mut content = Vec::new();
        match file.take(MOST).read_to_end(&mut content) {
            Ok(_) => Ok(Some(content)),
            Err(error) => {
                self.problem(&format!("{}: {error}", shown(path)));
                Ok(None)
            }
        }
    }

    fn content_there(
        &mut self,
        path: &[u8],
        seen: &RemoteStat,
    ) -> Result<Option<Vec<u8>>, CopyError> {
        if FileType::from_raw_mode(seen.mode) == FileType::Symlink {
            return Ok(Some(seen.target.clone()));
        }
        if !self.trees.has_content || seen.size > MOST {
            return Ok(None);
        }
        let mut content = Vec::new();
        let whole = self.remote.read(path, &mut |bytes| {
            // The file may have grown since it was listed.
            if content.len() as u64 <= MOST {
                content.extend_from_slice(bytes);
            }
        })?;
        match whole {
            Ok(()) if content.len() as u64 <= MOST => Ok(Some(content)),
            Ok(()) => Ok(None),
            Err(why) => {
                self.problem(&format!("{}: {why} (in the build)", shown(path)));
                Ok(None)
            }
        }
    }
}

impl Trees<'_> {
    fn wants(&self, path: &[u8]) -> bool {
        let is_below = |path: &[u8], top: &[u8]| {
            path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        };
        !is_below(path, GIT)
            && !self.hidden.iter().any(|top| is_below(path, top))
            && (self.only.is_empty() || self.only.iter().any(|top| is_below(path, top)))
    }
}

fn too_many(path: &[u8]) -> CopyError {
    let source = io::Error::other("it has too many files to be compared");
    CopyError::Remote { path: path.to_vec(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_chosen_by_whole_names() {
        let wants = |only: &[&str], path: &str| {
            let only: Vec<Vec<u8>> = only.iter().map(|top| top.as_bytes().to_vec()).collect();
            let trees = Trees {
                here: Path::new("/"),
                there: b"/",
                hidden: &[b".runner".to_vec()],
                only: &only,
                has_content: false,
            };
            trees.wants(path.as_bytes())
        };
        assert!(wants(&[], "a/b") && wants(&[], ".gitignore") && wants(&[], "a/.git/x"));
        assert!(!wants(&[], ".git") && !wants(&[], ".git/HEAD") && !wants(&[".git"], ".git/HEAD"));
        assert!(!wants(&[], ".runner/keys") && wants(&[], ".runner2"));
        assert!(wants(&["a"], "a") && wants(&["a"], "a/b") && !wants(&["a"], "ab"));
    }
}
