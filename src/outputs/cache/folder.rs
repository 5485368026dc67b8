//! Caches in a folder of this machine.
//!
//! ```text
//! entries/<uuid>/     one cache; never changed once it has that name
//!   entry.json        whose it is, its key, how large
//!   details.json      modes and times of directories, owners other than root
//!   lock              held, shared, by builds that use it; its time is that of the last use
//!   tree/source       what lies below the source directory
//!   tree/root         what lies anywhere else
//! content/            bytes that several caches share
//! new/<uuid>/         being made, or being removed; locked by whoever does
//! ```
//!
//! A cache is made under `new` and renamed when it is whole: no build ever sees a half one.

use super::super::OutputError;
use super::super::folder::{Place, times};
use super::super::shared::Shared;
use super::gather::{Gathered, Item};
use super::listed::{Listed, superfluous};
use super::names::{Wanted, decode, encode};
use crate::beneath::Dir;
use crate::state::{remove_tree, write_durably};
use crate::users;
use runner_wire::files::Facts;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// A folder with caches.
#[derive(Clone, Debug)]
pub(crate) struct CacheFolder(PathBuf);

/// What a cache says of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EntryFacts {
    pub(crate) project: String,
    /// Digest of the paths it was made of.
    pub(crate) paths: String,
    pub(crate) key: Option<String>,
    /// Milliseconds since 1970.
    pub(crate) created: u64,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    /// Digest of names, sizes and times.
    pub(super) digest: String,
    /// Whether all of it is root's, with nine bits of mode.
    pub(super) is_plain: bool,
}

/// What does not show in the tree.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Details {
    /// Names of directories that are cached themselves.
    directories: Vec<String>,
    /// Names, owner, group and mode of what is not plain.
    odd: Vec<(String, u32, u32, u32)>,
}

/// A cache that cannot be removed while this lives.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) facts: EntryFacts,
    dir: PathBuf,
    _lock: File,
}

/// A cache that is there, and not held.
struct Known {
    id: String,
    facts: EntryFacts,
    used: SystemTime,
}

impl CacheFolder {
    pub(crate) fn new(path: PathBuf) -> Self {
        CacheFolder(path)
    }

    fn entries(&self) -> PathBuf {
        self.0.join("entries")
    }

    fn new_ones(&self) -> PathBuf {
        self.0.join("new")
    }

    fn content(&self) -> PathBuf {
        self.0.join("content")
    }

    /// Everything in it, the newest first.
    pub(crate) fn list(&self) -> Result<Vec<Listed>, OutputError> {
        let listed = self.known()?.into_iter().map(|Known { id, facts, used }| {
            let EntryFacts { project, paths, key, created, files, bytes, .. } = facts;
            Listed { id, project, paths, key, files, bytes, created, used }
        });
        Ok(listed.collect())
    }

