//! Caches in a folder of this machine.
//!
//! ```text
//! entries/<uuid>/     one cache; never changed once it has that name
//!   entry.json        whose it is, its key, how large
//!   details.json      modes and times of directories, owners other than root
//!   signature         by which its runner knows it again (`signature`)
//!   lock              held, shared, by builds that use it; its time is that of the last use
//!   tree/source       what lies below the source directory
//!   tree/root         what lies anywhere else
//! content/            bytes that several caches share
//! new/<uuid>/         being made, or being removed; locked meanwhile
//! ```
//!
//! A cache is made under `new` and renamed when it is whole: no build ever sees a half one.
//!
//! The folder may be anybody's making: a clone's, another user's, one that is no folder of caches at all. So it
//! is reached through `beneath` only, nothing in it is believed that is not signed, and nothing is removed that
//! has not the very name and form of what is made here.

use super::super::OutputError;
use super::super::shared::{Naming, SharedFolder};
use super::entry::{CacheEntry, EntryFacts, LOCK, words};
use super::listed::{ListedCache, superfluous};
use super::names::WantedCache;
use super::new_entry::{Folders, NewEntry, is_there};
use super::signature::Signer;
use runner_host::beneath::{Dir, real};
use rustix::fs::FileType;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

const ENTRIES: &str = "entries";
const NEW: &str = "new";
const CONTENT: &str = "content";
/// End of the name of a cache that is being removed.
const GONE: &str = ".gone";

/// A folder with caches.
#[derive(Clone, Debug)]
pub struct CacheFolder {
    path: PathBuf,
    signer: Signer,
}

/// A cache that is there, and not held.
struct KnownCache {
    id: String,
    facts: EntryFacts,
    used: SystemTime,
}

impl CacheFolder {
    /// Where a path leads that somebody typed.
    pub fn new(path: &Path) -> Result<Self, OutputError> {
        let path = real(path).map_err(OutputError::folder("find", path))?;
        Ok(CacheFolder { path, signer: Signer::default() })
    }

    /// At a path without links. What is saved in it gets a signature, and those of this signer are known.
    pub(super) fn signed(path: &Path, signer: &Signer) -> Self {
        CacheFolder { path: path.to_path_buf(), signer: signer.clone() }
    }

