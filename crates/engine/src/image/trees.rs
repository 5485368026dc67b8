//! Root file systems unpacked from tars, in the store: listing, removal and aging.
//!
//! ```text
//! images/rootfs-<key>/tree         contents of the tar
//!                     facts.json   totals
//!                     source       path of the tar; written last
//! images/rootfs-<key>.lock         locked while the tree is made or used; its time is the last use
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

/// How long an unused tree is kept.
const MAX_AGE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
const PREFIX: &str = "rootfs-";
const LOCK: &str = ".lock";

/// A tar that is unpacked or being unpacked.
#[derive(Debug)]
pub struct ImageTree {
    /// `rootfs:PATH`; `None` if the tree is incomplete.
    pub name: Option<String>,
    pub bytes: u64,
    /// Time of the last use.
    pub used: SystemTime,
    /// Whether the tar still exists unchanged.
    is_current: bool,
    key: String,
}

/// Identifies a tar file. `variant` is part of it because another user's copy has other owners.
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

/// Marks a tree as complete and names it for listings.
pub(super) fn complete(dir: &Path, source: &Path, facts: &UnpackTotals) -> io::Result<()> {
    fs::write(dir.join("facts.json"), serde_json::to_vec(facts)?)?;
    fs::write(dir.join("source"), source.as_os_str().as_bytes())
}

impl ImageStore {
    pub(super) fn tree_dir(&self, key: &str) -> PathBuf {
        self.root().join(key)
    }

    /// A tree's lock file, not locked yet. Creates it if missing.
    pub(super) fn tree_lock(&self, key: &str) -> io::Result<File> {
        let path = self.root().join(format!("{key}{LOCK}"));
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        options.open(path)
    }

    /// Takes a tree into use, after `make` if it is incomplete. Returns the lock that keeps it.
    pub(super) fn use_tree<E: From<io::Error>>(
        &self,
        key: &str,
        make: impl Fn(&Path) -> Result<(), E>,
    ) -> Result<File, E> {
        let dir = self.tree_dir(key);
        let is_whole = || dir.join("source").exists();
        loop {
            let lock = self.tree_lock(key)?;
            // Running builds share the lock. Making the tree needs it exclusively.
            lock.lock_shared()?;
            if lock.metadata()?.nlink() > 0 && !is_whole() {
                // If two builds want the same tar, one unpacks; the other waits and finds the tree.
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
            // The tree may have been removed while the lock was released.
            if lock.metadata()?.nlink() > 0 && is_whole() {
                lock.set_modified(SystemTime::now())?;
                return Ok(lock);
            }
        }
    }

    /// All trees, by name.
    pub fn trees(&self) -> io::Result<Vec<ImageTree>> {
        let mut trees = Vec::new();
        for entry in fs::read_dir(self.root())? {
            let name = entry?.file_name();
            let Some(key) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
            // A lock file stands for its tree, and for itself once the tree is gone.
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

    /// Removes trees of earlier versions of the same tar, unless a build still uses them.
    pub(super) fn forget_older(&self, key: &str, source: &Path) {
        let name = format!("rootfs:{}", source.display());
        let is_older = |tree: &ImageTree| {
            !tree.is_current && tree.key != key && tree.name.as_deref() == Some(&name)
        };
        if let Err(error) = self.remove_trees(is_older) {
            // The next run tries again.
            tracing::debug!(%error, "an earlier version of a tar stays");
        }
    }

    /// Removes the trees of this name. Returns the totals, whether there were any, and how many are
    /// still in use.
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

    /// Removes trees whose tar is gone or changed, and incomplete trees.
    pub(super) fn prune_trees(&self) -> io::Result<Freed> {
        self.remove_trees(|tree| !tree.is_current)
    }

    /// Removes trees unused for long. A tree that cannot be removed is left for the next run.
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

    /// Removes a tree unless it is in use. Returns whether it did.
    fn remove_unused(&self, tree: &ImageTree) -> io::Result<bool> {
        let lock = self.tree_lock(&tree.key)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        if lock.metadata()?.nlink() == 0 {
            // Another process removed the tree; a build may be making it again under a new lock.
            return Ok(false);
        }
        let dir = self.tree_dir(&tree.key);
        // If later steps fail, the missing file marks the tree as incomplete.
        match fs::remove_file(dir.join("source")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        remove_tree(&dir)?;
        fs::remove_file(self.root().join(format!("{}{LOCK}", tree.key)))?;
        Ok(true)
    }
}
