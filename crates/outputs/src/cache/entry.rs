//! A cache of a folder as it is read: what it says of itself, and its trees. All of it is believed as much as
//! any process that could write there.

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
/// Most bytes of a cache's own description. Keys are far shorter.
const MOST_FACTS: u64 = 64 << 10;
/// Most bytes of details: those of some hundred thousand directories.
pub(super) const MOST_DETAILS: u64 = 64 << 20;
const MOST_SIGNATURE: u64 = 256;

/// What a cache says of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EntryFacts {
    pub project: String,
    /// Digest of the paths it was made of.
    pub paths: String,
    pub key: Option<String>,
    /// Milliseconds since 1970.
    pub created: u64,
    pub files: u64,
    pub bytes: u64,
    /// Digest of names, sizes and times.
    pub(super) digest: String,
    /// Whether all of it is root's, with nine bits of mode.
    pub(super) is_plain: bool,
}

/// What the stored tree does not show about the cached files.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct TreeDetails {
    /// Names of directories that are cached themselves.
    directories: Vec<String>,
    /// Names, owner, group and mode of what is not plain.
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

/// A cache. Nobody can remove it while this lives.
#[derive(Debug)]
pub struct CacheEntry {
    pub facts: EntryFacts,
    /// Whether this user's runner has saved it, here.
    pub is_ours: bool,
    dir: Dir,
    /// Where it is, for messages.
    place: PathBuf,
    _lock: File,
}

/// What a cache says of itself, as it stands there.
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

    /// Whether it takes longer to copy than a container takes to be made once more.
    pub(super) fn is_large(&self) -> bool {
        is_large_cache(self.facts.files, self.facts.bytes)
    }

    /// Its trees as layers, where those are all that there is to it.
    pub(super) fn trees(&self) -> Option<CachedTrees> {
        let tree = |side| self.tree(side).ok().map(Arc::new);
        self.facts.is_plain.then_some(())?;
        Some(CachedTrees { source: tree(SOURCE)?, root: tree(ROOT)? })
    }

    /// Its tree of one side.
    pub(super) fn tree(&self, side: &[u8]) -> Result<Dir, OutputError> {
        let tree = self.dir.open([b"tree/", side].concat());
        tree.map_err(OutputError::folder("open a tree of", &self.place))
    }

    /// Where it is, for messages.
    pub(super) fn place(&self) -> &Path {
        &self.place
    }

    /// The folder of caches that it is in.
    pub(super) fn folder(&self) -> &Path {
        self.place.ancestors().nth(2).unwrap_or(&self.place)
    }

    /// What its items are, as far as the tree does not tell: cached directories, owners and modes.
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

/// What a tree does not tell.
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