    /// One of the folders in it; nothing where it is missing.
    fn open(&self, name: &str) -> Result<Option<Dir>, OutputError> {
        match Dir::real(&self.path).and_then(|top| top.open(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            opened => opened.map(Some).map_err(OutputError::folder("read", &self.path.join(name))),
        }
    }

    fn make(&self, name: &str) -> Result<Dir, OutputError> {
        Dir::make_real(&self.path, 0o755)
            .and_then(|top| top.make_all(name, 0o755))
            .map_err(OutputError::folder("make", &self.path.join(name)))
    }

    /// Everything in it, the newest first.
    pub fn list(&self) -> Result<Vec<ListedCache>, OutputError> {
        let Some(entries) = self.open(ENTRIES)? else { return Ok(Vec::new()) };
        let listed = self.known(&entries)?.into_iter().map(|KnownCache { id, facts, used }| {
            let EntryFacts { project, paths, key, created, files, bytes, .. } = facts;
            ListedCache { id, project, paths, key, files, bytes, created, used }
        });
        Ok(listed.collect())
    }

    /// The same with all they say of themselves. What cannot be read is not there.
    fn known(&self, entries: &Dir) -> Result<Vec<KnownCache>, OutputError> {
        let all = entries
            .entries()
            .map_err(OutputError::folder("read", &self.path.join(ENTRIES)))?
            .into_iter();
        let mut known: Vec<KnownCache> = all
            .filter_map(|entry| {
                let id = String::from_utf8(entry.name).ok().filter(|name| is_id(name))?;
                let dir = entries.open(&id).ok()?;
                let facts = serde_json::from_slice(&words(&dir).ok()?).ok()?;
                let used = dir.file(LOCK).ok()?.metadata().ok()?.modified().ok()?;
                Some(KnownCache { id, facts, used })
            })
            .collect();
        known.sort_by_key(|entry| std::cmp::Reverse(entry.facts.created));
        Ok(known)
    }

    /// The cache that is meant; held.
    pub(super) fn find(&self, wanted: &WantedCache) -> Result<Option<CacheEntry>, OutputError> {
        let Some(entries) = self.open(ENTRIES)? else { return Ok(None) };
        let known = self.known(&entries)?;
        let of_project = || {
            known
                .iter()
                .filter(|k| k.facts.project == wanted.project && k.facts.paths == wanted.paths)
        };
        let exact = of_project().find(|k| k.facts.key == wanted.key);
        let similar = || {
            wanted.fallback.iter().find_map(|prefix| {
                of_project()
                    .find(|k| k.facts.key.as_ref().is_some_and(|key| key.starts_with(prefix)))
            })
        };
        let Some(found) = exact.or_else(similar) else { return Ok(None) };
        // One that is gone meanwhile is as good as none.
        let Ok(dir) = entries.open(&found.id) else { return Ok(None) };
        Ok(CacheEntry::hold(dir, &self.path.join(ENTRIES).join(&found.id), &self.signer))
    }

    /// Whether there is just this cache already.
    pub(super) fn has(&self, wanted: &WantedCache) -> Result<bool, OutputError> {
        Ok(self.list()?.iter().any(|ListedCache { project, paths, key, .. }| {
            *project == wanted.project && *paths == wanted.paths && *key == wanted.key
        }))
    }

    /// How files are called that caches share; nothing where no name would be ours alone.
    pub(super) fn naming(&self) -> Option<Naming> {
        self.signer.naming()
    }

    /// Begins a cache. `build` is the build's uuid.
    pub(super) fn begin(&self, build: &str) -> Result<NewEntry, OutputError> {
        let folders = Folders {
            entries: self.make(ENTRIES)?,
            new: self.make(NEW)?,
            content: self.make(CONTENT)?,
        };
        sweep(&folders.new);
        NewEntry::begin(folders, build, self.path.join(ENTRIES).join(build))
    }

    /// Says what a new cache is, and gives it its name.
    pub(super) fn finish(
        &self,
        new: NewEntry,
        wanted: &WantedCache,
        gathered: &super::gather::Gathered,
    ) -> Result<EntryFacts, OutputError> {
        new.finish(wanted, gathered, &self.signer)
    }

    /// Removes a cache that no build uses; whether it did.
    fn remove(&self, entries: &Dir, id: &str) -> Result<bool, OutputError> {
        let Ok(lock) = entries.open(id).and_then(|dir| dir.file(LOCK)) else { return Ok(false) };
        // One that somebody else has just removed cannot be removed again.
        if lock.try_lock().is_err() || !is_there(&lock).unwrap_or(false) {
            return Ok(false);
        }
        let new = self.make(NEW)?;
        let gone = format!("{id}{GONE}");
        // From one moment to the next it is not there any more.
        entries
            .rename(id, &new, &gone)
            .and_then(|()| new.remove_tree(&gone))
            .map_err(OutputError::folder("remove", &self.path.join(ENTRIES).join(id)))?;
        Ok(true)
    }

    /// Removes what was not used since `before`, what is older than another of its name, and beyond
    /// `most` bytes what was not used for longest. What builds use stays. What was removed.
    pub fn prune(&self, before: SystemTime, most: u64) -> Result<Vec<ListedCache>, OutputError> {
        let mut removed = Vec::new();
        if let Some(entries) = self.open(ENTRIES)? {
            for entry in superfluous(self.list()?, before, most) {
                if self.remove(&entries, &entry.id)? {
                    removed.push(entry);
                }
            }
        }
        if let Some(new) = self.open(NEW)? {
            sweep(&new);
        }
        if let Some(content) = self.open(CONTENT)? {
            SharedFolder::sweep(&content);
        }
        Ok(removed)
    }
}

/// Removes what killed runners have left.
fn sweep(new: &Dir) {
    let is_left = |name: &[u8]| {
        let name = str::from_utf8(name).unwrap_or_default();
        is_id(name.strip_suffix(GONE).unwrap_or(name))
    };
    for entry in new.entries().unwrap_or_default() {
        if entry.kind != FileType::Directory || !is_left(&entry.name) {
            continue;
        }
        let lock: io::Result<File> = new.open(&entry.name).and_then(|dir| dir.file(LOCK));
        // Held until it is gone, so that a process that waits for it learns that.
        if let Ok(lock) = lock
            && lock.try_lock().is_ok()
        {
            // What cannot be removed, the next one may.
            let _ = new.remove_tree(&entry.name);
        }
    }
}

/// Whether a name is one that a cache is made under.
fn is_id(name: &str) -> bool {
    uuid::Uuid::try_parse(name).is_ok_and(|id| id.hyphenated().to_string() == name)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a folder of the test's own")]
mod tests;