    /// The same with all they say of themselves. What cannot be read is not there.
    fn known(&self) -> Result<Vec<Known>, OutputError> {
        let dir = self.entries();
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(OutputError::folder("read", &dir))?,
        };
        let mut known: Vec<Known> = entries
            .filter_map(|entry| {
                let path = entry.ok()?.path();
                let id = path.file_name()?.to_str()?.to_owned();
                let facts =
                    serde_json::from_slice(&fs::read(path.join("entry.json")).ok()?).ok()?;
                let used = fs::metadata(path.join("lock")).ok()?.modified().ok()?;
                Some(Known { id, facts, used })
            })
            .collect();
        known.sort_by_key(|entry| std::cmp::Reverse(entry.facts.created));
        Ok(known)
    }

    /// The cache that is meant; held.
    pub(super) fn find(&self, wanted: &Wanted) -> Result<Option<Entry>, OutputError> {
        let known = self.known()?;
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
        let dir = self.entries().join(&found.id);
        let Ok(lock) = File::open(dir.join("lock")) else { return Ok(None) };
        // Whoever removes it holds it alone; it is as good as gone then.
        if lock.try_lock_shared().is_err() || !dir.join("entry.json").exists() {
            return Ok(None);
        }
        // Eviction goes by this time. Who may only read leaves it as it is.
        let _ = OpenOptions::new()
            .write(true)
            .open(dir.join("lock"))
            .and_then(|file| file.set_modified(SystemTime::now()));
        Ok(Some(Entry { facts: found.facts.clone(), dir, _lock: lock }))
    }

    /// Whether there is just this cache already.
    pub(super) fn has(&self, wanted: &Wanted) -> Result<bool, OutputError> {
        Ok(self.list()?.iter().any(|Listed { project, paths, key, .. }| {
            *project == wanted.project && *paths == wanted.paths && *key == wanted.key
        }))
    }

    /// Begins a cache.
    pub(super) fn begin(&self, build: &str) -> Result<NewEntry, OutputError> {
        for dir in [self.entries(), self.new_ones(), self.content()] {
            make_folder(&dir)?;
        }
        self.sweep();
        let dir = self.new_ones().join(build);
        let make = || -> io::Result<File> {
            loop {
                fs::create_dir(&dir)?;
                users::give(&dir)?;
                let path = dir.join("lock");
                let lock =
                    OpenOptions::new().write(true).create_new(true).mode(0o644).open(&path)?;
                users::give(&path)?;
                lock.lock()?;
                // A sweep may have taken it for what somebody has left, before it was locked.
                if is_there(&lock)? {
                    return Ok(lock);
                }
            }
        };
        let lock = make().map_err(OutputError::folder("make", &dir))?;
        Ok(NewEntry { folder: self.clone(), dir, lock: Some(lock) })
    }

    /// Removes what killed runners have left.
    fn sweep(&self) {
        for entry in fs::read_dir(self.new_ones()).into_iter().flatten().flatten() {
            // Held until it is gone, so that whoever waits for it learns that.
            if let Ok(lock) = File::open(entry.path().join("lock"))
                && lock.try_lock().is_ok()
            {
                // What cannot be removed, the next one may.
                let _ = remove_tree(&entry.path());
            }
        }
    }

    /// Removes a cache that no build uses; whether it did.
    fn remove(&self, id: &str) -> Result<bool, OutputError> {
        let dir = self.entries().join(id);
        let Ok(lock) = File::open(dir.join("lock")) else { return Ok(false) };
        // One that somebody else has just removed cannot be removed again.
        if lock.try_lock().is_err() || !is_there(&lock).unwrap_or(false) {
            return Ok(false);
        }
        // From one moment to the next it is not there any more.
        let gone = self.new_ones().join(format!("{id}.gone"));
        make_folder(&self.new_ones())?;
        fs::rename(&dir, &gone).map_err(OutputError::folder("remove", &dir))?;
        remove_tree(&gone).map_err(OutputError::folder("remove", &gone))?;
        Ok(true)
    }

    /// Removes what was not used since `before`, what is older than another of its name, and beyond
    /// `most` bytes what was not used for longest. What builds use stays. What was removed.
    pub(crate) fn prune(&self, before: SystemTime, most: u64) -> Result<Vec<Listed>, OutputError> {
        let mut removed = Vec::new();
        for entry in superfluous(self.list()?, before, most) {
            if self.remove(&entry.id)? {
                removed.push(entry);
            }
        }
        if !self.new_ones().exists() {
            return Ok(removed);
        }
        self.sweep();
        if let Ok(content) = Dir::top_itself(&self.content()) {
            Shared::sweep(&content);
        }
        Ok(removed)
    }
}

/// A cache that is being made. Removed unless it is finished.
pub(super) struct NewEntry {
    folder: CacheFolder,
    dir: PathBuf,
    lock: Option<File>,
}

impl NewEntry {
    fn tree(&self) -> PathBuf {
        self.dir.join("tree")
    }

    pub(super) fn place(&self) -> Result<Place, OutputError> {
        let path = self.tree();
        let dir = Dir::top_itself(&path).map_err(OutputError::folder("open", &path))?;
        Ok(Place { dir, path })
    }

    pub(super) fn shared(&self) -> Option<Shared> {
        Dir::top(&self.folder.content()).ok().map(Shared::new)
    }

    /// Makes directories and links; files follow.
    pub(super) fn make_others(&self, gathered: &Gathered) -> Result<(), OutputError> {
        let tree = self.tree();
        for side in [super::gather::SOURCE, super::gather::ROOT] {
            make_folder(&tree.join(OsStr::from_bytes(side)))?;
        }
        for (name, item) in &gathered.items {
            let path = tree.join(OsStr::from_bytes(name));
            let made = match (&item.target, item.is_directory()) {
                (_, true) => fs::create_dir(&path),
                (Some(target), _) => std::os::unix::fs::symlink(OsStr::from_bytes(target), &path)
                    .and_then(|()| {
                        let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
                        let times = times(&item.facts);
                        Ok(rustix::fs::utimensat(rustix::fs::CWD, &path, &times, flags)?)
                    }),
                (None, false) => continue,
            };
            made.and_then(|()| users::give(&path)).map_err(OutputError::folder("make", &path))?;
        }
        Ok(())
    }

