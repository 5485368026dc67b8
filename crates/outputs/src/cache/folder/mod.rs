//! Caches in a folder of this machine.
//!
//! ```text
//! entries/<uuid>/     one cache; never changed once it has that name
//!   entry.json        its project, key and size
//!   details.json      modes and times of directories, owners other than root
//!   signature         shows that this user's runner saved it (`signature`)
//!   lock              locked shared by builds that use it; its time is that of the last use
//!   tree/source       everything below the source directory
//!   tree/root         everything else
//! content/            bytes that several caches share
//! new/<uuid>/         being written or removed; locked meanwhile
//! ```
//!
//! A cache is written under `new` and renamed when it is complete: no build ever sees half a cache.
//!
//! The folder may come from anyone: from a clone, from another user, or it may be no cache folder
//! at all. So it is accessed only through `beneath`, nothing in it is trusted unless it is signed,
//! and nothing is removed unless it has exactly the name and form that this module creates.

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
/// Suffix of the name of a cache being removed.
const GONE: &str = ".gone";

/// A folder with caches.
#[derive(Clone, Debug)]
pub struct CacheFolder {
    path: PathBuf,
    signer: Signer,
}

/// A cache in the folder, not locked.
struct KnownCache {
    id: String,
    facts: EntryFacts,
    used: SystemTime,
}

impl CacheFolder {
    /// The folder at a path given by the user; links in it are followed.
    pub fn new(path: &Path) -> Result<Self, OutputError> {
        let path = real(path).map_err(OutputError::folder("find", path))?;
        Ok(CacheFolder { path, signer: Signer::default() })
    }

    /// The folder at a link-free path. Saved caches are signed, and signatures of this signer are
    /// recognized.
    pub(super) fn signed(path: &Path, signer: &Signer) -> Self {
        CacheFolder { path: path.to_path_buf(), signer: signer.clone() }
    }

    /// Opens a subfolder; `None` if it is missing.
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

    /// All caches, newest first.
    pub fn list(&self) -> Result<Vec<ListedCache>, OutputError> {
        let Some(entries) = self.open(ENTRIES)? else { return Ok(Vec::new()) };
        let listed = self.known(&entries)?.into_iter().map(|KnownCache { id, facts, used }| {
            let EntryFacts { project, paths, key, created, files, bytes, .. } = facts;
            ListedCache { id, project, paths, key, files, bytes, created, used }
        });
        Ok(listed.collect())
    }

    /// All caches with their descriptions. Unreadable ones are skipped.
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

    /// Finds and locks the wanted cache.
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
        // A cache removed meanwhile counts as missing.
        let Ok(dir) = entries.open(&found.id) else { return Ok(None) };
        Ok(CacheEntry::hold(dir, &self.path.join(ENTRIES).join(&found.id), &self.signer))
    }

    /// Whether exactly this cache exists already.
    pub(super) fn has(&self, wanted: &WantedCache) -> Result<bool, OutputError> {
        Ok(self.list()?.iter().any(|ListedCache { project, paths, key, .. }| {
            *project == wanted.project && *paths == wanted.paths && *key == wanted.key
        }))
    }

    /// Names shared files; `None` without a key, since anyone could compute the names.
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

    /// Writes a new cache's description and moves it to its final name.
    pub(super) fn finish(
        &self,
        new: NewEntry,
        wanted: &WantedCache,
        gathered: &super::gather::Gathered,
    ) -> Result<EntryFacts, OutputError> {
        new.finish(wanted, gathered, &self.signer)
    }

    /// Removes a cache unless a build uses it. Returns whether it was removed.
    fn remove(&self, entries: &Dir, id: &str) -> Result<bool, OutputError> {
        let Ok(lock) = entries.open(id).and_then(|dir| dir.file(LOCK)) else { return Ok(false) };
        // A cache that another process has just removed cannot be removed again.
        if lock.try_lock().is_err() || !is_there(&lock).unwrap_or(false) {
            return Ok(false);
        }
        let new = self.make(NEW)?;
        let gone = format!("{id}{GONE}");
        // The rename makes it disappear at once.
        entries
            .rename(id, &new, &gone)
            .and_then(|()| new.remove_tree(&gone))
            .map_err(OutputError::folder("remove", &self.path.join(ENTRIES).join(id)))?;
        Ok(true)
    }

    /// Removes caches not used since `before`, caches superseded by a newer one of the same name,
    /// and beyond `most` bytes the least recently used. Keeps those that builds use. Returns the
    /// removed caches.
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

/// Removes what killed runners left behind.
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
        // Held until the directory is gone, so that a process waiting for the lock notices.
        if let Ok(lock) = lock
            && lock.try_lock().is_ok()
        {
            // The next sweep may remove what cannot be removed now.
            let _ = new.remove_tree(&entry.name);
        }
    }
}

/// Whether a name is one that caches are created under.
fn is_id(name: &str) -> bool {
    uuid::Uuid::try_parse(name).is_ok_and(|id| id.hyphenated().to_string() == name)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a folder of the test's own")]
mod tests;
