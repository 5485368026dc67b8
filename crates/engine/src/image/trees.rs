//! Root file systems of tars, as they lie unpacked in the store: listed, forgotten, aged.
//!
//! ```text
//! images/rootfs-<key>/tree         what was in the tar
//!                     facts.json   how much it is
//!                     source       where the tar was; written last
//! images/rootfs-<key>.lock         held while it is made or used; its time is that of the last use
//! ```
//!
//! Used by `rootfs`, which makes them, and by `runner image`.

use super::store::{Freed, ImageStore};
use super::unpack::UnpackTotals;
use runner_host::private::{make_private, remove_tree};
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How long one is kept that nobody uses.
const MAX_AGE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
const PREFIX: &str = "rootfs-";
const LOCK: &str = ".lock";

/// A tar that is unpacked, or is being unpacked.
#[derive(Debug)]
pub struct ImageTree {
    /// `rootfs:PATH`; none where it is not whole.
    pub name: Option<String>,
    pub bytes: u64,
    /// When it was used last.
    pub used: SystemTime,
    /// Whether the tar is there, and still the same.
    is_current: bool,
    key: String,
}

/// Identifies a tar's file. The same file unpacked for another user has other owners.
pub(super) fn key(metadata: &fs::Metadata, variant: &str) -> String {
    format!(
        "{PREFIX}{}-{}-{}-{}.{:09}{variant}",
        metadata.dev(),
        metadata.ino(),
        metadata.size(),
        metadata.mtime(),
        metadata.mtime_nsec(),
    )
}

/// Names a tree for whoever lists it, once it is whole.
pub(super) fn complete(dir: &Path, source: &Path, facts: &UnpackTotals) -> io::Result<()> {
    fs::write(dir.join("facts.json"), serde_json::to_vec(facts)?)?;
    fs::write(dir.join("source"), source.as_os_str().as_bytes())
}

impl ImageStore {
    pub(super) fn tree_dir(&self, key: &str) -> PathBuf {
        self.root().join(key)
    }

    /// A tree's lock, not held yet. Its file is made where it is missing.
    pub(super) fn tree_lock(&self, key: &str) -> io::Result<File> {
        let path = self.root().join(format!("{key}{LOCK}"));
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        options.open(path)
    }

    /// Takes a tree into use, and has it made where it is not whole; the lock that keeps it.
    pub(super) fn use_tree<E: From<io::Error>>(
        &self,
        key: &str,
        make: impl Fn(&Path) -> Result<(), E>,
    ) -> Result<File, E> {
        let dir = self.tree_dir(key);
        let is_whole = || dir.join("source").exists();
        loop {
            let lock = self.tree_lock(key)?;
            // Builds that run share it. Only who makes the tree has it alone.
            lock.lock_shared()?;
            if lock.metadata()?.nlink() > 0 && !is_whole() {
                // Two builds may want the same tar at once: one unpacks, the other waits and finds it.
                lock.unlock()?;
                lock.lock()?;
                if lock.metadata()?.nlink() > 0 && !is_whole() {
                    remove_tree(&dir)?;
                    make_private(&dir)?;
                    make(&dir)?;
                }
                lock.unlock()?;
                lock.lock_shared()?;
            }
            // Somebody may have removed it while it was not held.
            if lock.metadata()?.nlink() > 0 && is_whole() {
                lock.set_modified(SystemTime::now())?;
                return Ok(lock);
            }
        }
    }

    /// All of them, by name.
    pub fn trees(&self) -> io::Result<Vec<ImageTree>> {
        let mut trees = Vec::new();
        for entry in fs::read_dir(self.root())? {
            let name = entry?.file_name();
            let Some(key) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
            // A lock counts for its tree, and on its own once the tree has gone.
            let key = key.strip_suffix(LOCK).unwrap_or(key);
            if !trees.iter().any(|tree: &ImageTree| tree.key == key) {
                trees.push(self.tree(key)?);
            }
        }
        trees.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(trees)
    }

    fn tree(&self, key: &str) -> io::Result<ImageTree> {
        let dir = self.tree_dir(key);
        let source = match fs::read(dir.join("source")) {
            Ok(path) => Some(PathBuf::from(OsStr::from_bytes(&path))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let is_current = source.as_ref().is_some_and(|source| {
            fs::metadata(source).is_ok_and(|metadata| key.starts_with(&self::key(&metadata, "")))
        });
        let facts = fs::read(dir.join("facts.json")).ok();
        let facts = facts.and_then(|facts| serde_json::from_slice::<UnpackTotals>(&facts).ok());
        let used = fs::metadata(self.root().join(format!("{key}{LOCK}")))
            .and_then(|lock| lock.modified())
            .unwrap_or(SystemTime::UNIX_EPOCH);
        Ok(ImageTree {
            name: source.map(|source| format!("rootfs:{}", source.display())),
            bytes: facts.map_or(0, |facts| facts.bytes),
            used,
            is_current,
            key: key.to_owned(),
        })
    }

    /// Removes what earlier versions of the same tar have left, unless a build still uses it.
    pub(super) fn forget_older(&self, key: &str, source: &Path) {
        let name = format!("rootfs:{}", source.display());
        let is_older = |tree: &ImageTree| {
            !tree.is_current && tree.key != key && tree.name.as_deref() == Some(&name)
        };
        if let Err(error) = self.remove_trees(is_older) {
            // It is found again next time.
            tracing::debug!(%error, "an earlier version of a tar stays");
        }
    }

    /// Removes those of this name; whether there were any, and how many builds still use one.
    pub fn forget_trees(&self, name: &str) -> io::Result<(Freed, bool, usize)> {
        let is_it = |tree: &ImageTree| tree.name.as_deref() == Some(name);
        let found: Vec<ImageTree> = self.trees()?.into_iter().filter(is_it).collect();
        let mut freed = Freed::default();
        let mut used = 0;
        for tree in &found {
            match self.remove_unused(tree)? {
                true => freed.add(tree.bytes),
                false => used += 1,
            }
        }
        Ok((freed, !found.is_empty(), used))
    }

    /// Removes those whose tar is gone or another by now, and what was never whole.
    pub(super) fn prune_trees(&self) -> io::Result<Freed> {
        self.remove_trees(|tree| !tree.is_current)
    }

    /// Removes those that nobody has used for long. What cannot be removed is for the next time.
    pub fn prune_old_trees(&self, now: SystemTime) {
        let is_old =
            |tree: &ImageTree| now.duration_since(tree.used).is_ok_and(|age| age > MAX_AGE);
        if let Err(error) = self.remove_trees(is_old) {
            tracing::debug!(%error, "old root file systems stay");
        }
    }

    fn remove_trees(&self, which: impl Fn(&ImageTree) -> bool) -> io::Result<Freed> {
        let mut freed = Freed::default();
        for tree in self.trees()?.iter().filter(|tree| which(tree)) {
            if self.remove_unused(tree)? {
                freed.add(tree.bytes);
            }
        }
        Ok(freed)
    }

    /// Whether nobody used it, and it is gone.
    fn remove_unused(&self, tree: &ImageTree) -> io::Result<bool> {
        let lock = self.tree_lock(&tree.key)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        if lock.metadata()?.nlink() == 0 {
            // Another has removed the tree, and a build may make it again by now, under a new lock.
            return Ok(false);
        }
        let dir = self.tree_dir(&tree.key);
        // Without it the tree is not whole, should the rest stay.
        match fs::remove_file(dir.join("source")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        remove_tree(&dir)?;
        fs::remove_file(self.root().join(format!("{}{LOCK}", tree.key)))?;
        Ok(true)
    }
}
