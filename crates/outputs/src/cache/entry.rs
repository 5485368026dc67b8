//! Reads a cache from a folder: its description and its trees. None of it is trusted more than any
//! process that could write there.

use super::super::OutputError;
use super::gather::{CacheItem, ROOT, SOURCE};
use super::names::{decode, encode};
use super::signature::{Signed, Signer};
use runner_core::machine::is_large_cache;
use runner_engine::CachedTrees;
use runner_host::beneath::{Dir, kind};
use runner_wire::files::FileFacts;
use rustix::fs::{FileType, Stat};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(super) const FACTS: &str = "entry.json";
pub(super) const DETAILS: &str = "details.json";
pub(super) const SIGNATURE: &str = "signature";
pub(super) const LOCK: &str = "lock";
/// Maximum size of a cache's description in bytes. Keys are far shorter.
const MOST_FACTS: u64 = 64 << 10;
/// Maximum size of the details in bytes: enough for some hundred thousand directories.
pub(super) const MOST_DETAILS: u64 = 64 << 20;
const MOST_SIGNATURE: u64 = 256;

/// A cache's description of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EntryFacts {
    pub project: String,
    /// Digest of the cached paths.
    pub paths: String,
    pub key: Option<String>,
    /// Milliseconds since 1970.
    pub created: u64,
    pub files: u64,
    pub bytes: u64,
    /// Digest of names, sizes and times.
    pub(super) digest: String,
    /// Whether every item belongs to root and has only the nine permission bits as its mode.
    pub(super) is_plain: bool,
}

/// Facts about the cached files that the stored tree does not show.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct TreeDetails {
    /// Names of directories that are cached themselves.
    directories: Vec<String>,
    /// Names, owners, groups and modes of the items that are not plain.
    odd: Vec<(String, u32, u32, u32)>,
}

impl TreeDetails {
    pub(super) fn add(&mut self, name: &[u8], item: &CacheItem) {
        if item.is_directory() && !item.is_passed {
            self.directories.push(encode(name));
        }
        if !item.is_plain() {
            let FileFacts { uid, gid, mode, .. } = item.facts;
            self.odd.push((encode(name), uid, gid, mode));
        }
    }

    pub(super) fn are_plain(&self) -> bool {
        self.odd.is_empty()
    }
}

/// A cache, protected from removal while this value lives.
#[derive(Debug)]
pub struct CacheEntry {
    pub facts: EntryFacts,
    /// Whether this user's runner saved it on this machine.
    pub is_ours: bool,
    dir: Dir,
    /// Its path, for messages.
    place: PathBuf,
    _lock: File,
}

/// A cache's raw description.
pub(super) fn words(dir: &Dir) -> io::Result<Vec<u8>> {
    dir.read_small(FACTS, MOST_FACTS)
}

impl CacheEntry {
    /// Locks a cache; `None` if another process is removing it.
    pub(super) fn hold(dir: Dir, place: &Path, signer: &Signer) -> Option<Self> {
        let lock = dir.file(LOCK).ok()?;
        // The process that removes it holds an exclusive lock.
        lock.try_lock_shared().ok()?;
        let words = words(&dir).ok()?;
        let facts = serde_json::from_slice(&words).ok()?;
        // Eviction goes by this time. A user who may only read leaves it unchanged.
        let _ = rustix::fs::futimens(&lock, &now());
        let id = place.file_name().unwrap_or_default();
        let signed = Signed { dir: &dir, id: id.as_encoded_bytes(), words: &words };
        let signature = dir.read_small(SIGNATURE, MOST_SIGNATURE).unwrap_or_default();
        let is_ours = signer.knows(&signed, &signature);
        Some(CacheEntry { facts, is_ours, dir, place: place.to_path_buf(), _lock: lock })
    }

    /// Whether copying it takes longer than creating the container again.
    pub(super) fn is_large(&self) -> bool {
        is_large_cache(self.facts.files, self.facts.bytes)
    }

    /// Its trees as layers, if they are all that the cache consists of.
    pub(super) fn trees(&self) -> Option<CachedTrees> {
        let tree = |side| self.tree(side).ok().map(Arc::new);
        self.facts.is_plain.then_some(())?;
        Some(CachedTrees { source: tree(SOURCE)?, root: tree(ROOT)? })
    }

    /// The tree of one side.
    pub(super) fn tree(&self, side: &[u8]) -> Result<Dir, OutputError> {
        let tree = self.dir.open([b"tree/", side].concat());
        tree.map_err(OutputError::folder("open a tree of", &self.place))
    }

    /// Its path, for messages.
    pub(super) fn place(&self) -> &Path {
        &self.place
    }

    /// The cache folder that contains it.
    pub(super) fn folder(&self) -> &Path {
        self.place.ancestors().nth(2).unwrap_or(&self.place)
    }

    /// The details of its items that the tree does not show: cached directories, owners and modes.
    pub(super) fn details(&self) -> Result<Remarks, OutputError> {
        let read = || -> io::Result<TreeDetails> {
            Ok(serde_json::from_slice(&self.dir.read_small(DETAILS, MOST_DETAILS)?)?)
        };
        let details = read().map_err(OutputError::folder("read", &self.place.join(DETAILS)))?;
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

fn now() -> rustix::fs::Timestamps {
    let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
    rustix::fs::Timestamps { last_access: now, last_modification: now }
}

/// Details that a tree does not show.
#[derive(Debug, Default)]
pub(super) struct Remarks {
    directories: HashSet<Vec<u8>>,
    odd: BTreeMap<Vec<u8>, (u32, u32, u32)>,
}

impl Remarks {
    /// The facts of an item as they were in the container.
    pub(super) fn facts(&self, name: &[u8], stat: &Stat) -> CacheItem {
        let (uid, gid, mode) = self.odd.get(name).copied().unwrap_or((0, 0, stat.st_mode));
        let facts = FileFacts {
            mode: stat.st_mode & 0o170_000 | mode & 0o7777,
            uid,
            gid,
            size: match kind(stat) {
                FileType::RegularFile => u64::try_from(stat.st_size).unwrap_or(0),
                _ => 0,
            },
            modified: stat.st_mtime,
            modified_ns: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
            ..FileFacts::default()
        };
        let is_passed = kind(stat) == FileType::Directory && !self.directories.contains(name);
        CacheItem { facts, target: None, is_passed }
    }
}
