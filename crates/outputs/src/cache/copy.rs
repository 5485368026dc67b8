//! Copies a cache from a folder into the container.

use super::super::OutputError;
use super::caching::Caching;
use super::entry::{CacheEntry, Remarks};
use super::gather::{CacheItem, ROOT, SOURCE};
use runner_engine::files::{FileFailures, FileRequests, FilesProgram, FilesProgramError};
use runner_host::beneath;
use runner_wire::abi::files::{SYMLINK, make, root};
use runner_wire::files::{FileFacts, NewFile};
use rustix::fs::FileType;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Bytes passed on at a time.
const CHUNK: usize = 256 << 10;

/// Copies the cache, and returns it.
pub(super) async fn restore(
    caching: &Caching,
    entry: CacheEntry,
) -> Result<CacheEntry, OutputError> {
    let mut entry = entry;
    for (side, to) in [(SOURCE, caching.at.source.as_bytes()), (ROOT, b"/")] {
        let files = FilesProgram::start(&*caching.at.container).await?;
        let to = to.to_vec();
        let work = tokio::task::spawn_blocking(move || {
            let (tree, remarks) = (entry.tree(side)?, entry.details()?);
            let place = entry.place().join("tree").join(OsStr::from_bytes(side));
            let copied = files.write(&to, root::CREATE, |requests| {
                let mut copy = CacheCopy { requests, remarks: &remarks, side, place: &place };
                copy.tree(&tree)
            })?;
            Ok::<_, OutputError>((entry, copied))
        });
        let (back, failures) =
            work.await.map_err(|error| OutputError::Other(error.to_string()))??;
        tell(caching, &failures).await;
        entry = back;
    }
    Ok(entry)
}

/// Briefly reports what failed.
pub(super) async fn tell(caching: &Caching, failures: &FileFailures) {
    if let Some(first) = failures.first.first() {
        let more = failures.count - 1;
        let text = format!("cache: not all of it is restored: {first} (and {more} more)");
        caching.at.teller.warn(text).await;
    }
}

struct CacheCopy<'a> {
    requests: &'a mut FileRequests,
    remarks: &'a Remarks,
    side: &'a [u8],
    /// Path of the tree, for messages.
    place: &'a Path,
}

/// Why a walk stopped.
enum WalkStop {
    /// A directory could not be read.
    Walk(io::Error),
    Item(OutputError),
}

impl From<io::Error> for WalkStop {
    fn from(error: io::Error) -> Self {
        WalkStop::Walk(error)
    }
}

impl CacheCopy<'_> {
    /// Copies everything in one tree of the cache.
    fn tree(&mut self, tree: &beneath::Dir) -> Result<(), OutputError> {
        let mut directories = Vec::new();
        let mut buffer = vec![0; CHUNK];
        let walked = tree.walk(|found| {
            match found.kind {
                FileType::Directory => {
                    let item = self.directory(&found).map_err(WalkStop::Item)?;
                    directories.push((found.path.to_vec(), item));
                }
                FileType::Symlink => self.link(&found).map_err(WalkStop::Item)?,
                FileType::RegularFile => self.file(&found, &mut buffer).map_err(WalkStop::Item)?,
                // Something the runner did not put there.
                _ => {}
            }
            Ok(())
        });
        walked.map_err(|stop| match stop {
            WalkStop::Walk(error) => OutputError::folder("read", self.place)(error),
            WalkStop::Item(error) => error,
        })?;
        // Innermost first.
        for (path, item) in directories.iter().rev() {
            finish_directory(self.requests, item, path)?;
        }
        Ok(())
    }

    /// Adds the place to the error of a read.
    fn read<T>(
        &self,
        found: &beneath::WalkItem<'_>,
        done: io::Result<T>,
    ) -> Result<T, OutputError> {
        let path = || self.place.join(OsStr::from_bytes(found.path));
        done.map_err(|source| OutputError::Folder { doing: "read", path: path(), source })
    }

    fn item(&self, found: &beneath::WalkItem<'_>, stat: &rustix::fs::Stat) -> CacheItem {
        self.remarks.facts(&[self.side, b"/", found.path].concat(), stat)
    }

    fn directory(&mut self, found: &beneath::WalkItem<'_>) -> Result<CacheItem, OutputError> {
        let stat = self.read(found, found.place.stat(found.name))?;
        let item = self.item(found, &stat);
        make_item(self.requests, &item, found.path, b"")?;
        Ok(item)
    }

    fn link(&mut self, found: &beneath::WalkItem<'_>) -> Result<(), OutputError> {
        let stat = self.read(found, found.place.stat(found.name))?;
        let target = self.read(found, found.place.read_link(found.name))?;
        make_item(self.requests, &self.item(found, &stat), found.path, &target)
    }

    fn file(
        &mut self,
        found: &beneath::WalkItem<'_>,
        buffer: &mut [u8],
    ) -> Result<(), OutputError> {
        let mut file: File = self.read(found, found.place.file(found.name))?;
        let stat = self.read(found, rustix::fs::fstat(&file).map_err(io::Error::from))?;
        let item = self.item(found, &stat);
        make_item(self.requests, &item, found.path, b"")?;
        let mut left = item.facts.size;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            let got = match file.read(&mut buffer[..most]) {
                Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
                done => done,
            };
            let got = self.read(found, got)?;
            self.requests.data(&buffer[..got]).map_err(broken)?;
            left -= got as u64;
        }
        self.requests.end().map_err(broken)
    }
}
/// Requests an item; the content of a file follows.
pub(super) fn make_item(
    requests: &mut FileRequests,
    item: &CacheItem,
    path: &[u8],
    target: &[u8],
) -> Result<(), OutputError> {
    let facts = if target.is_empty() {
        item.facts
    } else {
        FileFacts { mode: SYMLINK | 0o777, ..item.facts }
    };
    requests.make(&node(facts), path, target).map_err(broken)
}

/// Sets mode and time of a cached directory after its content was written.
pub(super) fn finish_directory(
    requests: &mut FileRequests,
    item: &CacheItem,
    path: &[u8],
) -> Result<(), OutputError> {
    if item.is_passed {
        return Ok(());
    }
    requests.set(&node(item.facts), path).map_err(broken)
}

fn node(facts: FileFacts) -> NewFile {
    // Files of root keep the owner they are created with: root, or the caller if there is no other
    // user.
    let owner = if (facts.uid, facts.gid) == (0, 0) { 0 } else { make::OWNER };
    NewFile { flags: make::TIMES | owner, facts }
}

pub(super) fn broken(error: io::Error) -> OutputError {
    FilesProgramError::from(error).into()
}