    /// Says what it is, and gives it its name.
    pub(super) fn finish(
        mut self,
        wanted: &Wanted,
        gathered: &Gathered,
    ) -> Result<EntryFacts, OutputError> {
        let tree = self.tree();
        let mut details = Details::default();
        // From the inside out: a directory may be closed to writing.
        for (name, item) in gathered.items.iter().rev() {
            if item.is_directory() {
                let path = tree.join(OsStr::from_bytes(name));
                dress(&path, &item.facts).map_err(OutputError::folder("set the mode of", &path))?;
                if !item.is_passed {
                    details.directories.push(encode(name));
                }
            }
            if !item.is_plain() {
                let Facts { uid, gid, mode, .. } = item.facts;
                details.odd.push((encode(name), uid, gid, mode));
            }
        }
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let facts = EntryFacts {
            project: wanted.project.clone(),
            paths: wanted.paths.clone(),
            key: wanted.key.clone(),
            created: u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX),
            files: gathered.files(),
            bytes: gathered.bytes(),
            digest: gathered.digest(),
            is_plain: details.odd.is_empty(),
        };
        let write = |name: &str, json: serde_json::Result<Vec<u8>>| {
            let path = self.dir.join(name);
            json.map_err(io::Error::from)
                .and_then(|text| write_durably(&path, &text))
                .map_err(OutputError::folder("write", &path))
        };
        write("details.json", serde_json::to_vec(&details))?;
        write("entry.json", serde_json::to_vec_pretty(&facts))?;
        let name = self.dir.file_name().unwrap_or_default();
        let place = self.folder.entries().join(name);
        fs::rename(&self.dir, &place).map_err(OutputError::folder("make", &place))?;
        // From here on it is anybody's to use and to remove.
        self.lock = None;
        Ok(facts)
    }
}

impl Drop for NewEntry {
    fn drop(&mut self) {
        if self.lock.is_some() {
            // What is left of it, the next one who saves removes.
            let _ = remove_tree(&self.dir);
        }
    }
}

fn make_folder(path: &Path) -> Result<(), OutputError> {
    Dir::make_top(path, 0o755).map(drop).map_err(OutputError::folder("make", path))
}

/// Whether an open file still has a name.
fn is_there(file: &File) -> io::Result<bool> {
    Ok(file.metadata()?.nlink() > 0)
}

fn dress(path: &Path, facts: &Facts) -> io::Result<()> {
    let dir = File::open(path)?;
    dir.set_permissions(Permissions::from_mode(facts.mode & 0o777))?;
    Ok(rustix::fs::futimens(&dir, &times(facts))?)
}

impl Entry {
    /// Its tree of one side.
    pub(super) fn side(&self, side: &[u8]) -> PathBuf {
        self.dir.join("tree").join(OsStr::from_bytes(side))
    }

    /// What its items are, as far as the tree does not tell: cached directories, owners and modes.
    pub(super) fn details(&self) -> Result<Remarks, OutputError> {
        let path = self.dir.join("details.json");
        let read = || -> io::Result<Details> { Ok(serde_json::from_slice(&fs::read(&path)?)?) };
        let details = read().map_err(OutputError::folder("read", &path))?;
        Ok(Remarks {
            directories: details.directories.iter().filter_map(|name| decode(name)).collect(),
            odd: details
                .odd
                .iter()
                .filter_map(|(name, uid, gid, mode)| Some((decode(name)?, (*uid, *gid, *mode))))
                .collect(),
        })
    }
}

/// What a tree does not tell.
#[derive(Debug, Default)]
pub(super) struct Remarks {
    pub(super) directories: std::collections::HashSet<Vec<u8>>,
    pub(super) odd: BTreeMap<Vec<u8>, (u32, u32, u32)>,
}

impl Remarks {
    /// The facts of an item as they were in the container.
    pub(super) fn facts(&self, name: &[u8], metadata: &fs::Metadata) -> Item {
        let (uid, gid, mode) = self.odd.get(name).copied().unwrap_or((0, 0, metadata.mode()));
        let facts = Facts {
            mode: metadata.mode() & 0o170_000 | mode & 0o7777,
            uid,
            gid,
            size: if metadata.is_file() { metadata.len() } else { 0 },
            modified: metadata.mtime(),
            modified_ns: u32::try_from(metadata.mtime_nsec()).unwrap_or(0),
            ..Facts::default()
        };
        let is_passed = metadata.is_dir() && !self.directories.contains(name);
        Item { facts, target: None, is_passed }
    }
}

#[cfg(test)]
mod tests;
